"""Callbacks that a stack's driver runs at their time.

Invariants:

1. Any thread may add a timer; all run in the driver's, one after the other, never under the lock.
2. A cancelled timer stays in the heap until its time has come or it is the first.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable


class Timer:
    """A callback that :meth:`Stack.call_later` will run."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timers:
    """The timers of one stack, by the time when they are due."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        self._lock = threading.Lock()
        self._order = itertools.count()

    def __bool__(self) -> bool:
        return bool(self.heap)

    def add(self, timer: Timer) -> None:
        with self._lock:
            heapq.heappush(self.heap, (timer.when, next(self._order), timer))

    def run(self, now: float) -> None:
        """Runs those that are due."""
        while True:
            with self._lock:
                if not self.heap or self.heap[0][0] > now:
                    return
                timer = heapq.heappop(self.heap)[2]
            timer._run()

    def next(self) -> float | None:
        """When the first is due; None without any."""
        if not self.heap:
            return None
        with self._lock:
            while self.heap and self.heap[0][2]._callback is None:
                heapq.heappop(self.heap)
            return self.heap[0][0] if self.heap else None
