"""A UDP socket for trio's tasks.

A datagram is sent whole or refused, at once, so only receiving waits.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from lwipy.aio.addresses import SocketAddress, from_socket, to_socket
from lwipy.aio.standin import TransportSocket
from lwipy.endpoints import Datagram
from lwipy.endpoints.udp import LONGEST_DATAGRAM
from lwipy.trio.driver import check_driven, deliver
from lwipy.trio.names import getaddrinfo
from lwipy.trio.waiting import Waiters

if TYPE_CHECKING:
    from typing import Self

    from lwipy.endpoints.base import Buffer
    from lwipy.stack import Stack

T = TypeVar("T")


class UdpSocket:
    """As a datagram socket of :mod:`trio.socket`, on a stack: ``with UdpSocket(stack) as sock: ...``.

    Errors are OSErrors, as there; ClosedResourceError once it is closed. Addresses may have names for hosts. `family`
    is AF_INET or AF_INET6. ``options`` has getsockopt and setsockopt.
    """

    def __init__(self, stack: Stack, family: int = socket.AF_INET) -> None:
        self._closed = True
        if family not in (socket.AF_INET, socket.AF_INET6):
            raise ValueError(f"family {family!r} is unknown: expected AF_INET or AF_INET6")
        check_driven(stack)
        self.family = socket.AddressFamily(family)
        self._endpoint = stack.udp(4 if family == socket.AF_INET else 6)
        self._closed = False
        self.options = TransportSocket(self._endpoint)
        self._waiters = Waiters()
        deliver(self._endpoint, self._waiters.notify)

    def __repr__(self) -> str:
        return f"<lwipy.trio.UdpSocket {'closed' if self._closed else self._endpoint}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.close()

    # -- Addresses -----------------------------------------------------------------------------------------------------

    async def bind(self, address: tuple[Any, ...]) -> None:
        """Takes a local address; an empty host is any, port 0 a free one. OSError EADDRINUSE, EADDRNOTAVAIL."""
        local = await self._resolve(address, socket.AI_PASSIVE)
        self._do(lambda: self._endpoint.bind(local))

    async def connect(self, address: tuple[Any, ...]) -> None:
        """Sets where send() goes and whose datagrams are received."""
        remote = await self._resolve(address)
        self._do(lambda: self._endpoint.connect(remote))

    def getsockname(self) -> SocketAddress:
        return self._do(self.options.getsockname)

    def getpeername(self) -> SocketAddress:
        return self._do(self.options.getpeername)

    async def _resolve(self, address: tuple[Any, ...], flags: int = 0) -> tuple[str, int]:
        """The core's address. TypeError for what is no tuple of two to four values, socket.gaierror for the name."""
        if not isinstance(address, tuple) or not 2 <= len(address) <= 4:
            raise TypeError(f"{address!r} is not an address: expected a tuple (host, port)")
        self._check_open()
        host, scoped = address[0], len(address) == 4 and address[3] and "%" not in address[0]
        name = f"{host}%{address[3]}" if scoped else host
        stack = self._endpoint.stack
        infos = await getaddrinfo(stack, name, address[1], self.family, socket.SOCK_DGRAM, flags=flags)
        return from_socket(infos[0][4])[1]

    # -- Datagrams -----------------------------------------------------------------------------------------------------

    async def sendto(self, data: Buffer, address: tuple[Any, ...]) -> int:
        """Sends one datagram. OSError: EHOSTUNREACH, EMSGSIZE, EACCES (broadcast without SO_BROADCAST)."""
        to = await self._resolve(address)
        self._do(lambda: self._endpoint.send(data, to))
        return len(data)

    async def send(self, data: Buffer) -> int:
        """Sends one datagram to the connected address; OSError EDESTADDRREQ without one."""
        await trio.lowlevel.checkpoint()
        self._do(lambda: self._endpoint.send(data))
        return len(data)

    async def receive(self, size: int = LONGEST_DATAGRAM) -> Datagram:
        """The next datagram, cut at `size` bytes, with all that is known of it. Cancelled, it has taken none."""
        try:
            return await self._waiters.until(lambda: self._endpoint.receive(size))
        except OSError:
            self._check_open()
            raise

    async def recvfrom(self, size: int = LONGEST_DATAGRAM) -> tuple[bytes, SocketAddress]:
        datagram = await self.receive(size)
        return datagram.data, to_socket(datagram.source, self._endpoint.family)

    async def recv(self, size: int = LONGEST_DATAGRAM) -> bytes:
        return (await self.receive(size)).data

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this socket was closed")

    def _do(self, operation: Callable[[], T]) -> T:
        self._check_open()
        return operation()

    def close(self) -> None:
        """Wakes who waits, with ClosedResourceError. Twice is allowed."""
        if not self._closed:
            self._closed = True
            self._endpoint.close()
            self._waiters.notify()
