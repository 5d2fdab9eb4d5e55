"""Who has which address, and until when.

Theory of operation.  A binding ties an address to a client until it expires: shortly when it was only
offered, for the lease time when it was bound. An expired or released binding stays as a memory, so that a
client that comes back finds its old address, until somebody else needs it. A declined address is held by
nobody until its quarantine ends.

1. An address has at most one binding, and a client at most one address.
2. The table never has more bindings than addresses to give, nor more than `MAXIMUM`.
3. A binding that has not expired changes hands for nobody: when all are taken, newcomers get nothing.
4. A name belongs to one living lease at a time; a second claimant is named after its address as well.
5. Addresses never used are given first, then the one that has been free for the longest time.
6. Every dynamic binding has its (expires, address) in the queue; entries out of date are skipped, and swept
   out when they are the most. So a flood costs O(log n) a message, whatever it asks for.
"""

import heapq
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from math import inf
from operator import itemgetter
from typing import NamedTuple

from lwipy.services.dhcp.settings import Settings

MAXIMUM = 65536
OFFER_TIME = 10.0
QUARANTINE_TIME = 300.0

_log = logging.getLogger(__name__)


class Lease(NamedTuple):
    """A guest's address. `expires` is a time of the stack's clock, in seconds."""

    address: str
    mac: str
    hostname: str | None
    expires: float


@dataclass(slots=True)
class _Binding:
    client: bytes | None  # None: declined
    mac: str
    expires: float
    bound: bool = False
    hostname: str | None = None

    def lease(self, address: IPv4Address) -> Lease:
        return Lease(str(address), self.mac, self.hostname, self.expires)


