"""lwipy.services.dhcp.DhcpServer on a real stack: frames by scapy, and lwIP's own client as the guest."""

import contextlib
import errno
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

import lwipy
from lwipy.services.dhcp import DhcpServer, Lease

EVERYBODY = "ff:ff:ff:ff:ff:ff"
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
def nic(stack: lwipy.Stack) -> lwipy.Interface:
    return stack.add_interface(mac=NIC, ipv4="10.0.0.1/24")


def request(kind: str, *options: object, dst: str = "255.255.255.255", src: str = "0.0.0.0", **fields: Any) -> bytes:
    """A guest's frame."""
    bootp = BOOTP(**{"op": 1, "chaddr": bytes.fromhex(GUEST.replace(":", "")), "xid": 7, **fields})
    link = Ether(src=GUEST, dst=EVERYBODY if dst == "255.255.255.255" else NIC)
    message = DHCP(options=[("message-type", kind), *options, "end"])
    return bytes(link / IP(src=src, dst=dst) / UDP(sport=68, dport=67) / bootp / message)


def sent(nic: lwipy.Interface) -> list[Any]:
    """UDP and ARP frames for the wire since the last call, less announcements of our own address."""
    frames = [Ether(frame) for frame in nic.frames()]
    return [f for f in frames if UDP in f or (ARP in f and f[ARP].psrc != f[ARP].pdst)]


def option(frame: Any, name: str) -> Any:
    return {o[0]: o[1] for o in frame[DHCP].options if len(o) == 2}.get(name)


def select(address: str, *options: object, **fields: Any) -> bytes:
    return request("request", ("server_id", "10.0.0.1"), ("requested_addr", address), *options, **fields)


class TestFrames:
    def test_offer_and_ack_go_to_the_new_address_without_asking_for_its_mac(self, nic: lwipy.Interface) -> None:
        leases: list[Lease] = []
        server = DhcpServer(nic, on_lease=leases.append)
        nic.receive(request("discover"))
        (offer,) = sent(nic)
        assert (offer.src, offer.dst) == (NIC, GUEST)
        assert (offer[IP].src, offer[IP].dst, offer[UDP].sport, offer[UDP].dport) == (
            "10.0.0.1",
            "10.0.0.2",
            67,
            68,
        )
        assert (offer[BOOTP].xid, offer[BOOTP].yiaddr, option(offer, "message-type")) == (7, "10.0.0.2", 2)
        assert leases == []
        nic.receive(select("10.0.0.2", ("hostname", b"Guest")))
        (ack,) = sent(nic)
        assert (ack.dst, ack[IP].dst, option(ack, "message-type")) == (GUEST, "10.0.0.2", 5)
        assert option(ack, "interface-mtu") == 1500
        assert leases == list(server.leases) == [Lease("10.0.0.2", GUEST, "guest", 3600.0)]
        assert server.counters == {"discover": 1, "offer": 1, "request": 1, "ack": 1}

    def test_the_mac_is_not_remembered_beyond_the_reply(self, nic: lwipy.Interface) -> None:
        DhcpServer(nic)
        nic.receive(request("discover"))
        nic.receive(select("10.0.0.2"))
        sent(nic)
        nic.receive(request("request", dst="10.0.0.1", src="10.0.0.2", ciaddr="10.0.0.2"))
        (question,) = sent(nic)
        assert (question[ARP].op, question[ARP].pdst) == (1, "10.0.0.2")
        answer = ARP(op=2, hwsrc=GUEST, psrc="10.0.0.2", hwdst=NIC, pdst="10.0.0.1")
        nic.receive(bytes(Ether(src=GUEST, dst=NIC) / answer))
        (ack,) = sent(nic)
        assert (ack.dst, ack[IP].dst, option(ack, "message-type")) == (GUEST, "10.0.0.2", 5)

    def test_a_client_with_the_broadcast_flag_is_answered_for_all_to_hear(self, nic: lwipy.Interface) -> None:
        DhcpServer(nic)
        nic.receive(request("discover", flags="B"))
        (offer,) = sent(nic)
        assert (offer.dst, offer[IP].dst, offer[UDP].dport) == (EVERYBODY, "255.255.255.255", 68)

    def test_a_refusal_is_for_all_to_hear(self, nic: lwipy.Interface) -> None:
        DhcpServer(nic)
        nic.receive(select("192.168.7.7"))
        (nak,) = sent(nic)
        assert (nak.dst, nak[IP].dst, option(nak, "message-type")) == (EVERYBODY, "255.255.255.255", 6)

    def test_a_relay_is_answered_on_the_servers_port(self, nic: lwipy.Interface) -> None:
        DhcpServer(nic)
        nic.add_neighbour("10.0.0.3", "02:00:00:00:00:03")
        nic.receive(request("discover", dst="10.0.0.1", src="10.0.0.3", giaddr="10.0.0.3"))
        (offer,) = sent(nic)
        assert (offer.dst, offer[IP].dst, offer[UDP].dport) == ("02:00:00:00:00:03", "10.0.0.3", 67)

    def test_renewing_and_rebinding_are_told_apart_by_where_they_were_sent(self, nic: lwipy.Interface) -> None:
        server = DhcpServer(nic, range=("10.0.0.10", "10.0.0.20"))
        nic.receive(request("request", src="10.0.0.99", ciaddr="10.0.0.99"))
        nic.receive(request("request", src="10.0.0.99", ciaddr="10.0.0.99", dst="10.0.0.255"))
        assert server.counters == {"request": 2, "dropped_unknown_client": 2}
        nic.receive(request("request", src="10.0.0.99", ciaddr="10.0.0.99", dst="10.0.0.1"))
        assert server.counters["nak"] == 1

    def test_a_reply_that_cannot_be_sent_is_counted(self, nic: lwipy.Interface) -> None:
        server = DhcpServer(nic)
        with contextlib.suppress(OSError):  # the table is full
            for last in range(254, 2, -1):
                nic.add_neighbour(f"10.0.0.{last}", GUEST)
        nic.receive(request("discover", ("requested_addr", "10.0.0.2")))
        assert server.counters["send_failed"] == 1
        nic.receive(request("discover", flags="B"))
        assert sent(nic)[-1][BOOTP].yiaddr == "10.0.0.2"

    def test_a_fault_in_on_lease_reaches_the_driver_and_costs_nobody_else(
        self, stack: lwipy.Stack, nic: lwipy.Interface
    ) -> None:
        leases: list[str] = []

        def on_lease(lease: Lease) -> None:
            leases.append(lease.address)
            raise ZeroDivisionError

        DhcpServer(nic, on_lease=on_lease)
        with pytest.raises(ZeroDivisionError):
            nic.receive_many([select("10.0.0.5"), select("10.0.0.6", chaddr=b"\2\0\0\0\0\x08")])
        with pytest.raises(ZeroDivisionError):
            stack.poll()
        assert leases == ["10.0.0.5", "10.0.0.6"]
        assert [frame[BOOTP].yiaddr for frame in sent(nic)] == leases, "the reply went out first"

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.binary(max_size=400) | st.binary(min_size=240, max_size=1400), min_size=1, max_size=5))
    def test_any_payload_is_counted_and_the_server_goes_on(self, nic: lwipy.Interface, payloads: list[bytes]) -> None:
        server = DhcpServer(nic)
        try:
            link = Ether(src=GUEST, dst=EVERYBODY) / IP(src="0.0.0.0", dst="255.255.255.255")
            nic.receive_many([bytes(link / UDP(sport=68, dport=67) / payload) for payload in payloads])
            assert sum(server.counters.values()) >= len(payloads)
            nic.receive(request("discover"))
            assert sent(nic)[-1][BOOTP].yiaddr == "10.0.0.2"
        finally:
            server.close()


