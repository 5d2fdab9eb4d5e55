"""How a task waits for an endpoint.

Theory of operation. The waiter tries its operation, and parks when that has to wait; what delivers the endpoint's
events (:func:`lwipy.trio.driver.deliver`) wakes it to try again. The event cannot be missed: an operation that has to
wait arms the event, and nothing else of this trio runs between the attempt and the parking.

Invariants:

1. Every wait is a checkpoint, also when the operation need not wait, and when it fails.
2. Cancelled means not done: once an attempt has succeeded its result is returned.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

import trio

T = TypeVar("T")


class Waiters:
    """The tasks that wait for one endpoint."""

    def __init__(self) -> None:
        self._lot = trio.lowlevel.ParkingLot()

    def notify(self) -> None:
        """Wakes them all; each looks for itself."""
        self._lot.unpark_all()

    async def until(self, attempt: Callable[[], T]) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError."""
        await trio.lowlevel.checkpoint_if_cancelled()
        slept = False
        try:
            while True:
                try:
                    return attempt()
                except BlockingIOError:
                    pass
                slept = True
                await self._lot.park()
        finally:
            if not slept:
                await trio.lowlevel.cancel_shielded_checkpoint()


class Exclusive:
    """A part of a stream that one task may use at a time: ``with exclusive: ...``; BusyResourceError otherwise."""

    def __init__(self, message: str) -> None:
        self._message = message
        self._held = False

    def __enter__(self) -> None:
        if self._held:
            raise trio.BusyResourceError(self._message)
        self._held = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._held = False
