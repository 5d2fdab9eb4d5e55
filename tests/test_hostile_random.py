"""Noise, and what looks almost right: random bytes, and mutations of good frames of every kind lwIP reads.

Sums are off on the interface, so that a changed frame is not thrown away for its sum; a peer can always get it right.
"""

from __future__ import annotations

import random
import struct

import pytest
from attacker import (
    ATTACKER,
    ATTACKER_MAC,
    ICMP,
    TARGET,
    TARGET_MAC,
    TCP,
    UDP,
    Ether,
    IPv6,
    Packet,
    Raw,
    Target,
    VirtualTime,
    framed,
    ip,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Dot1Q

from lwipy.endpoints import Lookup

BATCH = 2000
LINK_LOCAL = "fe80::66"


def good_frames() -> list[bytes]:
    """One of each kind, as a well-meaning neighbour would send it."""
    echo6 = ICMPv6EchoRequest(data=bytes(40))
    lladdr = ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER_MAC)
    from_router = IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255)
    prefix = ICMPv6NDOptPrefixInfo(prefix="fd01::", prefixlen=64, validlifetime=9000, preferredlifetime=9000)
    error = ip(4, src=TARGET[4], dst=ATTACKER[4]) / TCP(sport=80, dport=40000)
    error6 = IPv6(src=TARGET[6], dst=ATTACKER[6]) / UDP(sport=7, dport=9)
    offer = BOOTP(op=2, yiaddr="10.0.0.77", siaddr="10.0.0.66", chaddr=bytes.fromhex(TARGET_MAC.replace(":", "")))
    offer /= DHCP(options=[("message-type", "offer"), ("server_id", "10.0.0.66"), ("lease_time", 60),
                           ("router", "10.0.0.66"), ("name_server", "10.0.0.66"), "end"])  # fmt: skip
    dns = DNS(id=1, qr=1, qd=DNSQR(qname="example.org"), an=DNSRR(rrname="example.org", rdata="10.0.0.9"))
    packets: list[Packet] = [
        Ether(src=ATTACKER_MAC, dst="ff:ff:ff:ff:ff:ff")
        / ARP(op=1, hwsrc=ATTACKER_MAC, psrc=ATTACKER[4], pdst=TARGET[4]),
        Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / ARP(op=2, hwsrc=ATTACKER_MAC, psrc="10.0.0.9", pdst=TARGET[4]),
        Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / Dot1Q(vlan=5) / ip(4) / ICMP() / Raw(bytes(40)),
        ip(4) / ICMP() / Raw(bytes(56)),
        ip(4, options=[b"\x94\x04\x00\x00"]) / ICMP() / Raw(bytes(8)),
        ip(4) / ICMP(type=3, code=3) / error,
        ip(4) / ICMP(type=3, code=4) / error,
        ip(4) / ICMP(type=5, code=1, gw=ATTACKER[4]) / error,
        ip(4, flags="MF") / ICMP() / Raw(bytes(64)),
        ip(4, frag=9) / Raw(bytes(64)),
        ip(4, flags="MF", proto=17) / UDP(sport=9, dport=7, len=80) / Raw(bytes(56)),
        ip(4, frag=8, proto=17) / Raw(bytes(16)),
        ip(4, dst="224.0.0.1", proto=2) / Raw(bytes.fromhex("1114eeeb00000000")),  # IGMP: who is in any group?
        ip(4, dst="224.0.0.251", proto=2) / Raw(bytes.fromhex("160009 04e00000fb")),  # somebody is in this one
        ip(4) / UDP(sport=9, dport=7) / Raw(b"hello"),
        ip(4) / UDP(sport=53, dport=7) / dns,
        ip(4, dst="255.255.255.255") / UDP(sport=67, dport=68) / offer,
        ip(4) / TCP(sport=40000, dport=80, flags="S", options=[("MSS", 1460), ("WScale", 7), ("SAckOK", b"")]),
        ip(4) / TCP(sport=40000, dport=80, flags="A", seq=1) / Raw(bytes(100)),
        ip(4) / TCP(sport=40000, dport=9, flags="S"),
        ip(6) / echo6,
        ip(6) / TCP(sport=40000, dport=80, flags="S", options=[("MSS", 1440)]),
        ip(6) / UDP(sport=9, dport=7) / Raw(b"hello"),
        ip(6) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / echo6,
        ip(6) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"1234")]) / echo6,
        ip(6) / IPv6ExtHdrRouting(addresses=["fd00::9"]) / echo6,
        ip(6) / IPv6ExtHdrFragment(m=1, nh=58, id=7) / Raw(bytes([128, 0, 0, 0]) + bytes(60)),
        ip(6) / IPv6ExtHdrFragment(offset=8, nh=58, id=7) / Raw(bytes(16)),
        ip(6) / IPv6ExtHdrFragment(nh=17, id=8) / UDP(sport=9, dport=7) / Raw(b"hello"),
        ip(6) / ICMPv6PacketTooBig(mtu=1280) / error6,
        ip(6, hlim=255) / ICMPv6ND_NS(tgt=TARGET[6]) / lladdr,
        ip(6, src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=TARGET[6]),
        ip(6, hlim=255) / ICMPv6ND_NA(tgt=ATTACKER[6], S=1, O=1) / ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC),
        ip(6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt="fd00::9") / ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC),
        ip(6, hlim=255) / ICMPv6ND_RS() / lladdr,
        from_router / ICMPv6ND_RA(routerlifetime=60) / lladdr / ICMPv6NDOptMTU(mtu=1400) / prefix,
        from_router / ICMPv6ND_RA() / ICMPv6NDOptRDNSS(dns=[ATTACKER[6]]) / prefix,
        from_router / ICMPv6ND_Redirect(tgt=LINK_LOCAL, dst=ATTACKER[6])
        / ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC),
        ip(6, src=LINK_LOCAL, dst="ff02::1", hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()]) / ICMPv6MLQuery(),
        ip(6, src=LINK_LOCAL, dst="ff02::1:ff00:1", hlim=1) / ICMPv6MLReport(mladdr="ff02::1:ff00:1"),
        ip(6, src=LINK_LOCAL, dst="ff02::2", hlim=1) / ICMPv6MLDone(mladdr="ff02::1:ff00:1"),
    ]  # fmt: skip
    return [framed(packet) for packet in packets]


