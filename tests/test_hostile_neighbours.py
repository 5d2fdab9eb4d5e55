"""Neighbor Discovery, MLD and IGMP from someone who obeys no rule. Options that do not fit are in test_guard_nd.py."""

from __future__ import annotations

import random
import socket
import struct

import pytest
from attacker import ATTACKER_MAC, IP, TARGET, Ether, IPv6, Packet, Raw, Target, ip
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    in6_chksum,
)
from scapy.utils import checksum

ALL_NODES = "ff02::1"


@pytest.fixture
def router(target: Target) -> Target:
    """The target when it believes in routers."""
    target.nic.autoconfigure()
    target.rest()
    return target


def link_local(n: int) -> str:
    return f"fe80::{n + 0x100:x}"


def test_a_flood_of_solicitations_from_everywhere(target: Target) -> None:
    option = ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER_MAC)
    for n in range(1000):
        target.inject(IPv6(src=link_local(n), dst=TARGET[6], hlim=255) / ICMPv6ND_NS(tgt=TARGET[6]) / option)
    assert target.statistics().memory_used < 1 << 20
    target.assert_unharmed()


def test_a_flood_of_routers_and_prefixes(router: Target) -> None:
    """Three routers, five prefixes and eight addresses is what there is room for; the rest is not taken."""
    for n in range(300):
        prefix = ICMPv6NDOptPrefixInfo(prefix=f"fd{n % 256:02x}:{n:x}::", prefixlen=64, A=1, L=1)
        options = (
            ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER_MAC) / ICMPv6NDOptMTU(mtu=random.Random(n).randrange(1 << 32)) / prefix
        )
        times = ICMPv6ND_RA(routerlifetime=n * 200, reachabletime=n, retranstimer=n)
        router.inject(IPv6(src=link_local(n), dst=ALL_NODES, hlim=255) / times / options)
    assert len(router.nic.ipv6) <= 8
    assert str(router.nic.ipv6[1].ip) == TARGET[6]
    router.assert_unharmed()


@pytest.mark.parametrize("lifetime", [0, 1, 0xFFFFFFFE, 0xFFFFFFFF])
@pytest.mark.parametrize("preferred", [0, 1, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 128, 129, 255])
def test_prefixes_of_any_length_and_life(router: Target, lifetime: int, preferred: int, length: int) -> None:
    for prefix in ("fd09::", "fe80::", "ff02::1", "::", "::1", "fd00::"):
        option = ICMPv6NDOptPrefixInfo(
            prefix=prefix, prefixlen=length, A=1, L=1, validlifetime=lifetime, preferredlifetime=preferred
        )
        router.inject(IPv6(src=link_local(1), dst=ALL_NODES, hlim=255) / ICMPv6ND_RA() / option)
    router.time.run(limit=30)
    router.talk(6)


def test_name_servers_of_a_router_are_not_taken(router: Target) -> None:
    """Names are asked of whom the user or a lease says."""
    option = ICMPv6NDOptRDNSS(dns=["fd00::bad"], lifetime=9000)
    router.inject(IPv6(src=link_local(1), dst=ALL_NODES, hlim=255) / ICMPv6ND_RA() / option)
    assert list(router.stack.dns_servers) == []


@pytest.mark.parametrize("hlim", [0, 1, 64, 254])
def test_neighbor_discovery_comes_from_this_link(router: Target, hlim: int) -> None:
    """RFC 4861: a hop limit of 255 cannot have passed a router."""
    before = router.statistics().nd6_drop
    option = ICMPv6NDOptPrefixInfo(prefix="fd09::", prefixlen=64)
    near = IPv6(src=link_local(1), dst=TARGET[6], hlim=hlim)
    router.inject(near / ICMPv6ND_RA() / option, near / ICMPv6ND_NS(tgt=TARGET[6]), near / ICMPv6ND_NA(tgt="fd00::9"),
                  near / ICMPv6ND_Redirect(tgt=link_local(2), dst="fd00::2"))  # fmt: skip
    assert router.statistics().nd6_drop == before + 4
    assert not [address for address in router.nic.ipv6 if str(address).startswith("fd09")]


