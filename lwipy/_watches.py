"""Descriptors of Python's that a stack's driver watches: listening sockets, connects in progress.

Theory of operation. The core sleeps on them together with its links' descriptors (``csrc/poller.h``). One that is
ready is reported by its number, and its callback runs where all callbacks run, in :meth:`Stack.dispatch`. Readiness is
by level, as in ``asyncio``: a callback that does not take what is there is called again.

Invariant: numbers are not used again, so a report that comes late finds its own watch or none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lwipy._native import check, ffi, lib

if TYPE_CHECKING:
    from lwipy.stack import Stack

_BATCH: Final = 16
_NUMBERS: Final = 1 << 28


class Watches:
    """The watched descriptors of one stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._numbers: dict[int, int] = {}
        self._next = itertools.count(1)
        self._ready = ffi.new("int[]", _BATCH)

    def add(self, fd: int, callback: Callable[[], None], write: bool) -> None:
        number = next(self._next) % _NUMBERS
        self._callbacks.pop(self._numbers.get(fd, 0), None)
        self._callbacks[number] = callback
        self._numbers[fd] = number
        try:
            check(self._stack._core, lib.lwipy_watch(self._stack._core, fd, number, write), f"descriptor {fd}")
        except OSError:
            del self._callbacks[number], self._numbers[fd]
            raise

    def remove(self, fd: int) -> None:
        number = self._numbers.pop(fd, None)
        if number is not None:
            del self._callbacks[number]
            lib.lwipy_unwatch(self._stack._core, fd)

    def dispatch(self) -> None:
        core = self._stack._core
        for i in range(check(core, lib.lwipy_watched(core, self._ready, _BATCH))):
            if callback := self._callbacks.get(self._ready[i]):
                callback()
