"""Servers on stacks: addresses, beginning and end, and their clients."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest
from aio_world import Recorder, run, soon, two_hosts

import lwipy
from lwipy.aio import Server, create_connection, create_server, open_connection, start_server


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"hello")
    writer.close()
    await writer.wait_closed()


async def greeting(stack: lwipy.Stack, host: str, port: int) -> bytes:
    reader, writer = await open_connection(stack, host, port)
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text


class Several:
    """A factory that remembers what it made."""

    def __init__(self) -> None:
        self.made: list[Recorder] = []

    def __call__(self) -> Recorder:
        self.made.append(Recorder())
        return self.made[-1]


# -- Addresses -------------------------------------------------------------------------------------------------------


def test_without_a_host_it_listens_on_both_families_with_one_port() -> None:
    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, greet) as server:
            names = sorted(sock.getsockname() for sock in server.sockets)
            port = names[0][1]
            assert port > 0
            assert names == [("0.0.0.0", port), ("::", port, 0, 0)]
            assert [sock.type for sock in server.sockets] == [socket.SOCK_STREAM] * 2
            for host in ("10.0.0.2", "fd00::2"):
                assert await greeting(pair.a, host, port) == b"hello"

    run(main)


def test_one_family_only() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            async with await start_server(pair.b, greet, port=80, family=socket.AF_INET6) as server:
                assert [sock.family for sock in server.sockets] == [socket.AF_INET6]
                assert await greeting(pair.a, "fd00::2", 80) == b"hello"
                with pytest.raises(ConnectionRefusedError):
                    await greeting(pair.a, "10.0.0.2", 80)

    run(main)


def test_several_hosts() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.b.hosts["both"] = ["10.0.0.2", "fd00::2"]
            async with await start_server(pair.b, greet, ["both", "10.0.0.2", "127.0.0.1"], 80) as server:
                assert len(server.sockets) == 3
                assert await greeting(pair.a, "fd00::2", 80) == b"hello"
                assert await greeting(pair.b, "127.0.0.1", 80) == b"hello"

    run(main)


def test_a_port_in_use_is_refused_and_nothing_is_left() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            async with await start_server(pair.b, greet, "10.0.0.2", 80):
                endpoints = pair.b.statistics.endpoints
                with pytest.raises(
                    OSError, match=r"bind on address \('10.0.0.2', 80\): address already in use"
                ) as caught:
                    await start_server(pair.b, greet, ["fd00::2", "10.0.0.2"], 80, reuse_address=False)
                assert caught.value.errno == errno.EADDRINUSE
                with pytest.raises(OSError, match="in use"):
                    await start_server(pair.b, greet, "10.0.0.2", 80)
                assert pair.b.statistics.endpoints == endpoints
                assert await greeting(pair.a, "10.0.0.2", 80) == b"hello"

    run(main)


def test_an_address_that_is_not_ours_is_refused() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(OSError, match=r"bind on address \('10.0.0.77', 80\)") as caught:
                await start_server(pair.b, greet, "10.0.0.77", 80)
            assert caught.value.errno == errno.EADDRNOTAVAIL

    run(main)


def test_a_port_can_be_had_again_at_once() -> None:
    """Though connections of the server before linger in TIME_WAIT."""

    async def main() -> None:
        async with two_hosts() as pair:
            for _ in range(3):
                async with await start_server(pair.b, greet, "10.0.0.2", 80):
                    assert await greeting(pair.a, "10.0.0.2", 80) == b"hello"

    run(main)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"ssl": True}, TypeError, "SSLContext"),
        ({"ssl_handshake_timeout": 1}, ValueError, "only meaningful with ssl"),
        ({"reuse_port": True}, ValueError, "reuse_port"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(error, match=text):
                await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80, **arguments)

    run(main)


# -- Beginning and end -----------------------------------------------------------------------------------------------


def test_it_serves_when_it_is_told_to() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, greet, "10.0.0.2", 80, start_serving=False)
            assert isinstance(server, Server)
            assert server.get_loop() is asyncio.get_running_loop()
            assert not server.is_serving()
            with pytest.raises(ConnectionRefusedError):
                await greeting(pair.a, "10.0.0.2", 80)
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            assert await greeting(pair.a, "10.0.0.2", 80) == b"hello"
            server.close()
            server.close()
            await server.wait_closed()
            assert not server.is_serving()
            assert server.sockets == ()
            with pytest.raises(ConnectionRefusedError):
                await greeting(pair.a, "10.0.0.2", 80)
            with pytest.raises(RuntimeError, match="is closed"):
                await server.start_serving()
            with pytest.raises(RuntimeError, match="is closed"):
                await server.serve_forever()

    run(main)


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_serving_forever_until(how: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await start_server(pair.b, greet, "10.0.0.2", 80, start_serving=False)
            forever = asyncio.create_task(server.serve_forever())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="already being awaited"):
                await server.serve_forever()
            assert await greeting(pair.a, "10.0.0.2", 80) == b"hello"
            if how == "cancelled":
                forever.cancel()
            else:
                server.close()
            with pytest.raises(asyncio.CancelledError):
                await forever
            assert not server.is_serving()

    run(main)


def test_closing_lets_the_connections_go_on_and_waits_for_them() -> None:
    async def main() -> None:
        factory = Several()
        async with two_hosts() as pair:
            server = await create_server(pair.b, factory, "10.0.0.2", 80)
            _, client = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
            await soon(lambda: factory.made)
            server.close()
            waiting = asyncio.create_task(server.wait_closed())
            client.transport.write(b"still served")
            await soon(lambda: factory.made[0].data == b"still served")
            assert not waiting.done()
            client.transport.close()
            await waiting
            assert factory.made[0].calls[-1] == "lost"

    run(main)


#: More than an endpoint takes at once, bytes.
WRITTEN = 3 << 20


@pytest.mark.parametrize("how", ["close_clients", "abort_clients"])
def test_ending_all_connections(how: str) -> None:
    async def main() -> None:
        factory = Several()
        async with two_hosts() as pair:
            server = await create_server(pair.b, factory, "10.0.0.2", 80)
            clients = [(await create_connection(pair.a, Recorder, "10.0.0.2", 80))[1] for _ in range(5)]
            await soon(lambda: len(factory.made) == 5)
            for protocol in factory.made:
                protocol.transport.write(b"x" * WRITTEN)
            server.close()
            getattr(server, how)()
            await server.wait_closed()
            await asyncio.gather(*(client.lost for client in clients))
            complete = how == "close_clients"
            assert {type(client.error) for client in clients} == {type(None) if complete else ConnectionResetError}
            assert all((len(client.data) == WRITTEN) == complete for client in clients)

    run(main)


def test_connections_nobody_accepted_are_reset_when_the_server_closes() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, Recorder, "10.0.0.2", 80)
            connecting = asyncio.create_task(create_connection(pair.a, Recorder, "10.0.0.2", 80))
            await asyncio.sleep(0)
            server.close()
            with pytest.raises(OSError, match="Connect call failed"):
                await connecting

    run(main)


def test_a_backlog_of_one_serves_a_crowd_all_the_same() -> None:
    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, greet, "10.0.0.2", 80, backlog=1):
            answers = await asyncio.gather(*(greeting(pair.a, "10.0.0.2", 80) for _ in range(10)))
            assert answers == [b"hello"] * 10

    run(main)


def test_a_factory_that_fails_costs_its_connection_only() -> None:
    reports: list[dict[str, Any]] = []
    fails = [True, False]

    def factory() -> asyncio.Protocol:
        if fails.pop(0):
            raise KeyError("no protocol today")
        return Recorder()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with two_hosts() as pair:
            server = await create_server(pair.b, factory, "10.0.0.2", 80)
            _, first = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
            await first.lost
            assert isinstance(first.error, ConnectionResetError)
            transport, _ = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
            transport.close()
            server.close()
            await server.wait_closed()

    run(main)
    (report,) = reports
    assert isinstance(report["exception"], KeyError)


def test_keepalive_is_passed_on_to_the_connections() -> None:
    async def main() -> None:
        factory = Several()
        async with two_hosts() as pair:
            server = await create_server(pair.b, factory, "10.0.0.2", 80, keep_alive=True)
            transport, _ = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
            await soon(lambda: factory.made and factory.made[0].transport)
            sock = factory.made[0].transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            transport.close()
            server.close()
            await server.wait_closed()

    run(main)
