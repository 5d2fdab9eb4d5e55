"""Which names there are: the stack's own, its hosts table, the guests', and the way back from addresses.

Theory of operation.  Three sources, asked anew for every question, so that an answer is as new as the facts:

    host.lwipy, host          the stack itself, all its addresses
    NAME, NAME.lwipy          an entry of the hosts table (a name with dots stands for itself alone)
    GUEST, GUEST.lwipy        the guest that holds a lease under that name

1. A name belongs to the first source that has it: a guest cannot take the stack's name, nor one of the table.
2. Everything below the domain is ours, and so are addresses of names without a dot (no public name lacks one)
   and the reverse names of our subnets: what does not exist there is denied. All else is not ours to answer.
3. An address leads back only to names that lead to it.
"""

import ipaddress
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import NamedTuple

from lwipy.services.dhcp.leases import Leases
from lwipy.services.dns.message import Name, Rcode, Record, Type
from lwipy.services.hostnames import domain_from

Address = IPv4Address | IPv6Address

HOST = "host"
TTL = 30  # seconds; guests come and go
NEGATIVE_TTL = 5


class Answer(NamedTuple):
    """What a zone says of a name: an existing one's records of the type (perhaps none), or NXDOMAIN."""

    rcode: Rcode
    records: Sequence[Record] = ()
    authority: Sequence[Record] = ()


class Zone:
    """The names of one stack. `own` gives its interfaces' addresses with their subnets."""

    def __init__(
        self,
        domain: str,
        own: Callable[[], Iterable[IPv4Interface | IPv6Interface]],
        hosts: Mapping[str, Sequence[str]],
        guests: Sequence[Leases] = (),
    ) -> None:
        self._domain = domain_from(domain)
        self._apex = _labels(self._domain)
        self._own = own
        self._hosts = hosts
        self._guests = guests
        host = (HOST.encode(), *self._apex)
        times = struct.pack("!5I", 1, 3600, 600, 86400, NEGATIVE_TTL)
        self._soa = Record(self._apex, Type.SOA, NEGATIVE_TTL, (host, (b"hostmaster", *self._apex), times))
        self._ns = Record(self._apex, Type.NS, TTL, (host,))

    def lookup(self, name: Name, kind: int, near: Collection[Address] = ()) -> Answer | None:
        """What is known of a name, or None: it is not ours. Addresses in `near` come first."""
        lowered = tuple(label.lower() for label in name)
        address = _reversed(lowered)
        if address is not None:
            return self._reverse(name, address, kind)
        below = lowered[-len(self._apex) :] == self._apex
        if lowered == self._apex:
            return self._exists([r for r in (self._soa, self._ns) if r.type == kind], below)
        text = _text(lowered)
        found = None if text is None else self._addresses(text)
        if found is not None:
            found = sorted(found, key=lambda address: address not in near)
            records = [Record(name, _type(a), TTL, (a.packed,)) for a in found if _type(a) == kind]
            return self._exists(records, below)
        if below:
            entries = [] if text is None else list(self._hosts)
            parent = any(entry.lower().endswith(f".{text}") for entry in entries)
            return self._exists((), below) if parent else Answer(Rcode.NXDOMAIN, (), (self._soa,))
        if len(lowered) == 1 and kind in (Type.A, Type.AAAA):
            return Answer(Rcode.NXDOMAIN)
        return None

    def _exists(self, records: Sequence[Record], below: bool) -> Answer:
        """Our SOA is not above every name we answer for; a denial without one is not cached: rightly."""
        return Answer(Rcode.NOERROR, records, () if records or not below else (self._soa,))

    def _addresses(self, text: str) -> list[Address] | None:
        """The addresses of a name in lower case, or None if there is no such name."""
        short = text.removesuffix("." + self._domain)
        if short == HOST:
            own = (interface.ip for interface in self._own())
            return [address for address in own if not (address.is_loopback or address.is_link_local)]
        for form in (text,) if "." in short else (short, f"{short}.{self._domain}"):
            if (entry := self._hosts.get(form)) is not None:
                return _numeric(entry)
        for guests in self._guests:
            if (lease := guests.named(short)) is not None:
                return [IPv4Address(lease.address)]
        return None

    def _reverse(self, name: Name, address: Address, kind: int) -> Answer | None:
        found = [Record(name, Type.PTR, TTL, (_labels(text),)) for text in self._names(address)]
        if found:
            return Answer(Rcode.NOERROR, found if kind == Type.PTR else ())
        if any(address in interface.network for interface in self._own()):
            return Answer(Rcode.NXDOMAIN)
        return None

    def _names(self, address: Address) -> list[str]:
        """The full names that lead to an address."""
        claims = [HOST] if any(address == interface.ip for interface in self._own()) else []
        claims += [entry.lower() for entry, texts in list(self._hosts.items()) if address in _numeric(texts)]
        if isinstance(address, IPv4Address):
            leases = (guests.at(address) for guests in self._guests)
            claims += [lease.hostname for lease in leases if lease is not None and lease.hostname is not None]
        full = dict.fromkeys(text if "." in text else f"{text}.{self._domain}" for text in claims)
        return [text for text in full if address in (self._addresses(text) or ())]


def _type(address: Address) -> Type:
    return Type.A if isinstance(address, IPv4Address) else Type.AAAA


def _numeric(texts: Iterable[str]) -> list[Address]:
    addresses = (ipaddress.ip_address(text.partition("%")[0]) for text in texts)
    return [address for address in addresses if not address.is_link_local]


def _labels(text: str) -> Name:
    return tuple(label.encode("ascii") for label in text.split("."))


def _text(name: Name) -> str | None:
    """A name as text, or None if a label holds what text cannot tell apart."""
    try:
        return None if any(b"." in label for label in name) else b".".join(name).decode("ascii")
    except UnicodeDecodeError:
        return None


def _reversed(name: Name) -> Address | None:
    """The address that a reverse name asks for (RFC 1035 section 3.5, RFC 3596 section 2.5)."""
    text = _text(name) or ""
    labels = text.split(".")[-3::-1]
    try:
        if text.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(labels))
        if text.endswith(".ip6.arpa") and len(labels) == 32 and all(len(label) == 1 for label in labels):
            return IPv6Address(int("".join(labels), 16))
    except ValueError:
        pass
    return None
