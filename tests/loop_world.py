"""Programs on a StackEventLoop: what its tests begin with."""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Callable

from aio_world import run, soon

import lwipy
from lwipy.aio import StackEventLoop
from lwipy.blocking import Socket

TEXT = random.Random(1).randbytes(1_000_000)


def run_on(stack: lwipy.Stack, main: Callable[[], Awaitable[None]], *, debug: bool = True) -> None:
    async def whole() -> None:
        await main()
        await soon(lambda: stack.statistics.endpoints == 0)

    run(whole, lambda: StackEventLoop(stack), debug=debug)


def new_socket(stack: lwipy.Stack, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM) -> Socket:
    sock = stack.socket(family, type)
    sock.setblocking(False)
    return sock
