"""Two hosts on a wire in one event loop, and loops that tell on their programs: what the asyncio tests begin with."""

from __future__ import annotations

import asyncio
import gc
import selectors
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, TypeVar

from conftest import Pair

import lwipy
from lwipy.aio import create_connection, create_server, driving, open_connection

T = TypeVar("T")
#: Seconds after which a test is stuck; generous, for it guards and does not measure.
STUCK = 120


def run(
    main: Callable[[], Awaitable[T]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    *,
    debug: bool = True,
) -> T:
    """asyncio.run, where whatever reaches the loop's exception handler fails the test."""
    reports: list[dict[str, Any]] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, report: reports.append(report))
        return await asyncio.wait_for(main(), None if isinstance(loop, VirtualLoop) else STUCK)

    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        result = runner.run(guarded())
    gc.collect()
    assert reports == []
    return result


@asynccontextmanager
async def two_hosts(**arguments: Any) -> AsyncIterator[Pair]:
    """The pair, driven by the running loop; at the end no endpoint may be left, so whoever leaks one fails."""
    with closing(lwipy.Stack(**arguments)) as a, closing(lwipy.Stack(**arguments)) as b:
        pair = Pair.of(a, b)
        async with driving(a), driving(b):
            yield pair
            await nothing_left(pair)


async def nothing_left(pair: Pair) -> None:
    """Waits for transports to say goodbye, then expects that no endpoint is open."""
    await soon(lambda: pair.a.statistics.endpoints == 0 and pair.b.statistics.endpoints == 0)


async def soon(condition: Callable[[], object]) -> None:
    """Gives the loop turns until `condition()` is true."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + STUCK
    while not condition():
        assert loop.time() < limit, "still not so"
        await asyncio.sleep(0.001)


def reset(transport: asyncio.BaseTransport) -> None:
    """Ends a connection with a reset: SO_LINGER of 0, and abort()."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()  # type: ignore[attr-defined]


class Recorder(asyncio.Protocol):
    """A protocol that writes down what it is told."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: BaseException | None = None
        self.transport: Any = None
        self.keep_open = False
        loop = asyncio.get_running_loop()
        self.made: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")
        self.transport = transport
        self.made.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.calls.append("data")
        self.data += data

    def eof_received(self) -> bool:
        self.calls.append("eof")
        self.ended.set_result(None)
        return self.keep_open

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: BaseException | None) -> None:
        self.calls.append("lost")
        self.error = error
        self.lost.set_result(None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer when nothing is ready; `turns` counts its turns.

    Stacks made with ``clock=loop.time`` live by the same clock, so an hour of their timers takes no time.
    """

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.turns += 1
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything sleeps, and nothing will wake it")
        if not ready and timeout is not None and timeout > 0:
            self._loop.now += timeout
        return ready


@asynccontextmanager
async def connected(
    client: Callable[[], Any] = Recorder, server: Callable[[], Any] = Recorder
) -> AsyncIterator[tuple[Any, Any]]:
    """A connection's two protocols; both know their transport."""
    async with two_hosts() as pair:
        made: list[Any] = []

        def factory() -> Any:
            made.append(server())
            return made[-1]

        listener = await create_server(pair.b, factory, "10.0.0.2", 80)
        _, protocol = await create_connection(pair.a, client, "10.0.0.2", 80)
        await soon(lambda: made and made[0].transport)
        listener.close()
        yield protocol, made[0]
        for side in (protocol, made[0]):
            side.transport.abort()
        await listener.wait_closed()


class Buffered(asyncio.BufferedProtocol):
    """Receives into 100 bytes of its own."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.buffer = bytearray(100)
        self.data = bytearray()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> Any:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def connection_lost(self, error: BaseException | None) -> None:
        self.lost.set_result(error)


async def ended(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


async def ask(stack: lwipy.Stack, text: bytes, host: str = "10.0.0.2", port: int = 80) -> bytes:
    reader, writer = await open_connection(stack, host, port)
    writer.write(text)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer
