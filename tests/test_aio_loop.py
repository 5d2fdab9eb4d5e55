"""StackEventLoop: programs and libraries for asyncio run on it as they are."""

from __future__ import annotations

import asyncio
import io
import random
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from aio_world import Recorder, run, soon
from aiohttp import web

import lwipy
from lwipy.aio import StackEventLoop, driving
from lwipy.blocking import Socket

HOST = Path(__file__).parent / "tls" / "host.pem"
TEXT = random.Random(1).randbytes(1_000_000)


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    """A host that talks to itself: at 10.0.0.2, fd00::2 and over its loopback."""
    with closing(lwipy.Stack()) as stack:
        stack.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64")
        yield stack
        assert stack.statistics.endpoints == 0


def run_on(stack: lwipy.Stack, main: Callable[[], Awaitable[None]], *, debug: bool = True) -> None:
    async def whole() -> None:
        await main()
        await soon(lambda: stack.statistics.endpoints == 0)

    run(whole, lambda: StackEventLoop(stack), debug=debug)


def new_socket(stack: lwipy.Stack, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM) -> Socket:
    sock = stack.socket(family, type)
    sock.setblocking(False)
    return sock


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(HOST)
    return server, ssl.create_default_context(cafile=str(HOST))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


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


# -- Sockets of the stack --------------------------------------------------------------------------------------------


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
