"""Socket options: the pairs of level and name that a stack has, and how each is set and asked.

What lwIP has not answers ``OSError`` ENOPROTOOPT, as the kernel does for what it has not.
"""

from __future__ import annotations

import errno
import operator
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

from lwipy.blocking.ancillary import WANTED_BY
from lwipy.endpoints import Option, TcpEndpoint

if TYPE_CHECKING:
    from lwipy.blocking.socket import Socket
    from lwipy.interface import Interface

#: Options that are one integer in the core.
PLAIN: Final[dict[tuple[int, int], Option]] = {
    (socket.SOL_SOCKET, socket.SO_REUSEADDR): Option.REUSEADDR,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): Option.KEEPALIVE,
    (socket.SOL_SOCKET, socket.SO_BROADCAST): Option.BROADCAST,
    (socket.SOL_SOCKET, socket.SO_RCVBUF): Option.RCVBUF,
    (socket.SOL_SOCKET, socket.SO_SNDBUF): Option.SNDBUF,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): Option.NODELAY,
    (socket.SOL_SOCKET, getattr(socket, "SO_MAX_PACING_RATE", 47)): Option.MAX_PACING_RATE,
    (socket.IPPROTO_IP, socket.IP_TTL): Option.TTL,
    (socket.IPPROTO_IP, socket.IP_TOS): Option.TOS,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_TTL): Option.MCAST_TTL,
    (socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP): Option.MCAST_LOOP,
    (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS): Option.TTL,
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS): Option.MCAST_TTL,
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP): Option.MCAST_LOOP,
}
for _name, _option in (
    ("TCP_KEEPIDLE", Option.KEEPIDLE), ("TCP_KEEPALIVE", Option.KEEPIDLE),
    ("TCP_KEEPINTVL", Option.KEEPINTVL), ("TCP_KEEPCNT", Option.KEEPCNT), ("TCP_QUICKACK", Option.QUICKACK),
):  # fmt: skip
    if hasattr(socket, _name):
        PLAIN[(socket.IPPROTO_TCP, getattr(socket, _name))] = _option

IPV6_TCLASS: Final = getattr(socket, "IPV6_TCLASS", None)
if IPV6_TCLASS is not None:
    PLAIN[(socket.IPPROTO_IPV6, IPV6_TCLASS)] = Option.TOS

#: Options that are on or off and that the core does not know: what recvmsg() brings, and SO_REUSEPORT.
_REUSEPORT: Final = (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1))
SWITCHES: Final = {**WANTED_BY, _REUSEPORT: _REUSEPORT}
_OOBINLINE: Final = (socket.SOL_SOCKET, socket.SO_OOBINLINE)
_OUTGOING: Final = {
    (socket.IPPROTO_IP, socket.IP_MULTICAST_IF),
    (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF),
}

_BINDTODEVICE: Final = getattr(socket, "SO_BINDTODEVICE", 25)
#: Options that are on or off, those that -1 resets, and the least and greatest value of others.
_SWITCHES: Final = {
    Option.NODELAY,
    Option.QUICKACK,
    Option.KEEPALIVE,
    Option.REUSEADDR,
    Option.BROADCAST,
    Option.MCAST_LOOP,
}
_DEFAULTS: Final = {Option.TTL: 64, Option.MCAST_TTL: 1, Option.TOS: 0, Option.MAX_PACING_RATE: 0}
_RANGES: Final = {
    Option.TTL: (1, 255), Option.MCAST_TTL: (0, 255), Option.TOS: (0, 255),
    Option.KEEPIDLE: (1, 32767), Option.KEEPINTVL: (1, 32767), Option.KEEPCNT: (1, 127),
}  # fmt: skip
_CONGESTION: Final = (socket.IPPROTO_TCP, getattr(socket, "TCP_CONGESTION", 13))
_PROTOCOLS: Final[dict[int, int]] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}
_MAXSEG: Final = (socket.IPPROTO_TCP, getattr(socket, "TCP_MAXSEG", -1))
_LINGER: Final = struct.Struct("ii")
_JOIN: Final = {(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP), (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP)}
_LEAVE: Final = {(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP), (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP)}


