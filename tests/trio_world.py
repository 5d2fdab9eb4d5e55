"""Two hosts on a wire in one trio: what its tests begin with."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import Any, TypeVar

import trio
import trio.testing
from conftest import Pair

import lwipy
from lwipy.trio import SocketStream, driving, open_tcp_listeners, open_tcp_stream

T = TypeVar("T")
#: Seconds after which a test is stuck; generous, for it guards and does not measure.
STUCK = 120
PORT = 80


def run(main: Callable[[], Awaitable[T]], *, virtual: bool = True, **arguments: Any) -> T:
    """trio.run; in virtual time, which leaps to the next deadline when all tasks sleep, or in real time."""

    async def guarded() -> T:
        with trio.fail_after(24 * 3600 if virtual else STUCK):
            return await main()

    clock = trio.testing.MockClock(autojump_threshold=0) if virtual else None
    result = trio.run(guarded, clock=clock, **arguments)
    gc.collect()
    return result


@asynccontextmanager
async def two_hosts(*, virtual: bool = True) -> AsyncIterator[Pair]:
    """The pair, driven by the running trio; at the end no endpoint may be left, so whoever leaks one fails."""
    clock = trio.current_time if virtual else None
    with closing(lwipy.Stack(clock=clock)) as a, closing(lwipy.Stack(clock=clock)) as b:
        pair = Pair.of(a, b)
        async with driving(a), driving(b):
            yield pair
            await nothing_left(pair)


async def nothing_left(pair: Pair) -> None:
    """Waits for connections to say goodbye, then expects that no endpoint is open."""
    await soon(lambda: pair.a.statistics.endpoints == 0 and pair.b.statistics.endpoints == 0)


async def soon(condition: Callable[[], object]) -> None:
    """Waits until `condition()` is true."""
    with trio.fail_after(STUCK):
        while not condition():
            await trio.sleep(0.001)


async def connected(pair: Pair, host: str = "10.0.0.2") -> tuple[SocketStream, SocketStream]:
    """A connection from a to b: its ends on a and on b."""
    listeners = await open_tcp_listeners(pair.b, 0, host=host)
    async with listeners[0] as listener:
        near = await open_tcp_stream(pair.a, host, listener.socket.getsockname()[1])
        return near, await listener.accept()


async def clog(stream: SocketStream) -> None:
    """Sends until not one byte more will fit, however long one waits."""
    for size in (65536, 1024, 1):
        clogged = False
        while not clogged:
            with trio.move_on_after(5) as scope:
                await stream.send_all(bytes(size))
            clogged = scope.cancelled_caught


async def echo(stream: SocketStream) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)
