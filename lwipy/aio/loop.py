"""An event loop whose sockets are a stack's: programs and libraries for asyncio run on it unmodified.

    with asyncio.Runner(loop_factory=lambda: StackEventLoop(stack)) as runner:
        runner.run(main())

Names, connections, servers and datagram endpoints are the stack's. What is not the network (subprocesses, signals,
pipes, unix sockets) is the host's, and so are the host's own sockets where one is given as `sock`. The sock_... methods
take sockets of the stack (:meth:`Stack.socket`), non-blocking, as well as the host's.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Set
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lwipy.aio import connection, datagram, names, server, tls
from lwipy.aio.addresses import to_socket
from lwipy.aio.driver import LoopDriver, ensure_driven
from lwipy.aio.transport import StreamTransport
from lwipy.blocking import Socket
from lwipy.blocking import names as functions
from lwipy.endpoints import TcpEndpoint, UdpEndpoint

if TYPE_CHECKING:
    from lwipy.stack import Stack

T = TypeVar("T")
E = TypeVar("E", TcpEndpoint, UdpEndpoint)
_SENDFILE_BLOCK: Final = 256 * 1024
#: Options that are taken beside `sock`, where those of addresses mean nothing any more.
_TLS: Final = {"ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout"}
_ADDRESSES: Final = {
    "family", "proto", "flags", "local_addr", "happy_eyeballs_delay", "interleave", "all_errors",
}  # fmt: skip
_LISTENING: Final = {
    "family", "flags", "backlog", "reuse_address", "reuse_port", "keep_alive", "start_serving",
}  # fmt: skip
_DATAGRAMS: Final = {
    "local_addr", "remote_addr", "family", "proto", "flags", "reuse_address", "reuse_port", "allow_broadcast",
}  # fmt: skip


class StackEventLoop(asyncio.SelectorEventLoop):
    """A selector loop on `stack`, which it drives unless something else does. See :mod:`lwipy.aio.loop`."""

    def __init__(self, stack: Stack, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.stack = stack

    def run_forever(self) -> None:
        # Before anything of lwipy.aio is used: programs may wait on the descriptors of the stack's sockets.
        if not self.stack.closed:
            ensure_driven(self.stack, self)
        super().run_forever()

    def close(self) -> None:
        """Closes the loop and gives the stack back, to be driven by another loop or a thread."""
        super().close()
        driver = self.stack._driver
        if isinstance(driver, LoopDriver) and driver.loop is self:
            driver.stop()

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """As asyncio's; threads have the caller's context, so that what blocks in them is on the caller's stack too."""
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            return super().run_in_executor(executor, contextvars.copy_context().run, func, *args)
        return super().run_in_executor(executor, func, *args)

    # -- Names -----------------------------------------------------------------------------------------------------

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return await names.getaddrinfo(self.stack, host, port, **hints)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """The hosts table's name of a numeric address, else numbers: a stack asks nobody for names of addresses."""
        return functions.getnameinfo(self.stack, sockaddr, flags)

    # -- Transports ------------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> Any:
        if isinstance(sock, Socket):
            _refuse_both(host, port)
            _refuse(options, _TLS | {"server_hostname", *_ADDRESSES})
            return await connection.make_transport(_endpoint(sock, TcpEndpoint), protocol_factory, _tls(options), sock)
        if sock is not None:
            return await super().create_connection(protocol_factory, host, port, sock=sock, **options)
        if host is None and port is None:
            raise ValueError("host and port was not specified and no sock specified")
        options.pop("proto", None)
        if options.get("ssl") and not host and options.get("server_hostname") is None:
            # The address will be localhost, which is no name to trust.
            raise ValueError("You must set server_hostname when using ssl without a host")
        return await connection.create_connection(self.stack, protocol_factory, host or "localhost", port, **options)

    async def connect_accepted_socket(self, protocol_factory: Callable[[], Any], sock: Any, **options: Any) -> Any:
        if not isinstance(sock, Socket):
            return await super().connect_accepted_socket(protocol_factory, sock, **options)
        _refuse(options, _TLS)
        settings = _tls(options, server_side=True)
        return await connection.make_transport(_endpoint(sock, TcpEndpoint), protocol_factory, settings, sock)

    async def create_server(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> Any:
        if sock is None:
            if host is None and port is None:
                raise ValueError("Neither host/port nor sock were specified")
            return await server.create_server(self.stack, protocol_factory, host, port, **options)
        if not isinstance(sock, Socket):
            return await super().create_server(protocol_factory, sock=sock, **options)
        _refuse_both(host, port)
        _refuse(options, _TLS | _LISTENING)
        listener = _endpoint(sock, TcpEndpoint)
        made = server.Server(
            self, [listener], protocol_factory, _tls(options, server_side=True), options.get("backlog", 100), [sock]
        )
        if options.get("start_serving", True):
            await made.start_serving()
        return made

    async def create_datagram_endpoint(
        self, protocol_factory: Callable[[], Any], *addresses: Any, sock: Any = None, **options: Any
    ) -> Any:
        if sock is None:
            options.pop("proto", None)
            if options.pop("reuse_port", None):
                options["reuse_address"] = True
            return await datagram.create_datagram_endpoint(self.stack, protocol_factory, *addresses, **options)
        if not isinstance(sock, Socket):
            return await super().create_datagram_endpoint(protocol_factory, *addresses, sock=sock, **options)
        _refuse(options, _DATAGRAMS)
        given = {name: value for name, value in options.items() if value}
        if any(addresses) or given:
            raise ValueError(
                f"socket modifier keyword arguments can not be used when sock is specified: {addresses or given}"
            )
        endpoint = _endpoint(sock, UdpEndpoint)
        peer = endpoint.peer
        remote = None if peer is None else to_socket(peer, endpoint.family)
        return await datagram.make_transport(endpoint, protocol_factory, remote, sock)

    # -- Sockets ---------------------------------------------------------------------------------------------------

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        if not isinstance(sock, Socket):
            return await super().sock_recv(sock, n)
        return await _until(sock, lambda: sock.recv(n))

    async def sock_recv_into(self, sock: Any, buf: Any) -> int:
        if not isinstance(sock, Socket):
            return await super().sock_recv_into(sock, buf)
        return await _until(sock, lambda: sock.recv_into(buf))

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> tuple[bytes, Any]:
        if not isinstance(sock, Socket):
            return await super().sock_recvfrom(sock, bufsize)
        return await _until(sock, lambda: sock.recvfrom(bufsize))

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> tuple[int, Any]:
        if not isinstance(sock, Socket):
            return await super().sock_recvfrom_into(sock, buf, nbytes)
        return await _until(sock, lambda: sock.recvfrom_into(buf, nbytes))

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        if not isinstance(sock, Socket):
            return await super().sock_sendall(sock, data)
        view = memoryview(data).cast("B")
        while view:
            view = view[await _until(sock, lambda rest=view: sock.send(rest)) :]  # type: ignore[misc]
        return None

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> int:
        if not isinstance(sock, Socket):
            return await super().sock_sendto(sock, data, address)
        numeric = await self._numeric(sock, address)
        return await _until(sock, lambda: sock.sendto(data, numeric))

    async def sock_connect(self, sock: Any, address: Any) -> None:
        if not isinstance(sock, Socket):
            await super().sock_connect(sock, address)
            return
        numeric = await self._numeric(sock, address)
        try:
            _check(sock)
            sock.connect(numeric)
        except BlockingIOError:
            try:
                await _until(sock, sock._tcp().finish_connect)
                sock._open.connecting = False
            except OSError as error:
                if type(error) is BlockingIOError or error.errno is None:
                    raise
                raise OSError(error.errno, f"Connect call failed {numeric!r}") from None

    async def sock_accept(self, sock: Any) -> Any:
        if not isinstance(sock, Socket):
            return await super().sock_accept(sock)
        accepted, address = await _until(sock, sock.accept)
        accepted.setblocking(False)
        return accepted, address

    async def sendfile(
        self, transport: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool = True
    ) -> int:
        if not fallback and isinstance(transport, StreamTransport) and not transport.is_closing():
            raise asyncio.SendfileNotAvailableError("native sendfile is not supported by a stack's transports")
        return await super().sendfile(transport, file, offset, count, fallback=fallback)

    async def sock_sendfile(
        self, sock: Any, file: Any, offset: int = 0, count: int | None = None, *, fallback: bool | None = True
    ) -> int:
        if not isinstance(sock, Socket):
            return await super().sock_sendfile(sock, file, offset, count, fallback=fallback)
        if not fallback:
            raise asyncio.SendfileNotAvailableError("a stack's sockets have no native sendfile")
        self._check_sendfile_params(sock, file, offset, count)  # type: ignore[attr-defined]
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                size = _SENDFILE_BLOCK if count is None else min(_SENDFILE_BLOCK, count - sent)
                block = await self.run_in_executor(None, file.read, size)
                if not block:
                    break
                await self.sock_sendall(sock, block)
                sent += len(block)
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    async def _numeric(self, sock: Socket, address: Any) -> Any:
        """`address` with numbers for its host. TypeError for what is no tuple, as the socket's own."""
        if not isinstance(address, tuple) or len(address) < 2:
            return sock._resolve(address, "connect")
        ensure_driven(self.stack)
        infos = await self.getaddrinfo(address[0], address[1], family=sock.family, type=sock.type)
        found = infos[0][4]
        return found if len(address) < 3 or len(found) < 3 else (*found[:2], *address[2:])


def _refuse_both(host: Any, port: Any) -> None:
    if host is not None or port is not None:
        raise ValueError("host/port and sock can not be specified at the same time")


def _refuse(options: dict[str, Any], known: Set[str]) -> None:
    for name in options.keys() - known:
        raise TypeError(f"unexpected keyword argument {name!r}")


def _tls(options: dict[str, Any], server_side: bool = False) -> tls.TlsSettings:
    return tls.TlsSettings(
        options.get("ssl"),
        options.get("ssl_handshake_timeout"),
        options.get("ssl_shutdown_timeout"),
        options.get("server_hostname"),
        server_side=server_side,
    )


def _endpoint(sock: Socket, kind: type[E]) -> E:
    """What the socket is made of. ValueError for the wrong kind."""
    ensure_driven(sock.stack)
    endpoint = sock._endpoint
    if not isinstance(endpoint, kind):
        wanted = "Stream" if kind is TcpEndpoint else "Datagram"
        raise ValueError(f"A {wanted} Socket was expected, got {sock!r}")
    sock._open.hear()
    return endpoint


# -- Waiting for a stack's socket ------------------------------------------------------------------------------------


class _Waker:
    """Hangs among a socket's waiting threads (lwipy.blocking.waiting) and wakes a task instead."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.woken: asyncio.Future[None] = loop.create_future()

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)

    def rearm(self) -> None:
        self.woken = self._loop.create_future()


def _check(sock: Socket) -> None:
    if sock.gettimeout() != 0:
        raise ValueError("the socket must be non-blocking")
    ensure_driven(sock.stack)


async def _until(sock: Socket, attempt: Callable[[], T]) -> T:
    """Repeats `attempt` when the socket has news, until it does not raise BlockingIOError."""
    _check(sock)
    try:
        return attempt()
    except BlockingIOError:
        pass
    waker = _Waker(asyncio.get_running_loop())
    sock._open.hear()
    waiting: list[Any] = sock._open._waiters._locks
    waiting.append(waker)
    try:
        while True:
            waker.rearm()
            try:
                return attempt()
            except BlockingIOError:
                await waker.woken
    finally:
        waiting.remove(waker)
