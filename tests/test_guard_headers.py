"""ICMP, extension headers, addresses and short headers that lwIP 2.2.1 must not see (csrc/guard.c)."""

from __future__ import annotations

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
    Peer,
    Raw,
    Target,
    ip,
    serve,
)
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP

from lwipy import Option

# -- ICMP, extension headers, addresses ----------------------------------------------------------------


@pytest.mark.parametrize("mtu", [0, 1, 47, 48, 52, 55, 56, 1279])
@pytest.mark.timeout(60)
def test_a_path_has_at_least_the_least_mtu(target: Target, mtu: int) -> None:
    """RFC 8201 4. With 48 to 55 lwIP cuts pieces of no bytes, for ever."""
    udp = target.stack.udp(6)
    udp.send(b"known", (ATTACKER[6], 9))
    quoted = IPv6(src=TARGET[6], dst=ATTACKER[6]) / UDP(sport=9, dport=9)
    target.inject(ip(6) / ICMPv6PacketTooBig(mtu=mtu) / quoted)
    target.out.clear()
    udp.send(bytes(3000), (ATTACKER[6], 9))
    sizes = [len(packet[IPv6]) for packet in target.answers(IPv6ExtHdrFragment)]
    assert sizes
    assert max(sizes) <= 1500
    assert len(sizes) == 3


@pytest.mark.parametrize("by", ["message", "interface"])
def test_a_smaller_path_mtu_in_mid_connection_loses_nothing(target: Target, by: str) -> None:
    """lwIP cuts TCP's own copy of a segment to pieces, and meets a null pointer when it sends it again."""
    listener = serve(target, 6)
    peer = Peer(target, family=6).connect(options=[("MSS", 1440)])
    server = listener.accept()
    server.set_option(Option.NODELAY, 1)
    server.send(bytes(14400))  # as much as may be on its way
    content = b"".join(bytes([65 + n]) * 300 for n in range(24))
    for at in range(0, len(content), 300):
        server.send(content[at : at + 300])  # segments of several buffers each
    if by == "message":
        target.inject(ip(6) / ICMPv6PacketTooBig(mtu=1280) / IPv6(src=TARGET[6], dst=ATTACKER[6]) / TCP(sport=80))
    else:
        target.nic.mtu = 1280
    target.out.clear()
    peer.ack += 14400
    target.inject(peer.segment("A"))
    target.time.run(limit=20)
    wholes: dict[int, dict[int, bytes]] = {}
    for packet in target.answers(IPv6ExtHdrFragment):
        header = packet[IPv6ExtHdrFragment]
        wholes.setdefault(header.id, {})[header.offset] = bytes(header.payload)
    segments = [TCP(b"".join(parts[at] for at in sorted(parts))) for parts in wholes.values()]
    assert len(segments) > 8  # some of them twice and more
    for segment in segments:
        at = segment.seq - peer.ack
        assert bytes(segment.payload) == content[at : at + 1440]
    server.abort()
    target.nic.mtu = 1500
    target.assert_unharmed()


def test_a_smaller_path_mtu_is_believed(target: Target) -> None:
    udp = target.stack.udp(6)
    udp.send(b"known", (ATTACKER[6], 9))
    target.inject(ip(6) / ICMPv6PacketTooBig(mtu=1280) / IPv6(src=TARGET[6], dst=ATTACKER[6]) / UDP())
    target.out.clear()
    udp.send(bytes(1400), (ATTACKER[6], 9))
    assert max(len(packet[IPv6]) for packet in target.answers(IPv6ExtHdrFragment)) == 1280


@pytest.mark.parametrize("header", [IPv6ExtHdrHopByHop, IPv6ExtHdrDestOpt])
@pytest.mark.parametrize(
    "options", [b"\x01\xff\0\0\0\0", b"\0\0\0\0\0\x01", b"\x01\x05\0\0\0\0", b"\x05\x02\0\0\x01\x03"]
)
def test_options_of_extension_headers_fill_them(target: Target, header: type[Packet], options: bytes) -> None:
    kind = header().overload_fields[IPv6]["nh"] if IPv6 in header().overload_fields else None
    nh = {IPv6ExtHdrHopByHop: 0, IPv6ExtHdrDestOpt: 60}[header] if kind is None else kind
    target.inject(ip(6, nh=nh) / Raw(bytes([59, 0]) + options))
    assert target.statistics().guard_ip_header == 1


