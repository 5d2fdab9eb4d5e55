"""IPv4, IPv6, fragments, ICMP and UDP from someone who obeys no rule."""

from __future__ import annotations

import random

import pytest
from attacker import (
    ATTACKER,
    ATTACKER_MAC,
    ICMP,
    IP,
    TARGET,
    TARGET_MAC,
    TCP,
    UDP,
    Ether,
    IPv6,
    Packet,
    Raw,
    Target,
    heard,
    ip,
    listening,
    serve,
)
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrHopByHop,
)
from scapy.utils import checksum

# -- Headers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ihl", range(16))
@pytest.mark.parametrize("length", [0, 19, 20, 28, 36, 60, 1000, 65535])
def test_ipv4_lengths_that_lie(target: Target, ihl: int, length: int) -> None:
    udp = listening(target)
    packet = bytearray(bytes(ip(4) / UDP(sport=9, dport=7) / Raw(b"payload!")))
    packet[0] = 0x40 | ihl
    packet[2:4] = length.to_bytes(2, "big")
    packet[10:12] = b"\0\0"
    header = IP(bytes(packet[:20]))
    del header.chksum
    target.inject(Ether(dst=TARGET_MAC, type=0x800) / Raw(bytes(header)[:20] + bytes(packet[20:])))
    assert heard(udp) == ([b"payload!"] if (ihl, length) == (5, 36) else [])
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("version", [v for v in range(16) if v not in (4, 6)])
def test_other_versions(target: Target, version: int) -> None:
    for kind in (0x800, 0x86DD):
        target.inject(Ether(dst=TARGET_MAC, type=kind) / Raw(bytes([version << 4 | 5]) + bytes(60)))
    assert target.nic.counters.rx_malformed >= 1
    target.assert_unharmed()


