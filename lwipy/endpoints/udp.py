"""UDP and raw endpoints: whole datagrams, with where they came from and what they were sent to."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from lwipy._native import WOULD_BLOCK, ffi, lib
from lwipy.addresses import IPAddress, pack, parse_ip
from lwipy.endpoints._scratch import borrow, give_back
from lwipy.endpoints.base import Address, Buffer, Endpoint, Option, check_size

if TYPE_CHECKING:
    from lwipy.interface import Interface
    from lwipy.stack import Stack

#: The longest payload of a datagram, bytes: 65535 less the headers of IPv4 and UDP.
LONGEST_DATAGRAM: Final = 65507
#: The same over IPv6: lwIP counts the IPv6 header in its 16-bit length.
LONGEST_DATAGRAM6: Final = 65487


class Datagram(NamedTuple):
    """One datagram as it came; `ttl` and `tos` are hop limit and traffic class over IPv6."""

    data: bytes
    source: Address
    destination: Address
    interface: Interface | None
    truncated: bool = False
    ttl: int = 0
    tos: int = 0


class DatagramEndpoint(Endpoint):
    """What UDP and raw endpoints share."""

    __slots__ = ()

    @property
    def broadcast(self) -> bool:
        """Whether sending to a broadcast address is allowed; EACCES otherwise."""
        return bool(self.get_option(Option.BROADCAST))

    @broadcast.setter
    def broadcast(self, on: bool) -> None:
        self.set_option(Option.BROADCAST, int(on))

    def connect(self, address: Address | None) -> None:
        """Sets where send() goes and what receive() takes; None ends that."""
        packed = pack(None) if address is None else self._pack(address)
        result = lib.lwipy_connect(self._stack._core, self._handle, packed)
        self._check(result, "" if address is None else f"{address[0]}:{address[1]}")

    def send(
        self,
        data: Buffer,
        address: Address | None = None,
        interface: Interface | None = None,
        source: str | IPAddress | None = None,
        *,
        ttl: int = -1,
        tos: int = -1,
    ) -> None:
        """Sends one datagram, in fragments if it must; it is sent or refused whole.

        `interface` chooses the way out, `source` the address it comes from (udp_sendto_if_src); `ttl` and `tos` (IPv6:
        hop limit and traffic class) are the option's where they are -1. OSError: EHOSTUNREACH,
        EMSGSIZE (over 65507 bytes, 65487 over IPv6), EACCES (broadcast not allowed), EDESTADDRREQ (no address, and not
        connected). ValueError for a source of the other family.
        """
        to = pack(None) if address is None else self._pack(address)
        sender = pack(None if source is None else parse_ip(source), 0, self._stack._scopes)
        if to.family and sender.family not in (0, to.family):
            raise ValueError(f"source {source!r} is not an IPv{to.family} address, as the destination is")
        core, number = self._stack._core, self._number(interface)
        payload = ffi.from_buffer(data)
        size = len(payload)
        result = lib.lwipy_udp_send(core, self._handle, payload, size, to, sender, number, ttl, tos)
        del payload  # or an exception's frame would keep the caller's buffer exported
        self._stack._after()
        if result == lib.LWIPY_ENOTCONN:
            raise OSError(errno.EDESTADDRREQ, "no address given, and the endpoint is not connected")
        self._check(result, f"{size} bytes" if address is None else f"{address[0]}:{address[1]}")

    def receive(self, size: int = LONGEST_DATAGRAM, *, peek: bool = False) -> Datagram:
        """The next datagram, cut at `size` bytes. BlockingIOError when none waits."""
        datagram = self.receive_if_any(size, peek=peek)
        if datagram is None:
            raise BlockingIOError(errno.EAGAIN, f"{os.strerror(errno.EAGAIN)}: no datagram waits")
        return datagram

    def receive_if_any(self, size: int = LONGEST_DATAGRAM, *, peek: bool = False) -> Datagram | None:
        """The next datagram; None, cheaper than an exception, when none waits."""
        check_size(size)
        info = ffi.new("lwipy_datagram *")
        buffer = borrow(size)
        try:
            result = lib.lwipy_udp_recv(self._stack._core, self._handle, buffer, min(size, len(buffer)), peek, info)
            if result == WOULD_BLOCK:
                return None
            self._check(result)
            data = bytes(ffi.buffer(buffer, result))
        finally:
            give_back(buffer)
        return Datagram(
            data,
            self._unpack(info.source) or ("", 0),
            self._unpack(info.destination) or ("", 0),
            self._stack._interfaces.get(info.nic),
            info.length > result,
            info.ttl,
            info.tos,
        )

    def join(self, group: str, interface: Interface | None = None) -> None:
        """Joins a multicast group on an interface, the default one if not given (IGMP, MLD)."""
        self._change_group(lib.lwipy_join, group, interface)

    def leave(self, group: str, interface: Interface | None = None) -> None:
        """Leaves it; OSError EADDRNOTAVAIL when it was not joined."""
        self._change_group(lib.lwipy_leave, group, interface)

    def _change_group(self, function, group: str, interface: Interface | None) -> None:  # type: ignore[no-untyped-def]
        ip = parse_ip(group)
        if not ip.is_multicast:
            raise ValueError(f"{group!r} is not a multicast group: expected an address such as '224.0.0.251'")
        if self.family not in (0, ip.version):
            raise ValueError(f"{group!r} is not an IPv{self.family} group, as this endpoint needs")
        number = self._number(interface)
        result = function(self._stack._core, self._handle, pack(ip, 0, self._stack._scopes), number)
        self._stack._after()
        self._check(lib.LWIPY_EADDR if result == lib.LWIPY_EVAL else result, group)


class UdpEndpoint(DatagramEndpoint):
    """A UDP socket's core."""

    __slots__ = ()
    kind = lib.LWIPY_UDP


class RawEndpoint(DatagramEndpoint):
    """IP payloads of one protocol; IPv4 packets arrive with their header, as on the kernel's raw sockets."""

    __slots__ = ("protocol",)
    kind = lib.LWIPY_RAW

    def __init__(self, stack: Stack, family: int, protocol: int) -> None:
        super().__init__(stack, family, protocol=protocol)
        self.protocol = protocol
