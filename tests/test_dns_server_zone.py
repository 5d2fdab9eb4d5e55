"""lwipy.services.dns.zone: which names there are, whose they are, and the way back."""

from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

import pytest

from lwipy.services.dhcp.leases import Leases, LeaseTable
from lwipy.services.dhcp.settings import Settings
from lwipy.services.dns.message import Name, Rcode, Type
from lwipy.services.dns.zone import Answer, Zone

OWN = [ip_interface(text) for text in ("127.0.0.1/8", "10.0.0.1/24", "fe80::1/64", "fd00::1/64", "10.1.0.1/24")]
NOW = 1000.0


def guests(*names: str, expires: float = NOW + 60) -> Leases:
    """Leases from 10.0.0.10 on, one for each name."""
    settings = Settings.check(
        IPv4Interface("10.0.0.1/24"),
        pool=("10.0.0.10", "10.0.0.99"),
        router=None,
        dns=None,
        domain=None,
        mtu=1500,
        lease_time=60,
        static=None,
    )
    table = LeaseTable(settings)
    for name in names:
        address = table.offer(name.encode(), "02:00:00:00:00:07", None, 0)
        assert address is not None
        table.bind(name.encode(), "02:00:00:00:00:07", name, address, expires, 0)
    return Leases(table, lambda: NOW)


def zone(
    hosts: dict[str, list[str]] | None = None,
    leases: Leases | None = None,
    domain: str = "lwipy",
    own: Callable[[], list[IPv4Interface | IPv6Interface]] = lambda: OWN,
) -> Zone:
    return Zone(domain, own, {} if hosts is None else hosts, [] if leases is None else [leases])


def labels(text: str) -> Name:
    return tuple(label.encode() for label in text.split("."))


def ask(zone: Zone, name: str, kind: Type = Type.A, near: str | None = None) -> list[str] | Rcode | None:
    """The answer's data as text; the code if it has none; None if the name is not ours."""
    answer = zone.lookup(labels(name), kind, () if near is None else [ip_address(near)])
    if answer is None:
        return None
    if answer.rcode or not answer.records:
        return answer.rcode
    assert all(record.type == kind for record in answer.records)
    assert all(record.name == labels(name) for record in answer.records), "the case asked for"
    data = [part for record in answer.records for part in record.data]
    return [".".join(label.decode() for label in p) if isinstance(p, tuple) else str(ip_address(p)) for p in data]


class TestOwnName:
    @pytest.mark.parametrize("name", ["host.lwipy", "host", "HOST.Lwipy", "Host"])
    def test_is_host_with_all_addresses_that_others_can_reach(self, name: str) -> None:
        assert ask(zone(), name) == ["10.0.0.1", "10.1.0.1"]
        assert ask(zone(), name, Type.AAAA) == ["fd00::1"]

    def test_addresses_near_to_who_asks_come_first(self) -> None:
        assert ask(zone(), "host", near="10.1.0.1") == ["10.1.0.1", "10.0.0.1"]

    def test_follows_the_interfaces(self) -> None:
        own: list[IPv4Interface | IPv6Interface] = [IPv4Interface("10.0.0.1/24")]
        names = zone(own=lambda: own)
        own[0] = IPv4Interface("10.0.0.2/24")
        assert ask(names, "host") == ["10.0.0.2"]
        assert ask(names, "host", Type.AAAA) == Rcode.NOERROR

    def test_another_domain(self) -> None:
        names = zone(domain="Lab.Example.")
        assert ask(names, "host.lab.example") == ask(names, "host") == ["10.0.0.1", "10.1.0.1"]
        assert ask(names, "host.lwipy") is None


class TestApex:
    def test_has_soa_and_ns(self) -> None:
        assert ask(zone(), "lwipy", Type.NS) == ["host.lwipy"]
        answer = zone().lookup((b"lwipy",), Type.SOA)
        assert answer is not None
        assert answer.records[0].data[:2] == ((b"host", b"lwipy"), (b"hostmaster", b"lwipy"))

    def test_has_nothing_else(self) -> None:
        answer = zone().lookup((b"lwipy",), Type.A)
        assert answer is not None
        assert (answer.rcode, list(answer.records), answer.authority[0].type) == (Rcode.NOERROR, [], Type.SOA)


class TestGuests:
    @pytest.mark.parametrize("name", ["debian.lwipy", "debian", "Debian.LWIPY"])
    def test_are_known_by_their_names(self, name: str) -> None:
        names = zone(leases=guests("first", "debian"))
        assert ask(names, name) == ["10.0.0.11"]
        assert ask(names, name, Type.AAAA) == Rcode.NOERROR

    def test_are_forgotten_with_their_lease(self) -> None:
        names = zone(leases=guests("debian", expires=NOW))
        assert ask(names, "debian.lwipy") == Rcode.NXDOMAIN
        assert ask(names, "10.0.0.10.in-addr.arpa", Type.PTR) == Rcode.NXDOMAIN

    def test_cannot_take_the_stacks_name_nor_one_of_the_hosts_table(self) -> None:
        names = zone({"files": ["10.0.0.5"], "wiki.lwipy": ["10.0.0.6"]}, guests("host", "files", "wiki", "lwipy"))
        assert ask(names, "host") == ["10.0.0.1", "10.1.0.1"]
        assert ask(names, "files.lwipy") == ["10.0.0.5"]
        assert ask(names, "wiki") == ["10.0.0.6"]
        assert ask(names, "lwipy") == Rcode.NOERROR
        for last in (10, 11, 12):
            assert ask(names, f"{last}.0.0.10.in-addr.arpa", Type.PTR) == Rcode.NXDOMAIN


