"""Servers: listening endpoints whose connections get a protocol each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import socket
import ssl as ssl_module
from asyncio import trsock
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lwipy.aio.addresses import SocketAddress
from lwipy.aio.driver import deliver, ensure_driven, is_told_by
from lwipy.aio.listening import bind_all, naming
from lwipy.aio.names import getaddrinfo
from lwipy.aio.standin import stand_in
from lwipy.aio.tls import TlsSettings
from lwipy.aio.transport import StreamTransport
from lwipy.endpoints import Event, Option, TcpEndpoint

if TYPE_CHECKING:
    from lwipy.blocking import Socket
    from lwipy.stack import Stack


class Server(asyncio.AbstractServer):
    """As :class:`asyncio.Server` (of Python 3.12.1 and later, where wait_closed() waits for the connections)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: list[TcpEndpoint],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        tls: TlsSettings,
        backlog: int,
        owners: Sequence[Socket] = (),
    ) -> None:
        """`owners` are the sockets that the listeners were taken from, where they were: they end with the server."""
        self._loop = loop
        self._listeners = listeners
        self._sockets: tuple[trsock.TransportSocket, ...] | None = tuple(
            stand_in(listener, sock) for listener, sock in itertools.zip_longest(listeners, owners)
        )
        self._owners = list(owners)
        self._protocol_factory = protocol_factory
        self._tls = tls
        self._backlog = backlog
        self._clients: set[StreamTransport] = set()
        self._serving = False
        self._closed = False
        self._waiters: list[asyncio.Future[None]] | None = []
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<lwipy.aio.Server sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[trsock.TransportSocket, ...]:
        """Stand-ins for the listening sockets; none once closed."""
        return self._sockets or ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def is_serving(self) -> bool:
        return self._serving

    # -- Connections -------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._serving:
            return
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        self._serving = True
        for listener in self._listeners:
            listener.set_option(Option.NODELAY, 1)  # its connections have what it has
            with naming(listener.address):
                listener.listen(self._backlog)
            deliver(listener, self._loop, functools.partial(self._accept, listener))
            # Told of what came between listen() and deliver().
            self._loop.call_soon(self._accept, listener)

    def _accept(self, listener: TcpEndpoint, _: Event | None = None) -> None:
        if listener.closed:
            self.close()
            return
        while not listener.closed:
            try:
                accepted = listener.accept_many()
            except OSError as error:
                self._report("Accept failed", error)
                return
            if not accepted:
                return
            for endpoint, names in accepted:
                self._serve(endpoint, names)

    def _serve(self, endpoint: TcpEndpoint, names: bytes) -> None:
        try:
            if self._tls.wanted:
                self._tls.transport(endpoint, self._protocol_factory(), server=self, names=names)
            else:
                transport = StreamTransport(self._loop, endpoint, self._protocol_factory(), server=self, names=names)
                # accept() has said again what came before; who hands out events in this loop will hand that out next.
                transport.begin(not is_told_by(endpoint, self._loop))
        except Exception as error:
            endpoint.abort()
            self._report("Error on transport creation for incoming connection", error)

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": message, "exception": error, "server": self})

    def _attach(self, transport: StreamTransport) -> None:
        self._clients.add(transport)

    def _detach(self, transport: StreamTransport) -> None:
        self._clients.discard(transport)
        self._check_end()

    # -- The end -----------------------------------------------------------------------------------

    def _check_end(self) -> None:
        if not self._closed or self._clients or self._waiters is None:
            return
        waiters, self._waiters = self._waiters, None
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Accepts no more: connections that wait to be accepted are reset, those that have a protocol go on."""
        if self._closed:
            return
        self._closed, self._serving = True, False
        self._sockets = None
        listeners, self._listeners = self._listeners, []
        owners, self._owners = self._owners, []
        for listener in listeners:
            listener.close()
        for sock in owners:
            sock.close()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._check_end()

    def close_clients(self) -> None:
        """Closes every connection, after what was written to it."""
        for transport in list(self._clients):
            transport.close()

    def abort_clients(self) -> None:
        """Resets every connection."""
        for transport in list(self._clients):
            transport.abort()

    async def wait_closed(self) -> None:
        """Waits until the server is closed and its last connection has ended."""
        if self._waiters is not None:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter

    async def start_serving(self) -> None:
        self._listen()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Serves until cancelled or closed; CancelledError then."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        self._listen()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None


async def create_server(
    stack: Stack,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | Iterable[str] | None = None,
    port: int | str | None = None,
    *,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    backlog: int = 100,
    ssl: ssl_module.SSLContext | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    keep_alive: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """As loop.create_server, on a stack; driven by the running loop if nothing drives it yet.

    Without `host` on every address of both families; `port` 0 takes a free one, the same for all addresses.
    `reuse_address` is on unless set to False. OSError EADDRINUSE, EADDRNOTAVAIL, naming the address.
    """
    if isinstance(ssl, bool):
        raise TypeError("ssl argument must be an SSLContext or None")
    if reuse_port:
        raise ValueError("reuse_port is not supported: a stack's connections are not shared between processes")
    tls = TlsSettings(ssl, ssl_handshake_timeout, ssl_shutdown_timeout, server_side=True)
    ensure_driven(stack)
    hosts: Iterable[str | None] = [host or None] if isinstance(host, str) or host is None else host
    addresses: dict[SocketAddress, None] = {}
    for name in hosts:
        infos = await getaddrinfo(stack, name, port or 0, family=family, type=socket.SOCK_STREAM, flags=flags)
        addresses.update((info[4], None) for info in infos)
    with contextlib.ExitStack() as undo:
        listeners = bind_all(stack, addresses, reuse=reuse_address is not False)
        for listener in listeners:
            undo.callback(listener.close)
            if keep_alive:
                listener.set_option(Option.KEEPALIVE, 1)
        server = Server(asyncio.get_running_loop(), listeners, protocol_factory, tls, backlog)
        if start_serving:
            server._listen()
        undo.pop_all()
    if start_serving:
        try:
            await asyncio.sleep(0)
        except BaseException:
            server.close()
            raise
    return server
