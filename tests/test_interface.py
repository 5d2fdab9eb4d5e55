"""Interfaces: addresses, frames, routes, neighbours, state; by hand and in virtual time."""

from __future__ import annotations

import errno
import ipaddress

import pytest
from conftest import Pair
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

import lwipy
from lwipy import Event
from lwipy.testing import VirtualTime

BROADCAST = "ff:ff:ff:ff:ff:ff"


def test_an_interface_is_as_it_was_made(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    nic = stack.add_interface(
        mac="02:00:00:00:00:07", ipv4="10.1.2.3/20", ipv6=["fd00::3/48", "2001:db8::3/127"], gateway="10.1.0.1",
        mtu=9000, name="lab",
    )  # fmt: skip
    assert (nic.name, nic.mac, nic.mtu) == ("lab", "02:00:00:00:00:07", 9000)
    assert nic.ipv4 == ipaddress.ip_interface("10.1.2.3/20")
    assert nic.ipv6[0].ip.is_link_local
    assert nic.ipv6[1:] == (ipaddress.ip_interface("fd00::3/48"), ipaddress.ip_interface("2001:db8::3/127"))
    assert nic.gateway == ipaddress.ip_address("10.1.0.1")
    assert nic.up
    assert nic.link_up
    assert stack.interfaces == {"lab": nic}


def test_it_answers_arp_and_ping_frame_by_frame(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    nic = stack.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24")
    nic.frames()
    nic.receive(
        bytes(
            Ether(dst=BROADCAST, src="02:00:00:00:00:99")
            / ARP(psrc="10.0.0.9", pdst="10.0.0.1", hwsrc="02:00:00:00:00:99")
        )
    )
    (answer,) = map(Ether, nic.frames())
    assert (answer[ARP].op, answer[ARP].hwsrc, answer[ARP].psrc) == (2, "02:00:00:00:00:01", "10.0.0.1")
    ping = (
        Ether(dst=nic.mac, src="02:00:00:00:00:99") / IP(src="10.0.0.9", dst="10.0.0.1") / ICMP(id=7) / Raw(b"x" * 56)
    )
    nic.receive_many([bytes(ping)] * 3)
    replies = [Ether(frame) for frame in nic.frames()]
    assert [(reply[ICMP].type, reply[ICMP].id, bytes(reply[Raw])) for reply in replies] == [(0, 7, b"x" * 56)] * 3


def test_frames_go_to_on_frame_as_they_come(virtual: VirtualTime) -> None:
    nic = virtual.stack().add_interface(ipv4="10.0.0.1/24")
    seen: list[bytes] = []
    nic.on_frame = seen.append
    nic.receive(bytes(Ether(dst=BROADCAST) / ARP(psrc="10.0.0.9", pdst="10.0.0.1")))
    assert any(ARP in Ether(frame) and Ether(frame)[ARP].op == 2 for frame in seen)
    assert nic.frames() == []


def test_an_exception_in_on_frame_reaches_the_caller(virtual: VirtualTime) -> None:
    nic = virtual.stack().add_interface()

    def fail(frame: bytes) -> None:
        raise LookupError("no such wire")

    with pytest.raises(LookupError, match="no such wire"):
        nic.on_frame = fail
        nic.ipv4 = "10.0.0.1/24"
        virtual.run(limit=1)


def test_ip_interfaces_carry_bare_packets(virtual: VirtualTime) -> None:
    nic = virtual.stack().add_interface(layer=3, ipv4="10.8.0.1/32", ipv6="fd08::1/128", mtu=1420)
    nic.receive(bytes(IP(src="192.0.2.9", dst="10.8.0.1") / ICMP(id=3)))
    (reply,) = map(IP, nic.frames())
    assert (reply.dst, reply[ICMP].type) == ("192.0.2.9", 0)
    assert nic.mac == ""
    assert not nic.ipv6[0].ip.is_link_local


def test_tcp_crosses_a_wire_of_ip_interfaces(virtual: VirtualTime) -> None:
    a, b = virtual.stack(), virtual.stack()
    lwipy.wire(a.add_interface(layer=3, ipv4="10.8.0.1/24"), b.add_interface(layer=3, ipv4="10.8.0.2/24"))
    listener, client = a.tcp(), b.tcp()
    listener.bind(("", 80))
    listener.listen()
    client.connect(("10.8.0.1", 80))
    virtual.run(lambda: listener.info.queued)


def test_the_loopback_is_built_in(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    for family, host in ((4, "127.0.0.1"), (6, "::1")):
        server, client = stack.udp(family), stack.udp(family)
        server.bind((host, 7))
        client.send(b"me", (host, 7))
        virtual.run(lambda server=server: Event.READABLE in server.ready(), limit=1)  # type: ignore[misc]
        assert server.receive().data == b"me"


def test_a_host_reaches_itself_by_its_own_address(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(), hosts.a.udp()
    server.bind(("", 7))
    client.send(b"me", ("10.0.0.1", 7))
    hosts.time.run(lambda: Event.READABLE in server.ready(), limit=1)


def test_two_interfaces_of_one_stack_may_share_a_wire(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    one, two = stack.add_interface(ipv4="10.1.0.1/24"), stack.add_interface(ipv4="10.2.0.1/24")
    lwipy.wire(one, two)
    one.ipv4 = "10.1.0.2/24"  # a gratuitous ARP crosses
    virtual.run(limit=1)
    assert two.counters.rx_frames > 0


def test_addresses_change_while_running(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(), hosts.b.udp()
    server.bind(("", 7))
    hosts.nic_a.ipv4 = "10.0.0.50/24"
    client.send(b"old", ("10.0.0.1", 7))
    client.send(b"new", ("10.0.0.50", 7))
    hosts.time.run(limit=10)
    assert server.receive().data == b"new"
    hosts.nic_a.ipv4 = None
    assert hosts.nic_a.ipv4 is None


def test_ipv6_addresses_come_and_go(hosts: Pair) -> None:
    hosts.nic_a.add_ipv6("fd00::aa/64")
    with pytest.raises(OSError, match="fd00::aa") as info:
        hosts.nic_a.add_ipv6("fd00::aa/64")
    assert info.value.errno == errno.EADDRINUSE
    hosts.nic_a.remove_ipv6("fd00::aa")
    assert ipaddress.ip_interface("fd00::aa/64") not in hosts.nic_a.ipv6
    with pytest.raises(OSError, match="fd00::aa"):
        hosts.nic_a.remove_ipv6("fd00::aa")


def test_ipv6_slots_are_bounded_by_an_error(hosts: Pair) -> None:
    with pytest.raises(OSError, match="fd00::") as info:
        for number in range(0x10, 0x20):
            hosts.nic_a.add_ipv6(f"fd00::{number:x}/64")
    assert info.value.errno == errno.ENOBUFS


def test_down_means_no_frame_passes_and_that_is_counted(hosts: Pair) -> None:
    assert hosts.time is not None
    hosts.nic_a.up = False
    hosts.b.udp().send(b"x", ("10.0.0.1", 7))
    hosts.time.run(limit=1)
    assert hosts.nic_a.counters.rx_down > 0
    hosts.nic_a.up = True
    hosts.nic_b.link_up = False
    assert not hosts.nic_b.link_up
    with pytest.raises(OSError, match="No route"):
        hosts.b.udp().send(b"x", ("10.0.0.1", 7))


def test_the_gateway_carries_what_is_not_local(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    nic = stack.add_interface(
        mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64", gateway=["10.0.0.254", "fd00::254"]
    )
    nic.add_neighbour("10.0.0.254", "02:00:00:00:00:fe")
    nic.add_neighbour("fd00::254", "02:00:00:00:00:fe")
    nic.frames()
    stack.udp().send(b"x", ("192.0.2.1", 7))
    stack.udp(6).send(b"x", ("2001:db8::1", 7))
    sent = [Ether(frame) for frame in nic.frames()]
    assert [frame.dst for frame in sent if IP in frame] == ["02:00:00:00:00:fe"]
    assert [frame.dst for frame in sent if IPv6 in frame and frame[IPv6].dst == "2001:db8::1"] == ["02:00:00:00:00:fe"]


def test_the_longest_ipv6_prefix_wins(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    wide = stack.add_interface(layer=3, ipv6="fd00::1/16")
    narrow = stack.add_interface(layer=3, ipv6="fd00:0:0:1::1/64")
    stack.udp(6).send(b"x", ("fd00:0:0:1::9", 7))
    stack.udp(6).send(b"x", ("fd00:0:0:2::9", 7))
    assert [IPv6(frame).dst for frame in narrow.frames()] == ["fd00:0:0:1::9"]
    assert [IPv6(frame).dst for frame in wide.frames()] == ["fd00:0:0:2::9"]


def test_static_neighbours_need_no_arp(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    nic = stack.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
    nic.add_neighbour("10.0.0.9", "02:00:00:00:00:09")
    nic.add_neighbour("fd00::9", "02:00:00:00:00:09")
    nic.frames()
    stack.udp().send(b"x", ("10.0.0.9", 7))
    stack.udp(6).send(b"x", ("fd00::9", 7))
    assert [Ether(frame).dst for frame in nic.frames()] == ["02:00:00:00:00:09"] * 2
    nic.remove_neighbour("10.0.0.9")
    with pytest.raises(OSError, match=r"10\.0\.0\.9"):
        nic.remove_neighbour("10.0.0.9")


@pytest.mark.parametrize("mtu", [68, 576, 1280, 65535])
def test_packets_keep_to_the_mtu(virtual: VirtualTime, mtu: int) -> None:
    a, b = virtual.stack(), virtual.stack()
    nic_a, nic_b = a.add_interface(ipv4="10.0.0.1/24", mtu=mtu), b.add_interface(ipv4="10.0.0.2/24", mtu=mtu)
    longest = 0

    def carry() -> bool:
        nonlocal longest
        for one, other in ((nic_a, nic_b), (nic_b, nic_a)):
            frames = one.frames()
            longest = max([longest, *(len(frame) - 14 for frame in frames)])
            other.receive_many(frames)
        return Event.READABLE in server.ready()

    server, client = a.udp(), b.udp()
    server.bind(("", 7))
    client.send(bytes(3000), ("10.0.0.1", 7))
    virtual.run(carry, limit=5)
    assert len(server.receive().data) == 3000
    assert longest <= mtu


def test_counters_count(hosts: Pair) -> None:
    assert hosts.time is not None
    before = hosts.nic_a.counters
    hosts.b.udp().send(bytes(100), ("10.0.0.1", 7))
    hosts.time.run(limit=1)
    after = hosts.nic_a.counters
    assert after.rx_frames - before.rx_frames >= 2
    assert after.rx_bytes - before.rx_bytes >= 142


def test_frames_nobody_takes_are_bounded_and_counted(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    nic = stack.add_interface(ipv4="10.0.0.1/24")
    nic.add_neighbour("10.0.0.9", "02:00:00:00:00:09")
    end = stack.udp()
    for _ in range(4000):
        end.send(bytes(1400), ("10.0.0.9", 7))
    assert nic.counters.tx_full > 0
    assert sum(map(len, nic.frames())) <= 4 << 20


def test_a_removed_interface_says_so(hosts: Pair) -> None:
    hosts.nic_a.remove()
    hosts.nic_a.remove()
    with pytest.raises(OSError, match="a0 was removed") as info:
        hosts.nic_a.frames()
    assert info.value.errno == errno.ENODEV
    assert hosts.a.interfaces == {}
    # Its name and the other end of the wire are free again.
    lwipy.wire(hosts.a.add_interface(name="a0"), hosts.nic_b)


def test_wires_join_like_with_like(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    ethernet, ip = stack.add_interface(), stack.add_interface(layer=3)
    with pytest.raises(ValueError, match=r"L2.*L3"):
        lwipy.wire(ethernet, ip)
    with pytest.raises(ValueError, match="itself"):
        lwipy.wire(ip, ip)