@pytest.mark.parametrize(
    "options",
    [b"\x07\x03\x04", b"\x83\xff\x04", b"\x44\0\0\0", b"\x01" * 40, b"\xff" * 40, b"\x88\x04\0\1", b"\x94\x04\0\0"],
)
def test_ipv4_options_are_carried_not_obeyed(target: Target, options: bytes) -> None:
    options += bytes(-len(options) % 4)
    packet = IP(bytes(ip(4, ihl=5 + len(options) // 4, options=[]))[:20])
    header = bytearray(bytes(packet))
    header[2:4] = (20 + len(options) + 16).to_bytes(2, "big")
    header[9] = 1
    header[10:12] = b"\0\0"
    whole = bytes(header) + options
    whole = whole[:10] + checksum(whole).to_bytes(2, "big") + whole[12:]
    target.inject(Ether(dst=TARGET_MAC, type=0x800) / Raw(whole + bytes(ICMP() / Raw(b"12345678"))))
    (answer,) = target.answers(ICMP)
    assert answer[IP].dst == ATTACKER[4]


def test_a_wrong_sum_is_counted(target: Target) -> None:
    udp = listening(target)
    target.inject(ip(4, chksum=1) / UDP(sport=9, dport=7) / Raw(b"x"))
    target.inject(ip(4) / UDP(sport=9, dport=7, chksum=1) / Raw(b"x"))
    target.inject(ip(6) / UDP(sport=9, dport=7, chksum=1) / Raw(b"x"))
    target.inject(ip(4) / TCP(sport=9, dport=7, flags="S", chksum=1))
    target.inject(ip(4) / ICMP(chksum=1))
    assert heard(udp) == []
    now = target.statistics()
    assert (now.ip4_chkerr, now.udp_chkerr, now.tcp_chkerr) == (1, 2, 1)
    assert target.answers(ICMP) == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_time_to_live_of_zero_is_still_ours(target: Target, family: int) -> None:
    """A host does not count hops: what arrives has arrived (RFC 1122 3.2.1.7)."""
    udp = listening(target, family)
    field = {4: "ttl", 6: "hlim"}[family]
    target.inject(ip(family, **{field: 0}) / UDP(sport=9, dport=7) / Raw(b"old"))
    assert heard(udp) == [b"old"]


@pytest.mark.parametrize("source", ["255.255.255.255", "224.0.0.1", "10.0.0.255", "0.0.0.0"])
def test_ipv4_sources_nobody_can_have(target: Target, source: str) -> None:
    listener = serve(target)
    target.inject(ip(4, src=source) / TCP(sport=9, dport=80, flags="S"), ip(4, src=source) / ICMP())
    target.inject(ip(4, src=source) / UDP(sport=9, dport=99))
    assert target.answers(ICMP) == [] or source == "0.0.0.0"
    listener.close()
    target.assert_unharmed()


@pytest.mark.parametrize("source", ["ff02::1", "::", "::ffff:10.0.0.66", "ff0e::9"])
def test_ipv6_sources_nobody_can_have(target: Target, source: str) -> None:
    listener = serve(target, 6)
    target.inject(ip(6, src=source) / TCP(sport=9, dport=80, flags="S"), ip(6, src=source) / ICMPv6EchoRequest())
    assert target.answers(IPv6) == []
    listener.close()
    target.assert_unharmed()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, 1441, 65535])
def test_ipv6_lengths_that_lie(target: Target, length: int) -> None:
    udp = listening(target, 6)
    target.inject(ip(6, plen=length) / UDP(sport=9, dport=7, chksum=1) / Raw(b"payload!"))
    assert heard(udp) == []
    udp.close()
    target.assert_unharmed()


def test_long_chains_of_extension_headers(target: Target) -> None:
    chain: Packet = ip(6) / IPv6ExtHdrHopByHop()
    for _ in range(150):
        chain /= IPv6ExtHdrDestOpt()
    target.inject(chain / ICMPv6EchoRequest(data=b"far"))
    assert target.answers(ICMPv6EchoReply)
    for _ in range(3):
        target.inject(ip(6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / ICMPv6EchoRequest())
    assert target.answers(ICMPv6EchoReply) == []
    target.assert_unharmed()


@pytest.mark.parametrize("kind", [0x3E, 0x45, 0x7E, 0x80, 0x86, 0xBE, 0xC3, 0xFE])
def test_unknown_options_of_extension_headers(target: Target, kind: int) -> None:
    """RFC 8200 4.2: the two upper bits say whether to skip, drop or complain."""
    for nh in (0, 60):
        target.inject(ip(6, nh=nh) / Raw(bytes([58, 0, kind, 4, 0, 0, 0, 0]) + bytes(ICMPv6EchoRequest())))
    expected = 2 if kind & 0x80 else 0
    assert len(target.answers(ICMPv6ParamProblem)) == expected
    target.assert_unharmed()


@pytest.mark.parametrize("nh", [0, 43, 44, 50, 51, 58, 59, 60, 135, 139, 140, 253, 255])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 40])
def test_every_next_header_with_too_little_behind(target: Target, nh: int, size: int) -> None:
    target.inject(ip(6, nh=nh) / Raw(bytes(size)))
    target.inject(ip(6, nh=60) / Raw(bytes([nh, 0, 1, 4, 0, 0, 0, 0]) + bytes(size)))
    target.assert_unharmed()


# -- ICMP -----------------------------------------------------------------------------------------------------


def test_errors_that_quote_garbage(target: Target) -> None:
    listener = serve(target)
    draw = random.Random(4)
    for code in range(16):
        for kind in (3, 4, 5, 11, 12):
            target.inject(ip(4) / ICMP(type=kind, code=code) / Raw(draw.randbytes(draw.randrange(0, 60))))
    for kind in range(256):
        target.inject(ip(4) / ICMP(type=kind) / Raw(bytes(draw.randrange(0, 20))))
    for layer in (ICMPv6DestUnreach, ICMPv6PacketTooBig, ICMPv6TimeExceeded, ICMPv6ParamProblem):
        for size in (0, 1, 39, 40, 41, 60):
            target.inject(ip(6) / layer() / Raw(draw.randbytes(size)))
    listener.close()
    target.assert_unharmed()


