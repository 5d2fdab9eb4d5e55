"""What a DHCP server hands out: checked once, read by the responder ever after."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from lwipy.addresses import parse_mac
from lwipy.services.hostnames import domain_from

OWN = "self"


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's own address and what its clients are told. Times in seconds, `mtu` in bytes.

    `static` maps a client (as `Message.client` names it) to its address; these addresses, and all in
    `reserved`, are never given to anybody else.
    """

    own: IPv4Interface
    first: IPv4Address
    last: IPv4Address
    routers: tuple[IPv4Address, ...]
    dns: tuple[IPv4Address, ...]
    domain: str | None
    mtu: int
    lease_time: int
    static: Mapping[bytes, IPv4Address]
    reserved: frozenset[IPv4Address]

    @classmethod
    def check(
        cls,
        own: IPv4Interface | None,
        *,
        pool: tuple[str, str] | None,
        router: str | Iterable[str] | None,
        dns: str | Iterable[str] | None,
        domain: str | None,
        mtu: int,
        lease_time: float,
        static: Mapping[str | bytes, str] | None,
    ) -> "Settings":
        """Settings from a user's arguments. ValueError names the value that cannot be."""
        if own is None:
            raise ValueError("interface has no IPv4 address: expected one, and a subnet to hand out")
        if own.network.prefixlen > 30:
            raise ValueError(f"interface {own}: a subnet with no address for anybody else")
        if not 68 <= mtu <= 65535:
            raise ValueError(f"mtu {mtu!r}: expected 68 to 65535")
        if not 1 <= lease_time < 0xFFFFFFFF:
            raise ValueError(f"lease_time {lease_time!r}: expected 1 to 4294967294 seconds")
        first, last = _pool(own, pool)
        routers, servers = _addresses("router", router, own), _addresses("dns", dns, own)
        fixed = _static(own, static or {})
        return cls(
            own=own,
            first=first,
            last=last,
            routers=routers,
            dns=servers,
            domain=None if domain is None else domain_from(domain),
            mtu=mtu,
            lease_time=int(lease_time),
            static=fixed,
            reserved=frozenset((own.ip, *routers, *servers, *fixed.values())),
        )

    def owns(self, address: IPv4Address) -> bool:
        """Whether `address` is one a host of our subnet may have."""
        network = self.own.network
        return address in network and address not in (network.network_address, network.broadcast_address)


def _pool(own: IPv4Interface, given: tuple[str, str] | None) -> tuple[IPv4Address, IPv4Address]:
    network = own.network
    if given is None:
        return network.network_address + 1, network.broadcast_address - 1
    first, last = (_address("range", text) for text in given)
    for address in (first, last):
        if not network.network_address < address < network.broadcast_address:
            raise ValueError(f"range: {address} is no host address of {network}")
    if first > last:
        raise ValueError(f"range: first address {first} is after the last, {last}")
    return first, last


def _address(what: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise ValueError(f"{what}: {text!r} is no IPv4 address") from None


def _addresses(what: str, given: str | Iterable[str] | None, own: IPv4Interface) -> tuple[IPv4Address, ...]:
    texts = [given] if isinstance(given, str) else given or []
    return tuple(own.ip if text == OWN else _address(what, text) for text in texts)


def _static(own: IPv4Interface, given: Mapping[str | bytes, str]) -> dict[bytes, IPv4Address]:
    network = own.network
    fixed: dict[bytes, IPv4Address] = {}
    for client, text in given.items():
        address = _address("static", text)
        if address == own.ip or not network.network_address < address < network.broadcast_address:
            raise ValueError(f"static: {address} is no address of {network} for a guest")
        if address in fixed.values():
            raise ValueError(f"static: {address} is given to two clients")
        fixed[_client(client)] = address
    return fixed


def _client(given: str | bytes) -> bytes:
    """A client as `Message.client` names it, from a MAC address or a client identifier."""
    if isinstance(given, bytes):
        if not given:
            raise ValueError("static: an empty client identifier")
        return given
    return b"\x01" + parse_mac(given)
