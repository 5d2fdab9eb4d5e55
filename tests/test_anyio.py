"""anyio's streams and listeners on stacks, on both of its backends, with anyio's own TLS over them."""

from __future__ import annotations

import gc
import hashlib
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSAttribute, TLSListener, TLSStream
from conftest import Pair
from test_aio_tls import client_context, server_context

import lwipy
from lwipy.anyio import connect_tcp, create_tcp_listener, driving

PORT = 80
Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """anyio.run on each backend."""

    def run(main: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            with anyio.fail_after(120):
                await main()

        anyio.run(guarded, backend=request.param)
        gc.collect()

    return run


@asynccontextmanager
async def two_hosts() -> AsyncIterator[Pair]:
    """The pair, driven by the running loop; at the end no endpoint may be left, so whoever leaks one fails."""
    with closing(lwipy.Stack()) as a, closing(lwipy.Stack()) as b:
        pair = Pair.of(a, b)
        async with driving(a), driving(b):
            yield pair
            with anyio.fail_after(60):
                while not a.statistics.endpoints == b.statistics.endpoints == 0:
                    await anyio.sleep(0.001)


async def connected(pair: Pair, host: str = "10.0.0.2") -> tuple[Any, Any]:
    """A connection from a to b: its ends on a and on b."""
    async with await create_tcp_listener(pair.b, local_host=host) as listener:
        near = await connect_tcp(pair.a, host, listener.extra(SocketAttribute.local_port))
        return near, await listener.listeners[0].accept()  # type: ignore[attr-defined]


async def echo(stream: Any) -> None:
    async with stream:
        with suppress(anyio.BrokenResourceError):
            async for data in stream:
                await stream.send(data)


@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2", "b.lwipy"])
def test_serving_and_connecting(run: Run, host: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair, anyio.create_task_group() as tasks:
            pair.a.hosts["b.lwipy"] = ["fd00::2", "10.0.0.2"]
            listener = await create_tcp_listener(pair.b)
            port = listener.extra(SocketAttribute.local_port)
            tasks.start_soon(listener.serve, echo)
            async with await connect_tcp(pair.a, host, port) as stream:
                assert isinstance(stream, SocketStream)
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
                address = "10.0.0.2" if host[0] == "1" else "fd00::2"
                assert stream.extra(SocketAttribute.remote_address) == (address, port)
                assert stream.extra(SocketAttribute.remote_port) == port
                assert stream.extra(SocketAttribute.family) in (socket.AF_INET, socket.AF_INET6)
                assert stream.extra(SocketAttribute.raw_socket).getsockname()[0] in ("10.0.0.1", "fd00::1")
            tasks.cancel_scope.cancel()
            await listener.aclose()

    run(main)


def test_20_megabytes_both_ways_at_once(run: Run) -> None:
    texts = [random.Random(seed).randbytes(20 << 20) for seed in (1, 2)]

    async def send(stream: SocketStream, text: bytes) -> None:
        for at in range(0, len(text), 300_000):
            await stream.send(text[at : at + 300_000])
        await stream.send_eof()

    async def receive(stream: SocketStream, text: bytes) -> None:
        digest = hashlib.sha256()
        async for data in stream:
            digest.update(data)
        assert digest.digest() == hashlib.sha256(text).digest()

    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            async with near, far, anyio.create_task_group() as tasks:
                tasks.start_soon(send, near, texts[0])
                tasks.start_soon(send, far, texts[1])
                tasks.start_soon(receive, near, texts[1])
                tasks.start_soon(receive, far, texts[0])

    run(main)


def test_half_close(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            async with near, far:
                await near.send(b"question")
                await near.send_eof()
                await near.send_eof()
                with pytest.raises(anyio.ClosedResourceError):
                    await near.send(b"more")
                assert await far.receive(3) == b"que"
                assert await far.receive() == b"stion"
                for _ in range(2):
                    with pytest.raises(anyio.EndOfStream):
                        await far.receive()
                await far.send(b"answer")
                assert await near.receive() == b"answer"
                with pytest.raises(ValueError, match="at least 1"):
                    await near.receive(0)

    run(main)


def test_refused_and_too_late(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["b.lwipy"] = ["fd00::2", "10.0.0.2"]
            with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.2:81"):
                await connect_tcp(pair.a, "10.0.0.2", 81)
            with pytest.raises(ConnectionRefusedError, match="all attempts") as info:
                await connect_tcp(pair.a, "b.lwipy", 81)
            assert isinstance(info.value.__cause__, ExceptionGroup)
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.05):
                    await connect_tcp(pair.a, "10.0.0.77", 81)
            with pytest.raises(socket.gaierror):
                await connect_tcp(pair.a, "no.where", 81)
            with pytest.raises(OSError, match="while attempting to bind"):
                await create_tcp_listener(pair.a, local_host="10.0.0.9")

    run(main)


def test_the_local_address_can_be_chosen(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair, await create_tcp_listener(pair.b, local_port=PORT) as _:
            async with await connect_tcp(pair.a, "fd00::2", PORT, local_host="fd00::1") as stream:
                assert stream.extra(SocketAttribute.local_address)[0] == "fd00::1"

    run(main)


def test_a_reset(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            raw = far.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await far.aclose()
            for _ in range(2):
                with pytest.raises(anyio.BrokenResourceError) as info:
                    await near.receive()
                assert isinstance(info.value.__cause__, ConnectionResetError)
                with pytest.raises(anyio.BrokenResourceError):
                    await near.send(b"x")
            await near.aclose()

    run(main)


async def clog(stream: Any) -> None:
    with anyio.move_on_after(0.3):
        while True:
            await stream.send(bytes(65536))


@pytest.mark.parametrize("waiting", ["receive", "send"])
def test_closing_wakes_who_waits_and_two_cannot_wait(run: Run, waiting: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            await clog(near)

            async def wait(error: type[Exception]) -> None:
                with pytest.raises(error):
                    await (near.receive() if waiting == "receive" else near.send(bytes(1 << 20)))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait, anyio.ClosedResourceError)
                await anyio.wait_all_tasks_blocked()
                await wait(anyio.BusyResourceError)
                await near.aclose()
            await near.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await near.send(b"x")
            sent = near.bytes_sent
            size = 0
            async for data in far:
                size += len(data)
            assert size == sent  # what cancelled and interrupted calls said they had sent, and no byte else
            await far.aclose()

    run(main)


def test_closing_a_listener_wakes_who_accepts(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            listener = await create_tcp_listener(pair.b, local_host="10.0.0.2")

            async def serve() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await listener.listeners[0].accept()  # type: ignore[attr-defined]

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(serve)
                await anyio.wait_all_tasks_blocked()
                await listener.aclose()
            await listener.aclose()

    run(main)


@pytest.mark.parametrize("turns", range(0, 16, 2))
def test_cancelled_at_any_turn_connecting_leaves_nothing(run: Run, turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair, await create_tcp_listener(pair.b, local_port=PORT) as listener:
            pair.a.hosts["b.lwipy"] = ["fd00::77", "10.0.0.2"]

            async def connect() -> None:
                async with await connect_tcp(pair.a, "b.lwipy", PORT, happy_eyeballs_delay=0):
                    await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            await listener.aclose()
        # two_hosts() has seen that no endpoint is left.

    run(main)


def test_no_byte_is_lost_or_doubled_by_cancelling(run: Run) -> None:
    text = random.Random(1).randbytes(1 << 20)

    async def send(stream: Any) -> None:
        dice = random.Random(2)
        while (at := stream.bytes_sent) < len(text):
            with anyio.move_on_after(dice.random() / 500):
                await stream.send(text[at : at + dice.randrange(1, 300_000)])
        await stream.send_eof()

    async def main() -> None:
        dice = random.Random(3)
        async with two_hosts() as pair:
            near, far = await connected(pair)
            got = bytearray()
            async with near, far, anyio.create_task_group() as tasks:
                tasks.start_soon(send, near)
                with suppress(anyio.EndOfStream):
                    while True:
                        with anyio.move_on_after(dice.random() / 1000):
                            got += await far.receive(dice.randrange(1, 50_000))
            assert got == text

    run(main)


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_anyios_tls(run: Run) -> None:
    text = random.Random(1).randbytes(2 << 20)

    async def main() -> None:
        async with two_hosts() as pair, anyio.create_task_group() as tasks:
            listener = TLSListener(await create_tcp_listener(pair.b, local_port=443), server_context())
            tasks.start_soon(listener.serve, echo)
            stream = await connect_tcp(pair.a, "10.0.0.2", 443, ssl_context=client_context(), tls_hostname="host.lwipy")
            async with stream:
                assert isinstance(stream, TLSStream)
                assert stream.extra(TLSAttribute.tls_version).startswith("TLS")
                assert stream.extra(SocketAttribute.remote_port) == 443
                tasks.start_soon(stream.send, text)
                got = bytearray()
                while len(got) < len(text):
                    got += await stream.receive()
                assert got == text
            tasks.cancel_scope.cancel()
            await listener.aclose()

    run(main)


def test_a_certificate_error_reaches_the_caller_and_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near_end = create_tcp_listener(pair.b, local_host="10.0.0.2", local_port=443)
            async with await near_end as listener, anyio.create_task_group() as tasks:
                quiet = TLSListener(listener, server_context())

                async def serve() -> None:
                    with suppress(anyio.BrokenResourceError, ssl.SSLError):
                        await quiet.serve(echo)

                tasks.start_soon(serve)
                with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
                    await connect_tcp(pair.a, "10.0.0.2", 443, tls=True)
                with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                    await connect_tcp(pair.a, "10.0.0.2", 443, ssl_context=client_context(), tls_hostname="evil.lwipy")
                tasks.cancel_scope.cancel()
                await listener.aclose()

    run(main)


def test_a_handshake_that_stalls_is_given_up_and_leaves_nothing(run: Run) -> None:
    async def main() -> None:
        async with two_hosts() as pair, await create_tcp_listener(pair.b, local_port=443) as listener:
            with pytest.raises(TimeoutError):
                with anyio.fail_after(0.1):
                    await connect_tcp(pair.a, "10.0.0.2", 443, ssl_context=client_context())
            await listener.aclose()

    run(main)
