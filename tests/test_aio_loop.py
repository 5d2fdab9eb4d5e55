"""StackEventLoop: programs and libraries for asyncio run on it as they are."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from aio_world import Recorder, echo, soon
from aiohttp import web
from loop_world import TEXT, run_on

import lwipy
from lwipy.aio import driving

HOST = Path(__file__).parent / "tls" / "host.pem"


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    """A host that talks to itself: at 10.0.0.2, fd00::2 and over its loopback."""
    with closing(lwipy.Stack()) as stack:
        stack.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64")
        yield stack
        assert stack.statistics.endpoints == 0


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(HOST)
    return server, ssl.create_default_context(cafile=str(HOST))


async def ask(text: bytes, host: str, port: int, **options: Any) -> bytes:
    reader, writer = await asyncio.open_connection(host, port, **options)
    writer.write(text)
    if options.get("ssl"):
        answer = await reader.readexactly(len(text))
    else:
        writer.write_eof()
        answer = await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return answer


# -- asyncio's own functions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2", "127.0.0.1", "::1", "localhost", "named"])
def test_streams(stack: lwipy.Stack, host: str) -> None:
    stack.hosts["named"] = ["fd00::2"]

    async def main() -> None:
        async with await asyncio.start_server(echo, port=80):
            assert await ask(b"hello", host, 80) == b"hello"

    run_on(stack, main)


def test_streams_with_tls(stack: lwipy.Stack) -> None:
    server, client = contexts()

    async def main() -> None:
        async with await asyncio.start_server(echo, "10.0.0.2", 443, ssl=server):
            assert await ask(TEXT, "10.0.0.2", 443, ssl=client) == TEXT

    run_on(stack, main, debug=False)


def test_a_closed_loop_gives_the_stack_back() -> None:
    async def main() -> None:
        async with await asyncio.start_server(echo, port=80):
            assert await ask(b"hello", "127.0.0.1", 80) == b"hello"

    with closing(lwipy.Stack()) as stack:
        run_on(stack, main)
        run_on(stack, main)
        with stack, stack.create_server(("127.0.0.1", 80)) as server, stack.create_connection(("127.0.0.1", 80)):
            server.accept()[0].close()


def test_datagrams(stack: lwipy.Stack) -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            received.append((data, addr))
            if data == b"question":
                self.transport.sendto(b"answer", addr)

    received: list[tuple[bytes, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server, _ = await loop.create_datagram_endpoint(Echo, ("10.0.0.2", 7))
        client, _ = await loop.create_datagram_endpoint(Echo, local_addr=("10.0.0.2", 8), remote_addr=("10.0.0.2", 7))
        client.sendto(b"question")
        await soon(lambda: len(received) == 2)
        assert received == [(b"question", ("10.0.0.2", 8)), (b"answer", ("10.0.0.2", 7))]
        client.close()
        server.close()

    run_on(stack, main)


def test_names(stack: lwipy.Stack) -> None:
    stack.hosts["there"] = ["10.0.0.7"]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        (info,) = await loop.getaddrinfo("there", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
        assert info == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("10.0.0.7", 80))
        assert await loop.getnameinfo(("10.0.0.7", 80)) == ("there", "http")
        assert await loop.getnameinfo(("10.0.0.8", 80), socket.NI_NUMERICSERV) == ("10.0.0.8", "80")
        for host in ("10.0.0.8", "there"):
            with pytest.raises(socket.gaierror):
                await loop.getnameinfo((host, 80), socket.NI_NAMEREQD)

    run_on(stack, main)


def test_the_hosts_own_sockets_stay_the_hosts(stack: lwipy.Stack, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        path = str(tmp_path / "socket")
        async with await asyncio.start_unix_server(echo, path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"over the host's kernel")
            assert await reader.readexactly(22) == b"over the host's kernel"
            writer.close()
            await writer.wait_closed()
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.setblocking(False)
            transport, protocol = await loop.create_connection(Recorder, sock=ours)
            await loop.sock_sendall(theirs, b"x")
            await soon(lambda: protocol.data == b"x")
            transport.write(b"y")
            assert await loop.sock_recv(theirs, 10) == b"y"
            transport.close()
        server = await loop.create_server(Recorder, sock=socket.create_server(("127.0.0.1", 0)))
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
        server.close()
        await server.wait_closed()

    run_on(stack, main)


# -- Libraries, unmodified -------------------------------------------------------------------------------------------


def test_aiohttp(stack: lwipy.Stack) -> None:
    server_context, client_context = contexts()

    async def upper(request: web.Request) -> web.Response:
        return web.Response(body=(await request.read()).upper())

    async def main() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes([web.post("/", upper)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "10.0.0.2", 80).start()
        await web.TCPSite(runner, None, 443, ssl_context=server_context).start()

        def stack_socket(info: Any) -> Any:
            return stack.socket(*info[:3])

        connector = aiohttp.TCPConnector(socket_factory=stack_socket)
        async with aiohttp.ClientSession(connector=connector) as session:
            for url in ("http://10.0.0.2", "https://10.0.0.2", "https://[fd00::2]"):
                for _ in range(3):
                    async with session.post(url, data=io.BytesIO(TEXT), ssl=client_context) as response:
                        assert await response.read() == TEXT.upper()
        await runner.cleanup()

    run_on(stack, main, debug=False)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_websockets(stack: lwipy.Stack, secure: bool) -> None:
    server_context, client_context = contexts() if secure else (None, None)

    async def serve(sock: websockets.asyncio.server.ServerConnection) -> None:
        async for message in sock:
            await sock.send(message[::-1])

    async def main() -> None:
        async with websockets.asyncio.server.serve(serve, "10.0.0.2", 80, ssl=server_context):
            url = f"{'wss' if secure else 'ws'}://10.0.0.2:80"
            async with websockets.asyncio.client.connect(url, ssl=client_context) as client:
                await client.send(TEXT)
                assert await client.recv() == TEXT[::-1]

    run_on(stack, main, debug=False)


def test_a_library_talks_to_a_host_on_the_wire(stack: lwipy.Stack) -> None:
    """The loop's own stack and another one, side by side in one loop."""
    with closing(lwipy.Stack()) as other:
        lwipy.wire(stack.interfaces["nic0"], other.add_interface(ipv4="10.0.0.1/24"))

        async def main() -> None:
            async with driving(other), await lwipy.aio.start_server(other, echo, "10.0.0.1", 80):
                assert await ask(TEXT, "10.0.0.1", 80) == TEXT

        run_on(stack, main, debug=False)
