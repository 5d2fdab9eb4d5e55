"""How a connection comes to be: many in one event, each with a context, addresses and a first callback of its own."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from aio_world import run, soon, two_hosts

from lwipy.aio import create_connection, create_server

WHO: contextvars.ContextVar[int] = contextvars.ContextVar("WHO", default=0)


class Keeping(asyncio.Protocol):
    """Keeps its transport and what came."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True


class Made(list[Keeping]):
    """A factory that remembers what it made."""

    def __call__(self) -> Keeping:
        self.append(Keeping())
        return self[-1]


def test_two_hundred_are_accepted_at_once_with_what_they_have_sent() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            made = Made()
            server = await create_server(pair.b, made, "10.0.0.2", 80, backlog=500)
            transport, _ = await create_connection(pair.a, Keeping, "10.0.0.2", 80)  # now they know each other
            transport.abort()
            await soon(lambda: made and made[0].lost)
            made.clear()
            clients = [pair.a.tcp() for _ in range(200)]
            for each in clients:
                each.connect(("10.0.0.2", 80))
            # By hand, so that all of it has come before the loop has its turn.
            for _ in range(4):
                pair.a.poll()
                pair.b.poll()
            for number, each in enumerate(clients):
                assert each.send(b"%d" % number) == len(b"%d" % number)
            pair.b.poll()
            assert made == []
            await soon(lambda: len(made) == 200 and all(each.data for each in made))
            ports = {each.transport.get_extra_info("peername")[1]: int(each.data) for each in made}
            assert ports == {each.address[1]: number for number, each in enumerate(clients)}
            server.abort_clients()
            server.close()
            for each in clients:
                each.abort()

    run(main)


def test_each_connection_has_a_context_of_its_own() -> None:
    seen: list[int] = []

    class Marking(Keeping):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            seen.append(WHO.get())
            WHO.set(len(seen))

        def data_received(self, data: bytes) -> None:
            self.transport.write(b"%d" % WHO.get())

    async def main() -> None:
        WHO.set(100)
        async with two_hosts() as pair:
            server = await create_server(pair.b, Marking, "10.0.0.2", 80)
            both = [await create_connection(pair.a, Keeping, "10.0.0.2", 80) for _ in range(3)]
            await soon(lambda: len(seen) == 3)
            for transport, _ in both:
                transport.write(b"?")
            await soon(lambda: all(protocol.data for _, protocol in both))
            assert sorted(protocol.data for _, protocol in both) == [b"1", b"2", b"3"]
            assert seen == [100, 100, 100]
            assert WHO.get() == 100
            for transport, _ in both:
                transport.abort()
            server.close()

    run(main)


def test_a_first_callback_that_fails_is_reported_and_the_connection_goes_on() -> None:
    class Failing(Keeping):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise ValueError("not today")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports: list[dict[str, Any]] = []
        async with two_hosts() as pair:
            made: list[Failing] = []

            def factory() -> Failing:
                made.append(Failing())
                return made[-1]

            loop.set_exception_handler(lambda _, report: reports.append(report))
            server = await create_server(pair.b, factory, "10.0.0.2", 80)
            transport, client = await create_connection(pair.a, Failing, "10.0.0.2", 80)
            await soon(lambda: len(made) == 1)
            transport.write(b"still here")
            await soon(lambda: made[0].data == b"still here")
            assert [str(report["exception"]) for report in reports] == ["not today"] * 2
            assert {report["transport"] for report in reports} == {transport, made[0].transport}
            transport.abort()
            await soon(lambda: client.lost and made[0].lost)
            server.close()

    run(main)


def test_addresses_are_known_when_the_stack_is_gone() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, Keeping, "10.0.0.2", 80)
            transport, client = await create_connection(pair.a, Keeping, "10.0.0.2", 80)
            pair.a.close()
            await soon(lambda: client.lost)
            assert transport.get_extra_info("peername") == ("10.0.0.2", 80)
            assert transport.get_extra_info("sockname")[0] == "10.0.0.1"
            assert transport.get_extra_info("sslcontext", "none") == "none"
            server.abort_clients()
            server.close()
            await soon(lambda: pair.b.statistics.endpoints == 0)
            raise Done

    with pytest.raises(Done):
        run(main)


class Done(Exception):
    """A test has seen what it wanted, in a world that cannot be left in order any more."""
