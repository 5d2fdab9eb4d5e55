"""The datagram transport: an asyncio protocol on one UDP endpoint.

Theory of operation. A datagram is sent whole or refused, at once, so there is nothing to buffer: get_write_buffer_size
is 0 and the protocol is never paused. What arrives is delivered until the endpoint has nothing more, in shares.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import warnings
from asyncio import transports
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lwipy.aio.addresses import SocketAddress, from_socket, to_socket
from lwipy.aio.driver import deliver, ensure_driven
from lwipy.aio.names import getaddrinfo
from lwipy.aio.standin import stand_in
from lwipy.endpoints import Event, UdpEndpoint
from lwipy.endpoints.base import Buffer
from lwipy.endpoints.resolver import local_answer
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    from lwipy.blocking import Socket
    from lwipy.stack import Stack

P = TypeVar("P", bound=asyncio.BaseProtocol)
#: Datagrams that one transport delivers before the others have their turn.
SHARE: Final = 64
_log: Final = logging.getLogger("lwipy.aio")


class DatagramTransport(transports._FlowControlMixin, transports.DatagramTransport):
    """An :class:`asyncio.DatagramTransport` over an endpoint, which it owns from now on."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: UdpEndpoint,
        protocol: asyncio.BaseProtocol,
        peer: SocketAddress | None,
        waiter: asyncio.Future[None],
        sock: Socket | None = None,
    ) -> None:
        self._endpoint = endpoint
        substitute = stand_in(endpoint, sock)
        extra: dict[str, Any] = {"socket": substitute, "sockname": substitute.getsockname(), "peername": peer}
        super().__init__(extra, loop)
        self._loop: asyncio.AbstractEventLoop = loop
        self._owner = sock
        self._protocol: Any = protocol
        self._peer = peer
        self._closing = False
        self._started = False
        deliver(endpoint, loop, self._happened)
        loop.call_soon(self._protocol.connection_made, self)
        loop.call_soon(self._start, waiter)

    def _start(self, waiter: asyncio.Future[None]) -> None:
        self._started = True
        self._read()
        if not waiter.done():
            waiter.set_result(None)

    def __repr__(self) -> str:
        return f"<DatagramTransport {'closing' if self._closing else 'open'} {self._endpoint!r}>"

    def __del__(self) -> None:
        if not getattr(self, "_closing", True):
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.close()

    # -- Datagrams in --------------------------------------------------------------------------------------------------

    def _happened(self, event: Event) -> None:
        if self._endpoint.stack.closed:
            self._end(StackClosedError())
        elif self._started:
            self._read()

    def _read(self) -> None:
        for _ in range(SHARE):
            if self._closing:
                return
            try:
                datagram = self._endpoint.receive_if_any()
            except OSError as error:
                if self._endpoint.stack.closed:
                    self._end(error)
                    return
                self._protocol.error_received(error)  # the peer's ICMP
                continue
            if datagram is None:
                return
            try:
                self._protocol.datagram_received(datagram.data, to_socket(datagram.source, self._endpoint.family))
            except Exception as error:
                # As in asyncio, one datagram that its protocol cannot stand does not end the service.
                self._report(error, "protocol.datagram_received() failed")
        self._loop.call_soon(self._read)

    # -- Datagrams out -------------------------------------------------------------------------------------------------

    def sendto(self, data: Buffer, addr: Any = None) -> None:
        """Sends one datagram, empty ones too. What the stack refuses goes to error_received().

        TypeError for what is not bytes-like, ValueError for an address that is no address, or not the connected one.
        """
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        if self._peer is not None and addr not in (None, self._peer, self._peer[:2]):
            raise ValueError(f"Invalid address: must be None or {self._peer}")
        to = None if self._peer is not None or addr is None else self._address(addr)
        if self._closing:
            _log.debug("%r: sendto() after close()", self)
            return
        try:
            self._endpoint.send(view, to)
        except OSError as error:
            self._protocol.error_received(error)

    def _address(self, address: Any) -> tuple[str, int]:
        """Numbers, or a name that needs no asking."""
        host, _, scope = str(address[0]).partition("%")
        answers = local_answer(self._endpoint.stack, host) or [host]
        fitting = [answer for answer in answers if (":" in answer) == (self._endpoint.family == 6)] or answers
        found = fitting[0] + (f"%{scope}" if scope else "")
        return from_socket((found, *address[1:]))[1]

    def get_write_buffer_size(self) -> int:
        return 0

    # -- The rest ------------------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._end(None)

    def abort(self) -> None:
        self._end(None)

    def _report(self, error: Exception, message: str) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _end(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self._endpoint.close()
            if self._owner is not None:
                self._owner.close()
            self._loop.call_soon(self._protocol.connection_lost, error)


async def create_datagram_endpoint(
    stack: Stack,
    protocol_factory: Callable[[], P],
    local_addr: tuple[str | None, int] | None = None,
    remote_addr: tuple[str, int] | None = None,
    *,
    family: int = 0,
    flags: int = 0,
    reuse_address: bool = False,
    allow_broadcast: bool | None = None,
) -> tuple[DatagramTransport, P]:
    """As loop.create_datagram_endpoint, on a stack; driven by the running loop if nothing drives it yet.

    With `remote_addr` only that peer's datagrams come in. With neither address `family` is needed. OSError EADDRINUSE,
    EADDRNOTAVAIL, EHOSTUNREACH; ValueError when the addresses have no family in common.
    """
    ensure_driven(stack)
    failure: OSError | None = None
    for version, local, remote in await _pairs(stack, local_addr, remote_addr, family, flags):
        endpoint = stack.udp(version)
        try:
            if allow_broadcast:
                endpoint.broadcast = True
            if local is not None:
                endpoint.bind(from_socket(local)[1], reuse=reuse_address)
            if remote is not None:
                endpoint.connect(from_socket(remote)[1])
            return await make_transport(endpoint, protocol_factory, remote)
        except OSError as error:
            endpoint.close()
            failure = failure or error
        except BaseException:
            endpoint.close()
            raise
    raise failure or ValueError("cannot get address information")


async def make_transport(
    endpoint: UdpEndpoint,
    protocol_factory: Callable[[], P],
    remote: SocketAddress | None,
    sock: Socket | None = None,
) -> tuple[DatagramTransport, P]:
    """The transport and protocol of an endpoint, connected to `remote` if that is given, and taken from `sock`."""
    loop = asyncio.get_running_loop()
    protocol = protocol_factory()
    waiter: asyncio.Future[None] = loop.create_future()
    transport = DatagramTransport(loop, endpoint, protocol, remote, waiter, sock)
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol


async def _pairs(
    stack: Stack, local: tuple[str | None, int] | None, remote: tuple[str, int] | None, family: int, flags: int
) -> list[tuple[int, SocketAddress | None, SocketAddress | None]]:
    """IP versions with the addresses that both ends have in them."""
    if local is None and remote is None:
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError("unexpected address family")
        return [(4 if family == socket.AF_INET else 6, None, None)]
    by_version: dict[int, dict[str, SocketAddress]] = {}
    for role, address, passive in (("local", local, socket.AI_PASSIVE), ("remote", remote, 0)):
        if address is None:
            continue
        if not isinstance(address, tuple) or len(address) != 2:
            raise TypeError(f"{address!r} is not an address: expected a pair (host, port)")
        infos = await getaddrinfo(
            stack, address[0], address[1], family=family, type=socket.SOCK_DGRAM, flags=flags | passive
        )
        for info in infos:
            by_version.setdefault(from_socket(info[4])[0], {}).setdefault(role, info[4])
    wanted = {role for role, address in (("local", local), ("remote", remote)) if address is not None}
    return [
        (version, found.get("local"), found.get("remote"))
        for version, found in by_version.items()
        if wanted <= set(found)
    ]
