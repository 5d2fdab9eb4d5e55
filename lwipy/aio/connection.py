"""Connecting: names resolved, addresses tried one after the other or staggered (RFC 8305), then a transport.

Invariant: an endpoint belongs to the attempt that made it until it is handed on; an attempt that fails, loses the race
or is cancelled, at whatever await, aborts it.
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import os
import socket
import ssl as ssl_module
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from lwipy._native import lib
from lwipy.aio.addresses import SocketAddress, from_socket
from lwipy.aio.driver import ensure_driven, is_told_by, pass_on
from lwipy.aio.names import getaddrinfo, numeric
from lwipy.aio.tls import TlsSettings
from lwipy.aio.transport import StreamTransport
from lwipy.blocking.race import in_turns
from lwipy.endpoints import Event, TcpEndpoint
from lwipy.errors import StackClosedError, StackError

if TYPE_CHECKING:
    from lwipy.blocking import Socket
    from lwipy.stack import Stack

_CONNECTED: Final = int(Event.CONNECTED)
_SHAKEN: Final = int(Event.CONNECTED | Event.WRITABLE)
_FAILED: Final = int(Event.FAILED)
_Connected: TypeAlias = tuple[TcpEndpoint, bytes | None, bool]
T = TypeVar("T")
P = TypeVar("P", bound=asyncio.BaseProtocol)


async def create_connection(
    stack: Stack,
    protocol_factory: Callable[[], P],
    host: str,
    port: int | str,
    *,
    ssl: ssl_module.SSLContext | bool | None = None,
    family: int = 0,
    flags: int = 0,
    local_addr: tuple[str | None, int] | None = None,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    happy_eyeballs_delay: float | None = None,
    interleave: int | None = None,
    all_errors: bool = False,
    timeout: float | None = None,
) -> tuple[asyncio.Transport, P]:
    """As loop.create_connection, on a stack; driven by the running loop if nothing drives it yet.

    `timeout` bounds the whole, in seconds: name, handshakes and all. OSError of the right class, naming the address:
    ConnectionRefusedError, TimeoutError, EHOSTUNREACH, or one of all that failed; socket.gaierror for the name;
    ssl.SSLError for the certificate.
    """
    if ssl and server_hostname is None:
        server_hostname = host
    if timeout is not None:
        connecting = create_connection(
            stack, protocol_factory, host, port, ssl=ssl, family=family, flags=flags, local_addr=local_addr,
            server_hostname=server_hostname, ssl_handshake_timeout=ssl_handshake_timeout,
            ssl_shutdown_timeout=ssl_shutdown_timeout, happy_eyeballs_delay=happy_eyeballs_delay,
            interleave=interleave, all_errors=all_errors,
        )  # fmt: skip
        return await _within(timeout, connecting, f"Connect call failed ({host!r}, {port!r})")
    tls = TlsSettings.of(ssl, ssl_handshake_timeout, ssl_shutdown_timeout, server_hostname)
    literal = numeric(host, port, family, socket.SOCK_STREAM, flags) if type(host) is str else None
    if literal is not None and local_addr is None and not all_errors:
        connected = await connect_endpoint(stack, literal[4])
    else:
        infos = await getaddrinfo(stack, host, port, family=family, type=socket.SOCK_STREAM, flags=flags)
        sources = None if local_addr is None else await _sources(stack, local_addr, family)
        if interleave or happy_eyeballs_delay is not None:
            infos = in_turns(infos, interleave or 1)
        targets = [info[4] for info in infos]
        connected = await connect_to_any(stack, targets, sources, happy_eyeballs_delay, all_errors)
    endpoint, names, told_more = connected
    if not tls.wanted:
        return plain_transport(endpoint, protocol_factory, names, told_more)
    return await make_transport(endpoint, protocol_factory, tls)


async def _within(timeout: float, connecting: Coroutine[Any, Any, T], what: str) -> T:
    try:
        async with asyncio.timeout(timeout) as limit:
            return await connecting
    except TimeoutError:
        if limit.expired():
            raise TimeoutError(errno.ETIMEDOUT, f"{what}: no connection within {timeout} s") from None
        raise


async def _sources(stack: Stack, local: tuple[str | None, int], family: int) -> list[SocketAddress]:
    found = await getaddrinfo(stack, *local, family=family, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [info[4] for info in found]


def plain_transport(
    endpoint: TcpEndpoint, protocol_factory: Callable[[], P], names: bytes | None, told_more: bool
) -> tuple[asyncio.Transport, P]:
    """The transport and protocol of what connect_endpoint() has connected; or it is aborted."""
    try:
        protocol = protocol_factory()
        transport = StreamTransport(asyncio.get_running_loop(), endpoint, protocol, names=names)
        transport.begin(told_more)
    except BaseException:
        endpoint.abort()
        raise
    return transport, protocol


async def make_transport(
    endpoint: TcpEndpoint, protocol_factory: Callable[[], P], tls: TlsSettings, sock: Socket | None = None
) -> tuple[asyncio.Transport, P]:
    """The same for any connected endpoint, with TLS or without, and with the `sock` that it was taken from.

    That one ends with it.
    """
    waiter = asyncio.get_running_loop().create_future() if tls.wanted else None
    try:
        endpoint._check(lib.lwipy_set_option(endpoint.stack._core, endpoint._handle, lib.LWIPY_OPT_NODELAY, 1))
        protocol = protocol_factory()
        transport = tls.transport(endpoint, protocol, waiter, sock=sock)
    except BaseException:
        endpoint.abort()
        if sock is not None:
            sock.close()
        raise
    if waiter is not None:
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
    return transport, protocol


# -- One attempt -----------------------------------------------------------------------------------------------------


async def connect_endpoint(
    stack: Stack, target: SocketAddress, sources: Sequence[SocketAddress] | None = None
) -> _Connected:
    """A connected endpoint, its names() if they are known already, and whether it may have been told of more events.

    OSError naming the address.
    """
    loop = asyncio.get_running_loop()
    ensure_driven(stack, loop)
    version, address = from_socket(target)
    endpoint: TcpEndpoint | None = None
    names = None
    try:
        if sources is not None or stack._driver.loop is not loop:
            endpoint = stack.tcp(version)
            handshake = _Handshake(endpoint, loop)
            if sources is not None:
                _bind_to_any(endpoint, version, sources)
            endpoint._check(lib.lwipy_set_option(stack._core, endpoint._handle, lib.LWIPY_OPT_NODELAY, 1))
        try:
            if endpoint is not None:
                endpoint.connect(address)
            else:
                # No event is handed out before this coroutine waits.
                endpoint, names = TcpEndpoint.opened(stack, version, address)
                handshake = _Handshake(endpoint, loop)
                stack._after()
            await handshake.over
        except StackError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise OSError(error.errno, f"Connect call failed {target!r}: {reason}") from None
    except BaseException:
        if endpoint is not None:
            endpoint.abort()
        raise
    return endpoint, names, handshake.told_more


class _Handshake:
    """Waits for the end of an endpoint's handshake."""

    __slots__ = ("_endpoint", "_loop", "over", "told_more")

    def __init__(self, endpoint: TcpEndpoint, loop: asyncio.AbstractEventLoop) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self.over: asyncio.Future[None] = loop.create_future()
        #: Whether there were events that nobody heeded, or may be.
        self.told_more = False
        endpoint.on_event = self._happened

    def _happened(self, event: Event) -> None:
        if is_told_by(self._endpoint, self._loop):
            self._shaken(event)  # a future's callbacks have contexts of their own
        else:
            self.told_more = True
            pass_on(self._endpoint, self._loop, contextvars.copy_context(), self._shaken, event)

    def _shaken(self, event: Event) -> None:
        bits = int(event)  # an IntFlag's own & costs a microsecond
        if bits != _SHAKEN:
            self.told_more = True
        over, endpoint = self.over, self._endpoint
        if over.done():
            return
        if endpoint.closed:
            over.set_exception(StackClosedError())
        elif bits & _CONNECTED and not bits & _FAILED:
            over.set_result(None)
        elif (error := endpoint.take_error()) is not None:
            over.set_exception(error)