def unsupported(level: int, name: int) -> OSError:
    return OSError(errno.ENOPROTOOPT, f"Protocol not available: level {level}, option {name}")


def set_option(sock: Socket, level: int, name: int, value: int | bytes | None, length: int | None) -> None:
    """setsockopt()."""
    key = _key(sock, level, name)
    if value is None:
        value = bytes(length or 0)
    if key in PLAIN:
        sock._set_plain(PLAIN[key], _valid(PLAIN[key], _number(level, value)))
    elif key == (socket.SOL_SOCKET, socket.SO_LINGER):
        if isinstance(value, int) or len(value) != _LINGER.size:
            raise OSError(errno.EINVAL, "SO_LINGER takes struct.pack('ii', onoff, seconds)")
        on, seconds = _LINGER.unpack(value)
        sock._linger = seconds if on else None
    elif key == _CONGESTION and isinstance(sock._endpoint, TcpEndpoint):
        if isinstance(value, int):
            raise OSError(errno.EINVAL, "TCP_CONGESTION takes a name, such as b'cubic'")
        sock._endpoint.congestion = value.partition(b"\0")[0].decode("latin-1")
    elif key == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        sock._set_v6only(bool(value) if isinstance(value, int) else any(value))
    elif key == (socket.SOL_SOCKET, _BINDTODEVICE) and not isinstance(value, int):
        interface = value.rstrip(b"\0").decode()
        interfaces = sock._stack.interfaces
        if interface and interface not in interfaces:
            raise OSError(errno.ENODEV, f"no interface {interface!r}: the stack has {sorted(interfaces)}")
        sock._endpoint.bind_interface(interfaces.get(interface))
    elif (key in _JOIN or key in _LEAVE) and not isinstance(value, int):
        _change_group(sock, level, value, join=key in _JOIN)
    elif key == _OOBINLINE and (value if isinstance(value, int) else any(value)):
        pass  # so it is
    elif key in _OUTGOING:
        sock._set_plain(Option.MCAST_NETIF, _outgoing(sock, level, value))
    elif key in SWITCHES and hasattr(sock, "_switches"):
        on = bool(value) if isinstance(value, int) else any(value)
        sock._switch(SWITCHES[key], on)
        if key == _REUSEPORT and on:
            sock._set_plain(Option.REUSEADDR, 1)
    else:
        raise unsupported(level, name)


def _key(sock: Socket, level: int, name: int) -> tuple[int, int]:
    key = operator.index(level), operator.index(name)
    if level == socket.IPPROTO_IPV6 and sock.family != socket.AF_INET6:
        raise unsupported(*key)
    return key


def _number(level: int, value: int | bytes) -> int:
    """C's int, or the one byte that level IP takes as well."""
    if isinstance(value, int):
        return value
    if len(value) < 4 and not (value and level == socket.IPPROTO_IP):
        raise OSError(errno.EINVAL, f"Invalid argument: {len(value)} bytes are no int")
    return int.from_bytes(value[:4], sys.byteorder, signed=True) if len(value) >= 4 else value[0]


def _valid(option: Option, number: int) -> int:
    """The value that the core is given; OSError EINVAL where the kernel has that too."""
    if not -(1 << 31) <= number < 1 << 31:
        raise OverflowError(f"signed integer {number} does not fit into 32 bits")
    if option in _SWITCHES:
        return int(number != 0)
    if number == -1:
        number = _DEFAULTS.get(option, number)
    least, most = _RANGES.get(option, (0, 0x7FFFFFFF))
    if not least <= number <= most:
        raise OSError(errno.EINVAL, f"Invalid argument: {option.name} cannot be {number}, expected {least} to {most}")
    return number


def _by_number(sock: Socket, number: int) -> Interface:
    try:
        return sock._stack._interfaces[number]
    except KeyError:
        raise OSError(errno.ENODEV, f"no interface of number {number}") from None


def _by_address(sock: Socket, packed: bytes) -> Interface | None:
    """The interface that has an IPv4 address; None for the unspecified one."""
    if not any(packed):
        return None
    local = socket.inet_ntoa(packed)
    for interface in sock._stack.interfaces.values():
        if interface.ipv4 is not None and str(interface.ipv4.ip) == local:
            return interface
    raise OSError(errno.ENODEV, f"no interface has the address {local}")


