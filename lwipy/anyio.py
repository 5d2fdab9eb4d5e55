"""anyio on lwipy stacks, on both of its backends: streams, listeners and TLS. Needs the extra lwipy[anyio].

Theory of operation. Streams and listeners are anyio's own kinds (:class:`anyio.abc.SocketStream`, with the attributes
of :class:`anyio.abc.SocketAttribute`) on TCP endpoints (:mod:`lwipy._structured`), which wait by anyio's events. What
differs between the backends is who drives the stack, how its events reach the tasks, and how names are asked for:
:mod:`lwipy.aio` knows that for asyncio, :mod:`lwipy.trio` for trio, and :func:`_backend` finds the one that is running.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
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

from lwipy._structured import EndpointListener, EndpointStream
from lwipy.aio.listening import listen_on
from lwipy.blocking.race import DELAY, Race, in_turns
from lwipy.endpoints import Endpoint, TcpEndpoint

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


class SocketStream(EndpointStream, AnySocketStream):
    """An :class:`anyio.abc.SocketStream` over a connected endpoint, which it owns from now on."""

    _name = "lwipy.anyio.SocketStream"
    _closed_error = anyio.ClosedResourceError
    _broken_error = anyio.BrokenResourceError

    def __init__(self, endpoint: TcpEndpoint) -> None:
        sending, receiving = anyio.ResourceGuard("writing to"), anyio.ResourceGuard("reading from")
        super().__init__(endpoint, _Waiters(), _backend().deliver, sending, receiving)

    @property
    def _raw_socket(self) -> Any:
        """Stands in for the socket: addresses and options, no descriptor."""
        return self._stand_in

    async def receive(self, max_bytes: int = CHUNK) -> bytes:
        """What has arrived, at most `max_bytes`. EndOfStream, BrokenResourceError, ClosedResourceError."""
        data = await self._receive(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Hands all of `item` to the stack. BrokenResourceError, ClosedResourceError (also after send_eof())."""
        await self._send(item)

    async def aclose(self) -> None:
        """Ends the connection; what was sent is still delivered, unless SO_LINGER of 0 asks for a reset."""
        self._end()
        await checkpoint()


class SocketListener(EndpointListener, AnySocketListener):
    """An :class:`anyio.abc.SocketListener` over a listening endpoint, which it owns from now on."""

    _name = "lwipy.anyio.SocketListener"
    _closed_error = anyio.ClosedResourceError
    _broken_error = anyio.BrokenResourceError

    def __init__(self, endpoint: TcpEndpoint) -> None:
        super().__init__(endpoint, _Waiters(), _backend().deliver)
        self._accepting = anyio.ResourceGuard("accepting connections from")

    @property
    def _raw_socket(self) -> Any:
        """Stands in for the socket: address and options, no descriptor."""
        return self._stand_in

    async def accept(self) -> SocketStream:
        """The next connection. ClosedResourceError after aclose(), BrokenResourceError when the stack has ended.

        OSError ENOBUFS when there is no room for it; it waits.
        """
        with self._accepting:
            return SocketStream(await self._accept())

    async def aclose(self) -> None:
        """Accepts no more: connections that wait are reset, those that were accepted go on."""
        self._end()
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
