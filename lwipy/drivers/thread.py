"""A thread that drives a stack.

Theory of operation. The thread hands out what waits for Python and then stays in the core (``csrc/leader.c``), without
the GIL: there frames move, timers run, and it sleeps in one system call until Python is needed again. Any operation
of any other thread that leaves events or an earlier deadline behind wakes it, in C. A thread that waits for an endpoint
of its own does the same work in this one's place, as long as it waits; what is Python's it leaves to this one.

Invariants:

1. Callbacks run in this thread only. An exception in one is logged; the stack goes on.
2. stop() returns when the thread has ended, unless it is called from that thread itself.
3. The thread is a daemon and holds the stack weakly while it is in the core: a stack nobody refers to is closed.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from lwipy._driver import Driver
from lwipy._native import check, lib
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.endpoints.base import Endpoint
    from lwipy.stack import Stack

_wait: Final = lib.lwipy_wait
_log = logging.getLogger("lwipy.driver")


class ThreadDriver(Driver):
    """Drives a stack in a thread of its own. ValueError for a stack whose clock is the caller's."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        if stack._clock is not None:
            raise ValueError("a stack with its own clock cannot be driven by a thread: call poll() by hand")
        self._core: Any = stack._core
        self._stopping = False
        self._thread = threading.Thread(target=_drive, args=(weakref.ref(self), stack._core), name="lwipy", daemon=True)

    def start(self) -> None:
        self.stack._drive(self)
        lib.lwipy_admit(self._core, 1)
        self._thread.start()
        self.ident = self._thread.ident

    def kick(self) -> None:
        """Nothing to do: the core wakes the thread by itself."""

    def kick_timer(self) -> None:
        if not self.is_own_thread:
            lib.lwipy_wake(self._core)

    def wait(self, lock: threading.Lock, deadline: float | None) -> bool:
        self._check_caller()
        return lock.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic()))

    def wait_for(self, endpoint: Endpoint, wanted: int, deadline: float | None) -> int:
        self._check_caller()
        left = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1e6))
        result: int = _wait(endpoint._stack._core, endpoint._handle, wanted, left)
        return result

    def _check_caller(self) -> None:
        if self.is_own_thread:
            raise RuntimeError("cannot block in a callback: it runs in the thread that drives the stack")

    @property
    def is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident

    def stop(self) -> None:
        self._stopping = True
        lib.lwipy_admit(self._core, 0)
        lib.lwipy_wake(self._core)
        if not self.is_own_thread:
            self._thread.join()
        self.stack._drive(None)

    def _hand_out(self) -> int | None:
        """Python's part; microseconds until the next timer of Python's (-1: none), or None when this is over."""
        stack = self.stack
        while not self._stopping:
            try:
                if stack._timers:
                    stack._timers.run(stack.time())
                if not stack.closed:
                    stack.dispatch()
                break
            except StackError:
                raise
            except Exception:
                _log.exception("a callback failed")
        if self._stopping:
            return None
        delay = stack._until_timer()
        return -1 if delay is None else int(delay * 1e6) + 1


def _drive(reference: weakref.ref[ThreadDriver], core: Any) -> None:
    try:
        while (driver := reference()) is not None and (limit := driver._hand_out()) is not None:
            del driver
            check(core, lib.lwipy_serve(core, limit))
    except StackError:
        _log.exception("the stack has failed; its driver ends")
        if (driver := reference()) is not None:
            driver.stack._dispatcher.tell_failure()
