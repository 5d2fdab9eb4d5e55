"""anyio on lwipy stacks, on both of its backends: streams, listeners and TLS. Needs the extra lwipy[anyio].

Theory of operation. Streams and listeners are anyio's own kinds (:class:`anyio.abc.SocketStream`, with the attributes
of :class:`anyio.abc.SocketAttribute`) on TCP endpoints, written once with anyio's events. What differs between the
backends is who drives the stack, how its events reach the tasks, and how names are asked for: :mod:`lwipy.aio` knows
that for asyncio, :mod:`lwipy.trio` for trio, and :func:`_backend` finds the one that is running.

Invariants:

1. A stream or listener owns its endpoint; aclose() ends it at once, whatever other tasks wait for, and wakes them.
2. A receive() that is cancelled has taken nothing; a send() that is cancelled has sent what `bytes_sent` says.
3. After aclose() everything raises ClosedResourceError; what the network did raises BrokenResourceError, with the
   OSError as its cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

try:
    import anyio
    from anyio.abc import SocketListener as AnySocketListener
    from anyio.abc import SocketStream as AnySocketStream
    from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled
    from anyio.streams.stapled import MultiListener
    from anyio.streams.tls import TLSStream
except ImportError as error:
    raise ImportError("lwipy.anyio needs the anyio library: pip install 'lwipy[anyio]'") from error

from lwipy.aio.listening import listen_on
from lwipy.aio.standin import TransportSocket
from lwipy.blocking.race import DELAY, Race, in_turns
from lwipy.endpoints import Endpoint, Option, TcpEndpoint
from lwipy.errors import StackError

if TYPE_CHECKING:
    from lwipy.stack import Stack

T = TypeVar("T")

#: Bytes that receive() gives at most when it is not told, as anyio's.
CHUNK: Final = 65536

__all__ = ["SocketListener", "SocketStream", "connect_tcp", "create_tcp_listener", "driving"]


# -- Backends ----------------------------------------------------------------------------------------------------------


class _Backend(NamedTuple):
    driving: Callable[[Stack], AbstractAsyncContextManager[Stack]]
    #: Sees to it that the stack is driven, or raises RuntimeError.
    need_driver: Callable[[Stack], None]
    deliver: Callable[[Endpoint, Callable[[], object]], None]
    getaddrinfo: Callable[..., Awaitable[list[Any]]]


def _backend() -> _Backend:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        from lwipy.trio.driver import check_driven, deliver, driving
        from lwipy.trio.names import getaddrinfo

        return _Backend(driving, check_driven, deliver, getaddrinfo)
    from lwipy import aio
    from lwipy.aio.driver import ensure_driven

    return _Backend(aio.driving, ensure_driven, _deliver_by_asyncio, aio.getaddrinfo)


def _deliver_by_asyncio(endpoint: Endpoint, handler: Callable[[], object]) -> None:
    from lwipy.aio.driver import deliver

    deliver(endpoint, asyncio.get_running_loop(), lambda _: handler())


def driving(stack: Stack) -> AbstractAsyncContextManager[Stack]:
    """Drives the stack in the running event loop: :func:`lwipy.aio.driving` or :func:`lwipy.trio.driving`."""
    return _backend().driving(stack)


class _Waiters:
    """The tasks that wait for one endpoint. As :class:`lwipy.trio.waiting.Waiters`."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        event, self._event = self._event, anyio.Event()
        event.set()

    async def until(self, attempt: Callable[[], T]) -> T:
        """Repeats `attempt` until it does not raise BlockingIOError; a checkpoint in any case."""
        await checkpoint_if_cancelled()
        slept = False
        try:
            while True:
                try:
                    return attempt()
                except BlockingIOError:
                    pass
                slept = True
                await self._event.wait()
        finally:
            if not slept:
                await cancel_shielded_checkpoint()


# -- Streams -----------------------------------------------------------------------------------------------------------


class SocketStream(AnySocketStream):
    """An :class:`anyio.abc.SocketStream` over a connected endpoint, which it owns from now on."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._closed = True  # until the endpoint is ours
        self._endpoint = endpoint
        self._stand_in = TransportSocket(endpoint)
        #: Bytes that send() has handed to the stack so far. They will arrive in order or not at all.
        self.bytes_sent = 0
        self._ended = False
        self._error: OSError | None = None
        self._waiters = _Waiters()
        self._sending = anyio.ResourceGuard("writing to")
        self._receiving = anyio.ResourceGuard("reading from")
        endpoint.set_option(Option.NODELAY, 1)
        _backend().deliver(endpoint, self._waiters.notify)
        self._closed = False

    def __repr__(self) -> str:
        return f"<lwipy.anyio.SocketStream {'closed' if self._closed else self._endpoint}>"

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed stream {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.abort()

    @property
    def _raw_socket(self) -> Any:
        """Stands in for the socket: addresses and options, no descriptor."""
        return self._stand_in

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._closed:
                raise anyio.ClosedResourceError from None
            self._error = self._error or error
            raise anyio.BrokenResourceError from error

    def _receive(self, size: int) -> bytes:
        data = self._endpoint.recv(size)
        if not data and self._error is not None:
            raise self._error  # the endpoint tells of it once, and an end would pass for a goodbye
        return data

    async def receive(self, max_bytes: int = CHUNK) -> bytes:
        """What has arrived, at most `max_bytes`. EndOfStream, BrokenResourceError, ClosedResourceError."""
        if max_bytes < 1:
            raise ValueError(f"max_bytes of {max_bytes} is too little: expected at least 1")
        with self._receiving, self._errors():
            data = await self._waiters.until(lambda: self._receive(max_bytes))
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Hands all of `item` to the stack. BrokenResourceError, ClosedResourceError (also after send_eof())."""
        with self._sending, self._errors(), memoryview(item) as view, view.cast("B") as block:
            at = 0

            def attempt() -> None:
                nonlocal at
                if self._closed or self._ended:
                    raise anyio.ClosedResourceError
                while at < len(block):
                    count = self._endpoint.send(block[at:])
                    at += count
                    self.bytes_sent += count

            await self._waiters.until(attempt)

    async def send_eof(self) -> None:
        """Half-closes behind what was sent; the other direction goes on. Again is allowed."""

        def attempt() -> None:
            if not self._ended or self._closed:
                self._endpoint.shutdown(write=True)
                self._ended = True

        with self._sending, self._errors():
            await self._waiters.until(attempt)

    async def aclose(self) -> None:
        """Ends the connection; what was sent is still delivered, unless SO_LINGER of 0 asks for a reset."""
        if not self._closed:
            self._closed = True
            if self._stand_in.resets:
                self._endpoint.abort()
            else:
                self._endpoint.close()
            self._waiters.notify()
        await checkpoint()


