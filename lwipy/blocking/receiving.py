"""How a socket receives: recv and its kin, over streams and datagrams."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import calls
from lwipy.blocking import ancillary
from lwipy.blocking.base import SocketBase, fault
from lwipy.blocking.waiting import NOT_HERE, READABLE
from lwipy.endpoints import Datagram, TcpEndpoint
from lwipy.endpoints.udp import DatagramEndpoint

if TYPE_CHECKING:
    from typing_extensions import Buffer

_recv: Final = calls.wait_recv
_recv_into: Final = calls.wait_recv_into
# Plain numbers: an enumeration's & costs a microsecond.
_DONTWAIT: Final = int(getattr(socket, "MSG_DONTWAIT", 0))
_OOB: Final = int(socket.MSG_OOB)
_PEEK: Final = int(socket.MSG_PEEK)
_WAITALL: Final = int(socket.MSG_WAITALL)


class Receiving(SocketBase):
    """The receiving half."""

    # -- The two ways --------------------------------------------------------------------------------------------------

    def _wait_time(self, flags: int) -> float | None:
        return 0 if flags & _DONTWAIT else self._timeout

    def _take(self, tcp: TcpEndpoint, view: memoryview, flags: int) -> int:
        """Bytes of the stream into `view`; 0 at its end."""
        if flags & _OOB:
            raise fault(errno.EINVAL)
        if not view:
            return 0
        description, timeout, peek = self._open, self._wait_time(flags), bool(flags & _PEEK)
        got: int = NOT_HERE if peek else description.at_once(_recv_into, timeout, view)
        if got == NOT_HERE:
            got = description.until(lambda: tcp.recv_into(view, peek=peek), timeout, READABLE)
        description.checked(got)
        while flags & _WAITALL and not peek and 0 < got < len(view):
            try:
                with view[got:] as rest:
                    part = description.until(lambda rest=rest: tcp.recv_into(rest), timeout, READABLE)  # type: ignore[misc]
            except OSError:
                break  # what has come is given first; the next call meets the error again, or waits again
            if part == 0:
                break
            got += part
        return got

    def _datagram(self, endpoint: DatagramEndpoint, size: int, flags: int) -> Datagram:
        if flags & _OOB:
            raise fault(errno.EOPNOTSUPP)
        peek = bool(flags & _PEEK)
        return self._open.until(lambda: endpoint.receive(size, peek=peek), self._wait_time(flags), READABLE)

    # -- Bytes ---------------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        description = self._description or self._open
        if not flags and bufsize > 0:
            data = description.at_once(_recv, self._timeout, bufsize)
            if type(data) is bytes:
                return data
            if data != NOT_HERE:
                description.checked(data)
        _check_size(bufsize, "recv")
        endpoint = description.endpoint
        if bufsize == 0:
            return b""
        if not isinstance(endpoint, TcpEndpoint):
            return self._datagram(endpoint, bufsize, flags).data
        if flags & ~_DONTWAIT:
            buffer = bytearray(min(bufsize, 1 << 20))
            with memoryview(buffer) as view:
                size = self._take(endpoint, view, flags)
            return bytes(buffer[:size])
        return description.until(lambda: endpoint.recv(bufsize), self._wait_time(flags), READABLE)

    def recv_into(self, buffer: Buffer, nbytes: int | None = 0, flags: int = 0) -> int:
        if not flags and not nbytes and _is_plain(buffer):
            description = self._description or self._open
            got: int = description.at_once(_recv_into, self._timeout, buffer)
            if got != NOT_HERE:
                return description.checked(got)
        with _room(buffer, nbytes or 0, "recv_into") as view:
            endpoint = self._endpoint
            if isinstance(endpoint, TcpEndpoint):
                return self._take(endpoint, view, flags)
            return _fill(view, self._datagram(endpoint, len(view), flags).data)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        _check_size(bufsize, "recvfrom")
        endpoint = self._endpoint
        if isinstance(endpoint, TcpEndpoint):
            return self.recv(bufsize, flags), None
        datagram = self._datagram(endpoint, bufsize, flags)
        return datagram.data, self._present(datagram.source)

    def recvfrom_into(self, buffer: Buffer, nbytes: int | None = 0, flags: int = 0) -> tuple[int, Any]:
        with _room(buffer, nbytes or 0, "recvfrom_into") as view:
            endpoint = self._endpoint
            if isinstance(endpoint, TcpEndpoint):
                return self._take(endpoint, view, flags), None
            datagram = self._datagram(endpoint, len(view), flags)
            return _fill(view, datagram.data), self._present(datagram.source)

    # -- Messages ------------------------------------------------------------------------------------------------------

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """With IP_PKTINFO, IPV6_RECVPKTINFO and their like set, a datagram brings ancillary data (``ancillary.py``)."""
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        _check_ancillary(ancbufsize)
        endpoint = self._endpoint
        if isinstance(endpoint, TcpEndpoint):
            return self.recv(bufsize, flags), [], 0, None
        datagram = self._datagram(endpoint, bufsize, flags)
        return datagram.data, *self._describe(datagram, ancbufsize)

    def recvmsg_into(
        self, buffers: Iterable[Buffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        if any(view.readonly for view in views):
            raise TypeError("a read-write bytes-like object is required")
        _check_ancillary(ancbufsize)
        endpoint, size = self._endpoint, sum(map(len, views))
        if isinstance(endpoint, TcpEndpoint):
            return _scatter(self.recv(size, flags), views), [], 0, None
        datagram = self._datagram(endpoint, size, flags)
        return _scatter(datagram.data, views), *self._describe(datagram, ancbufsize)

    def _describe(self, datagram: Datagram, room: int) -> tuple[list[Any], int, Any]:
        """Ancillary data, flags and source of a datagram."""
        messages, flags = ancillary.describe(datagram, self._open.switches, room)
        if datagram.truncated:
            flags |= socket.MSG_TRUNC
        return messages, flags, self._present(datagram.source)


def _check_size(size: int, operation: str) -> None:
    if size < 0:
        raise ValueError(f"negative buffersize in {operation}")


def _check_ancillary(size: int) -> None:
    if size < 0:
        raise ValueError("invalid ancillary data buffer length")


def _is_plain(buffer: Buffer) -> bool:
    """Bytes in a row that may be filled, as C takes them."""
    if type(buffer) is bytearray:
        return bool(buffer)
    return type(buffer) is memoryview and buffer.nbytes > 0 and buffer.contiguous and not buffer.readonly


def _room(buffer: Buffer, nbytes: int, operation: str) -> memoryview:
    """The bytes of a buffer that may be filled."""
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError(f"{operation}() argument 1 must be read-write bytes-like object, not {type(buffer).__name__}")
    view = view.cast("B")
    if nbytes < 0:
        raise ValueError(f"negative buffersize in {operation}")
    if nbytes > len(view):
        raise ValueError("buffer too small for requested bytes")
    return view[:nbytes] if nbytes else view


def _fill(view: memoryview, data: bytes) -> int:
    view[: len(data)] = data
    return len(data)


def _scatter(data: bytes, views: Iterable[memoryview]) -> int:
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
    return len(data)
