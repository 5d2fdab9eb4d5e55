"""How a socket sends: send and its kin, over streams and datagrams.

MSG_OOB sends in line, where RFC 6093 wants the other side to take urgent data from: lwIP sends no urgent pointer.

Invariant: what one thread sends with one call is not mixed with another's. They take turns (``send_lock``).
"""

from __future__ import annotations

import errno
import operator
import socket
import threading
from collections.abc import Iterable
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

from lwipy._native import calls
from lwipy.blocking import ancillary
from lwipy.blocking.base import SocketBase, fault
from lwipy.blocking.description import Description
from lwipy.blocking.waiting import NOT_HERE, WRITABLE
from lwipy.endpoints import TcpEndpoint
from lwipy.endpoints.udp import LONGEST_DATAGRAM

if TYPE_CHECKING:
    from typing_extensions import Buffer

_send: Final = calls.wait_send
#: The least timeout there is, seconds: 0 would mean not to wait.
_INSTANT: Final = 1e-9
_DONTWAIT: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
_OWN_WAY: Final = ancillary.Sending()


class Sending(SocketBase):
    """The sending half."""

    def _turn(self, timeout: float | None) -> threading.Lock:
        """Makes the caller the only one to send, until it releases the lock that it is given.

        BlockingIOError or TimeoutError when others hold on to that for too long.
        """
        lock = self._open.send_lock
        if not lock.acquire(timeout=-1 if timeout is None else timeout):
            raise fault(errno.EAGAIN) if timeout == 0 else TimeoutError("timed out")
        return lock

    # -- Bytes ---------------------------------------------------------------------------------------------------------

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        view = _bytes(data)
        endpoint = self._endpoint
        if not isinstance(endpoint, TcpEndpoint):
            return self._send_datagram(view, None, flags)
        timeout = 0 if flags & _DONTWAIT else self._timeout
        description = self._open
        turn = self._turn(timeout)
        try:
            return description.until(lambda: endpoint.send(view), timeout, WRITABLE)
        finally:
            turn.release()

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        description = self._description or self._open
        timeout = 0 if flags & _DONTWAIT else self._timeout
        turn = description.send_lock
        if not turn.acquire(False):
            self._turn(timeout)
        try:
            sent = description.at_once(_send, timeout, data)
            if sent is not None:
                self._send_rest(description, _bytes(data), sent, timeout)
        finally:
            turn.release()

    def _send_rest(self, description: Description, view: memoryview, sent: int, timeout: float | None) -> None:
        """What at_once() did not send; or its error."""
        endpoint = description.endpoint
        if not isinstance(endpoint, TcpEndpoint):
            self._send_datagram(view, None, 0)
            return
        done = 0 if sent == NOT_HERE else description.checked(sent)
        started = monotonic() if timeout else 0.0
        while done < len(view):
            left = max(started + timeout - monotonic(), _INSTANT) if timeout else timeout
            part = view[done:]
            done += description.until(lambda part=part: endpoint.send(part), left, WRITABLE)  # type: ignore[misc]

    # -- Datagrams -----------------------------------------------------------------------------------------------------

    def sendto(self, data: Buffer, *arguments: Any) -> int:
        """sendto(data, address) or sendto(data, flags, address)."""
        if not 1 <= len(arguments) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(arguments) + 1} given)")
        view, address = _bytes(data), arguments[-1]
        flags = arguments[0] if len(arguments) == 2 else 0
        if not isinstance(flags, int):
            raise TypeError(f"'{type(flags).__name__}' object cannot be interpreted as an integer")
        to = self._resolve(address, "sendto")
        return (
            self.send(view, flags) if isinstance(self._endpoint, TcpEndpoint) else self._send_datagram(view, to, flags)
        )

    def _send_datagram(
        self, data: memoryview, to: tuple[str, int] | None, flags: int, way: ancillary.Sending = _OWN_WAY
    ) -> int:
        """A datagram is taken whole at once, or refused: no flag changes that."""
        operator.index(flags)
        endpoint = self._datagrams()
        if len(data) > LONGEST_DATAGRAM:
            raise OSError(errno.EMSGSIZE, f"Message too long: {len(data)} bytes, a datagram has {LONGEST_DATAGRAM}")
        if to is not None and to[1] == 0 and self._type == socket.SOCK_DGRAM:
            raise OSError(errno.EINVAL, "Invalid argument: nobody receives at port 0")
        interface = self._open.stack._interfaces.get(way.interface)
        endpoint.send(data, to, interface=interface, source=way.source, ttl=way.ttl, tos=way.tos)
        return len(data)

    def sendmsg(
        self, buffers: Iterable[Buffer], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        """The ancillary data of a datagram may say how it leaves (``ancillary.py``)."""
        parts = [_bytes(buffer) for buffer in buffers]
        messages = ancillary.parse(ancdata)
        to = None if address is None else self._resolve(address, "sendmsg")
        data = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
        if isinstance(self._endpoint, TcpEndpoint):
            return self.send(data, flags)
        return self._send_datagram(data, to, flags, ancillary.understand(messages))

    # -- Files: sendfile() is the standard library's -------------------------------------------------------------------

    def _sendfile_use_sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> NoReturn:
        # The kernel cannot send into a stack.
        raise socket._GiveupOnSendfile("a stack's socket")  # type: ignore[attr-defined]


def _bytes(data: Buffer) -> memoryview:
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None
    return view if view.ndim == 1 and view.itemsize == 1 else view.cast("B")
