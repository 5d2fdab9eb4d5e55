"""A stack's driver by default: the caller's own hand. Those that are more derive from it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from lwipy._dispatch import NEWS
from lwipy._native import check, lib

if TYPE_CHECKING:
    import asyncio

    from lwipy.endpoints.base import Endpoint
    from lwipy.stack import Stack


class Driver:
    """What drives a stack. This one is the caller's own hand: nothing is left waiting when an operation returns."""

    #: The asyncio loop that drives, if one does.
    loop: asyncio.AbstractEventLoop | None = None
    #: Whether it hands out events just now.
    serving = False
    #: Of the thread that drives, beside which others wait in the core; None where that is not so.
    ident: int | None = None

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._waiting = 0

    def kick(self) -> None:
        """Something may have changed: called after every operation."""
        if self.stack._attention[0] & NEWS:
            self.stack.dispatch()

    def kick_timer(self) -> None:
        """A timer was added, maybe by another thread and an earlier one than the driver sleeps for."""
        if self._waiting and not self.stack.closed:
            lib.lwipy_wake(self.stack._core)

    def wait(self, lock: threading.Lock, deadline: float | None) -> bool:
        """Waits until someone releases `lock`; False when `deadline` (monotonic seconds) came first.

        By hand, the caller's thread drives the stack meanwhile.
        """
        stack = self.stack
        stack._check_waiting()
        self._waiting += 1
        try:
            while not lock.acquire(blocking=False):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                delay = stack.poll()
                if not lock.locked():
                    continue
                delays = [d for d in (left, delay) if d is not None]
                check(stack._core, lib.lwipy_run(stack._core, int(min(delays) * 1e6) + 1 if delays else -1))
            return True
        finally:
            self._waiting -= 1

    def wait_for(self, endpoint: Endpoint, wanted: int, deadline: float | None) -> int:
        """Waits for one of the `wanted` events, after an operation that had to wait; as lwipy_wait() of the core.

        Positive when another try is worth it, 0 when `deadline` (monotonic seconds) came first, or a code.
        """
        return int(lib.LWIPY_ENOTSUP)

    def stop(self) -> None:
        """Gives the stack back."""
