"""What moves between the guest and the folder, as events for whoever wants to show it.

An observer is a callable; it is called in the event loop's thread, must not block, and what it raises is
logged and otherwise ignored: a broken display never breaks a transfer. For every transfer comes one
Started, any number of Progress with a rising count, and one Finished, whatever happens in between.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

logger = logging.getLogger("lwipy.share")


@dataclass(frozen=True, slots=True)
class Started:
    """A file begins to move. `transfer` numbers it within this share.

    peer    the guest's address, as text method  "GET" for a download, "PUT" or "POST" for an upload path
    the file's path in the share, from "/"; printable, undecodable bytes and control characters escaped
    (text all the same: a display with a markup of its own has to escape that) total   bytes to move, or
    None where the guest did not say
    """

    transfer: int
    peer: str
    method: str
    path: str
    total: int | None

    @property
    def upload(self) -> bool:
        """Whether the file moves from the guest to the host."""
        return self.method != "GET"


@dataclass(frozen=True, slots=True)
class Progress:
    """`moved` bytes of the transfer so far: received from the guest, or handed to its connection."""

    transfer: int
    moved: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The transfer has ended with `moved` bytes; `error` is None if it is whole, otherwise why it is not."""

    transfer: int
    moved: int
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether the file has arrived whole (an upload: under its name)."""
        return self.error is None


Event: TypeAlias = Started | Progress | Finished
Observer: TypeAlias = Callable[[Event], None]


class Reporter:
    """Numbers transfers and tells the observer of them."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self._numbers = itertools.count(1)

    @contextmanager
    def transfer(self, peer: str, method: str, path: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """The span of one transfer; the value is to be called with every number of bytes that has moved."""
        number = next(self._numbers)
        count = 0
        error: str | None = "ended early"

        def moved(size: int) -> None:
            nonlocal count
            count += size
            self._tell(Progress(number, count))

        self._tell(Started(number, peer, method, path, total))
        try:
            yield moved
            error = None
        except asyncio.CancelledError:
            error = "broken off: the guest has gone, or the share was stopped"
            raise
        except ConnectionError as failure:
            error = str(failure) if isinstance(failure, ConnectionAbortedError) else f"connection lost: {failure}"
            raise
        except Exception as failure:
            # An HTTP error's text says more than its reason, an OSError's strerror all but the host's paths.
            said = getattr(failure, "text", None) or getattr(failure, "strerror", None) or str(failure)
            error = said.strip() or type(failure).__name__
            raise
        finally:
            logger.log(
                logging.INFO if error is None else logging.WARNING,
                "%s %s %s: %d bytes, %s", peer, method, path, count, error or "complete",
            )  # fmt: skip
            self._tell(Finished(number, count, error))

    def _tell(self, event: Event) -> None:
        if self._observer is None:
            return
        try:
            self._observer(event)
        except Exception:
            logger.exception("the observer failed at %r", event)