@pytest.mark.parametrize("nh", [0, 43, 60])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 8])
def test_extension_headers_are_whole(target: Target, nh: int, size: int) -> None:
    target.inject(ip(6, nh=nh) / Raw((bytes([59, 1]) + bytes(30))[:size]))
    assert target.statistics().guard_ip_header == 1
    target.assert_unharmed()


def test_sound_extension_headers_pass(target: Target) -> None:
    chain = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=0)
    target.inject(ip(6) / chain / ICMPv6EchoRequest(data=b"12345678"))
    assert target.answers(ICMPv6EchoReply)
    target.inject(ip(6) / IPv6ExtHdrRouting(addresses=["fd00::9"], segleft=1) / ICMPv6EchoRequest())
    assert target.answers(ICMPv6ParamProblem)


@pytest.mark.parametrize("source", ["127.0.0.1", "127.9.9.9", "10.0.0.1", "::1", "fd00::1"])
def test_nobody_outside_is_one_of_us(target: Target, source: str) -> None:
    """RFC 1122 3.2.1.3: what comes from the wire does not come from the loopback, nor from ourselves."""
    family = 6 if ":" in source else 4
    udp = target.stack.udp(family)
    udp.bind((TARGET[family], 7))
    target.inject(ip(family, src=source) / UDP(sport=7, dport=7) / Raw(b"trust me"))
    with pytest.raises(BlockingIOError):
        udp.receive()
    listener = serve(target, family)
    target.inject(ip(family, src=source) / TCP(sport=80, dport=80, flags="S"))
    assert target.answers(TCP) == []
    assert target.statistics().guard_source == 2
    udp.close()
    listener.close()
    target.assert_unharmed()


@pytest.mark.parametrize("destination", ["127.0.0.1", "::1"])
def test_the_loopback_is_not_reached_from_outside(target: Target, destination: str) -> None:
    family = 6 if ":" in destination else 4
    udp = target.stack.udp(family)
    udp.bind(("", 7))
    target.inject(ip(family, dst=destination) / UDP(sport=9, dport=7) / Raw(b"let me in"))
    with pytest.raises(BlockingIOError):
        udp.receive()


# -- Headers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(28))
def test_arp_is_whole(target: Target, size: int) -> None:
    packet = bytes(ARP(op=1, hwsrc=ATTACKER_MAC, psrc=ATTACKER[4], pdst=TARGET[4]))
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=0x806) / Raw(packet[:size]))
    assert target.nic.counters.rx_malformed == 1
    assert target.answers(ARP) == []


@pytest.mark.parametrize("version", [4, 6])
def test_ip_headers_are_whole(target: Target, version: int) -> None:
    packet = bytes(ip(version) / UDP(sport=9, dport=7))
    header = {4: 20, 6: 40}[version]
    for size in range(header + 7):
        target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type={4: 0x800, 6: 0x86DD}[version]) / packet[:size])
    assert target.nic.counters.rx_malformed == header + 7
    assert target.statistics().udp_rx == 0


@pytest.mark.parametrize("kind", [0x800, 0x86DD])
def test_the_ethernet_type_and_the_version_agree(target: Target, kind: int) -> None:
    other = {0x800: ip(6) / ICMPv6EchoRequest(), 0x86DD: ip(4, id=0, flags="DF") / ICMP() / Raw(bytes(40))}[kind]
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=kind) / Raw(bytes(other)))
    assert target.nic.counters.rx_malformed == 1


@pytest.mark.parametrize("size", range(4))
def test_udp_ports_of_a_packet_for_others_are_not_read_beyond_it(target: Target, size: int) -> None:
    target.inject(ip(4, dst="10.0.0.99", proto=17, frag=9) / Raw(bytes(size)))
    target.assert_unharmed()