class TestHosts:
    def test_an_entry_is_known_with_and_without_the_domain(self) -> None:
        names = zone({"files": ["10.0.0.5", "fd00::5"]})
        assert ask(names, "files") == ask(names, "files.lwipy") == ["10.0.0.5"]
        assert ask(names, "files", Type.AAAA) == ["fd00::5"]

    def test_an_entry_in_the_domain_is_known_without_it_too(self) -> None:
        assert ask(zone({"files.lwipy": ["10.0.0.5"]}), "files") == ["10.0.0.5"]

    def test_an_entry_with_dots_stands_for_itself(self) -> None:
        names = zone({"www.example.org": ["93.184.216.34"]})
        assert ask(names, "WWW.example.org") == ["93.184.216.34"]
        assert ask(names, "www.example.org", Type.PTR) == Rcode.NOERROR
        assert ask(names, "www.example.org.lwipy") == Rcode.NXDOMAIN
        assert ask(names, "example.org") is None

    def test_a_name_above_an_entry_exists_without_records(self) -> None:  # RFC 8020
        names = zone({"a.b.lwipy": ["10.0.0.5"]})
        assert ask(names, "b.lwipy") == Rcode.NOERROR
        assert ask(names, "c.lwipy") == Rcode.NXDOMAIN

    def test_changes_are_seen_at_once(self) -> None:
        hosts: dict[str, list[str]] = {}
        names = zone(hosts)
        assert ask(names, "new.lwipy") == Rcode.NXDOMAIN
        hosts["new"] = ["10.0.0.9"]
        assert ask(names, "new.lwipy") == ["10.0.0.9"]

    def test_a_link_local_address_is_not_told(self) -> None:
        assert ask(zone({"printer": ["fe80::7%nic0", "fd00::7"]}), "printer", Type.AAAA) == ["fd00::7"]


class TestUnknown:
    def test_below_the_domain_it_is_denied_with_the_soa(self) -> None:
        answer = zone().lookup(labels("nobody.lwipy"), Type.A)
        assert answer is not None
        assert (answer.rcode, answer.records, answer.authority[0].name) == (Rcode.NXDOMAIN, (), (b"lwipy",))

    def test_addresses_of_plain_names_are_denied(self) -> None:
        assert zone().lookup((b"nobody",), Type.A) == Answer(Rcode.NXDOMAIN)
        assert zone().lookup((b"nobody",), Type.AAAA) == Answer(Rcode.NXDOMAIN)

    def test_anything_else_is_not_ours(self) -> None:
        assert ask(zone(), "example.org") is None
        assert ask(zone(), "org", Type.NS) is None
        assert ask(zone(), "notlwipy") == Rcode.NXDOMAIN
        assert ask(zone(), "x.notlwipy") is None
        assert zone().lookup((), Type.NS) is None

    @pytest.mark.parametrize("label", [b"a.b", b"\xff", b"\0", b"host\0", b" host", b"*", b"h" * 63])
    def test_odd_labels_are_names_like_others(self, label: bytes) -> None:
        odd = zone({"a.b.lwipy": ["10.0.0.5"]}).lookup((label, b"lwipy"), Type.A)
        assert odd is not None
        assert odd.rcode == Rcode.NXDOMAIN


class TestReverse:
    def test_own_addresses_lead_to_host(self) -> None:
        assert ask(zone(), "1.0.0.10.in-addr.arpa", Type.PTR) == ["host.lwipy"]
        assert ask(zone(), "1.0.0.10.IN-ADDR.ARPA", Type.PTR) == ["host.lwipy"]
        pointer = ip_address("fd00::1").reverse_pointer
        assert ask(zone(), pointer, Type.PTR) == ["host.lwipy"]

    def test_guests_and_hosts(self) -> None:
        names = zone({"files": ["10.0.0.5"], "www.example.org": ["10.0.0.5", "93.184.216.34"]}, guests("debian"))
        assert ask(names, "10.0.0.10.in-addr.arpa", Type.PTR) == ["debian.lwipy"]
        assert ask(names, "5.0.0.10.in-addr.arpa", Type.PTR) == ["files.lwipy", "www.example.org"]
        assert ask(names, "34.216.184.93.in-addr.arpa", Type.PTR) == ["www.example.org"]

    def test_other_types_do_not_exist(self) -> None:
        assert ask(zone(), "1.0.0.10.in-addr.arpa", Type.A) == Rcode.NOERROR

    def test_a_free_address_of_our_subnets_is_denied(self) -> None:
        assert ask(zone(), "77.0.0.10.in-addr.arpa", Type.PTR) == Rcode.NXDOMAIN
        assert ask(zone(), ip_address("fd00::77").reverse_pointer, Type.PTR) == Rcode.NXDOMAIN

    @pytest.mark.parametrize(
        "name",
        [
            "8.8.8.8.in-addr.arpa",
            "0.0.10.in-addr.arpa",
            "1.1.0.0.10.in-addr.arpa",
            "256.0.0.10.in-addr.arpa",
            "01.0.0.10.in-addr.arpa",
            "x.0.0.10.in-addr.arpa",
            "in-addr.arpa",
            "ip6.arpa",
            "1.0.ip6.arpa",
            ip_address("fd00::1").reverse_pointer.replace("0", "g", 1),
            ip_address("fd00::1").reverse_pointer.replace("1", "01", 1),
            ip_address("2001:db8::1").reverse_pointer,
        ],
    )
    def test_all_else_is_not_ours(self, name: str) -> None:
        assert ask(zone(), name, Type.PTR) is None


@pytest.mark.parametrize("domain", ["", "two words", "-x", "x" * 64])
def test_a_domain_that_is_none_is_named(domain: str) -> None:
    with pytest.raises(ValueError, match=repr(domain)):
        zone(domain=domain)