class TestServer:
    def test_an_interface_has_one_server_and_another_interface_another(
        self, stack: lwipy.Stack, nic: lwipy.Interface
    ) -> None:
        other = stack.add_interface(ipv4="10.1.0.1/24")
        first, second = DhcpServer(nic), DhcpServer(other)
        with pytest.raises(OSError, match="nic0 has a DHCP server") as caught:
            DhcpServer(nic)
        assert caught.value.errno == errno.EADDRINUSE
        other.receive(request("discover"))
        assert (first.counters, second.counters) == ({}, {"discover": 1, "offer": 1})
        assert sent(nic) == []
        assert sent(other)[0][BOOTP].yiaddr == "10.1.0.2"

    def test_a_closed_server_is_silent_and_leaves_its_place_to_the_next(self, nic: lwipy.Interface) -> None:
        server = DhcpServer(nic)
        server.close()
        server.close()
        nic.receive(request("discover"))
        assert server.counters == {}
        DhcpServer(nic)
        nic.receive(request("discover"))
        assert sent(nic)[-1][BOOTP].yiaddr == "10.0.0.2"

    def test_a_server_may_be_closed_from_its_own_callback(self, nic: lwipy.Interface) -> None:
        server = DhcpServer(nic, on_lease=lambda lease: server.close())
        nic.receive_many([select("10.0.0.5"), select("10.0.0.6", chaddr=b"\2\0\0\0\0\x08")])
        assert [frame[BOOTP].yiaddr for frame in sent(nic)] == ["10.0.0.5"]

    def test_a_stack_may_be_closed_under_its_server(self, stack: lwipy.Stack, nic: lwipy.Interface) -> None:
        server = DhcpServer(nic)
        nic.receive(select("10.0.0.5"))
        stack.close()
        server.close()
        assert [lease.address for lease in server.leases] == ["10.0.0.5"]

    def test_an_interface_that_cannot_have_a_server_is_named(self, stack: lwipy.Stack) -> None:
        with pytest.raises(ValueError, match="no IPv4 address"):
            DhcpServer(stack.add_interface(name="bare"))
        with pytest.raises(ValueError, match="interface tun0 has no MAC addresses"):
            DhcpServer(stack.add_interface(name="tun0", layer=3, ipv4="10.0.0.1/24"))

    def test_wrong_arguments_leave_nothing_behind(self, nic: lwipy.Interface) -> None:
        for bad in (
            {"range": ("10.0.0.9", "10.0.0.5")},
            {"mtu": 5},
            {"static": {"03:00:00:00:00:01": "10.0.0.7"}},
        ):
            with pytest.raises(ValueError, match=r"10\.0\.0\.9|5|03:00"):
                DhcpServer(nic, **bad)
        DhcpServer(nic).close()


