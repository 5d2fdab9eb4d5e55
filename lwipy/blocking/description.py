"""What sockets refer to: an open endpoint, its waiters and its descriptors, as the kernel's open file description is
what descriptors refer to.

Theory of operation. A new socket has a description of its own; dup() and descriptors share it. A descriptor (a number
of the host's, made when fileno() first asks for it, see ``readiness.py``) stands in a table, so that it finds its
description again: that is how detach(), fromfd() and ``socket(fileno=...)`` work.

Invariants:

1. ``_references`` has one item for each socket without a descriptor and for each descriptor; with the last one the
   endpoint ends. A socket that gets a descriptor hands its reference on to it.
2. A number is in the table while its descriptor is open; the descriptor's inode tells it from a foreign one that got
   the same number after os.close().
3. After an operation, and after each event, the descriptors show what the endpoint has.
4. A finalizer may give a reference back, in any thread and at any time: nothing it does waits for a lock that is held
   while objects are made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from lwipy._native import WOULD_BLOCK
from lwipy.blocking.readiness import Readiness
from lwipy.blocking.waiting import NOT_HERE, Waiters
from lwipy.endpoints import Event, RawEndpoint, TcpEndpoint, UdpEndpoint

T = TypeVar("T")
_NONE: Final[frozenset[tuple[int, int]]] = frozenset()  # one for all: an empty set takes 216 bytes
AnyEndpoint: TypeAlias = TcpEndpoint | UdpEndpoint | RawEndpoint


def bad_descriptor() -> OSError:
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


class Description:
    """An open endpoint, shared by the sockets and descriptors that refer to it."""

    def __init__(self, endpoint: AnyEndpoint) -> None:
        self.endpoint = endpoint
        self.stack = endpoint.stack
        self.send_lock = threading.Lock()
        self.listening = False
        #: A connection was begun and nobody was told yet that it stands.
        self.connecting = False
        self.v6only = False
        self.linger: int | None = None
        #: Options that are on and that the core does not know, pairs of level and name.
        self.switches: frozenset[tuple[int, int]] = _NONE
        #: Held while a descriptor is opened.
        self.opening = threading.Lock()
        self._tcp = endpoint if type(endpoint) is TcpEndpoint else None
        self._waiters = Waiters(self.stack, endpoint)
        self._readiness: Readiness | None = None
        self._references = [None]
        endpoint.on_event = self._told

    # -- Waiting -------------------------------------------------------------------------------------------------------

    def _told(self, _: Event) -> None:
        """The driver has told of an event: wakes who waits, and shows it to who polls."""
        self._waiters.notify()
        if self._readiness is not None:
            self.refresh()

    def notify(self) -> None:
        """The same after an operation that may concern other threads."""
        self._waiters.rouse()
        if self._readiness is not None:
            self.refresh()

    def until(self, attempt: Callable[[], T], timeout: float | None, wanted: int = 0) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError, after each of the `wanted` events or, with none,
        whatever happened; TimeoutError after `timeout` seconds."""
        try:
            return self._waiters.until(attempt, timeout, wanted)
        finally:
            if self._readiness is not None:
                self.refresh()

    def at_once(self, operation: Callable[..., Any], timeout: float | None, what: object) -> Any:
        """A connection's wait_send() and the like of ``csrc/python/waiting.c``, which wait by themselves: what they
        return; NOT_HERE is for until(): the timeout is 0, or threads do not wait in the core. Codes are for checked().
        """
        tcp, stack = self._tcp, self.stack
        ident = stack._driver.ident
        if tcp is None or timeout == 0 or ident is None or ident == get_ident():
            return NOT_HERE
        result = operation(stack._way, tcp._handle, what, timeout)
        if self._readiness is not None:
            self.refresh()
        return result

    def checked(self, result: int) -> int:
        """Bytes; what else at_once() returned is raised, apart from it, as a traceback would keep the caller's buffer
        exported."""
        if result == WOULD_BLOCK:
            raise TimeoutError("timed out")
        return self.endpoint._check(result)

    def hear(self) -> None:
        """From now on the endpoint's events reach Python, for someone who is not in these rooms."""
        self._waiters.hear()

    def refresh(self) -> None:
        """After an operation: shows what it left."""
        readiness = self._readiness
        if readiness is not None:
            readiness.update()

    # -- References ----------------------------------------------------------------------------------------------------

    def share(self) -> Description:
        """One more reference, for the caller."""
        if self.endpoint.closed:
            raise bad_descriptor()
        self._references.append(None)
        return self

    def release(self, *, linger: bool = True) -> None:
        """Gives a reference back. The last one ends the endpoint; with SO_LINGER of 0 by a reset, and of more seconds
        that waits, if the caller allows it by `linger`."""
        self._references.pop()
        if self._references:
            return
        endpoint = self.endpoint
        if isinstance(endpoint, TcpEndpoint) and self.linger is not None and not self.listening:
            if self.linger == 0:
                endpoint.abort()
            elif linger:
                self._await_acknowledgement(endpoint, self.linger)
        endpoint.close()
        self.notify()

    def _await_acknowledgement(self, tcp: TcpEndpoint, seconds: int) -> None:
        """SO_LINGER: waits until all was acknowledged, or gives up with a reset."""

        def acknowledged() -> None:
            if tcp.info.unsent or tcp.info.unacked:
                raise BlockingIOError

        with contextlib.suppress(OSError):
            tcp.linger()
            try:
                self._waiters.until(acknowledged, seconds)
            except TimeoutError:
                tcp.abort()

    # -- Descriptors ---------------------------------------------------------------------------------------------------

    def open_descriptor(self) -> int:
        """A descriptor, which takes over the caller's reference. The caller holds ``opening``."""
        readiness = self._readiness
        if readiness is None:
            readiness = self._readiness = Readiness(self.endpoint)
            self._waiters.hear()
            readiness.update()
            number = readiness.first
        else:
            number = readiness.duplicate()
        _table[number] = _Entry(self, os.fstat(number).st_ino)
        return number

    def _forget(self, descriptor: int, *, foreign: bool) -> None:
        readiness = self._readiness
        if readiness is not None and readiness.close(descriptor, foreign=foreign):
            self._readiness = None


class _Entry(NamedTuple):
    description: Description
    inode: int

    def is_behind(self, descriptor: int) -> bool:
        try:
            return os.fstat(descriptor).st_ino == self.inode
        except OSError:
            return False


_table: Final[dict[int, _Entry]] = {}


def description_of(descriptor: int) -> Description | None:
    """The description behind a descriptor; None when the descriptor is none of ours."""
    entry = _table.get(descriptor)
    if entry is None:
        return None
    if entry.is_behind(descriptor):
        return entry.description
    with contextlib.suppress(OSError):
        close_descriptor(descriptor)
    return None


def close_descriptor(descriptor: int, *, linger: bool = True) -> None:
    """Closes a descriptor of ours; OSError EBADF when it was closed before."""
    entry = _table.pop(descriptor, None)
    if entry is None:
        raise bad_descriptor()
    foreign = not entry.is_behind(descriptor)
    entry.description.release(linger=linger)
    entry.description._forget(descriptor, foreign=foreign)