class LeaseTable:
    """The bindings of one subnet. Times are seconds of any one clock, passed in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bindings: dict[IPv4Address, _Binding] = {}
        self._clients: dict[bytes, IPv4Address] = {}
        self._names: dict[str, IPv4Address] = {}
        self._fresh = settings.first  # all addresses before it were given once
        self._queue: list[tuple[float, IPv4Address]] = []

    def address_of(self, client: bytes) -> IPv4Address | None:
        """The address this client has or last had, if nobody got it since."""
        return self._clients.get(client)

    def holds(self, client: bytes, address: IPv4Address, now: float) -> bool:
        """Whether the client has this very address offered or leased now."""
        binding = self._bindings.get(address)
        return binding is not None and binding.client == client and binding.expires > now

    def available(self, client: bytes, address: IPv4Address, now: float) -> bool:
        """Whether this client may have this address."""
        settings = self._settings
        if client in settings.static:
            if settings.static[client] != address:
                return False
        elif address in settings.reserved or not settings.first <= address <= settings.last:
            return False
        binding = self._bindings.get(address)
        if binding is None:
            return len(self._bindings) < MAXIMUM
        return binding.client == client or binding.expires <= now

    def offer(self, client: bytes, mac: str, wish: IPv4Address | None, now: float) -> IPv4Address | None:
        """Set an address aside for the client (RFC 2131 section 4.3.1), or None: every one is taken."""
        known = self.address_of(client)
        for address in (self._settings.static.get(client), known, wish):
            if address is not None and self.available(client, address, now):
                break
        else:
            address = None if client in self._settings.static else self._next(now)
        if address is not None and not self.holds(client, address, now):
            self._put(address, _Binding(client, mac, now + OFFER_TIME))
        return address

    def _next(self, now: float) -> IPv4Address | None:
        reserved, bindings = self._settings.reserved, self._bindings
        last = self._settings.last
        while self._fresh <= last and (self._fresh in bindings or self._fresh in reserved):
            self._fresh += 1
        if self._fresh <= last and len(bindings) < MAXIMUM:
            return self._fresh
        while self._queue:
            expires, address = self._queue[0]
            if bindings[address].expires == expires:
                return address if expires <= now else None
            heapq.heappop(self._queue)
        return None

    def bind(
        self, client: bytes, mac: str, hostname: str | None, address: IPv4Address, expires: float, now: float
    ) -> Lease:
        """Lease the address, which must be available, to the client, or renew its lease."""
        before = self._bindings.get(address)
        same = before is not None and before.client == client
        if hostname is None and before is not None and same:
            hostname = before.hostname
        binding = _Binding(client, mac, expires, bound=True)
        self._put(address, binding)
        binding.hostname = self._claim(hostname, address, now) if hostname else None
        return binding.lease(address)

    def _claim(self, name: str, address: IPv4Address, now: float) -> str | None:
        suffix = "-" + str(address).replace(".", "-")
        for candidate in (name, name[: 63 - len(suffix)] + suffix):
            holder = self._names.get(candidate)
            if holder is None or holder == address or self._bindings[holder].expires <= now:
                self._names[candidate] = address
                return candidate
        _log.warning("%s: the name %r is another guest's", address, name)
        return None

    def release(self, client: bytes, address: IPv4Address, now: float) -> bool:
        """Give the address back. False if it is not the client's."""
        if not self.holds(client, address, now):
            return False
        self._expire_at(address, now)
        return True

    def decline(self, client: bytes, address: IPv4Address, now: float) -> bool:
        """Quarantine an address that the client found in use. False if it is not the client's."""
        if not self.holds(client, address, now):
            return False
        self._put(address, _Binding(None, "", now + QUARANTINE_TIME))
        return True

    def _put(self, address: IPv4Address, binding: _Binding) -> None:
        """The one place where an address changes hands: the indexes follow."""
        self._forget(address)
        if binding.client is not None:
            if (other := self._clients.get(binding.client)) is not None:
                self._forget(other)
                self._bindings[other] = _Binding(None, "", -inf)
                self._expire_at(other, -inf)
            self._clients[binding.client] = address
        self._bindings[address] = binding
        self._expire_at(address, binding.expires)

    def _forget(self, address: IPv4Address) -> None:
        """Take the address's binding out of the indexes."""
        binding = self._bindings.get(address)
        if binding is None:
            return
        if binding.client is not None:
            del self._clients[binding.client]
        if binding.hostname is not None and self._names.get(binding.hostname) == address:
            del self._names[binding.hostname]

    def _expire_at(self, address: IPv4Address, expires: float) -> None:
        self._bindings[address].expires = expires
        if address in self._settings.reserved:
            return
        heapq.heappush(self._queue, (expires, address))
        if len(self._queue) > 2 * len(self._bindings) + 64:
            reserved = self._settings.reserved
            self._queue = [(b.expires, a) for a, b in self._bindings.items() if a not in reserved]
            heapq.heapify(self._queue)

    def at(self, address: IPv4Address, now: float) -> Lease | None:
        """The living lease of an address."""
        binding = self._bindings.get(address)
        if binding is None or not binding.bound or binding.expires <= now:
            return None
        return binding.lease(address)

    def named(self, hostname: str, now: float) -> Lease | None:
        """The living lease of a guest's name, in lower case."""
        address = self._names.get(hostname)
        return None if address is None else self.at(address, now)

    def living(self, now: float) -> list[Lease]:
        """All leases that have not expired, by address."""
        bindings = list(self._bindings.items())  # a copy: another thread may be asking
        return [b.lease(a) for a, b in sorted(bindings, key=itemgetter(0)) if b.bound and b.expires > now]


class Leases(Collection[Lease]):
    """A server's leases as they are at the moment of asking. Read-only, safe from any thread."""

    def __init__(self, table: LeaseTable, clock: Callable[[], float]) -> None:
        self._table = table
        self._clock = clock

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._table.living(self._clock()))

    def __len__(self) -> int:
        return len(self._table.living(self._clock()))

    def __contains__(self, lease: object) -> bool:
        return lease in self._table.living(self._clock())

    def __repr__(self) -> str:
        return f"Leases({self._table.living(self._clock())!r})"

    def at(self, address: IPv4Address) -> Lease | None:
        """The lease of an address, or None."""
        return self._table.at(address, self._clock())

    def named(self, hostname: str) -> Lease | None:
        """The lease of the guest that goes by this name, or None."""
        return self._table.named(hostname.lower(), self._clock())
