"""Addresses between Python's forms and the core's: text and numbers, MAC addresses, scope ids.

Bad values raise :class:`ValueError` (or :class:`TypeError`) that names the value and what was expected.
"""

from __future__ import annotations

import functools
import ipaddress
import socket
from collections.abc import Mapping
from typing import Any, TypeAlias

from lwipy._native import ffi

IPInterface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_mac(text: str | bytes) -> bytes:
    """Six bytes from ``"02:00:00:00:00:01"`` (or ``-`` between, or the bytes themselves), not a group's."""
    if isinstance(text, bytes | bytearray):
        mac = bytes(text)
    else:
        try:
            mac = bytes(int(part, 16) for part in str(text).replace("-", ":").split(":"))
        except ValueError:
            mac = b""
    if len(mac) != 6:
        raise ValueError(f"{text!r} is not a MAC address: expected six bytes such as '02:00:00:00:00:01'")
    if mac[0] & 1:
        raise ValueError(f"{text!r} is a multicast MAC address: an interface needs a unicast one (even first byte)")
    if mac == bytes(6):
        raise ValueError(f"{text!r} is the zero MAC address: an interface needs a real one")
    return mac


def format_mac(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)


def parse_port(port: object) -> int:
    """A port from 0 to 65535."""
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise OverflowError(f"port {port} is out of range: expected 0 to 65535")
    return port


def parse_ip(text: str | IPAddress) -> IPAddress:
    """A numeric address; IPv6 may carry a scope, ``fe80::1%2`` or ``fe80::1%name``."""
    if isinstance(text, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return text
    try:
        return ipaddress.ip_address(str(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address: expected numbers such as '10.0.0.1' or 'fd00::1'") from None


def parse_interface(text: str | IPInterface, version: int) -> IPInterface:
    """An address with its prefix, ``"10.0.0.1/24"``; without prefix it is /32 or /128."""
    interface: IPInterface | None
    try:
        interface = ipaddress.ip_interface(text if isinstance(text, IPInterface) else str(text))
    except ValueError:
        interface = None
    if interface is None or interface.version != version:
        example = "10.0.0.1/24" if version == 4 else "fd00::1/64"
        raise ValueError(f"{text!r} is not an IPv{version} address with prefix: expected one such as {example!r}")
    kind = _not_a_hosts(interface)
    if kind:
        raise ValueError(f"{text!r} is {kind} address: an interface needs one of its own")
    return interface


def _not_a_hosts(interface: IPInterface) -> str:
    """What the address is instead of one that a host can have; "" if it is one."""
    ip, network = interface.ip, interface.network
    if ip.is_multicast:
        return "a multicast"
    if ip.is_loopback:
        return "a loopback"
    if ip.is_unspecified:
        return "the unspecified"
    if ip.version == 4 and (ip.packed == b"\xff" * 4 or (ip == network.broadcast_address and network.prefixlen < 31)):
        return "a broadcast"
    return ""


def pack(ip: IPAddress | None, port: int = 0, scopes: Mapping[str, int] | None = None, scope: int = 0) -> Any:
    """A ``lwipy_address``; None gives the one of no family. `scopes` maps interface names to numbers."""
    out = ffi.new("lwipy_address *")
    out.port = port
    if ip is None:
        return out
    out.family = ip.version
    raw = ip.packed
    ffi.memmove(out.bytes, raw, len(raw))
    out.scope = scope
    if isinstance(ip, ipaddress.IPv6Address) and ip.scope_id is not None:
        out.scope = parse_scope(ip.scope_id, scopes or {})
    return out


@functools.lru_cache(maxsize=256)
def pack_ipv4(text: str, port: int) -> Any | None:
    """The shortest way to the ``lwipy_address`` of what most connections are given; None for all but IPv4 numbers.

    Whoever gets it does not change it: the next one gets the same.
    """
    try:
        raw = socket.inet_pton(socket.AF_INET, text)
    except (OSError, ValueError):
        return None
    out = ffi.new("lwipy_address *")
    out.family, out.port = 4, port
    ffi.memmove(out.bytes, raw, 4)
    return out


def parse_scope(text: str, scopes: Mapping[str, int]) -> int:
    """The interface number that a scope id names, by name or by number."""
    if text in scopes:
        return scopes[text]
    if text.isdecimal() and int(text) <= 255:
        return int(text)
    raise ValueError(f"%{text} names no interface: expected one of {sorted(scopes)} or a number")


def unpack(address: Any) -> IPAddress | None:
    """The other way; None for no family. A scoped IPv6 address has its scope as a number."""
    if address.family == 4:
        return ipaddress.IPv4Address(bytes(ffi.buffer(address.bytes, 4)))
    if address.family == 6:
        ip = ipaddress.IPv6Address(bytes(ffi.buffer(address.bytes, 16)))
        return ipaddress.IPv6Address(f"{ip}%{address.scope}") if address.scope else ip
    return None


def text_of(address: Any) -> str | None:
    """The same as text, without an object in between."""
    if address.family == 4:
        return socket.inet_ntop(socket.AF_INET, ffi.buffer(address.bytes, 4))
    if address.family == 6:
        text = socket.inet_ntop(socket.AF_INET6, ffi.buffer(address.bytes, 16))
        return f"{text}%{address.scope}" if address.scope else text
    return None
