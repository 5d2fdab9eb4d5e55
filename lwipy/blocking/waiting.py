"""How a thread waits for an endpoint.

Theory of operation. An operation that has to wait arms an event. Where a thread drives the stack, the waiter waits in
the core (``csrc/leader.c``), and may drive it meanwhile. Otherwise, or for what is no single event of an endpoint, it
hangs a lock on the socket and sleeps on it until the driver, told of the event, releases it. The event cannot be
missed: each replaces ``_latest``, so who finds another one there than before the operation tries again instead of
sleeping; the core knows of it because nothing is armed any more.

Invariants:

1. A waiter sleeps outside of every Python lock of the stack and without the core's.
2. Closing the socket releases all its waiters; their operation then fails with EBADF.
3. notify() replaces ``_latest`` before it looks for locks, a waiter hangs up its lock before it looks at ``_latest``.
4. An endpoint is quiet, so that its events do not reach Python, only while nobody but waiters in the core needs them:
   from its description's beginning, at most until someone waits by lock or asks for a descriptor; never again.
"""

from __future__ import annotations

import operator
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from lwipy._native import lib
from lwipy.endpoints import Endpoint, Event
from lwipy.endpoints.grouped import Grouped
from lwipy.stack import Stack

T = TypeVar("T")
#: Threads do not wait in the core.
NOT_HERE: Final[int] = lib.LWIPY_ENOTSUP
#: What a thread may wait for in the core. Plain numbers: an enumeration's & costs a microsecond.
READABLE: Final[int] = lib.LWIPY_READABLE
WRITABLE: Final[int] = lib.LWIPY_WRITABLE
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
    """The threads that wait for one endpoint, or by lock for whatever notify() is told of."""

    def __init__(self, stack: Stack, endpoint: Endpoint | None = None) -> None:
        self._stack = stack
        #: What threads may wait for in the core: an endpoint that is one in C, too.
        self._endpoint = None if isinstance(endpoint, Grouped) else endpoint
        self._locks: list[threading.Lock] = []
        self._latest = object()
        self._quiet = False
        if self._endpoint is not None and stack._driver.ident:
            self._quiet = lib.lwipy_quiet(stack._core, self._endpoint._handle, 1) == 0

    def notify(self, _: Event | None = None) -> None:
        """The driver has told of an event: wakes those who wait by lock; each looks for itself."""
        self._latest = object()
        for lock in list(self._locks) if self._locks else ():
            try:
                lock.release()
            except RuntimeError:
                pass  # woken already

    def rouse(self) -> None:
        """After an operation that may concern other threads: wakes them all."""
        self.notify()
        endpoint = self._endpoint
        if endpoint is not None and not self._stack.closed:
            lib.lwipy_rouse(self._stack._core, endpoint._handle)

    def hear(self) -> bool:
        """From now on the endpoint's events reach Python; True when they did not before, and some may be lost."""
        if not self._quiet or self._endpoint is None or self._stack.closed:
            return False
        lib.lwipy_quiet(self._stack._core, self._endpoint._handle, 0)
        self._quiet = False
        return True

    def until(self, attempt: Callable[[], T], timeout: float | None, wanted: int = 0) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError; TimeoutError after `timeout` seconds.

        A timeout of 0 is a single attempt. `wanted` is the event of the endpoint that makes another attempt worth it.
        """
        latest = self._latest
        try:
            return attempt()
        except BlockingIOError:
            if timeout == 0:
                raise
        deadline = None if timeout is None else time.monotonic() + min(timeout, threading.TIMEOUT_MAX / 2)
        endpoint = self._endpoint
        while wanted and endpoint is not None:
            result = self._stack._driver.wait_for(endpoint, wanted, deadline)
            if result == 0:
                raise TimeoutError("timed out")
            if result == NOT_HERE:
                break
            try:
                return attempt()
            except BlockingIOError:
                pass
        return self._until_told(attempt, deadline, latest)

    def _until_told(self, attempt: Callable[[], T], deadline: float | None, latest: object) -> T:
        """The same, by lock."""
        if self.hear():
            latest = None
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
