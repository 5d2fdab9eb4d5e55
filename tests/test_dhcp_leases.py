"""lwipy.services.dhcp.leases: who gets which address, and for how long."""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lwipy.services.dhcp import leases as module
from lwipy.services.dhcp.leases import OFFER_TIME, QUARANTINE_TIME, Lease, Leases, LeaseTable
from lwipy.services.dhcp.settings import Settings

MAC = "02:00:00:00:00:07"


def table(
    first: str = "10.0.0.10",
    last: str = "10.0.0.12",
    own: str = "10.0.0.1/24",
    static: Mapping[str | bytes, str] | None = None,
) -> LeaseTable:
    return LeaseTable(
        Settings.check(
            IPv4Interface(own),
            pool=(first, last),
            router="self",
            dns="self",
            domain=None,
            mtu=1500,
            lease_time=3600,
            static=static,
        )
    )


def ip(text: str) -> IPv4Address:
    return IPv4Address(text)


def take(pool: LeaseTable, client: bytes, now: float, *, name: str | None = None, until: float = 1e9) -> Lease:
    address = pool.offer(client, MAC, None, now)
    assert address is not None
    return pool.bind(client, MAC, name, address, until, now)


def address_named(pool: LeaseTable, name: str) -> str | None:
    lease = pool.named(name, 0)
    return None if lease is None else lease.address


def test_addresses_are_given_in_order_and_then_none() -> None:
    pool = table()
    assert [pool.offer(client, MAC, None, 0) for client in (b"a", b"b", b"c", b"d")] == [
        ip("10.0.0.10"),
        ip("10.0.0.11"),
        ip("10.0.0.12"),
        None,
    ]


def test_one_client_gets_one_address_however_often_it_asks() -> None:
    pool = table()
    assert {pool.offer(b"a", MAC, None, now) for now in range(50)} == {ip("10.0.0.10")}


def test_our_own_address_is_never_given() -> None:
    pool = table("10.0.0.1", "10.0.0.2")
    assert pool.offer(b"a", MAC, ip("10.0.0.1"), 0) == ip("10.0.0.2")
    assert pool.offer(b"b", MAC, None, 0) is None


def test_a_wish_is_granted_if_it_is_free_and_in_range() -> None:
    pool = table()
    assert pool.offer(b"a", MAC, ip("10.0.0.12"), 0) == ip("10.0.0.12")
    assert pool.offer(b"b", MAC, ip("10.0.0.12"), 0) == ip("10.0.0.10")
    assert pool.offer(b"c", MAC, ip("10.0.0.200"), 0) == ip("10.0.0.11")


def test_an_offer_expires_soon_and_a_lease_when_it_ends() -> None:
    pool = table("10.0.0.10", "10.0.0.10")
    pool.offer(b"a", MAC, None, 0)
    assert pool.offer(b"b", MAC, None, OFFER_TIME - 1) is None
    take(pool, b"b", OFFER_TIME, until=100)
    assert pool.offer(b"c", MAC, None, 99) is None
    assert pool.offer(b"c", MAC, None, 100) == ip("10.0.0.10")


def test_offers_cannot_displace_leases() -> None:
    pool = table()
    lease = take(pool, b"real", 0)
    for flood in range(5000):
        pool.offer(flood.to_bytes(4, "big"), MAC, ip(lease.address), flood / 100)
    assert pool.at(ip(lease.address), 50) == lease


def test_a_client_that_comes_back_gets_its_old_address_while_it_is_free() -> None:
    pool = table()
    take(pool, b"a", 0, until=10)
    take(pool, b"b", 0, until=1000)
    assert pool.offer(b"a", MAC, None, 500) == ip("10.0.0.10")


def test_the_address_longest_free_is_reused_first() -> None:
    pool = table()
    for client, until in ((b"a", 30), (b"b", 10), (b"c", 20)):
        take(pool, client, 0, until=until)
    assert pool.offer(b"d", MAC, None, 50) == ip("10.0.0.11")
    assert pool.offer(b"e", MAC, None, 50) == ip("10.0.0.12")
    assert pool.offer(b"f", MAC, None, 50) == ip("10.0.0.10")
    assert pool.offer(b"a", MAC, None, 50) is None


