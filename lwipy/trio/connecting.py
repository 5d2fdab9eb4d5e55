"""Connections and servers as trio's functions make them, by name and over both families."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import trio

from lwipy.aio.listening import listen_on
from lwipy.blocking.race import DELAY, Race, in_turns
from lwipy.trio.driver import check_driven, deliver
from lwipy.trio.names import getaddrinfo
from lwipy.trio.streams import SocketListener, SocketStream
from lwipy.trio.waiting import Waiters

if TYPE_CHECKING:
    from lwipy.stack import Stack


async def open_tcp_stream(
    stack: Stack,
    host: str,
    port: int | str,
    *,
    happy_eyeballs_delay: float = DELAY,
    local_address: str | None = None,
) -> SocketStream:
    """As :func:`trio.open_tcp_stream`, on a stack: connects to whichever of the host's addresses answers first.

    OSError of the right class, naming the address: ConnectionRefusedError, TimeoutError, EHOSTUNREACH; of several that
    all failed the last, with all of them as its cause. socket.gaierror for the name. Bound it by trio.fail_after().
    """
    check_driven(stack)
    candidates = in_turns(await getaddrinfo(stack, host, port, 0, socket.SOCK_STREAM))
    source = None if local_address is None else (local_address, 0)
    waiters = Waiters()
    race = Race(stack, candidates, lambda end: deliver(end, waiters.notify), source=source, delay=happy_eyeballs_delay)
    with contextlib.closing(race):
        while race.open:
            race.start_next(time.monotonic())
            with trio.move_on_after(race.pause(time.monotonic())):
                winner = await waiters.until(race.look)
                if winner is not None:
                    return SocketStream(winner.endpoint)
    raise race.failure(f"{host}:{port}")


# -- Servers -----------------------------------------------------------------------------------------------------------


async def open_tcp_listeners(
    stack: Stack, port: int | str, *, host: str | None = None, backlog: int | None = None
) -> list[SocketListener]:
    """As :func:`trio.open_tcp_listeners`, on a stack.

    Without `host` one for each family; `port` 0 takes a free one, the same for all. OSError EADDRINUSE, EADDRNOTAVAIL,
    naming the address.
    """
    check_driven(stack)
    infos = await getaddrinfo(stack, host, port, 0, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [SocketListener(endpoint) for endpoint in listen_on(stack, infos, 128 if backlog is None else backlog)]


async def serve_tcp(
    stack: Stack,
    handler: Callable[[SocketStream], Awaitable[object]],
    port: int | str,
    *,
    host: str | None = None,
    backlog: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """As :func:`trio.serve_tcp`, on a stack: runs `handler` in a task for every connection, until cancelled."""
    listeners = await open_tcp_listeners(stack, port, host=host, backlog=backlog)
    await trio.serve_listeners(handler, listeners, handler_nursery=handler_nursery, task_status=task_status)
