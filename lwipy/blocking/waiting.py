"""How a thread waits for an endpoint.

Theory of operation. The waiter hangs a lock on the socket and tries its operation again before it sleeps on the lock;
the driver releases the lock when an event comes. The event cannot be missed: an operation that has to wait arms the
event, and the lock hangs there before that.

Invariants:

1. A waiter sleeps outside of every call of the core and of every Python lock of the stack.
2. Closing the socket releases all its waiters; their operation then fails with EBADF.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from lwipy.endpoints import Event
from lwipy.stack import Stack

T = TypeVar("T")
#: The kernel's time_t in nanoseconds ends here, and so do the socket module's timeouts.
_LONGEST_TIMEOUT: Final = 2**63 / 1e9


def checked_timeout(seconds: float | None) -> float | None:
    """What settimeout() takes; ValueError, TypeError and OverflowError as the socket module's."""
    if seconds is None:
        return None
    seconds = seconds if isinstance(seconds, float) else operator.index(seconds)
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("Timeout value out of range")
    if seconds > _LONGEST_TIMEOUT:
        raise OverflowError("timeout doesn't fit into C timeval")
    return float(seconds)


class Waiters:
    """The threads that wait for one endpoint."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._locks: list[threading.Lock] = []

    def notify(self, _: Event | None = None) -> None:
        """Wakes them all; each looks for itself."""
        for lock in list(self._locks):
            try:
                lock.release()
            except RuntimeError:
                pass  # woken already

    def until(self, attempt: Callable[[], T], timeout: float | None) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError; TimeoutError after `timeout` seconds.

        A timeout of 0 is a single attempt.
        """
        try:
            return attempt()
        except BlockingIOError:
            if timeout == 0:
                raise
        deadline = None if timeout is None else time.monotonic() + min(timeout, threading.TIMEOUT_MAX / 2)
        lock = threading.Lock()
        lock.acquire()
        self._locks.append(lock)
        try:
            while True:
                try:
                    return attempt()
                except BlockingIOError:
                    pass
                if not self._stack._driver.wait(lock, deadline):
                    raise TimeoutError("timed out")
        finally:
            self._locks.remove(lock)
