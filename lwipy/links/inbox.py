"""Frames from another thread, on their way to an interface.

Theory of operation. A stack's objects belong to whoever drives it. Frames that come in another thread wait here, and
are received together, by one call of the core, when the driver runs the timer that the first of them set. So it works
the same with a driver thread, an asyncio loop, and by hand (where poll() receives them).

Invariants:

1. While frames wait, exactly one timer is set to receive them.
2. At most `limit` frames wait; more are dropped and counted, as a network would.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwipy.interface import Interface


class Inbox:
    """The inbox of one interface."""

    def __init__(self, interface: Interface, limit: int = 4096) -> None:
        self.interface = interface
        self.dropped = 0
        self._limit = limit
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()

    def put(self, frames: Iterable[bytes]) -> None:
        """From any thread; never blocks."""
        with self._lock:
            first = not self._waiting
            self._waiting += frames
            if (excess := len(self._waiting) - self._limit) > 0:
                self.dropped += excess
                del self._waiting[self._limit :]
        if first:
            self.interface.stack.call_later(0, self._receive)

    def _receive(self) -> None:
        with self._lock:
            frames, self._waiting = self._waiting, []
        if self.interface.number and frames:
            self.interface.receive_many(frames)