@pytest.mark.parametrize("tgt", ["ff02::1", "::", "::1", "fd00::1", "fd00::99", "fe80::1"])
@pytest.mark.parametrize("dst", [TARGET[6], ALL_NODES, "ff02::1:ff00:1"])
@pytest.mark.parametrize("src", ["::", "fd00::66", "fe80::66", "ff02::1"])
def test_absurd_targets(target: Target, tgt: str, dst: str, src: str) -> None:
    for message in (ICMPv6ND_NS(tgt=tgt), ICMPv6ND_NA(tgt=tgt, O=1, S=1), ICMPv6ND_NA(tgt=tgt, R=1)):
        header = IPv6(src=src, dst=dst, hlim=255)
        target.inject(header / message, header / message / ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC))
        target.inject(header / message / ICMPv6NDOptSrcLLAddr(lladdr="ff:ff:ff:ff:ff:ff"))
    target.time.run(limit=5)
    target.assert_unharmed()


def test_redirects_of_everything(router: Target) -> None:
    router.talk(6)
    for destination in ("fd00::2", "fd00::66", "ff02::1", "::", "fd00::1"):
        for next_hop in ("fe80::99", "ff02::1", "::", "::1", destination):
            redirect = ICMPv6ND_Redirect(tgt=next_hop, dst=destination)
            router.inject(IPv6(src=link_local(1), dst=TARGET[6], hlim=255) / redirect)
    router.time.run(limit=200)
    router.nic.autoconfigure(False)
    router.nic.remove_ipv6("fd00::1")
    router.nic.add_ipv6("fd00::1/64")  # forgets the ways it was told
    router.assert_unharmed()


# -- Groups ----------------------------------------------------------------------------------------


def igmp(kind: int, maximum: int, group: str, dst: str = "224.0.0.1", extra: bytes = b"") -> Packet:
    body = struct.pack("!BBH", kind, maximum, 0) + socket.inet_aton(group) + extra
    return ip(4, dst=dst, proto=2, ttl=1) / Raw(body[:2] + struct.pack("!H", checksum(body)) + body[4:])


def test_queries_and_reports_of_any_kind(target: Target) -> None:
    udp = target.stack.udp()
    udp.join("224.0.0.251", target.nic)
    for kind in (0x11, 0x12, 0x16, 0x17, 0x22, 0, 255):
        for maximum in (0, 1, 10, 128, 255):
            for group in ("0.0.0.0", "224.0.0.1", "224.0.0.251", "239.1.2.3", "10.0.0.1", "255.255.255.255"):
                for destination in ("224.0.0.1", "224.0.0.251", TARGET[4]):
                    target.inject(igmp(kind, maximum, group, destination, bytes(4)))
    target.time.run(limit=60)
    assert target.answers(IP)
    for size in range(8):
        target.inject(ip(4, dst="224.0.0.1", proto=2) / Raw(bytes(igmp(0x11, 1, "0.0.0.0").payload)[:size]))
    udp.leave("224.0.0.251", target.nic)
    udp.close()
    target.assert_unharmed()


def test_a_flood_of_queries_is_answered_at_leisure(target: Target) -> None:
    udp = target.stack.udp()
    udp.join("224.0.0.251", target.nic)
    target.rest()
    for _ in range(100):
        target.inject(igmp(0x11, 100, "0.0.0.0"))
    target.time.run(limit=30)
    assert len([packet for packet in target.answers(IP) if packet[IP].proto == 2]) <= 3


def test_mld_of_any_kind(target: Target) -> None:
    for layer in (ICMPv6MLQuery, ICMPv6MLReport, ICMPv6MLDone):
        for group in ("::", "ff02::1", "ff02::1:ff00:1", "ff01::1", "fd00::1", "ff0e::9"):
            for delay in (0, 1, 1000, 65535):
                for destination in (ALL_NODES, "ff02::1:ff00:1", TARGET[6]):
                    target.inject(IPv6(src=link_local(1), dst=destination, hlim=1) / layer(mladdr=group, mrd=delay))
    target.time.run(limit=120)
    for kind in (130, 131, 132, 143):
        for size in range(24):
            packet = IPv6(src=link_local(1), dst=ALL_NODES, hlim=1, nh=58)
            body = (bytes([kind]) + bytes(23))[:size]
            if size >= 4:
                body = body[:2] + struct.pack("!H", in6_chksum(58, packet, body)) + body[4:]
            target.inject(packet / Raw(body))
    target.assert_unharmed()


def test_a_multicast_ping_is_not_answered(target: Target) -> None:
    target.inject(Ether(dst="33:33:00:00:00:01", src=ATTACKER_MAC) / ip(6, dst=ALL_NODES) / ICMPv6EchoRequest())
    assert target.answers(ICMPv6EchoReply) == []
