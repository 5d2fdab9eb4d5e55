"""News of the core, handed to whom they concern: endpoints, interfaces, links, watches.

Theory of operation. The core sets bits in a word that Python reads without a call. While any is set the dispatcher asks
the core what it is and calls those who are told. Events come in batches, with the endpoints that they are of: an event
costs one call of :attr:`Endpoint.on_event`.

Invariants:

1. Callbacks are never nested: what they leave behind is handed out by the dispatcher that runs already.
2. An exception in one callback does not cost the others their events; it is raised when those have theirs.
3. A stack may be closed in any callback; nothing of the core is touched after that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import calls, check, ffi, lib
from lwipy._watches import Watches
from lwipy.endpoints.base import EVENTS, Event

if TYPE_CHECKING:
    from lwipy.links.descriptor import DescriptorLink
    from lwipy.stack import Stack

_EVENTS: Final[int] = lib.LWIPY_HAS_EVENTS
_FRAMES: Final[int] = lib.LWIPY_HAS_FRAMES
_LINKS: Final[int] = lib.LWIPY_HAS_LINKS
_WATCHED: Final[int] = lib.LWIPY_HAS_WATCHED
_TROUBLE: Final[int] = lib.LWIPY_HAS_TROUBLE
_RELEASED: Final[int] = lib.LWIPY_HAS_RELEASED
#: What Python has to look at.
NEWS: Final[int] = lib.LWIPY_NEWS
_fetch: Final = calls.events


class Dispatcher:
    """Hands out the news of one stack."""

    def __init__(self, stack: Stack, watches: Watches) -> None:
        self._stack = stack
        self._watches = watches
        #: Events that were fetched: endpoints and bits in turns. Other threads may add some.
        self._late: list[Any] = []
        #: Links with a descriptor, by the number of their interface.
        self.links: dict[int, DescriptorLink] = {}

    def run(self, events: Sequence[Any] = ()) -> None:
        """Tells `events`, which poll() fetched, and then whatever is new, until nothing is left.

        Nested calls do nothing but leave their events to the one that runs.
        """
        stack = self._stack
        self._late.extend(events)
        if stack._telling:
            return
        stack._telling = True  # at once: in a call between, another thread might find that nobody runs
        try:
            self._run()
        finally:
            stack._telling = False
            if self._late:  # by a thread that came when this one had looked for the last time
                self.run()

    def _run(self) -> None:
        stack = self._stack
        if late := self._late[:]:
            del self._late[: len(late)]
            self._tell(late)
        while not stack.closed and (pending := stack._attention[0] & NEWS):
            if pending & _RELEASED:
                calls.release(stack._way)
            if pending & _LINKS and not stack.closed:
                self._run_links()
            if pending & _WATCHED and not stack.closed:
                self._watches.dispatch()
            if pending == _EVENTS or (pending & _EVENTS and not stack.closed):
                events = _fetch(stack._way, stack._endpoints)
                if type(events) is int:
                    check(stack._core, events)
                self._tell(events)
            if pending == _EVENTS:
                continue
            if pending & _FRAMES and not stack.closed:
                self._run_frames()
            if pending & _TROUBLE and not stack.closed:
                self._run_trouble()

    def _tell(self, events: list[Any], first: int = 0) -> None:
        """Tells the endpoints their events: they stand in turn in the list."""
        at, count = first, len(events)
        try:
            while at < count:
                callback, bits = events[at].on_event, events[at + 1]
                at += 2
                if callback is not None:
                    callback(EVENTS[bits])
        finally:
            if at < count:
                self._tell(events, at)

    def _run_trouble(self) -> None:
        """Stages that ended by themselves."""
        lib.lwipy_clear_trouble(self._stack._core)
        for interface in list(self._stack._interfaces.values()):
            interface._look_for_trouble()

    def _run_links(self) -> None:
        core = self._stack._core
        event = ffi.new("lwipy_link_event *")
        if check(core, lib.lwipy_link_news(core, event, 1)):
            link = self.links.get(event.nic)
            if link is not None:
                link._on_news(event.news, event.reason, event.announced)

    def _run_frames(self) -> None:
        for interface in list(self._stack._interfaces.values()):
            if not self._stack.closed:
                interface._dispatch()

    def tell_failure(self) -> None:
        """lwIP is dead: everyone who waits shall hear of it, for no further event will come."""
        for endpoint in list(self._stack._endpoints.values()):
            if endpoint.on_event is not None:
                endpoint.on_event(Event.FAILED | Event.READABLE | Event.WRITABLE)
