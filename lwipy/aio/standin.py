"""What stands in for the socket where asyncio hands one out: ``get_extra_info("socket")`` and ``server.sockets``.

It is an asyncio.trsock.TransportSocket: addresses and options, and nothing that would disturb the transport. A stream
transport's has a descriptor too, made when it is first asked for: clients such as httpx poll it, to see whether a
connection that they have kept still stands.
"""

from __future__ import annotations

import errno
import os
import socket
from asyncio import trsock
from typing import TYPE_CHECKING, Any, NoReturn, cast

from lwipy.aio.addresses import FAMILIES, SocketAddress, to_socket
from lwipy.blocking import options
from lwipy.blocking.readiness import Readiness
from lwipy.endpoints import Option, TcpEndpoint, TcpState, UdpEndpoint
from lwipy.endpoints.base import Buffer

if TYPE_CHECKING:
    from lwipy.blocking import Socket
    from lwipy.stack import Stack


def stand_in(
    endpoint: TcpEndpoint | UdpEndpoint, sock: Socket | None = None, *, polls: bool = False
) -> trsock.TransportSocket:
    """For the endpoint of a transport or a server; asyncio's own where that was taken from a socket."""
    return TransportSocket(endpoint, polls=polls) if sock is None else trsock.TransportSocket(sock)


class TransportSocket(trsock.TransportSocket):
    """Asks and sets a transport's endpoint. After the transport has ended: OSError EBADF.

    One that `polls` may have a descriptor. Its owner then calls refresh() after events and operations, and end().
    """

    __slots__ = ("_endpoint", "_linger", "_polls", "_readiness")

    def __init__(self, endpoint: TcpEndpoint | UdpEndpoint, *, polls: bool = False) -> None:
        self._endpoint = endpoint
        self._linger: int | None = None
        self._polls = polls
        self._readiness: Readiness | None = None

    @property
    def family(self) -> socket.AddressFamily:
        return FAMILIES[self._endpoint.family]

    @property
    def type(self) -> socket.SocketKind:
        return socket.SOCK_STREAM if isinstance(self._endpoint, TcpEndpoint) else socket.SOCK_DGRAM

    @property
    def proto(self) -> int:
        return socket.IPPROTO_TCP if isinstance(self._endpoint, TcpEndpoint) else socket.IPPROTO_UDP

    def __repr__(self) -> str:
        state = "closed" if self._endpoint.closed else f"laddr={self.getsockname()}"
        return f"<lwipy.TransportSocket {self.family.name}, {self.type.name}, {state}>"

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    # -- Addresses ---------------------------------------------------------------------------------

    def getsockname(self) -> SocketAddress:
        return to_socket(self._endpoint.address, self._endpoint.family)

    def getpeername(self) -> SocketAddress:
        peer = self._endpoint.peer
        if peer is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return to_socket(peer, self._endpoint.family)

    # -- Options: as the blocking sockets have them ------------------------------------------------

    def getsockopt(self, level: int, name: int, length: int = 0) -> int | bytes:  # type: ignore[override]
        return options.get_option(cast("Socket", self), level, name, length)

    def setsockopt(  # type: ignore[override]
        self, level: int, name: int, value: int | Buffer | None, length: int | None = None
    ) -> None:
        plain = value if isinstance(value, int) or value is None else bytes(value)
        options.set_option(cast("Socket", self), level, name, plain, length)

    def _set_plain(self, option: Option, value: int) -> None:
        self._endpoint.set_option(option, value)

    @property
    def _stack(self) -> Stack:
        return self._endpoint.stack

    @property
    def _v6only(self) -> bool:
        return self._endpoint.family == 6

    @property
    def _listening(self) -> bool:
        return isinstance(self._endpoint, TcpEndpoint) and self._endpoint.info.state is TcpState.LISTEN

    def _set_v6only(self, on: bool) -> None:
        """Transports and servers have one endpoint for each family."""
        if self.family != socket.AF_INET6 or not on:
            raise options.unsupported(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

    def _datagrams(self) -> UdpEndpoint:
        if not isinstance(self._endpoint, UdpEndpoint):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return self._endpoint

    @property
    def resets(self) -> bool:
        """Whether SO_LINGER asks for a reset instead of a goodbye."""
        return self._linger == 0

    # -- Descriptor --------------------------------------------------------------------------------

    def fileno(self) -> int:
        """What select, poll and epoll see ready when the endpoint is; -1 after the end, and where nothing polls.

        No bytes of the connection pass through it.
        """
        if not self._polls or self._endpoint.closed:
            return -1
        if self._readiness is None:
            self._readiness = Readiness(self._endpoint)
            self._readiness.update()
        return self._readiness.first

    def refresh(self) -> None:
        """Shows what an event or an operation left."""
        if self._readiness is not None:
            self._readiness.update()

    def end(self) -> None:
        """Closes the descriptor; there will be no other."""
        self._polls = False
        readiness, self._readiness = self._readiness, None
        if readiness is not None:
            readiness.close(readiness.first)

    # -- What a transport's socket is not for ------------------------------------------------------

    def dup(self) -> NoReturn:
        raise OSError(errno.EOPNOTSUPP, "a stack's socket is no descriptor and cannot be duplicated")

    def get_inheritable(self) -> bool:
        return False

    def shutdown(self, how: int) -> None:
        if not isinstance(self._endpoint, TcpEndpoint):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self._endpoint.shutdown(read=how != socket.SHUT_WR, write=how != socket.SHUT_RD)

    def gettimeout(self) -> float:
        return 0

    def settimeout(self, value: Any) -> None:
        if value != 0:
            raise ValueError("settimeout(): only 0 timeout is allowed on transport sockets")

    def setblocking(self, flag: bool) -> None:
        if flag:
            raise ValueError("setblocking(): transport sockets cannot be blocking")
