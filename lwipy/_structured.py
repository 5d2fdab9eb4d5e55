"""What trio's and anyio's streams and listeners share: all but their methods' names, their errors and how they wait.

Invariants:

1. A stream or listener owns its endpoint; aclose() ends it at once, whatever other tasks wait for, and wakes them.
2. A receive that is cancelled has taken nothing; a send that is cancelled has sent what `bytes_sent` says.
3. After aclose() everything raises the library's ClosedResourceError; what the network did raises its
   BrokenResourceError, with the OSError as its cause.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from lwipy.aio.standin import TransportSocket
from lwipy.endpoints import Option, TcpEndpoint
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.endpoints.base import Buffer

T = TypeVar("T")


class Waiters(Protocol):
    """The tasks that wait for one endpoint, parked in the library's own way."""

    def notify(self) -> None: ...

    async def until(self, attempt: Callable[[], T]) -> T: ...


class Owner:
    """Of an endpoint, and told of its events by `deliver`. Subclasses name themselves, and the library's errors."""

    _name: ClassVar[str]
    _kind: ClassVar[str]
    _closed_error: ClassVar[type[Exception]]
    _broken_error: ClassVar[type[Exception]]

    def __init__(
        self,
        endpoint: TcpEndpoint,
        waiters: Waiters,
        deliver: Callable[[TcpEndpoint, Callable[[], object]], None],
    ) -> None:
        self._closed = True  # until the endpoint is ours
        self._endpoint = endpoint
        self._stand_in = TransportSocket(endpoint)
        self._waiters = waiters
        deliver(endpoint, waiters.notify)
        self._closed = False

    def __repr__(self) -> str:
        return f"<{self._name} {'closed' if self._closed else self._endpoint}>"

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self._kind} {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._drop()

    def _drop(self) -> None:
        """Without a goodbye."""
        self._endpoint.close()

    def _end(self) -> None:
        if not self._closed:
            self._closed = True
            if self._stand_in.resets:
                self._drop()
            else:
                self._endpoint.close()
            self._waiters.notify()


class EndpointStream(Owner):
    """A stream over a connected endpoint."""

    _kind = "stream"

    def __init__(
        self,
        endpoint: TcpEndpoint,
        waiters: Waiters,
        deliver: Callable[[TcpEndpoint, Callable[[], object]], None],
        sending: AbstractContextManager[None],
        receiving: AbstractContextManager[None],
    ) -> None:
        endpoint.set_option(Option.NODELAY, 1)
        super().__init__(endpoint, waiters, deliver)
        #: Bytes that were handed to the stack so far. They will arrive in order or not at all.
        self.bytes_sent = 0
        self._ended = False
        self._error: OSError | None = None
        self._sending = sending
        self._receiving = receiving

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._closed:
                raise self._closed_error(f"this {self._kind} was closed") from None
            self._error = self._error or error
            raise self._broken_error(f"the connection is broken: {error}") from error

    def _check_open_for_sending(self) -> None:
        if self._closed or self._ended:
            raise self._closed_error(f"this {self._kind} was closed" + (" for sending" if not self._closed else ""))

    async def _send(self, data: Buffer) -> None:
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

    async def _receive(self, size: int) -> bytes:
        """b"" at the end."""
        if size < 1:
            raise ValueError(f"max_bytes of {size} is too little: expected at least 1")

        def attempt() -> bytes:
            data = self._endpoint.recv(size)
            if not data and self._error is not None:
                raise self._error  # the endpoint tells of it once, and an end would pass for a goodbye
            return data

        with self._receiving, self._errors():
            return await self._waiters.until(attempt)

    async def send_eof(self) -> None:
        """Half-closes behind what was sent; the other direction goes on. Again is allowed."""

        def attempt() -> None:
            if not self._ended or self._closed:
                self._endpoint.shutdown(write=True)
                self._ended = True

        with self._sending, self._errors():
            await self._waiters.until(attempt)

    def _drop(self) -> None:
        self._endpoint.abort()


class EndpointListener(Owner):
    """A listener over a listening endpoint."""

    _kind = "listener"

    async def _accept(self) -> TcpEndpoint:
        try:
            return await self._waiters.until(self._endpoint.accept)
        except OSError as error:
            if self._closed:
                raise self._closed_error(f"this {self._kind} was closed") from None
            if isinstance(error, StackError):
                raise self._broken_error(f"the listener is broken: {error}") from error
            raise