def test_errors_about_a_connection_do_not_end_it(target: Target) -> None:
    """A reset of it would be as easy to forge, but must be in the window (RFC 5927)."""
    listener = serve(target)
    client = target.friend.tcp()
    client.connect((TARGET[4], 80))
    target.time.run(lambda: listener.info.queued)
    server = listener.accept()
    port = client.address[1]
    quoted = IP(src=TARGET[4], dst="10.0.0.2") / TCP(sport=80, dport=port)
    for code in range(16):
        target.inject(ip(4) / ICMP(type=3, code=code, nexthopmtu=68) / quoted)
    target.inject(ip(4) / ICMP(type=4) / quoted, ip(4) / ICMP(type=11) / quoted)
    server.send(b"still here")
    target.time.run(limit=1)
    assert client.recv(100) == b"still here"


@pytest.mark.parametrize("size", range(9))
def test_icmp_is_whole(target: Target, size: int) -> None:
    target.inject(ip(4, proto=1) / Raw(bytes(ICMP())[:size]))
    target.inject(ip(6, nh=58) / Raw(bytes(ICMPv6EchoRequest())[:size]))
    assert len(target.answers(ICMP)) == (size == 8)
    target.assert_unharmed()


def test_nobody_is_made_to_shout(target: Target) -> None:
    """No answer to a ping of a broadcast or group address: it would be sent to whom the attacker names."""
    target.inject(
        ip(4, dst="10.0.0.255") / ICMP(), ip(4, dst="255.255.255.255") / ICMP(), ip(4, dst="224.0.0.1") / ICMP()
    )
    target.inject(ip(4, dst="10.0.0.255") / UDP(dport=9), ip(4, dst="10.0.0.255", proto=99) / Raw(b"x"))
    target.inject(ip(6, dst="ff02::1") / UDP(dport=9))
    assert target.answers(IP) == target.answers(IPv6) == []


@pytest.mark.parametrize("proto", [p for p in range(256) if p not in (1, 2, 6, 17)])
def test_every_protocol_number(target: Target, proto: int) -> None:
    target.inject(ip(4, proto=proto) / Raw(bytes(4)))
    (answer,) = target.answers(ICMP)
    assert (answer[ICMP].type, answer[ICMP].code) == (3, 2)


# -- UDP ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 17, 100, 65535])
def test_udp_lengths_that_lie(target: Target, family: int, length: int) -> None:
    """What lies behind the datagram is not part of it; one that is longer than its packet is not taken."""
    target.nic.checksums = False
    udp = listening(target, family)
    target.inject(ip(family) / UDP(sport=9, dport=7, len=length, chksum=0) / Raw(b"12345678"))
    assert heard(udp) == ([b"12345678"[: length - 8]] if 8 <= length <= 16 else [])
    assert target.statistics().udp_lenerr == (length < 8 or length > 16)
    target.nic.checksums = True
    udp.close()
    target.assert_unharmed()


def test_a_flood_fills_one_queue_only(target: Target) -> None:
    flooded, other = listening(target), listening(target, port=8)
    packet = bytes(ip(4) / UDP(sport=9, dport=7) / Raw(bytes(1400)))
    target.inject(*[packet_for(packet)] * 20_000)
    target.inject(ip(4) / UDP(sport=9, dport=8) / Raw(b"hello"))
    assert heard(other) == [b"hello"]
    assert target.statistics().udp_queue_full > 19_000
    assert target.statistics().memory_used < 2 << 20
    flooded.close()
    other.close()
    target.assert_unharmed()


def packet_for(packet: bytes) -> bytes:
    return bytes(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=0x800)) + packet


@pytest.mark.parametrize("protocol", [1, 6, 17, 58, 59, 99, 255])
def test_raw_endpoints_take_anything(target: Target, protocol: int) -> None:
    raws = [target.stack.raw(protocol, family) for family in (4, 6)]
    draw = random.Random(protocol)
    for size in [*range(70), 500, 1400]:
        target.inject(ip(4, proto=protocol) / Raw(draw.randbytes(size)))
        target.inject(ip(6, nh=protocol) / Raw(draw.randbytes(size)))
    for raw in raws:
        while True:
            try:
                raw.receive()
            except BlockingIOError:
                break
        raw.close()
    target.assert_unharmed()
