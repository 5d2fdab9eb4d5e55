"""Names and addresses on a stack, as the socket module's functions tell them: numbers, the hosts table, lwIP's DNS
client. What lwIP cannot ask (names of addresses) the hosts table alone answers.
"""

from __future__ import annotations

import _socket
import errno
import operator
import os
import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from lwipy.addresses import parse_ip
from lwipy.blocking.waiting import Waiters
from lwipy.endpoints import Lookup
from lwipy.endpoints.resolver import local_answer
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    from lwipy.stack import Stack

AddressInfo: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]

_TYPES: Final = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
    socket.SOCK_RAW: 0,
}
_HOST_NOT_FOUND: Final = 1  # h_errno, which herror carries
_LOOPBACK: Final = ("127.0.0.1", "::1")


def _families(stack: Stack, family: int) -> Sequence[int]:
    """The families that are asked for, IPv6 first where the stack has an address that leads somewhere."""
    if family == socket.AF_INET:
        return (4,)
    if family == socket.AF_INET6:
        return (6,)
    if family != socket.AF_UNSPEC:
        raise socket.gaierror(socket.EAI_FAMILY, "ai_family not supported")
    routable = any(not ip.ip.is_link_local for nic in stack.interfaces.values() for ip in nic.ipv6)
    return (6, 4) if routable else (4, 6)


def _version(address: str) -> int:
    return 6 if ":" in address else 4


# -- Names to addresses ------------------------------------------------------------------------------------------------


def resolve(
    stack: Stack, name: str, family: int = 0, timeout: float | None = None, *, mapped: bool = False
) -> list[str]:
    """The numeric addresses of a name; socket.gaierror when it has none in that family.

    `mapped` allows IPv4-mapped addresses where IPv6 was asked for and the name has none.
    """
    answer = local_answer(stack, name)
    if answer is not None and len(answer) == 1 and family == socket.AF_UNSPEC:
        return answer  # there is nothing to choose and no order to find
    families = _families(stack, family)
    if answer is None:
        answer = _ask_host(name) if stack.use_host_resolver else _ask_dns(stack, name, families, timeout)
    wanted = [a for version in families for a in answer if _version(a) == version]
    if not wanted and answer and mapped:
        wanted = [f"::ffff:{a}" for a in answer]
    if not wanted and answer == [name]:
        raise socket.gaierror(socket.EAI_ADDRFAMILY, f"Address family for hostname not supported: {name!r}")
    if not wanted:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {name!r}")
    return wanted


def _ask_dns(stack: Stack, name: str, families: Sequence[int], timeout: float | None) -> list[str]:
    waiters = Waiters(stack)
    found: list[list[str]] = []

    def done(addresses: list[str]) -> None:
        found.append(addresses)
        waiters.notify()

    def answer() -> list[str]:
        if not found:
            raise BlockingIOError(errno.EAGAIN, "the name is being resolved")
        return found[0]

    lookup = Lookup(stack, name, families, done)
    try:
        # A non-blocking socket's connect() blocks while it resolves, as the system's does.
        addresses = waiters.until(answer, timeout or None)
    finally:
        lookup.cancel()
    if stack.closed:
        raise StackClosedError
    return addresses


def _ask_host(name: str) -> list[str]:
    """The host's resolver itself: the socket module's name for it may be ours by now."""
    return list(dict.fromkeys(str(entry[4][0]) for entry in _socket.getaddrinfo(name, None)))


def _service(port: int | str | bytes | None, flags: int) -> int:
    if port is None:
        return 0
    if isinstance(port, int):
        return _port(port)
    if not isinstance(port, str | bytes):
        raise OSError("Int or String expected")
    text = port.decode() if isinstance(port, bytes) else port
    if text.isdecimal():
        return _port(int(text))
    try:
        if not flags & socket.AI_NUMERICSERV:
            return socket.getservbyname(text)
    except OSError:
        pass
    raise socket.gaierror(socket.EAI_SERVICE, f"no service {text!r}")


def _port(number: int) -> int:
    if not 0 <= number <= 65535:
        raise socket.gaierror(socket.EAI_SERVICE, f"port {number} is out of range: expected 0 to 65535")
    return number


