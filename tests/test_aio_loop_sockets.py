"""StackEventLoop: its sock_ methods with sockets of the stack."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from aio_world import Recorder, soon
from loop_world import TEXT, new_socket, run_on

import lwipy
from lwipy.blocking import Socket


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    """A host that talks to itself: at 10.0.0.2, fd00::2 and over its loopback."""
    with closing(lwipy.Stack()) as stack:
        stack.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64")
        yield stack
        assert stack.statistics.endpoints == 0


def test_stream_sockets(stack: lwipy.Stack) -> None:
    async def serve(listener: Socket) -> None:
        loop = asyncio.get_running_loop()
        connection, address = await loop.sock_accept(listener)
        with connection:
            assert address[0] == "10.0.0.2"
            received = b""
            buffer = bytearray(10_000)
            while size := await loop.sock_recv_into(connection, buffer):
                received += buffer[:size]
            await loop.sock_sendall(connection, received)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with new_socket(stack) as listener, new_socket(stack) as client:
            listener.bind(("10.0.0.2", 80))
            listener.listen()
            serving = asyncio.create_task(serve(listener))
            there: Any = client
            await loop.sock_connect(there, ("10.0.0.2", 80))
            await loop.sock_sendall(there, TEXT)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while data := await loop.sock_recv(there, 65536):
                received += data
            assert received == TEXT
            await serving

    run_on(stack, main, debug=False)


def test_datagram_sockets(stack: lwipy.Stack) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with new_socket(stack, type=socket.SOCK_DGRAM) as a, new_socket(stack, type=socket.SOCK_DGRAM) as b:
            a.bind(("10.0.0.2", 7))
            first: Any = a
            second: Any = b
            waiting = asyncio.create_task(loop.sock_recvfrom(first, 100))
            await asyncio.sleep(0)
            assert await loop.sock_sendto(second, b"question", ("10.0.0.2", 7)) == 8
            question, address = await waiting
            assert question == b"question"
            await loop.sock_sendto(first, b"answer", address)
            buffer = bytearray(10)
            assert await loop.sock_recvfrom_into(second, buffer) == (6, ("10.0.0.2", 7))
            assert buffer.startswith(b"answer")

    run_on(stack, main)


def test_a_refused_socket(stack: lwipy.Stack) -> None:
    async def main() -> None:
        with new_socket(stack) as sock:
            there: Any = sock
            with pytest.raises(ConnectionRefusedError):
                await asyncio.get_running_loop().sock_connect(there, ("10.0.0.2", 9))

    run_on(stack, main)


def test_a_socket_that_would_block_the_loop_is_refused(stack: lwipy.Stack) -> None:
    async def main() -> None:
        with stack.socket() as sock:
            there: Any = sock
            with pytest.raises(ValueError, match="must be non-blocking"):
                await asyncio.get_running_loop().sock_recv(there, 1)

    run_on(stack, main)


def test_a_cancelled_wait_leaves_the_socket_as_it_was(stack: lwipy.Stack) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with new_socket(stack, type=socket.SOCK_DGRAM) as sock:
            sock.bind(("10.0.0.2", 7))
            there: Any = sock
            waiting = asyncio.create_task(loop.sock_recv(there, 100))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert sock._open._waiters._locks == []
            await loop.sock_sendto(there, b"still there", ("10.0.0.2", 7))
            assert await loop.sock_recv(there, 100) == b"still there"

    run_on(stack, main)


def test_closing_a_socket_ends_the_wait_on_it(stack: lwipy.Stack) -> None:
    async def main() -> None:
        sock = new_socket(stack, type=socket.SOCK_DGRAM)
        sock.bind(("10.0.0.2", 7))
        there: Any = sock
        waiting = asyncio.create_task(asyncio.get_running_loop().sock_recv(there, 100))
        await asyncio.sleep(0)
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await waiting

    run_on(stack, main)


def test_sendfile(stack: lwipy.Stack) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocols: list[Recorder] = []

        def factory() -> Recorder:
            protocols.append(Recorder())
            return protocols[-1]

        server = await loop.create_server(factory, "10.0.0.2", 80)
        with new_socket(stack) as sock, tempfile.TemporaryFile() as file:
            file.write(TEXT)
            file.flush()
            there: Any = sock
            await loop.sock_connect(there, ("10.0.0.2", 80))
            assert await loop.sock_sendfile(there, file, 1000, 500_000) == 500_000
            assert file.tell() == 501_000
            sock.shutdown(socket.SHUT_WR)
            await soon(lambda: protocols and len(protocols[0].data) == 500_000)
            assert protocols[0].data == TEXT[1000:501_000]
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sock_sendfile(there, file, fallback=False)
        server.close()
        await server.wait_closed()

    run_on(stack, main, debug=False)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "dual stack"])
def test_sockets_become_servers_and_transports(stack: lwipy.Stack, family: int) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener: Any = new_socket(stack, family)
        listener.bind(("", 80))
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, sock=listener)
        assert server.sockets[0].getsockname()[:2] == ("0.0.0.0" if family == socket.AF_INET else "::", 80)
        sock: Any = new_socket(stack)
        await loop.sock_connect(sock, ("10.0.0.2", 80))
        transport, _ = await loop.create_connection(Recorder, sock=sock)
        assert transport.get_extra_info("peername") == ("10.0.0.2", 80)
        await soon(lambda: made and made[0].transport)
        peer = made[0].transport.get_extra_info("peername")
        assert peer[0] == ("10.0.0.2" if family == socket.AF_INET else "::ffff:10.0.0.2")
        transport.write(b"hello")
        await soon(lambda: made[0].data == b"hello")
        transport.close()
        server.close()
        await server.wait_closed()

        waiting: Any = new_socket(stack)
        waiting.bind(("10.0.0.2", 81))
        waiting.listen()
        sock = new_socket(stack)
        await loop.sock_connect(sock, ("10.0.0.2", 81))
        accepted, _ = await loop.sock_accept(waiting)
        ours, protocol = await loop.connect_accepted_socket(Recorder, accepted)
        await loop.sock_sendall(sock, b"hello")
        await soon(lambda: protocol.data == b"hello")
        for end in (ours, sock, waiting):
            end.close()

    run_on(stack, main)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda loop, sock: loop.create_connection(Recorder), ValueError, "no sock specified"),
        (lambda loop, sock: loop.create_server(Recorder), ValueError, "Neither host/port nor sock"),
        (lambda loop, sock: loop.create_connection(Recorder, "10.0.0.2", 80, sock=sock), ValueError, "same time"),
        (lambda loop, sock: loop.create_connection(Recorder, sock=sock), ValueError, "A Stream Socket was expected"),
    ],
)
def test_bad_arguments(stack: lwipy.Stack, call: Any, error: type[Exception], text: str) -> None:
    async def main() -> None:
        with new_socket(stack, type=socket.SOCK_DGRAM) as sock:
            with pytest.raises(error, match=text):
                await call(asyncio.get_running_loop(), sock)

    run_on(stack, main)
