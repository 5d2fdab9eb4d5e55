"""Links whose frames C moves: they hand a descriptor to the interface and hear from it only when it ends.

Theory of operation. The descriptor belongs to the core once it was opened there (``csrc/link_fd.c``): frames go
between it and lwIP without Python. News (the other end has gone, a datagram's sender was heard for the first time)
comes through :meth:`Stack.dispatch`, in the thread that drives the stack.

Invariants:

1. ``_interface`` is set from attach() to detach(); all else of the link's state changes in between only.
2. The interface's link is down while the link has no descriptor, or only one without anybody at its other end.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from lwipy._native import check, ffi, lib
from lwipy.links.base import Link

if TYPE_CHECKING:
    from lwipy.interface import Interface
    from lwipy.stack import Stack


class Status(NamedTuple):
    """Of the descriptor: whether there is one, whether its other end is gone, bytes that wait for it, its peer."""

    open: bool
    hung_up: bool
    queued: int
    peer: str


class DescriptorLink(Link):
    """What these links share. OSError ENOTSUP where the system cannot have them."""

    takes_frames = False

    def __init__(self) -> None:
        self._interface: Interface | None = None
        if sys.platform == "win32":
            raise OSError(errno.ENOTSUP, f"{type(self).__name__} needs a POSIX system")

    @property
    def interface(self) -> Interface:
        """The interface it is attached to. OSError ENOTCONN when it is not."""
        if self._interface is None:
            raise OSError(errno.ENOTCONN, f"{self!r} is not attached to an interface")
        return self._interface

    @property
    def _stack(self) -> Stack:
        return self.interface.stack

    @property
    def _core(self) -> Any:
        return self._stack._core

    def attach(self, interface: Interface) -> None:
        if self._interface is not None:
            raise OSError(errno.EBUSY, f"{self!r} is attached to {self._interface.name} already")
        check(interface.stack._core, lib.lwipy_link_close(interface.stack._core, interface.number), repr(self))
        interface.stack._dispatcher.links[interface.number] = self
        self._interface = interface

    def detach(self) -> None:
        interface, self._interface = self._interface, None
        if interface is not None and not interface.stack.closed:
            interface.stack._dispatcher.links.pop(interface.number, None)
            lib.lwipy_link_close(interface.stack._core, interface.number)

    def transmit(self, frames: list[bytes]) -> None:
        """Never called: frames do not come through Python."""
        raise NotImplementedError

    def _open(self, kind: int, fd: int, peer: str = "") -> None:
        """Gives a descriptor to the core, which closes it. OSError: then it is still the caller's."""
        os.set_blocking(fd, False)
        path = os.fsencode(peer)
        result = lib.lwipy_link_open(self._core, self.interface.number, kind, fd, path, len(path))
        check(self._core, result, repr(self))
        self._stack._after()

    def _close(self) -> None:
        """Takes the descriptor away; the interface's link goes down."""
        check(self._core, lib.lwipy_link_close(self._core, self.interface.number))

    def _status(self) -> Status:
        if self._interface is None or self._interface.stack.closed:
            return Status(False, False, 0, "")
        out = ffi.new("lwipy_link_status *")
        check(self._core, lib.lwipy_link_get_status(self._core, self._interface.number, out))
        peer = os.fsdecode(ffi.string(out.peer))
        return Status(bool(out.open), bool(out.hung_up), int(out.queued), peer)

    def _on_news(self, news: int, reason: int, announced: int) -> None:
        """What the core has to tell; in the driver's thread."""
        if news & lib.LWIPY_LINK_HEARD:
            self._on_heard()
        if news & lib.LWIPY_LINK_REFUSED:
            self._on_refused(OSError(reason, os.strerror(reason)))
        if news & lib.LWIPY_LINK_LOST:
            text = os.strerror(reason)
            if reason == errno.EPROTO:
                text = f"a frame of {announced} bytes was announced: the stream cannot be trusted any more"
            self._on_lost(OSError(reason, text) if reason else None)

    def _on_lost(self, reason: OSError | None) -> None:
        """The descriptor is closed: None for an orderly end."""

    def _on_heard(self) -> None:
        """The first datagram of a peer has come."""

    def _on_refused(self, reason: OSError) -> None:
        """Nobody takes our datagrams."""
