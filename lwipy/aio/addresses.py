"""Addresses as asyncio's users know them: pairs for IPv4, four values for IPv6, and the core's pairs for both."""

from __future__ import annotations

import socket
from typing import Any, Final, TypeAlias

from lwipy.endpoints.base import Address, read_names

#: ("10.0.0.1", 80) or ("fe80::1", 80, flow information, scope id).
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

#: Of endpoints; one for both (0) is an AF_INET6 socket to people.
FAMILIES: Final = {0: socket.AF_INET6, 4: socket.AF_INET, 6: socket.AF_INET6}


def to_socket(address: Address | None, family: int) -> SocketAddress:
    """The core's (host, port) for people; an endpoint of both families shows IPv4 as mapped, as sockets do.

    The unspecified address of the family for None.
    """
    host, port = ("", 0) if address is None else address
    if family == 4:
        return (host or "0.0.0.0", port)
    host, _, scope = host.partition("%")
    if family == 0 and host and ":" not in host:
        host = "::" if host == "0.0.0.0" else f"::ffff:{host}"
    return (host or "::", port, 0, int(scope or 0))


def both_to_socket(names: bytes, family: int) -> tuple[SocketAddress, SocketAddress | None]:
    """An endpoint's names() for people: its own address, and its peer's, None where it has none."""
    local, peer = read_names(names)
    return to_socket(local, family), None if peer is None else to_socket(peer, family)


def from_socket(address: Any) -> tuple[int, Address]:
    """The IP version and the core's (host, port) of a numeric address; an IPv4-mapped one is of IPv4.

    TypeError for what is no tuple of two to four values.
    """
    if not isinstance(address, tuple) or not 2 <= len(address) <= 4:
        raise TypeError(f"{address!r} is not an address: expected a tuple (host, port)")
    host, port = address[0], address[1]
    if ":" not in host:
        return 4, (host, port)
    if host.lower().startswith("::ffff:") and "." in host:
        return 4, (host[7:], port)
    scope = f"%{address[3]}" if len(address) == 4 and address[3] and "%" not in host else ""
    return 6, (host + scope, port)