def test_a_released_address_is_free_at_once() -> None:
    pool = table("10.0.0.10", "10.0.0.10")
    take(pool, b"a", 0)
    assert not pool.release(b"b", ip("10.0.0.10"), 1), "not its own"
    assert pool.offer(b"b", MAC, None, 1) is None
    assert pool.release(b"a", ip("10.0.0.10"), 1)
    assert not pool.release(b"a", ip("10.0.0.10"), 1), "no longer"
    assert pool.offer(b"b", MAC, None, 1) == ip("10.0.0.10")


def test_a_declined_address_is_nobodys_until_its_quarantine_ends() -> None:
    pool = table()
    take(pool, b"a", 0)
    assert not pool.decline(b"b", ip("10.0.0.10"), 0), "not its own"
    assert pool.decline(b"a", ip("10.0.0.10"), 0)
    assert pool.at(ip("10.0.0.10"), 0) is None
    assert pool.offer(b"a", MAC, ip("10.0.0.10"), 1) == ip("10.0.0.11")
    take(pool, b"b", 1), take(pool, b"a", 1)
    assert pool.offer(b"c", MAC, None, QUARANTINE_TIME - 1) is None
    assert pool.offer(b"c", MAC, None, QUARANTINE_TIME) == ip("10.0.0.10")


def test_an_address_left_for_another_one_is_not_lost() -> None:
    pool = table("10.0.0.10", "10.0.0.11")
    take(pool, b"a", 0)
    pool.bind(b"a", MAC, None, ip("10.0.0.11"), 1e9, 0)
    assert pool.at(ip("10.0.0.10"), 0) is None
    assert pool.offer(b"b", MAC, None, 0) == ip("10.0.0.10")


def test_static_addresses_are_kept_for_their_clients() -> None:
    pool = table("10.0.0.10", "10.0.0.11", static={MAC: "10.0.0.10", b"\x00id": "10.0.0.200"})
    by_mac = b"\x01" + bytes.fromhex(MAC.replace(":", ""))
    assert pool.offer(b"b", MAC, ip("10.0.0.10"), 0) == ip("10.0.0.11")
    assert pool.offer(b"c", MAC, None, 0) is None
    assert pool.offer(by_mac, MAC, ip("10.0.0.11"), 0) == ip("10.0.0.10")
    assert pool.offer(b"\x00id", MAC, None, 0) == ip("10.0.0.200"), "outside the range, inside the subnet"
    assert pool.decline(by_mac, ip("10.0.0.10"), 0)
    assert pool.offer(by_mac, MAC, None, 0) is None
    assert pool.offer(by_mac, MAC, None, QUARANTINE_TIME) == ip("10.0.0.10")


def test_two_guests_of_one_name_can_be_told_apart() -> None:
    pool = table()
    assert take(pool, b"a", 0, name="debian", until=100).hostname == "debian"
    assert take(pool, b"b", 0, name="debian").hostname == "debian-10-0-0-11"
    assert address_named(pool, "debian") == "10.0.0.10"
    assert address_named(pool, "debian-10-0-0-11") == "10.0.0.11"
    assert pool.named("debian", 100) is None, "expired"
    assert take(pool, b"b", 101, name="debian").hostname == "debian", "free again"
    assert take(pool, b"a", 101, name="debian").hostname == "debian-10-0-0-10"


def test_a_name_cannot_be_taken_by_claiming_what_another_would_get() -> None:
    pool = table()
    assert take(pool, b"a", 0, name="x").hostname == "x"
    assert take(pool, b"b", 0, name="x-10-0-0-12").hostname == "x-10-0-0-12"
    assert take(pool, b"c", 0, name="x").hostname is None
    assert address_named(pool, "x-10-0-0-12") == "10.0.0.11"


def test_a_long_name_with_an_address_behind_is_still_a_label() -> None:
    pool = table()
    take(pool, b"a", 0, name="n" * 63)
    assert take(pool, b"b", 0, name="n" * 63).hostname == "n" * 53 + "-10-0-0-11"


def test_a_renewal_keeps_or_changes_the_name() -> None:
    pool = table()
    take(pool, b"a", 0, name="before")
    assert take(pool, b"a", 1).hostname == "before"
    assert take(pool, b"a", 2, name="after").hostname == "after"
    assert pool.named("before", 2) is None


