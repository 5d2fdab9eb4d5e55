"""The socket module's functions on a stack: names, connections and servers."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lwipy.addresses import parse_port
from lwipy.blocking.socket import Socket
from lwipy.blocking.waiting import Waiters
from lwipy.endpoints import Lookup
from lwipy.endpoints.resolver import local_answer

if TYPE_CHECKING:
    from lwipy.stack import Stack

_DEFAULT: Final = object()
_TYPES: Final = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
    socket.SOCK_RAW: 0,
}


def _families(stack: Stack, family: int) -> Sequence[int]:
    """The families that are asked for, IPv6 first where the stack has an address that leads somewhere."""
    if family == socket.AF_INET:
        return (4,)
    if family == socket.AF_INET6:
        return (6,)
    routable = any(not ip.ip.is_link_local for nic in stack.interfaces.values() for ip in nic.ipv6)
    return (6, 4) if routable else (4, 6)


def resolve(stack: Stack, name: str, family: int = 0, timeout: float | None = None) -> list[str]:
    """The numeric addresses of a name; socket.gaierror when it has none in that family."""
    families = _families(stack, family)
    answer = local_answer(stack, name)
    if answer is None:
        answer = _ask_host(name) if stack.use_host_resolver else _ask_dns(stack, name, families, timeout)
    wanted = [a for version in families for a in answer if (6 if ":" in a else 4) == version]
    if not wanted and family == socket.AF_INET6 and answer:
        wanted = [f"::ffff:{a}" for a in answer]
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
        return waiters.until(answer, timeout or None)
    finally:
        lookup.cancel()


def _ask_host(name: str) -> list[str]:
    return list(dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(name, None)))


def _service(port: int | str | bytes | None) -> int:
    if port is None:
        return 0
    if isinstance(port, int):
        return parse_port(port)
    text = port.decode() if isinstance(port, bytes) else port
    if text.isdecimal():
        return parse_port(int(text))
    try:
        return socket.getservbyname(text)
    except OSError:
        raise socket.gaierror(socket.EAI_SERVICE, f"no service {text!r}") from None


def getaddrinfo(
    stack: Stack,
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]:
    """As :func:`socket.getaddrinfo`, by the stack's own names: numbers, hosts table, lwIP's DNS client."""
    number = _service(port)
    name = host.decode() if isinstance(host, bytes) else host
    if not name:
        passive = bool(flags & socket.AI_PASSIVE)
        answer = ["::", "0.0.0.0"] if passive else ["::1", "127.0.0.1"]
        addresses = [a for v in _families(stack, family) for a in answer if (6 if ":" in a else 4) == v]
    elif flags & socket.AI_NUMERICHOST and local_answer(stack, name) != [name]:
        raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is not a numeric address")
    else:
        addresses = resolve(stack, name, family)
    canonical = name or "" if flags & socket.AI_CANONNAME else ""
    found = []
    for address in addresses:
        version6 = ":" in address
        bare, _, scope = address.partition("%")
        sockaddr: Any = (bare, number, 0, stack._scope_number(scope)) if version6 else (bare, number)
        for kind, protocol in _TYPES.items():
            if type in (0, kind) and (proto in (0, protocol) or kind == socket.SOCK_RAW):
                version = socket.AF_INET6 if version6 else socket.AF_INET
                found.append((version, kind, proto or protocol, canonical, sockaddr))
    if not found:
        raise socket.gaierror(socket.EAI_SOCKTYPE, "socket type not supported")
    return found


def create_connection(
    stack: Stack,
    address: tuple[str | None, int],
    timeout: float | object | None = _DEFAULT,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
) -> Socket:
    """Connects to the first of the host's addresses that answers; the last error (or all) when none does."""
    errors: list[OSError] = []
    for family, kind, proto, _, sockaddr in getaddrinfo(stack, address[0], address[1], 0, socket.SOCK_STREAM):
        sock = Socket(stack, family, kind, proto)
        try:
            if timeout is not _DEFAULT:
                sock.settimeout(timeout)  # type: ignore[arg-type]
            if source_address:
                sock.bind(source_address)
            sock.connect(sockaddr)
            return sock
        except OSError as error:
            sock.close()
            errors.append(error)
    if all_errors:
        raise ExceptionGroup("create_connection failed", errors)
    raise errors[-1]


def create_server(
    stack: Stack,
    address: tuple[str, int],
    *,
    family: int = socket.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> Socket:
    """A listening socket. `dualstack_ipv6` takes both families on one."""
    if dualstack_ipv6 and family != socket.AF_INET6:
        raise ValueError("dualstack_ipv6 requires family AF_INET6")
    sock = Socket(stack, family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dualstack_ipv6))
        try:
            sock.bind(address)
        except OSError as error:
            if error.errno is not None:
                raise type(error)(error.errno, f"{error.strerror} (while attempting to bind on {address!r})") from None
            raise
        sock.listen(128 if backlog is None else backlog)
        return sock
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
