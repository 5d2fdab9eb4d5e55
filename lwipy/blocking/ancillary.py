"""What recvmsg() and sendmsg() know of a datagram beside its bytes: interface and address, hop limit and traffic class.

Control messages are (level, type, data) as the kernel has them (RFC 3542; ip(7) and ipv6(7) on Linux).
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lwipy.endpoints import Datagram

Kind: TypeAlias = tuple[int, int]
Message: TypeAlias = tuple[int, int, bytes]

# Linux's numbers where the socket module has no name.
PACKET_INFO: Final[Kind] = (socket.IPPROTO_IP, getattr(socket, "IP_PKTINFO", 8))
PACKET_INFO6: Final[Kind] = (socket.IPPROTO_IPV6, getattr(socket, "IPV6_PKTINFO", 50))
TTL: Final[Kind] = (socket.IPPROTO_IP, socket.IP_TTL)
TOS: Final[Kind] = (socket.IPPROTO_IP, socket.IP_TOS)
HOP_LIMIT: Final[Kind] = (socket.IPPROTO_IPV6, getattr(socket, "IPV6_HOPLIMIT", 52))
TRAFFIC_CLASS: Final[Kind] = (socket.IPPROTO_IPV6, getattr(socket, "IPV6_TCLASS", 67))

#: The options that have recvmsg() bring each kind.
WANTED_BY: Final[dict[Kind, Kind]] = {
    PACKET_INFO: PACKET_INFO,
    (socket.IPPROTO_IP, getattr(socket, "IP_RECVTTL", 12)): TTL,
    (socket.IPPROTO_IP, getattr(socket, "IP_RECVTOS", 13)): TOS,
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_RECVPKTINFO", 49)): PACKET_INFO6,
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_RECVHOPLIMIT", 51)): HOP_LIMIT,
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_RECVTCLASS", 66)): TRAFFIC_CLASS,
}

_HEADER: Final = socket.CMSG_LEN(0)


def describe(datagram: Datagram, wanted: Collection[Kind], room: int) -> tuple[list[Message], int]:
    """The wanted messages, as far as they fit into `room` bytes, and MSG_CTRUNC where they did not."""
    messages, flags = [], 0
    for level, kind, data in _messages(datagram):
        if (level, kind) not in wanted:
            continue
        if room < socket.CMSG_LEN(len(data)):
            flags = socket.MSG_CTRUNC
            if room < _HEADER:
                continue
            data = data[: room - _HEADER]
        messages.append((level, kind, data))
        room -= min(room, socket.CMSG_SPACE(len(data)))
    return messages, flags


def _messages(datagram: Datagram) -> Iterator[Message]:
    host = datagram.destination[0].partition("%")[0]
    index = _integer(0 if datagram.interface is None else datagram.interface.number)
    if ":" in host:
        yield *PACKET_INFO6, socket.inet_pton(socket.AF_INET6, host) + index
        yield *HOP_LIMIT, _integer(datagram.ttl)
        yield *TRAFFIC_CLASS, _integer(datagram.tos)
    else:
        packed = socket.inet_aton(host)
        yield *PACKET_INFO, index + packed + packed
        yield *TTL, _integer(datagram.ttl)
        yield *TOS, bytes([datagram.tos])


def _integer(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


@dataclass
class Sending:
    """How a datagram is to leave; -1, 0 and None are the socket's own way."""

    interface: int = 0
    source: str | None = None
    ttl: int = -1
    tos: int = -1


def parse(items: Iterable[Any]) -> list[Message]:
    """The control messages that sendmsg() was given; TypeError for what is none."""
    messages = []
    for item in items:
        try:
            level, kind, data = item
        except (TypeError, ValueError):
            raise TypeError("[sendmsg() ancillary data items] must be tuples of level, type and data") from None
        messages.append((int(level), int(kind), memoryview(data).cast("B").tobytes()))
    return messages


def understand(messages: Iterable[Message]) -> Sending:
    """What they ask for; OSError EINVAL for what a stack does not know."""
    sending = Sending()
    for level, kind, data in messages:
        number = int.from_bytes(data[:4], sys.byteorder, signed=True)
        if (level, kind) == PACKET_INFO and len(data) >= 12:
            sending.interface, sending.source = number, socket.inet_ntoa(data[4:8])
        elif (level, kind) == PACKET_INFO6 and len(data) >= 20:
            sending.source = socket.inet_ntop(socket.AF_INET6, data[:16])
            sending.interface = int.from_bytes(data[16:20], sys.byteorder)
        elif (level, kind) in (TTL, HOP_LIMIT) and len(data) >= 4 and -1 <= number <= 255:
            sending.ttl = number
        elif (level, kind) in (TOS, TRAFFIC_CLASS) and data and -1 <= number <= 255:
            sending.tos = number
        else:
            raise OSError(errno.EINVAL, f"Invalid argument: {len(data)} bytes of level {level}, type {kind}")
    if sending.source in ("0.0.0.0", "::"):
        sending.source = None
    return sending
