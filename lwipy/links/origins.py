"""Whose browser pages may connect: the Origin header of RFC 6454."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def allows(origins: frozenset[str] | None, origin: str) -> bool:
    """Whether a page of `origin` is among `origins`, as :func:`parse_origins` gave them."""
    if origins is None:
        return is_of_this_machine(origin)
    return "*" in origins or normalized(origin) in origins


def normalized(origin: str) -> str:
    """An origin as browsers write it: no path, no final slash, small letters."""
    return origin.strip().rstrip("/").lower()


def parse_origins(origins: str | Iterable[str] | None) -> frozenset[str] | None:
    """ValueError for what cannot be an origin."""
    if origins is None:
        return None
    found = frozenset(normalized(origin) for origin in ([origins] if isinstance(origins, str) else origins))
    for origin in found:
        parts = urlsplit(origin)
        if origin not in ("*", "null") and (not parts.scheme or not parts.netloc or parts.path or parts.query):
            raise ValueError(f"{origin!r} is not an origin: expected one such as 'https://example.org', or '*'")
    return found


def is_of_this_machine(origin: str) -> bool:
    """Whether a page came from this machine: http://localhost:8000 and the like."""
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
