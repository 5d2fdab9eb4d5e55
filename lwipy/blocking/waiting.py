"""How a thread waits for an endpoint.

Theory of operation. An operation that has to wait arms an event. The waiter hangs a lock on the socket and sleeps on it
until the driver, told of the event, releases it. The event cannot be missed: each replaces ``_latest``, so who finds
another one there than before the operation tries again instead of sleeping.

Invariants:

1. A waiter sleeps outside of every call of the core and of every Python lock of the stack.
2. Closing the socket releases all its waiters; their operation then fails with EBADF.
3. notify() replaces ``_latest`` before it looks for locks, a waiter hangs up its lock before it looks at ``_latest``.
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
        self._latest = object()

    def notify(self, _: Event | None = None) -> None:
        """Wakes them all; each looks for itself."""
        self._latest = object()
        for lock in list(self._locks) if self._locks else ():
            try:
                lock.release()
            except RuntimeError:
                pass  # woken already

    def until(self, attempt: Callable[[], T], timeout: float | None) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError; TimeoutError after `timeout` seconds.

        A timeout of 0 is a single attempt.
        """
        latest = self._latest
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
                if self._latest is latest and not self._stack._driver.wait(lock, deadline):
                    raise TimeoutError("timed out")
                latest = self._latest
                try:
                    return attempt()
                except BlockingIOError:
                    pass
        finally:
            self._locks.remove(lock)