class TestGuest:
    """lwIP's own DHCP client on another stack."""

    @pytest.fixture
    def guest(self, clock: Clock, nic: lwipy.Interface) -> Iterator[lwipy.Interface]:
        stack = lwipy.Stack(clock)
        guest = stack.add_interface(mac=GUEST)
        lwipy.wire(nic, guest)
        yield guest
        stack.close()

    def until(self, done: Callable[[], bool], clock: Clock, *stacks: lwipy.Stack, seconds: float = 60.0) -> None:
        """Let virtual time pass until `done`."""
        end = clock.now + seconds
        while not done():
            assert clock.now < end
            for stack in stacks:
                stack.poll()
            clock.now += 0.05

    def test_gets_its_lease_and_what_it_needs_to_know(
        self, clock: Clock, stack: lwipy.Stack, nic: lwipy.Interface, guest: lwipy.Interface
    ) -> None:
        server = DhcpServer(nic, dns=["self", "10.0.0.53"], mtu=1400)
        guest.start_dhcp("Web Server")
        self.until(lambda: guest.has_lease, clock, stack, guest.stack)
        assert str(guest.ipv4) == "10.0.0.2/24"
        assert str(guest.gateway) == "10.0.0.1"
        assert list(guest.stack.dns_servers) == ["10.0.0.1", "10.0.0.53"]
        (lease,) = server.leases
        assert (lease.address, lease.mac, lease.hostname) == ("10.0.0.2", GUEST, "web-server")

    def test_keeps_its_address_by_renewing(
        self, clock: Clock, stack: lwipy.Stack, nic: lwipy.Interface, guest: lwipy.Interface
    ) -> None:
        leases: list[Lease] = []
        server = DhcpServer(nic, lease_time=120, on_lease=leases.append)
        guest.start_dhcp()
        self.until(lambda: server.counters.get("ack", 0) >= 5, clock, stack, guest.stack, seconds=900)
        assert str(guest.ipv4) == "10.0.0.2/24"
        assert guest.has_lease
        assert len(leases) == 1
        assert server.counters["discover"] == 1
        assert "nak" not in server.counters

    def test_gives_its_address_back_and_gets_it_again(
        self, clock: Clock, stack: lwipy.Stack, nic: lwipy.Interface, guest: lwipy.Interface
    ) -> None:
        server = DhcpServer(nic, range=("10.0.0.50", "10.0.0.60"))
        guest.start_dhcp()
        self.until(lambda: guest.has_lease, clock, stack, guest.stack)
        guest.stop_dhcp()
        self.until(lambda: len(server.leases) == 0, clock, stack, guest.stack)
        assert server.counters["release"] == 1
        guest.start_dhcp()
        self.until(lambda: guest.has_lease, clock, stack, guest.stack)
        assert str(guest.ipv4) == "10.0.0.50/24"

    def test_gets_the_address_that_was_set_aside_for_it(
        self, clock: Clock, stack: lwipy.Stack, nic: lwipy.Interface, guest: lwipy.Interface
    ) -> None:
        DhcpServer(nic, static={GUEST: "10.0.0.200"})
        guest.start_dhcp()
        self.until(lambda: guest.has_lease, clock, stack, guest.stack)
        assert str(guest.ipv4) == "10.0.0.200/24"

    def test_gets_a_lease_from_a_stack_that_a_thread_drives(self) -> None:
        with lwipy.Stack() as stack, lwipy.Stack() as other:
            nic, guest = stack.add_interface(ipv4="10.0.0.1/24"), other.add_interface()
            lwipy.wire(nic, guest)
            server = DhcpServer(nic)
            guest.start_dhcp("guest")
            while not guest.has_lease:
                time.sleep(0.01)
            assert [lease.hostname for lease in server.leases] == ["guest"]
