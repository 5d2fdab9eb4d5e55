"""How a connection comes to be: many in one event, each with a context, addresses and a first callback of its own."""

from __future__ import annotations

import asyncio
import contextvars
import errno
from typing import Any

import pytest
from aio_world import run, soon, two_hosts
from conftest import Pair

from lwipy._native import lib
from lwipy.aio import create_connection, create_server
from lwipy.aio.driver import LoopDriver
from lwipy.endpoints import Option, TcpEndpoint, TcpState

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


@pytest.mark.parametrize("apart", [False, True], ids=["in one event", "behind it"])
def test_what_comes_with_the_end_of_the_handshake_is_read(apart: bool) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            listener = pair.b.tcp()
            listener.bind(("10.0.0.2", 80))
            listener.listen()
            connecting = asyncio.create_task(create_connection(pair.a, Keeping, "10.0.0.2", 80))
            accepted = None
            while accepted is None:
                await asyncio.sleep(0)
                # The client's core gets on, and nobody hands out its events.
                while accepted is None and lib.lwipy_poll(pair.a._core) != -1:
                    pair.b.poll()
                    accepted = listener.accept_if_any()
            assert not connecting.done()
            driver = pair.a._driver
            assert isinstance(driver, LoopDriver)
            if apart:
                driver._serve()
            assert accepted.send(b"already") == 7
            accepted.shutdown(write=True)
            pair.b.poll()
            if apart:
                driver._serve()
                assert not connecting.done()
            else:
                lib.lwipy_poll(pair.a._core)
            _, protocol = await connecting
            await soon(lambda: protocol.lost)
            assert protocol.data == b"already"
            accepted.close()
            listener.close()

    run(main)


@pytest.mark.parametrize(("version", "host"), [(4, "10.0.0.2"), (6, "fd00::2")])
def test_an_endpoint_that_is_opened_knows_its_names_and_has_no_delay(pair: Pair, version: int, host: str) -> None:
    listener = pair.b.tcp(version)
    listener.bind((host, 80))
    listener.listen()
    endpoint, names = TcpEndpoint.opened(pair.a, version, (host, 80))
    while listener.accept_if_any() is None:
        pair.a.poll()
        pair.b.poll()
    assert endpoint.info.state is TcpState.ESTABLISHED
    assert endpoint.names() == names
    assert endpoint.peer == (host, 80)
    assert endpoint.get_option(Option.NODELAY) == 1


def test_an_endpoint_that_cannot_be_opened_leaves_nothing(pair: Pair) -> None:
    with pytest.raises(OSError, match=r"192\.0\.2\.1:80") as refused:
        TcpEndpoint.opened(pair.a, 4, ("192.0.2.1", 80))
    assert refused.value.errno == errno.EHOSTUNREACH
    with pytest.raises(OverflowError):
        TcpEndpoint.opened(pair.a, 4, ("10.0.0.2", 65536))
    with pytest.raises(ValueError, match="nowhere"):
        TcpEndpoint.opened(pair.a, 4, ("nowhere", 80))
    assert pair.a.statistics.endpoints == 0


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