def getaddrinfo(
    stack: Stack,
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """As :func:`socket.getaddrinfo`, by the stack's own names."""
    if host is None and port is None:
        raise socket.gaierror(socket.EAI_NONAME, "neither host nor port was given")
    number = _service(port, flags)
    name = None if host is None else _name(host, "getaddrinfo() argument 1 must be string or None")
    if not name:
        passive = bool(flags & socket.AI_PASSIVE)
        answer = ("::", "0.0.0.0") if passive else ("::1", "127.0.0.1")
        addresses = [a for version in _families(stack, family) for a in answer if _version(a) == version]
    elif flags & socket.AI_NUMERICHOST and not _is_number(name):
        raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is not a numeric address")
    else:
        addresses = resolve(stack, name, family, mapped=bool(flags & socket.AI_V4MAPPED))
    found: list[AddressInfo] = []
    for address in addresses:
        bare, _, scope = address.partition("%")
        version6 = _version(bare) == 6
        sockaddr: Any = (bare, number, 0, _scope_number(stack, scope)) if version6 else (bare, number)
        for kind, protocol in _TYPES.items():
            if type in (0, kind) and _fits(kind, type, proto):
                canonical = name or "" if flags & socket.AI_CANONNAME and not found else ""
                version = socket.AF_INET6 if version6 else socket.AF_INET
                found.append((version, kind, proto or protocol, canonical, sockaddr))
    if not found:
        raise socket.gaierror(socket.EAI_SOCKTYPE, "ai_socktype not supported")
    return found


def answered(
    stack: Stack,
    name: str,
    addresses: Iterable[str],
    port: int | str | bytes | None,
    family: int,
    type: int,
    proto: int,
    flags: int,
) -> list[AddressInfo]:
    """What getaddrinfo() says of a name that somebody else has resolved. socket.gaierror without an address."""
    found: list[AddressInfo] = []
    for address in addresses:
        found += getaddrinfo(stack, address, port, family, type, proto)
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {name!r}")
    if flags & socket.AI_CANONNAME:
        found = [(*entry[:3], name, entry[4]) for entry in found]
    return found


def _fits(kind: int, wanted: int, proto: int) -> bool:
    """Whether a type of socket has the protocol. Raw ones have any, but one that has its own type must be asked for."""
    if proto in (0, _TYPES[socket.SocketKind(kind)]):
        return True
    return kind == socket.SOCK_RAW and (wanted == kind or proto not in _TYPES.values())


def _scope_number(stack: Stack, scope: str) -> int:
    try:
        return stack._scope_number(scope)
    except ValueError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {error}") from None


def _name(host: object, expected: str) -> str:
    if isinstance(host, bytes | bytearray):
        return host.decode()
    if not isinstance(host, str):
        raise TypeError(f"{expected}, not {host.__class__.__name__}")
    return host


def _is_number(name: str) -> bool:
    try:
        parse_ip(name)
    except ValueError:
        return False
    return True


def gethostbyname(stack: Stack, hostname: str) -> str:
    """The first IPv4 address of a name. socket.gaierror when it has none."""
    hostname = _name(hostname, "gethostbyname() argument 1 must be str, bytes or bytearray")
    if hostname == "<broadcast>":
        return "255.255.255.255"
    return resolve(stack, hostname, socket.AF_INET)[0]


def gethostbyname_ex(stack: Stack, hostname: str) -> tuple[str, list[str], list[str]]:
    """The name, its aliases (none: lwIP does not tell) and its IPv4 addresses."""
    hostname = _name(hostname, "gethostbyname_ex() argument 1 must be str, bytes or bytearray")
    return hostname, [], resolve(stack, hostname, socket.AF_INET)


# -- Addresses to names ------------------------------------------------------------------------------------------------


def gethostbyaddr(stack: Stack, ip_address: str) -> tuple[str, list[str], list[str]]:
    """The names that the hosts table has for an address, or for those of a name. socket.herror when it has none."""
    ip_address = _name(ip_address, "gethostbyaddr() argument 1 must be str, bytes or bytearray")
    addresses = [str(parse_ip(ip_address))] if _is_number(ip_address) else resolve(stack, ip_address)
    names = _names_of(stack, addresses)
    if not names:
        if _is_number(ip_address):
            raise socket.herror(_HOST_NOT_FOUND, f"Unknown host: {ip_address}")
        names = [ip_address]
    return names[0], names[1:], addresses


def _names_of(stack: Stack, addresses: Iterable[str]) -> list[str]:
    wanted = {str(parse_ip(address)) for address in addresses}
    names = [name for name, known in stack.hosts.items() if not wanted.isdisjoint(known)]
    return names if names or wanted.isdisjoint(_LOOPBACK) else ["localhost"]


def getnameinfo(stack: Stack, sockaddr: Any, flags: int) -> tuple[str, str]:
    """As :func:`socket.getnameinfo`: host and service of an address; numbers where there are no names."""
    if not isinstance(sockaddr, tuple):
        raise TypeError("getnameinfo() argument 1 must be a tuple")
    if not 2 <= len(sockaddr) <= 4 or not isinstance(sockaddr[0], str):
        raise TypeError("getnameinfo(): illegal sockaddr argument")
    if len(sockaddr) > 2 and not 0 <= sockaddr[2] <= 0xFFFFF:
        raise OverflowError("getnameinfo(): flowinfo must be 0-1048575.")
    found = getaddrinfo(stack, sockaddr[0], sockaddr[1], type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    if len(found) != 1:
        raise OSError("sockaddr resolved to multiple addresses")
    if found[0][0] == socket.AF_INET and len(sockaddr) != 2:
        raise OSError("IPv4 sockaddr must be 2 tuple")
    host, scope = str(found[0][4][0]), sockaddr[3] if len(sockaddr) == 4 else 0
    names = [] if flags & socket.NI_NUMERICHOST else _names_of(stack, [host])
    if scope in stack._interfaces and "%" not in host:
        host = f"{host}%{stack._interfaces[scope].name}"
    if not names and flags & socket.NI_NAMEREQD:
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")
    return names[0] if names else host, _service_name(sockaddr[1], flags)


def _service_name(port: int, flags: int) -> str:
    if not flags & socket.NI_NUMERICSERV:
        try:
            return socket.getservbyport(port, "udp" if flags & socket.NI_DGRAM else "tcp")
        except OSError:
            pass
    return str(port)


# -- Interfaces --------------------------------------------------------------------------------------------------------


def if_nameindex(stack: Stack) -> list[tuple[int, str]]:
    """Number and name of each interface."""
    return [(interface.number, name) for name, interface in stack.interfaces.items()]


def if_nametoindex(stack: Stack, name: str | bytes) -> int:
    """OSError ENODEV when no interface has that name."""
    try:
        return stack.interfaces[os.fsdecode(name)].number
    except KeyError:
        raise OSError(errno.ENODEV, f"no interface with this name: {name!r}") from None


def if_indextoname(stack: Stack, index: int) -> str:
    """OSError ENXIO when no interface has that number."""
    try:
        number = operator.index(index)
        if not 0 <= number < 1 << 32:
            raise OverflowError(f"{number} is not an interface index: expected 0 to {(1 << 32) - 1}")
        return stack._interfaces[number].name
    except KeyError:
        raise OSError(errno.ENXIO, f"no interface with this index: {index}") from None
