"""trio's streams and listeners on TCP endpoints; what they do is in :mod:`lwipy._structured`."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

import trio

from lwipy._structured import EndpointListener, EndpointStream
from lwipy.endpoints import Event, TcpEndpoint
from lwipy.trio.driver import deliver
from lwipy.trio.waiting import Exclusive, Waiters

if TYPE_CHECKING:
    from lwipy.endpoints.base import Buffer

#: Bytes that receive_some() gives at most when it is not told.
CHUNK: Final = 64 * 1024


class SocketStream(EndpointStream, trio.abc.HalfCloseableStream):
    """As :class:`trio.SocketStream`, over a connected endpoint, which it owns from now on.

    ``socket`` stands in for the socket: getsockname, getpeername, getsockopt, setsockopt.
    """

    _name = "lwipy.trio.SocketStream"
    _closed_error = trio.ClosedResourceError
    _broken_error = trio.BrokenResourceError

    def __init__(self, endpoint: TcpEndpoint) -> None:
        sending = Exclusive("another task is sending data on this stream")
        receiving = Exclusive("another task is receiving data from this stream")
        super().__init__(endpoint, Waiters(), deliver, sending, receiving)
        self.socket = self._stand_in

    async def send_all(self, data: Buffer) -> None:
        """Hands all of `data` to the stack. BrokenResourceError, ClosedResourceError (also after send_eof())."""
        await self._send(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until the send buffer has room."""

        def attempt() -> None:
            self._check_open_for_sending()
            if not self._endpoint.ready() & Event.WRITABLE:
                raise BlockingIOError

        with self._sending, self._errors():
            await self._waiters.until(attempt)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at most `max_bytes`; b"" at the end. BrokenResourceError when the connection was reset."""
        return await self._receive(CHUNK if max_bytes is None else operator.index(max_bytes))

    def setsockopt(self, level: int, option: int, value: int | bytes | None, length: int | None = None) -> None:
        self.socket.setsockopt(level, option, value, length)

    def getsockopt(self, level: int, option: int, buffersize: int = 0) -> int | bytes:
        return self.socket.getsockopt(level, option, buffersize)

    async def aclose(self) -> None:
        """Ends the connection; what was sent is still delivered, unless SO_LINGER of 0 asks for a reset."""
        self._end()
        await trio.lowlevel.checkpoint()


class SocketListener(EndpointListener, trio.abc.Listener[SocketStream]):
    """As :class:`trio.SocketListener`, over a listening endpoint, which it owns from now on."""

    _name = "lwipy.trio.SocketListener"
    _closed_error = trio.ClosedResourceError
    _broken_error = trio.BrokenResourceError

    def __init__(self, endpoint: TcpEndpoint) -> None:
        super().__init__(endpoint, Waiters(), deliver)
        self.socket = self._stand_in

    async def accept(self) -> SocketStream:
        """The next connection. ClosedResourceError after aclose(), BrokenResourceError when the stack has ended.

        OSError ENOBUFS when there is no room for it; it waits, and :func:`trio.serve_listeners` tries again later.
        """
        return SocketStream(await self._accept())

    async def aclose(self) -> None:
        """Accepts no more: connections that wait are reset, those that were accepted go on."""
        self._end()
        await trio.lowlevel.checkpoint()
