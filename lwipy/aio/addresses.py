"""Addresses as asyncio's users know them: pairs for IPv4, four values for IPv6, and the core's pairs for both."""

from __future__ import annotations

import socket
from typing import Any, Final, TypeAlias

from lwipy.endpoints.base import Address

#: ("10.0.0.1", 80) or ("fe80::1", 80, flow information, scope id).
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_UNSPECIFIED: Final[dict[int, SocketAddress]] = {4: ("0.0.0.0", 0), 6: ("::", 0, 0, 0)}


def to_socket(address: Address | None, version: int) -> SocketAddress:
    """The core's (host, port) for people; the unspecified address of the IP `version` for None."""
    if address is None or not address[0]:
        return _UNSPECIFIED[version]
    host, _, scope = address[0].partition("%")
    return (host, address[1], 0, int(scope or 0)) if ":" in host else (host, address[1])


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