def _change_group(sock: Socket, level: int, value: bytes, *, join: bool) -> None:
    """struct ip_mreq (group, local address), ip_mreqn (... and index) or ipv6_mreq (group, index)."""
    if len(value) < (8 if level == socket.IPPROTO_IP else 20):
        raise OSError(errno.EINVAL, f"Invalid argument: {len(value)} bytes name no group and interface")
    if level == socket.IPPROTO_IP:
        group = socket.inet_ntoa(value[:4])
        index = struct.unpack_from("=i", value, 8)[0] if len(value) >= 12 else 0
        interface = _by_number(sock, index) if index else _by_address(sock, value[4:8])
    else:
        group = socket.inet_ntop(socket.AF_INET6, value[:16])
        index = struct.unpack_from("=i", value, 16)[0]
        interface = _by_number(sock, index) if index else None
    endpoint = sock._datagrams()
    try:
        (endpoint.join if join else endpoint.leave)(group, interface)
    except ValueError as error:
        raise OSError(errno.EINVAL, f"Invalid argument: {error}") from None


def _outgoing(sock: Socket, level: int, value: int | bytes) -> int:
    """The number that IP_MULTICAST_IF (struct in_addr or ip_mreqn) or IPV6_MULTICAST_IF (an index) says; 0 for none."""
    if level == socket.IPPROTO_IPV6:
        number = value if isinstance(value, int) else int.from_bytes(value[:4], sys.byteorder)
        return _by_number(sock, number).number if number else 0
    packed = value.to_bytes(4, sys.byteorder) if isinstance(value, int) else value
    if len(packed) >= 12 and any(packed[8:12]):
        return _by_number(sock, struct.unpack_from("=i", packed, 8)[0]).number
    interface = _by_address(sock, packed[4:8] if len(packed) >= 8 else packed[:4])
    return interface.number if interface is not None else 0


def _address_of(sock: Socket, number: int) -> bytes:
    interface = sock._stack._interfaces.get(number)
    return bytes(4) if interface is None or interface.ipv4 is None else interface.ipv4.ip.packed


def get_option(sock: Socket, level: int, name: int, length: int) -> int | bytes:
    """getsockopt()."""
    key = _key(sock, level, name)
    value: int
    if key == (socket.SOL_SOCKET, socket.SO_ERROR):
        error = sock._endpoint.take_error()
        value = 0 if error is None else error.errno or errno.EIO
    elif key == (socket.SOL_SOCKET, socket.SO_TYPE):
        value = int(sock.type)
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_DOMAIN", -1)):
        value = int(sock.family)
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_PROTOCOL", -2)):
        value = sock.proto or _PROTOCOLS.get(sock.type, 0)
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", -3)):
        value = int(sock._listening)
    elif key == _CONGESTION and isinstance(sock._endpoint, TcpEndpoint):
        called = sock._endpoint.congestion.encode().ljust(16, b"\0")
        return called[:length] if length else int.from_bytes(called[:4], sys.byteorder, signed=True)
    elif key == (socket.SOL_SOCKET, socket.SO_LINGER):
        packed = _LINGER.pack(sock._linger is not None, sock._linger or 0)
        return packed[:length] if length else int(sock._linger is not None)
    elif key == _MAXSEG and isinstance(sock._endpoint, TcpEndpoint):
        value = sock._endpoint.info.mss
    elif key == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        value = int(sock._v6only)
    elif key in PLAIN:
        value = sock._endpoint.get_option(PLAIN[key])
    elif key == _OOBINLINE:
        value = 1
    elif key in _OUTGOING:
        value = sock._endpoint.get_option(Option.MCAST_NETIF)
        if level == socket.IPPROTO_IP:
            return _address_of(sock, value)[: length or 4]
    elif key in SWITCHES and hasattr(sock, "_switches"):
        value = int(SWITCHES[key] in sock._switches)
    else:
        raise unsupported(level, name)
    return value.to_bytes(4, sys.byteorder)[:length] if length else value
