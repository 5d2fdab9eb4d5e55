"""What an interface is known by in its network: MAC and IP addresses, MTU, router, neighbours, DHCP's lease.

Invariant: ``number`` is lwIP's interface index; it is 0 once the interface was removed, and every operation then raises
``OSError`` ENODEV.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import check, ffi, lib
from lwipy.addresses import IPAddress, IPInterface, format_mac, pack, parse_interface, parse_ip, parse_mac, unpack

if TYPE_CHECKING:
    from lwipy.stack import Stack

LEAST_MTU: Final = 68
GREATEST_MTU: Final = 65535


def check_mtu(mtu: int) -> int:
    if not isinstance(mtu, int):
        raise TypeError(f"MTU must be an int, not {mtu!r}")
    if not LEAST_MTU <= mtu <= GREATEST_MTU:
        raise ValueError(f"MTU {mtu} is out of range: expected {LEAST_MTU} to {GREATEST_MTU} bytes")
    return mtu


class Addressed:
    """The part of :class:`lwipy.Interface` that has a number, a name and addresses."""

    def __init__(self, stack: Stack, number: int, name: str, mac: bytes, mtu: int) -> None:
        self._stack = stack
        self.number = number
        self.name = name
        self._mac = mac
        self._mtu = mtu

    @property
    def stack(self) -> Stack:
        return self._stack

    def _check(self, result: int, what: str = "") -> int:
        if result == lib.LWIPY_ENODEV:
            raise OSError(errno.ENODEV, f"interface {self.name} was removed")
        return check(self._stack._core, result, what)

    @property
    def mac(self) -> str:
        """The MAC address, "" for an L3 interface."""
        return format_mac(self._mac)

    @mac.setter
    def mac(self, value: str | bytes) -> None:
        mac = parse_mac(value)
        self._check(lib.lwipy_netif_set_mac(self._stack._core, self.number, mac), str(value))
        self._mac = mac
        self._stack._after()

    @property
    def mtu(self) -> int:
        """The largest IP packet, bytes."""
        return self._mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        self._check(lib.lwipy_netif_set_mtu(self._stack._core, self.number, check_mtu(value)))
        self._mtu = value

    def _ipv4(self) -> tuple[Any, Any, Any]:
        out = tuple(ffi.new("lwipy_address *") for _ in range(3))
        self._check(lib.lwipy_netif_get_ipv4(self._stack._core, self.number, *out))
        return out

    @property
    def ipv4(self) -> ipaddress.IPv4Interface | None:
        """The IPv4 address with its prefix; assign text such as "10.0.0.1/24", or None. DHCP sets it too."""
        address, netmask, _ = (unpack(part) for part in self._ipv4())
        if address is None or address == ipaddress.IPv4Address(0):
            return None
        return ipaddress.IPv4Interface(f"{address}/{netmask}")

    @ipv4.setter
    def ipv4(self, value: str | ipaddress.IPv4Interface | None) -> None:
        parsed = parse_interface(value, 4) if value is not None else ipaddress.ip_interface("0.0.0.0/0")
        prefix = parsed.network.prefixlen
        self._check(lib.lwipy_netif_set_ipv4(self._stack._core, self.number, pack(parsed.ip), prefix), str(value))
        self._stack._after()

    @property
    def ipv6(self) -> tuple[ipaddress.IPv6Interface, ...]:
        """The IPv6 addresses with their prefixes; the link-local one comes first on an L2 interface."""
        found = []
        address, prefix, state = ffi.new("lwipy_address *"), ffi.new("int *"), ffi.new("int *")
        for slot in range(256):
            result = lib.lwipy_netif_get_ipv6(self._stack._core, self.number, slot, address, prefix, state)
            if result == lib.LWIPY_EARG:
                break
            self._check(result)
            if state[0]:
                address.scope = 0
                found.append(ipaddress.IPv6Interface(f"{unpack(address)}/{prefix[0]}"))
        return tuple(found)

    def add_ipv6(self, value: str | ipaddress.IPv6Interface) -> None:
        """Adds an address such as "fd00::1/64". OSError: EADDRINUSE, ENOBUFS (eight at most)."""
        parsed = parse_interface(value, 6)
        result = lib.lwipy_netif_add_ipv6(self._stack._core, self.number, pack(parsed.ip), parsed.network.prefixlen)
        self._stack._after()
        self._check(result, str(value))

    def remove_ipv6(self, value: str | IPAddress | IPInterface) -> None:
        """Removes an address; with or without its prefix. OSError EADDRNOTAVAIL when it has no such address."""
        ip = parse_ip(str(value).partition("/")[0])
        self._check(lib.lwipy_netif_remove_ipv6(self._stack._core, self.number, pack(ip)), str(value))

    def autoconfigure(self, on: bool = True) -> None:
        """IPv6 addresses and routers from router advertisements (RFC 4862)."""
        self._check(lib.lwipy_netif_autoconfigure(self._stack._core, self.number, on))
        self._stack._after()

    @property
    def gateway(self) -> ipaddress.IPv4Address | None:
        """The IPv4 router. Assign an address of either family, a pair of both, or None; DHCP sets it too."""
        gateway = unpack(self._ipv4()[2])
        return gateway if isinstance(gateway, ipaddress.IPv4Address) and int(gateway) else None

    @gateway.setter
    def gateway(self, value: str | IPAddress | Iterable[str | IPAddress] | None) -> None:
        if value is None:
            values: list[Any] = [None]
        elif isinstance(value, str | ipaddress.IPv4Address | ipaddress.IPv6Address):
            values = [parse_ip(value)]
        else:
            values = [parse_ip(part) for part in value]
        for ip in values:
            address = pack(ip, 0, self._stack._scopes)
            self._check(lib.lwipy_netif_set_gateway(self._stack._core, self.number, address), str(ip))
        self._stack._after()

    def add_neighbour(self, address: str | IPAddress, mac: str | bytes) -> None:
        """A static ARP or ND entry. OSError: EHOSTUNREACH (not on this network), ENOBUFS (table full)."""
        ip = parse_ip(address)
        result = lib.lwipy_netif_add_neighbour(
            self._stack._core, self.number, pack(ip, 0, self._stack._scopes), parse_mac(mac)
        )
        self._check(result, str(address))

    def remove_neighbour(self, address: str | IPAddress) -> None:
        """OSError EADDRNOTAVAIL when there is no such static entry."""
        ip = parse_ip(address)
        packed = pack(ip, 0, self._stack._scopes)
        self._check(lib.lwipy_netif_remove_neighbour(self._stack._core, self.number, packed), str(address))

    def make_default(self) -> None:
        """Packets that no interface's prefix matches leave here. Setting a gateway does that too."""
        self._check(lib.lwipy_netif_set_default(self._stack._core, self.number))

    # -- DHCP client -------------------------------------------------------------------------------

    def start_dhcp(self, hostname: str = "") -> None:
        """Asks for a lease (lwIP's DHCP client) and renews it; see :attr:`has_lease`."""
        if not hostname.isascii() or len(hostname) > 63 or "\0" in hostname:
            raise ValueError(f"{hostname!r} is not a host name: expected at most 63 ASCII characters")
        result = lib.lwipy_netif_dhcp_start(self._stack._core, self.number, hostname.encode())
        self._check(result, f"DHCP on {self.name}")
        self._stack._after()

    def stop_dhcp(self) -> None:
        """Gives the lease back."""
        self._check(lib.lwipy_netif_dhcp_stop(self._stack._core, self.number))
        self._stack._after()

    @property
    def has_lease(self) -> bool:
        return bool(self._check(lib.lwipy_netif_dhcp_bound(self._stack._core, self.number)))
