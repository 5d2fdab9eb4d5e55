"""What a stream transport can be asked, and its socket; what it costs, and what is told when nobody closed it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
import select
import socket
import tempfile
import tracemalloc
import warnings
from typing import Any

import pytest
from aio_world import connected, run, soon, two_hosts

from lwipy.aio import StreamTransport, create_connection, create_server

MEGABYTE = 1 << 20


def test_extra_info() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            info = client.transport.get_extra_info
            assert info("peername") == ("10.0.0.2", 80)
            assert info("sockname") == server.transport.get_extra_info("peername")
            assert info("sslcontext") is None
            assert info("nothing of the kind", 7) == 7
            sock = info("socket")
            assert (sock.family, sock.type, sock.proto) == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            assert sock.getpeername() == ("10.0.0.2", 80)
            assert sock.getsockname() == info("sockname")
            assert sock.gettimeout() == 0
            sock.setblocking(False)
            with pytest.raises(ValueError, match="cannot be blocking"):
                sock.setblocking(True)
            with pytest.raises(OSError, match="cannot be duplicated"):
                sock.dup()
            client.transport.close()
            await client.lost
            assert info("peername") == ("10.0.0.2", 80)
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                sock.getsockname()
            assert caught.value.errno == errno.EBADF
            assert sock.fileno() == -1

    run(main)


def ready(sock: Any) -> tuple[bool, bool]:
    """Readable and writable, as the host's select() sees a socket."""
    readable, writable, _ = select.select([sock], [sock], [], 0)
    return bool(readable), bool(writable)


def test_the_sockets_descriptor_polls_as_the_connection() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            sock = client.transport.get_extra_info("socket")
            descriptor = sock.fileno()
            assert ready(sock) == (False, True)
            server.transport.write(b"hello")
            await soon(lambda: client.data == b"hello")
            assert ready(sock) == (False, True), "what came has been read"
            client.transport.pause_reading()
            server.transport.write(b"more")
            await soon(lambda: ready(sock) == (True, True))
            client.transport.resume_reading()
            await soon(lambda: client.data == b"hellomore")
            assert ready(sock) == (False, True)
            server.transport.pause_reading()
            client.transport.set_write_buffer_limits(high=1 << 30)
            while not client.transport.get_write_buffer_size():
                client.transport.write(bytes(1 << 20))
            assert ready(sock) == (False, False)
            server.transport.resume_reading()
            await soon(lambda: ready(sock) == (False, True))
            assert sock.fileno() == descriptor
            client.transport.abort()
            await client.lost
            assert sock.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)

    run(main)


def test_options() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            for side in (client, server):
                sock = side.transport.get_extra_info("socket")
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1, "Nagle is off, as in asyncio"
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
                with pytest.raises(OSError, match="Protocol not available") as caught:
                    sock.setsockopt(socket.SOL_SOCKET, 12345, 1)
                assert caught.value.errno == errno.ENOPROTOOPT

    run(main)


def test_sendfile_falls_back_to_reading_and_writing() -> None:
    text = random.Random(4).randbytes(300_000)

    async def main() -> None:
        async with connected() as (client, server):
            with tempfile.TemporaryFile() as file:
                file.write(text)
                file.flush()
                sent = await asyncio.get_running_loop().sendfile(client.transport, file, offset=1000)
                assert sent == len(text) - 1000
                assert file.tell() == len(text)
            client.transport.write_eof()
            await server.ended
        assert server.data == text[1000:]

    run(main)


def test_a_transport_nobody_closed_is_told_of() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80)
            transport, _ = await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80)
            assert isinstance(transport, StreamTransport)
            transport._endpoint.on_event = None
            with pytest.warns(ResourceWarning, match=r"unclosed transport <StreamTransport open \('10.0.0.2', 80\)"):
                del transport
            await soon(lambda: not gc.collect() and pair.a.statistics.endpoints == 0)
            server.abort_clients()
            server.close()

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        run(main)


def test_an_idle_connections_end_takes_less_than_two_kilobytes() -> None:
    """Of Python's memory, its protocol and its place in the server included."""
    count = 300

    async def main() -> None:
        async with two_hosts() as pair, await create_server(pair.b, asyncio.Protocol, "10.0.0.2", 80) as server:
            transports = [(await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80))[0]]
            gc.collect()
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in range(count):
                    transports.append((await create_connection(pair.a, asyncio.Protocol, "10.0.0.2", 80))[0])
                await soon(lambda: pair.b.statistics.endpoints == count + 2)
                gc.collect()
                used = tracemalloc.get_traced_memory()[0] - before
            finally:
                tracemalloc.stop()
            for transport in transports:
                transport.close()
            server.close()
        assert used / count / 2 < 2048

    run(main, debug=False)
