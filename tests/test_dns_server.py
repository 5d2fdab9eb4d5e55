"""lwipy.services.dns.DnsServer on a real stack: frames by scapy, and lwIP's own resolver as the guest."""

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import lwipy
from lwipy.endpoints import Lookup
from lwipy.services.dhcp import DhcpServer
from lwipy.services.dns import DnsServer

NIC = "02:00:00:00:00:01"
GUEST = "02:00:00:00:00:07"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stack(clock: Clock) -> Iterator[lwipy.Stack]:
    stack = lwipy.Stack(clock)
    yield stack
    stack.close()


@pytest.fixture
def nic(stack: lwipy.Stack, clock: Clock) -> lwipy.Interface:
    nic = stack.add_interface(mac=NIC, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
    for address in ("10.0.0.7", "fd00::7"):
        nic.add_neighbour(address, GUEST)
    clock.now += 3.0  # until duplicate address detection is done
    stack.poll()
    return nic


def query(name: str, kind: str = "A", *, dst: str = "10.0.0.1", mac: str = NIC, **changes: Any) -> bytes:
    """A guest's frame with a question by dnspython, from port 5353."""
    packet = dns.message.make_query(name, kind, id=77, **changes).to_wire()
    ip = IPv6(src="fd00::7", dst=dst) if ":" in dst else IP(src="10.0.0.7", dst=dst)
    return bytes(Ether(src=GUEST, dst=mac) / ip / UDP(sport=5353, dport=53) / packet)


def sent(nic: lwipy.Interface) -> list[Any]:
    """Datagrams from port 53 for the wire since the last call."""
    return [frame for frame in map(Ether, nic.frames()) if UDP in frame and frame[UDP].sport == 53]


def response(frame: Any) -> dns.message.Message:
    return dns.message.from_wire(bytes(frame[UDP].payload))


def answers(frame: Any) -> list[str]:
    return [item.to_text() for rrset in response(frame).answer for item in rrset]


class TestFrames:
    def test_a_question_is_answered_from_where_it_was_asked(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        server = DnsServer(stack)
        nic.receive(query("host.lwipy"))
        (frame,) = sent(nic)
        assert (frame.dst, frame[IP].src, frame[IP].dst, frame[UDP].dport) == (
            GUEST,
            "10.0.0.1",
            "10.0.0.7",
            5353,
        )
        assert (response(frame).id, answers(frame)) == (77, ["10.0.0.1"])
        assert server.counters == {"query": 1, "noerror": 1}

    def test_over_ipv6_too(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        DnsServer(stack)
        nic.receive(query("host.lwipy", "AAAA", dst="fd00::1"))
        (frame,) = sent(nic)
        assert (frame[IPv6].src, frame[IPv6].dst, answers(frame)) == ("fd00::1", "fd00::7", ["fd00::1"])

    def test_from_the_very_address_of_several(self, stack: lwipy.Stack, nic: lwipy.Interface, clock: Clock) -> None:
        stack.add_interface(ipv4="10.1.0.1/24")
        nic.add_ipv6("fd00::99/64")
        clock.now += 3.0
        stack.poll()
        DnsServer(stack)
        for address in ("10.1.0.1", "fd00::99", "fd00::1"):
            nic.receive(query("host", dst=address))
            assert [frame.payload.src for frame in sent(nic)] == [address]

    def test_each_interface_hears_its_own_address_first(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        other = stack.add_interface(mac="02:00:00:00:00:02", ipv4="10.1.0.1/24")
        other.add_neighbour("10.1.0.7", GUEST)
        DnsServer(stack)
        nic.receive(query("host"))
        assert answers(sent(nic)[0]) == ["10.0.0.1", "10.1.0.1"]
        packet = dns.message.make_query("host", "A").to_wire()
        ip = IP(src="10.1.0.7", dst="10.1.0.1")
        other.receive(bytes(Ether(src=GUEST, dst=other.mac) / ip / UDP(sport=5353, dport=53) / packet))
        (frame,) = sent(other)
        assert (frame[IP].src, answers(frame)) == ("10.1.0.1", ["10.1.0.1", "10.0.0.1"])

    def test_a_question_to_everybody_is_answered_from_our_address(
        self, stack: lwipy.Stack, nic: lwipy.Interface
    ) -> None:
        DnsServer(stack)
        nic.receive(query("host.lwipy", dst="10.0.0.255", mac="ff:ff:ff:ff:ff:ff"))
        assert [frame[IP].src for frame in sent(nic)] == ["10.0.0.1"]

    def test_the_hosts_table_of_the_stack_counts(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        DnsServer(stack, domain="lab.example")
        stack.hosts["Files"] = ["10.0.0.5"]
        nic.receive(query("files.lab.example"))
        nic.receive(query("5.0.0.10.in-addr.arpa", "PTR"))
        assert [answers(frame) for frame in sent(nic)] == [["10.0.0.5"], ["files.lab.example."]]

    def test_guests_are_known_by_their_leases_as_long_as_these_last(
        self, stack: lwipy.Stack, nic: lwipy.Interface, clock: Clock
    ) -> None:
        dhcp = DhcpServer(nic, lease_time=100)
        DnsServer(stack, leases=dhcp)
        guest = lwipy.Stack(clock)
        far = guest.add_interface()
        far.on_frame = nic.receive
        far.start_dhcp("web")
        while not far.has_lease:
            clock.now += 0.1
            far.receive_many(nic.frames())
            stack.poll(), guest.poll()
        guest.close()
        nic.frames()
        nic.receive(query("web.lwipy"))
        nic.receive(query("2.0.0.10.in-addr.arpa", "PTR"))
        assert [answers(frame) for frame in sent(nic)] == [["10.0.0.2"], ["web.lwipy."]]
        clock.now += 100
        nic.receive(query("web.lwipy"))
        assert response(sent(nic)[0]).rcode() == dns.rcode.NXDOMAIN

    def test_a_response_that_cannot_be_sent_is_counted(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        server = DnsServer(stack)
        packet = dns.message.make_query("host", "A").to_wire()
        ip = IP(src="192.168.9.9", dst="10.0.0.1")
        nic.receive(bytes(Ether(src=GUEST, dst=NIC) / ip / UDP(sport=5353, dport=53) / packet))
        assert server.counters == {"query": 1, "noerror": 1, "send_failed": 1}
        assert sent(nic) == []

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
    def test_any_payload_is_counted_and_the_server_goes_on(
        self, stack: lwipy.Stack, nic: lwipy.Interface, payloads: list[bytes]
    ) -> None:
        server = DnsServer(stack)
        try:
            link = Ether(src=GUEST, dst=NIC) / IP(src="10.0.0.7", dst="10.0.0.1") / UDP(sport=5353, dport=53)
            nic.receive_many([bytes(link / payload) for payload in payloads])
            assert sum(server.counters.values()) >= len(payloads)
            sent(nic)
            nic.receive(query("host.lwipy"))
            assert answers(sent(nic)[-1]) == ["10.0.0.1"]
        finally:
            server.close()


class TestServer:
    def test_may_answer_on_one_address_alone(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        server = DnsServer(stack, address="fd00::1")
        nic.receive(query("host", "AAAA"))
        assert sent(nic) == []
        nic.receive(query("host", "AAAA", dst="fd00::1"))
        assert answers(sent(nic)[0]) == ["fd00::1"]
        server.close()

    def test_a_closed_server_is_silent_and_leaves_its_place_to_the_next(
        self, stack: lwipy.Stack, nic: lwipy.Interface
    ) -> None:
        server = DnsServer(stack)
        server.close()
        server.close()
        nic.receive(query("host"))
        assert (sent(nic), server.counters) == ([], {})
        DnsServer(stack)
        nic.receive(query("host"))
        assert len(sent(nic)) == 1

    def test_what_cannot_be_is_named_and_leaves_nothing_behind(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        with pytest.raises(ValueError, match="'no-address'"):
            DnsServer(stack, address="no-address")
        with pytest.raises(ValueError, match="'bad domain'"):
            DnsServer(stack, domain="bad domain")
        with pytest.raises(OSError, match=r"10\.0\.0\.99") as caught:
            DnsServer(stack, address="10.0.0.99")
        assert caught.value.errno == errno.EADDRNOTAVAIL
        DnsServer(stack)
        with pytest.raises(OSError, match="53") as caught:
            DnsServer(stack)
        assert caught.value.errno == errno.EADDRINUSE

    def test_a_fallback_may_answer_later_but_not_after_the_end(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        waiting: list[tuple[bytes, Callable[[bytes], None]]] = []
        server = DnsServer(stack, fallback=lambda packet, reply: waiting.append((packet, reply)))
        nic.receive_many([query("example.org"), query("example.net")])
        assert sent(nic) == []
        for packet, reply in waiting:
            answer = dns.message.make_response(dns.message.from_wire(packet))
            answer.answer.append(dns.rrset.from_text("example.org.", 300, "IN", "A", "93.184.216.34"))
            reply(answer.to_wire())
            server.close()
        assert [answers(frame) for frame in sent(nic)] == [["93.184.216.34"]]

    def test_a_stack_may_be_closed_under_its_server(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        server = DnsServer(stack)
        stack.close()
        server.close()


def test_a_guest_stack_finds_the_host_itself_and_its_neighbours() -> None:
    """Everything real: threads drive the stacks, lwIP's DHCP client and resolver ask."""
    with lwipy.Stack() as stack, lwipy.Stack() as first, lwipy.Stack() as second:
        servers = []
        for number, guest in enumerate((first, second)):
            near = stack.add_interface(ipv4=f"10.{number}.0.1/24")
            far = guest.add_interface()
            lwipy.wire(near, far)
            servers.append(DhcpServer(near))
            far.start_dhcp(("one", "two")[number])
        server = DnsServer(stack, leases=servers)
        while not all(nic.has_lease for guest in (first, second) for nic in guest.interfaces.values()):
            time.sleep(0.01)
        found: dict[str, list[str]] = {}
        for name in ("host.lwipy", "one.lwipy", "two", "nobody.lwipy"):
            Lookup(second, name, [4], partial(found.__setitem__, name))
        while len(found) < 4:
            time.sleep(0.01)
        assert found == {
            "host.lwipy": ["10.1.0.1"],
            "one.lwipy": ["10.0.0.2"],
            "two": ["10.1.0.2"],
            "nobody.lwipy": [],
        }
        assert server.counters["nxdomain"] >= 1


def test_each_lookup_is_told_once_though_two_threads_look() -> None:
    """The one that asked looks whether the answer is there already; the one that drives is told of it."""
    told: list[list[str]] = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with lwipy.Stack() as stack, lwipy.Stack() as guest:
            near, far = stack.add_interface(ipv4="10.0.0.1/24"), guest.add_interface(ipv4="10.0.0.2/24")
            lwipy.wire(near, far)
            with closing(DnsServer(stack)):
                guest.dns_servers = ["10.0.0.1"]
                for count in range(1, 1001):
                    Lookup(guest, "host.lwipy" if count % 2 else "nobody.lwipy", [4], told.append)
                    while len(told) < count:
                        time.sleep(0)
        assert told == [["10.0.0.1"], []] * 500
    finally:
        sys.setswitchinterval(before)
