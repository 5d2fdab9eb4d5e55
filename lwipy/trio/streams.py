"""trio's streams and listeners on TCP endpoints.

Invariants:

1. A stream or listener owns its endpoint; aclose() ends it at once, whatever other tasks wait for, and wakes them.
2. A receive_some() that is cancelled has taken nothing; a send_all() that is cancelled has sent what
   :attr:`SocketStream.bytes_sent` says.
3. After aclose() everything raises ClosedResourceError; what the network did raises BrokenResourceError, with the
   OSError as its cause.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from lwipy.aio.standin import TransportSocket
from lwipy.endpoints import Event, Option, TcpEndpoint
from lwipy.errors import StackError
from lwipy.trio.driver import deliver
from lwipy.trio.waiting import Exclusive, Waiters

if TYPE_CHECKING:
    from lwipy.endpoints.base import Buffer

#: Bytes that receive_some() gives at most when it is not told.
CHUNK: Final = 64 * 1024


class SocketStream(trio.abc.HalfCloseableStream):
    """As :class:`trio.SocketStream`, over a connected endpoint, which it owns from now on.

    ``socket`` stands in for the socket: getsockname, getpeername, getsockopt, setsockopt.
    """

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._closed = True  # until the endpoint is ours
        self._endpoint = endpoint
        self.socket = TransportSocket(endpoint)
        #: Bytes that send_all() has handed to the stack so far. They will arrive in order or not at all.
        self.bytes_sent = 0
        self._ended = False
        self._error: OSError | None = None
        self._waiters = Waiters()
        self._sending = Exclusive("another task is sending data on this stream")
        self._receiving = Exclusive("another task is receiving data from this stream")
        endpoint.set_option(Option.NODELAY, 1)
        deliver(endpoint, self._waiters.notify)
        self._closed = False

    def __repr__(self) -> str:
        return f"<lwipy.trio.SocketStream {'closed' if self._closed else self._endpoint}>"

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed stream {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.abort()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._closed:
                raise trio.ClosedResourceError("this stream was closed") from None
            self._error = self._error or error
            raise trio.BrokenResourceError(f"the connection is broken: {error}") from error

    # -- Sending -------------------------------------------------------------------------------------------------------

    async def send_all(self, data: Buffer) -> None:
        """Hands all of `data` to the stack. BrokenResourceError, ClosedResourceError (also after send_eof())."""
        with self._sending, self._errors(), memoryview(data) as view, view.cast("B") as block:
            at = 0

            def attempt() -> None:
                nonlocal at
                self._check_open_for_sending()
                while at < len(block):
                    count = self._endpoint.send(block[at:])
                    at += count
                    self.bytes_sent += count

            await self._waiters.until(attempt)

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until the send buffer has room."""

        def attempt() -> None:
            self._check_open_for_sending()
            if not self._endpoint.ready() & Event.WRITABLE:
                raise BlockingIOError

        with self._sending, self._errors():
            await self._waiters.until(attempt)

    async def send_eof(self) -> None:
        """Half-closes behind what was sent; the other direction goes on. Again is allowed."""

        def attempt() -> None:
            if not self._ended or self._closed:
                self._endpoint.shutdown(write=True)
                self._ended = True

        with self._sending, self._errors():
            await self._waiters.until(attempt)

    def _check_open_for_sending(self) -> None:
        if self._closed or self._ended:
            raise trio.ClosedResourceError("this stream was closed" + (" for sending" if not self._closed else ""))

    # -- Receiving -----------------------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at most `max_bytes`; b"" at the end. BrokenResourceError when the connection was reset."""
        size = CHUNK if max_bytes is None else operator.index(max_bytes)
        if size < 1:
            raise ValueError(f"max_bytes of {size} is too little: expected at least 1")
        with self._receiving, self._errors():
            return await self._waiters.until(lambda: self._receive(size))

    def _receive(self, size: int) -> bytes:
        data = self._endpoint.recv(size)
        if not data and self._error is not None:
            raise self._error  # the endpoint tells of it once, and an end would pass for a goodbye
        return data

    # -- Options and end -----------------------------------------------------------------------------------------------

    def setsockopt(self, level: int, option: int, value: int | bytes | None, length: int | None = None) -> None:
        self.socket.setsockopt(level, option, value, length)

    def getsockopt(self, level: int, option: int, buffersize: int = 0) -> int | bytes:
        return self.socket.getsockopt(level, option, buffersize)

    async def aclose(self) -> None:
        """Ends the connection; what was sent is still delivered, unless SO_LINGER of 0 asks for a reset."""
        if not self._closed:
            self._closed = True
            if self.socket.resets:
                self._endpoint.abort()
            else:
                self._endpoint.close()
            self._waiters.notify()
        await trio.lowlevel.checkpoint()


class SocketListener(trio.abc.Listener[SocketStream]):
    """As :class:`trio.SocketListener`, over a listening endpoint, which it owns from now on."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._closed = False
        self._endpoint = endpoint
        self.socket = TransportSocket(endpoint)
        self._waiters = Waiters()
        deliver(endpoint, self._waiters.notify)

    def __repr__(self) -> str:
        return f"<lwipy.trio.SocketListener {'closed' if self._closed else self._endpoint}>"

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed listener {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.close()

    async def accept(self) -> SocketStream:
        """The next connection. ClosedResourceError after aclose(), BrokenResourceError when the stack has ended.

        OSError ENOBUFS when there is no room for it; it waits, and :func:`trio.serve_listeners` tries again later.
        """
        try:
            return SocketStream(await self._waiters.until(self._endpoint.accept))
        except OSError as error:
            if self._closed:
                raise trio.ClosedResourceError("this listener was closed") from None
            if isinstance(error, StackError):
                raise trio.BrokenResourceError(f"the listener is broken: {error}") from error
            raise

    async def aclose(self) -> None:
        """Accepts no more: connections that wait are reset, those that were accepted go on."""
        if not self._closed:
            self._closed = True
            self._endpoint.close()
            self._waiters.notify()
        await trio.lowlevel.checkpoint()