def mutated(frame: bytes, draw: random.Random) -> bytes:
    """The frame with a few of its bytes, its end or its lengths changed."""
    changed = bytearray(frame)
    for _ in range(draw.choice([1, 1, 2, 3, 8])):
        at = draw.randrange(12, len(changed)) if len(changed) > 12 else 0
        kind = draw.randrange(8)
        if kind < 3:
            changed[at : at + 1] = bytes([draw.choice([0, 1, 2, 8, 127, 128, 254, 255, draw.getrandbits(8)])])
        elif kind == 3:
            changed[at : at + 2] = struct.pack("!H", draw.choice([0, 1, 7, 8, 20, 40, 65535, draw.getrandbits(16)]))
        elif kind == 4:
            del changed[draw.randrange(14, max(15, len(changed))) :]
        elif kind == 5:
            changed += draw.randbytes(draw.randrange(1, 200))
        elif kind == 6:
            del changed[at : at + draw.choice([1, 2, 8])]
        else:
            changed[at:at] = draw.randbytes(draw.choice([1, 2, 8]))
    return bytes(changed[:1514])


class Busy:
    """A stack in the middle of everything: it listens, receives, resolves names, asks for a lease and for routers."""

    def __init__(self, time: VirtualTime, seed: int, **arguments: int) -> None:
        self.time = time
        self.stack = stack = time.stack(seed=seed + 1, **arguments)
        self.nic = stack.add_interface(mac=TARGET_MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64", checksums=False)
        for address in [*ATTACKER.values(), LINK_LOCAL]:
            self.nic.add_neighbour(address, ATTACKER_MAC)
        stack.dns_servers = [ATTACKER[4], ATTACKER[6]]
        self.udp, self.group = stack.udp(0), stack.udp(4)
        self.raw = [stack.raw(1, 4), stack.raw(58, 6), stack.raw(2, 4)]

    def start(self) -> None:
        self.listener = self.stack.tcp(0)
        self.listener.bind(("", 80))
        self.listener.listen()
        self.udp.bind(("", 7))
        self.group.bind(("", 5353))
        self.group.join("224.0.0.251", self.nic)
        self.nic.autoconfigure()
        self.nic.start_dhcp("target")

    def work(self, draw: random.Random) -> None:
        """What a program on it does now and then."""
        for end in (self.udp, *self.raw):
            try:
                while True:
                    end.receive()
            except BlockingIOError:
                pass
        try:
            connection = self.listener.accept()
            connection.abort()
        except BlockingIOError:
            pass
        for family in (4, 6):
            try:
                self.udp.send(bytes(draw.choice([1, 1400, 4000])), (ATTACKER[family], 9))
            except OSError:
                pass
        if draw.random() < 0.3:
            Lookup(self.stack, "example.org", [4, 6], lambda found: None)

    def assert_alive(self) -> None:
        """It is still a stack: what it was given it has, and packets to itself arrive."""
        probe = self.stack.udp(4)
        probe.bind(("127.0.0.1", 999))
        probe.send(b"alive", ("127.0.0.1", 999))
        self.time.run(limit=1)
        assert probe.receive().data == b"alive"


def assault(seed: int, batches: int = 10) -> None:
    draw = random.Random(seed)
    corpus = good_frames()
    with VirtualTime() as time:
        busy = Busy(time, seed)
        busy.start()
        for _ in range(batches):
            busy.nic.receive_many([mutated(draw.choice(corpus), draw) for _ in range(BATCH // 10)])
            busy.work(draw)
            time.run(limit=draw.choice([0.001, 0.1, 1.0, 20.0]))
            busy.nic.frames()
        busy.assert_alive()
        assert busy.stack.statistics.memory_used < 20 << 20


@pytest.mark.parametrize("seed", range(20))
def test_mutations_of_good_frames_change_nothing(seed: int) -> None:
    assault(seed)


@pytest.fixture(scope="module")
def target() -> Target:
    return Target(VirtualTime())


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames=st.lists(st.binary(max_size=200), max_size=60))
def test_random_bytes_are_counted_and_dropped(target: Target, frames: list[bytes]) -> None:
    before = target.nic.counters.rx_frames
    target.nic.receive_many(frames)
    assert target.nic.counters.rx_frames == before + len(frames)


def test_random_bytes_in_tens_of_thousands(target: Target) -> None:
    draw = random.Random(5)
    ethernet = bytes.fromhex((TARGET_MAC + ATTACKER_MAC).replace(":", ""))
    kinds = [b"\x08\x00\x45", b"\x08\x06", b"\x86\xdd\x60", b"\x08\x00", b"\x81\x00\x00\x05\x08\x00\x45", b""]
    for _ in range(10):
        frames = [ethernet + draw.choice(kinds) + draw.randbytes(draw.randrange(0, 120)) for _ in range(4000)]
        target.nic.receive_many(frames)
    assert target.nic.counters.rx_malformed > 10_000
    target.assert_unharmed()