class SocketListener(AnySocketListener):
    """An :class:`anyio.abc.SocketListener` over a listening endpoint, which it owns from now on."""

    def __init__(self, endpoint: TcpEndpoint) -> None:
        self._closed = False
        self._endpoint = endpoint
        self._stand_in = TransportSocket(endpoint)
        self._waiters = _Waiters()
        self._accepting = anyio.ResourceGuard("accepting connections from")
        _backend().deliver(endpoint, self._waiters.notify)

    def __repr__(self) -> str:
        return f"<lwipy.anyio.SocketListener {'closed' if self._closed else self._endpoint}>"

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed listener {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.close()

    @property
    def _raw_socket(self) -> Any:
        """Stands in for the socket: address and options, no descriptor."""
        return self._stand_in

    async def accept(self) -> SocketStream:
        """The next connection. ClosedResourceError after aclose(), BrokenResourceError when the stack has ended.

        OSError ENOBUFS when there is no room for it; it waits.
        """
        with self._accepting:
            try:
                return SocketStream(await self._waiters.until(self._endpoint.accept))
            except OSError as error:
                if self._closed:
                    raise anyio.ClosedResourceError from None
                if isinstance(error, StackError):
                    raise anyio.BrokenResourceError from error
                raise

    async def aclose(self) -> None:
        """Accepts no more: connections that wait are reset, those that were accepted go on."""
        if not self._closed:
            self._closed = True
            self._endpoint.close()
            self._waiters.notify()
        # Not to be cancelled: a MultiListener closes one after the other, and would leave the rest.
        await cancel_shielded_checkpoint()


# -- Connections and servers -------------------------------------------------------------------------------------------


async def connect_tcp(
    stack: Stack,
    remote_host: str,
    remote_port: int | str,
    *,
    local_host: str | None = None,
    tls: bool = False,
    ssl_context: ssl.SSLContext | None = None,
    tls_standard_compatible: bool = True,
    tls_hostname: str | None = None,
    happy_eyeballs_delay: float = DELAY,
) -> SocketStream | TLSStream:
    """As :func:`anyio.connect_tcp`, on a stack: connects to whichever of the host's addresses answers first.

    With `tls`, `ssl_context` or `tls_hostname` a TLSStream. OSError of the right class, naming the address:
    ConnectionRefusedError, TimeoutError, EHOSTUNREACH; of several that all failed the last, with all of them as its
    cause. socket.gaierror for the name, ssl.SSLError for the certificate. Bound it by anyio.fail_after().
    """
    stream = await _connect(stack, remote_host, remote_port, local_host, happy_eyeballs_delay)
    if not (tls or tls_hostname or ssl_context):
        return stream
    try:
        return await TLSStream.wrap(
            stream,
            server_side=False,
            hostname=tls_hostname or remote_host,
            ssl_context=ssl_context,
            standard_compatible=tls_standard_compatible,
        )
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


async def _connect(stack: Stack, host: str, port: int | str, local_host: str | None, delay: float) -> SocketStream:
    backend = _backend()
    backend.need_driver(stack)
    candidates = in_turns(await backend.getaddrinfo(stack, host, port, type=socket.SOCK_STREAM))
    source = None if local_host is None else (local_host, 0)
    waiters = _Waiters()
    race = Race(stack, candidates, lambda end: backend.deliver(end, waiters.notify), source=source, delay=delay)
    with contextlib.closing(race):
        while race.open:
            race.start_next(time.monotonic())
            with anyio.move_on_after(race.pause(time.monotonic())):
                winner = await waiters.until(race.look)
                if winner is not None:
                    return SocketStream(winner.endpoint)
    raise race.failure(f"{host}:{port}")


async def create_tcp_listener(
    stack: Stack,
    *,
    local_host: str | None = None,
    local_port: int | str = 0,
    family: int = socket.AF_UNSPEC,
    backlog: int = 65536,
) -> MultiListener[AnySocketStream]:
    """As :func:`anyio.create_tcp_listener`, on a stack.

    Without `local_host` on every address of both families; port 0 takes a free one, the same for all. OSError
    EADDRINUSE, EADDRNOTAVAIL, naming the address.
    """
    backend = _backend()
    backend.need_driver(stack)
    infos = await backend.getaddrinfo(
        stack, local_host, local_port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return MultiListener([SocketListener(endpoint) for endpoint in listen_on(stack, infos, backlog)])