def _bind_to_any(endpoint: TcpEndpoint, version: int, sources: Sequence[SocketAddress]) -> None:
    """The first local address of the right family that can be had."""
    failure = OSError(errno.EADDRNOTAVAIL, f"no local address of IPv{version} was given")
    for source in sources:
        source_version, address = from_socket(source)
        if source_version != version:
            continue
        try:
            endpoint.bind(address)
            return
        except OSError as error:
            text = f"error while attempting to bind on address {source!r}: {os.strerror(error.errno or 0).lower()}"
            failure = OSError(error.errno, text)
    raise failure


# -- Several attempts ------------------------------------------------------------------------------------------------


async def connect_to_any(
    stack: Stack,
    targets: Sequence[SocketAddress],
    sources: Sequence[SocketAddress] | None = None,
    delay: float | None = None,
    all_errors: bool = False,
) -> _Connected:
    """The first of the addresses that answers; each is tried when the one before failed, or `delay` seconds later."""
    if len(targets) == 1 and not all_errors:
        return await connect_endpoint(stack, targets[0], sources)
    waiting = list(targets)
    running: set[asyncio.Task[_Connected]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(connect_endpoint(stack, waiting.pop(0), sources)))
            done, _ = await asyncio.wait(
                running, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                running.discard(task)
                try:
                    endpoint, names, _ = task.result()
                    return endpoint, names, True  # who knows what came before the task was asked
                except OSError as error:
                    errors.append(error)
    finally:
        await _drop(running)
    raise _of_all(errors, all_errors)


async def _drop(tasks: set[asyncio.Task[_Connected]]) -> None:
    """Ends the attempts that are not wanted any more, and what they may have reached."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(outcome, BaseException):
            outcome[0].abort()


def _of_all(errors: list[OSError], all_errors: bool) -> Exception:
    if all_errors:
        return ExceptionGroup("create_connection failed", errors)
    if len({str(error) for error in errors}) == 1:
        return errors[0]
    return OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")