def test_the_view_shows_living_leases_by_address() -> None:
    now = [0.0]
    pool = table()
    view = Leases(pool, lambda: now[0])
    pool.offer(b"z", MAC, ip("10.0.0.10"), 0)
    b, a = take(pool, b"b", 0, name="bee", until=10), take(pool, b"a", 0, until=20)
    assert list(view) == [b, a], "an offer is no lease"
    assert len(view) == 2
    assert b in view
    assert b == Lease("10.0.0.11", MAC, "bee", 10)
    assert (view.at(ip("10.0.0.11")), view.named("BEE")) == (b, b)
    now[0] = 10
    assert list(view) == [a]
    assert b not in view
    assert view.at(ip("10.0.0.11")) is None
    assert view.named("bee") is None
    assert "10.0.0.12" in repr(view)


def test_a_flood_over_a_large_range_stays_in_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAXIMUM", 1000)
    pool = table("10.0.0.2", "10.255.255.254", own="10.0.0.1/8")
    real = take(pool, b"real", 0)
    for i in range(20_000):
        pool.offer(i.to_bytes(4, "big"), MAC, IPv4Address(0x0A000100 + i), i / 100)
    assert len(pool._bindings) <= 1000
    assert len(pool._clients) <= 1000
    assert len(pool._queue) <= 2 * 1000 + 64
    assert pool.at(ip(real.address), 200) == real


class AnyHistory(RuleBasedStateMachine):
    """Whatever clients do, the table's invariants hold."""

    clients = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"\x01\x02\0\0\0\0\x07"])
    addresses = st.integers(8, 14).map(lambda low: IPv4Address(0x0A000000 + low))
    names = st.sampled_from([None, "x", "y", "x-10-0-0-11"])

    def __init__(self) -> None:
        super().__init__()
        self.pool = table(static={MAC: "10.0.0.11"})
        self.now = 0.0
        self.held: dict[IPv4Address, tuple[bytes, float]] = {}

    @rule(client=clients, wish=st.none() | addresses)
    def offer(self, client: bytes, wish: IPv4Address | None) -> None:
        address = self.pool.offer(client, MAC, wish, self.now)
        if address is None:
            return
        assert self.pool.holds(client, address, self.now)
        assert self.held.get(address, (client, 0))[0] == client, "leased to somebody else"

    @rule(client=clients, address=addresses, name=names, seconds=st.sampled_from([1.0, 60.0, 1000.0]))
    def bind(self, client: bytes, address: IPv4Address, name: str | None, seconds: float) -> None:
        if self.pool.available(client, address, self.now):
            assert self.held.get(address, (client, 0))[0] == client, "leased to somebody else"
            self.held = {a: h for a, h in self.held.items() if h[0] != client}
            self.pool.bind(client, MAC, name, address, self.now + seconds, self.now)
            self.held[address] = (client, self.now + seconds)

    @rule(client=clients, address=addresses)
    def release(self, client: bytes, address: IPv4Address) -> None:
        if self.pool.release(client, address, self.now):
            assert self.held.pop(address, (client, 0))[0] == client

    @rule(client=clients, address=addresses)
    def decline(self, client: bytes, address: IPv4Address) -> None:
        if self.pool.decline(client, address, self.now):
            assert self.held.pop(address, (client, 0))[0] == client

    @rule(seconds=st.sampled_from([0.5, 5.0, 30.0, 500.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.held = {a: h for a, h in self.held.items() if h[1] > self.now}

    @invariant()
    def leases_are_the_ones_given(self) -> None:
        living = self.pool.living(self.now)
        assert {lease.address for lease in living} == {str(address) for address in self.held}
        names = [lease.hostname for lease in living if lease.hostname is not None]
        assert len(names) == len(set(names))
        assert [self.pool.named(lease.hostname, self.now) for lease in living if lease.hostname] == [
            lease for lease in living if lease.hostname
        ]

    @invariant()
    def indexes_and_bindings_agree(self) -> None:
        pool = self.pool
        assert {c: a for a, b in pool._bindings.items() if (c := b.client) is not None} == pool._clients
        queued = set(pool._queue)
        dynamic = {(b.expires, a) for a, b in pool._bindings.items() if a != IPv4Address("10.0.0.11")}
        assert dynamic <= queued
        assert len(pool._bindings) <= 3

    @invariant()
    def every_free_address_can_be_had(self) -> None:
        """An address that nobody holds is found by a newcomer."""
        free = [
            a
            for a in (IPv4Address("10.0.0.10"), IPv4Address("10.0.0.12"))
            if (b := self.pool._bindings.get(a)) is None or b.expires <= self.now
        ]
        assert (self.pool._next(self.now) is not None) == bool(free)


AnyHistory.TestCase.settings = hypothesis_settings(deadline=None)
TestAnyHistory = AnyHistory.TestCase
