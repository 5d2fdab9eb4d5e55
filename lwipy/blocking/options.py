"""Socket options: the pairs of level and name that a stack has, and how each is set and asked.

What lwIP has not answers ``OSError`` ENOPROTOOPT, as the kernel does for what it has not.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from lwipy.endpoints import Option, TcpEndpoint

if TYPE_CHECKING:
    from lwipy.blocking.socket import Socket

#: Options that are one integer in the core.
PLAIN: Final[dict[tuple[int, int], Option]] = {
    (socket.SOL_SOCKET, socket.SO_REUSEADDR): Option.REUSEADDR,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): Option.KEEPALIVE,
    (socket.SOL_SOCKET, socket.SO_BROADCAST): Option.BROADCAST,
    (socket.SOL_SOCKET, socket.SO_RCVBUF): Option.RCVBUF,
    (socket.SOL_SOCKET, socket.SO_SNDBUF): Option.SNDBUF,
    (socket.IPPROTO_TCP, socket.TCP_NODELAY): Option.NODELAY,
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
    ("TCP_KEEPINTVL", Option.KEEPINTVL), ("TCP_KEEPCNT", Option.KEEPCNT),
):  # fmt: skip
    if hasattr(socket, _name):
        PLAIN[(socket.IPPROTO_TCP, getattr(socket, _name))] = _option

IPV6_TCLASS: Final = getattr(socket, "IPV6_TCLASS", None)
if IPV6_TCLASS is not None:
    PLAIN[(socket.IPPROTO_IPV6, IPV6_TCLASS)] = Option.TOS

_BINDTODEVICE: Final = getattr(socket, "SO_BINDTODEVICE", 25)
_LINGER: Final = struct.Struct("ii")
_JOIN: Final = {(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP), (socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP)}
_LEAVE: Final = {(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP), (socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP)}


def unsupported(level: int, name: int) -> OSError:
    return OSError(errno.ENOPROTOOPT, f"Protocol not available: level {level}, option {name}")


def set_option(sock: Socket, level: int, name: int, value: int | bytes | None, length: int | None) -> None:
    """setsockopt()."""
    key = (level, name)
    if value is None:
        value = bytes(length or 0)
    if key in PLAIN:
        number = value if isinstance(value, int) else int.from_bytes(value[:4], "little", signed=True)
        if number < 0 or (PLAIN[key] is Option.TTL and number == 0):
            raise OSError(errno.EINVAL, f"Invalid argument: {number}")
        sock._set_plain(PLAIN[key], number)
    elif key == (socket.SOL_SOCKET, socket.SO_LINGER):
        if isinstance(value, int) or len(value) != _LINGER.size:
            raise OSError(errno.EINVAL, "SO_LINGER takes struct.pack('ii', onoff, seconds)")
        on, seconds = _LINGER.unpack(value)
        sock._linger = seconds if on else None
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
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -1)):
        sock._set_plain(Option.REUSEADDR, int(bool(value)))
    else:
        raise unsupported(level, name)


def _change_group(sock: Socket, level: int, value: bytes, *, join: bool) -> None:
    """struct ip_mreq (group, local address), ip_mreqn (... and index) or ipv6_mreq (group, index)."""
    if level == socket.IPPROTO_IP:
        group = socket.inet_ntoa(value[:4])
        local = socket.inet_ntoa(value[4:8])
        index = struct.unpack_from("=i", value, 8)[0] if len(value) >= 12 else 0
        interface = next(
            (i for i in sock._stack.interfaces.values() if i.ipv4 is not None and str(i.ipv4.ip) == local), None
        )
    else:
        group = socket.inet_ntop(socket.AF_INET6, value[:16])
        index, interface = struct.unpack_from("=i", value, 16)[0], None
    if index:
        interface = sock._stack._interfaces.get(index)
        if interface is None:
            raise OSError(errno.ENODEV, f"no interface of number {index}")
    endpoint = sock._datagrams()
    (endpoint.join if join else endpoint.leave)(group, interface)


def get_option(sock: Socket, level: int, name: int, length: int) -> int | bytes:
    """getsockopt()."""
    key = (level, name)
    value: int
    if key == (socket.SOL_SOCKET, socket.SO_ERROR):
        error = sock._endpoint.take_error() if isinstance(sock._endpoint, TcpEndpoint) else None
        value = 0 if error is None else error.errno or errno.EIO
    elif key == (socket.SOL_SOCKET, socket.SO_TYPE):
        value = sock.type
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_DOMAIN", -1)):
        value = sock.family
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_PROTOCOL", -2)):
        value = sock.proto
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_ACCEPTCONN", -3)):
        value = int(sock._listening)
    elif key == (socket.SOL_SOCKET, socket.SO_LINGER):
        return _LINGER.pack(sock._linger is not None, sock._linger or 0)
    elif key == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        value = int(sock._v6only)
    elif key == (socket.SOL_SOCKET, getattr(socket, "SO_REUSEPORT", -4)):
        value = sock._endpoint.get_option(Option.REUSEADDR)
    elif key in PLAIN:
        value = sock._endpoint.get_option(PLAIN[key])
    else:
        raise unsupported(level, name)
    return value.to_bytes(4, "little")[:length] if length else value
