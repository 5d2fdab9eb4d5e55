"""A descriptor of the host's that polls as an endpoint: readable when a receive would not wait, writable when a send
would not.

Theory of operation. It is one end of a socket pair of the host's, and nobody sends or receives through it but this
module. A byte that waits in the near end makes it readable. Its send buffer, kept small and filled to the brim, makes
it unwritable, and emptying that from the far end makes it writable again. So select, poll, epoll and kqueue see levels
as they do on a socket of the system's, and an edge for every change.

Invariants:

1. The near end polls as ``_shown`` says. Only :meth:`Readiness.update` changes either, under ``_lock``.
2. It asks the endpoint under that lock too, so an older answer never replaces a newer one; and asking has the core
   report what was missing when it comes (``lwipy_ready``), so no change goes unseen.
3. Every operation that may change the answer is followed by update() before it returns to its caller.
"""

from __future__ import annotations

import _socket
import os
import threading
from typing import TYPE_CHECKING, Final

from lwipy._native import lib

if TYPE_CHECKING:
    from lwipy.endpoints import Endpoint

_READABLE: Final[int] = lib.LWIPY_READABLE
_WRITABLE: Final[int] = lib.LWIPY_WRITABLE
_FILLER: Final = bytes(1 << 16)
_ROOM: Final = 1 << 16


class Readiness:
    """The socket pair of one endpoint; the near end may have several descriptors.

    The maker calls update() once the endpoint's events reach it: what came before that would go unseen.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        near, self._far = _socket.socketpair()
        for end in (near, self._far):
            end.setblocking(False)
        near.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, 1)
        self.first = near.fileno()
        self._near: dict[int, _socket.socket] = {self.first: near}
        self._shown = _WRITABLE
        # Reentrant, because a signal's handler may use the socket that it interrupted.
        self._lock = threading.RLock()
        self._process = os.getpid()

    def duplicate(self) -> int:
        """One more descriptor of the near end."""
        with self._lock:
            number = os.dup(next(iter(self._near)))
            self._near[number] = _socket.socket(fileno=number)
            return number

    def close(self, number: int, *, foreign: bool = False) -> bool:
        """Closes one descriptor; True when it was the last one. A number that is `foreign` by now is only forgotten."""
        with self._lock:
            near = self._near.pop(number)
            if foreign:
                near.detach()
            else:
                near.close()
            if not self._near:
                self._far.close()
            return not self._near

    def update(self) -> None:
        """Shows what the endpoint has now."""
        with self._lock:
            if not self._near:
                return
            try:
                ready = int(self._endpoint.ready())
            except OSError:
                ready = _READABLE | _WRITABLE  # it would fail, and not wait for that
            changed = ready ^ self._shown
            if changed and os.getpid() == self._process:  # after fork() the pair belongs to the parent
                self._shown = ready
                self._show(next(iter(self._near.values())), ready, changed)

    def _show(self, near: _socket.socket, ready: int, changed: int) -> None:
        if changed & _READABLE:
            if ready & _READABLE:
                self._far.send(b"\0")
            else:
                near.recv(_ROOM, _socket.MSG_DONTWAIT)
        if changed & _WRITABLE:
            if ready & _WRITABLE:
                self._empty()
            else:
                _fill(near)

    def _empty(self) -> None:
        try:
            while len(self._far.recv(_ROOM)) == _ROOM:
                pass
        except BlockingIOError:
            pass


def _fill(near: _socket.socket) -> None:
    """Where one send takes a part only, there is no more room."""
    try:
        while near.send(_FILLER, _socket.MSG_DONTWAIT) == len(_FILLER):
            pass
    except BlockingIOError:
        pass
