"""What lwIP 2.2.1 must not see (csrc/guard.c, csrc/tcp_hooks.c): a test for each weakness, failing without the guard.

Frames whose length is a multiple of eight fill their block of memory to the last byte, so that the address sanitizer
sees a read beyond them.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

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
    VirtualTime,
    ip,
    serve,
)
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    in6_chksum,
)
from scapy.layers.l2 import ARP

from lwipy import Option

LINK_LOCAL = "fe80::66"


@pytest.fixture
def target() -> Iterator[Target]:
    with VirtualTime() as time:
        yield Target(time)


@pytest.fixture
def router(target: Target) -> Target:
    """The target when it believes in routers."""
    target.nic.add_neighbour(LINK_LOCAL, ATTACKER_MAC)
    target.nic.autoconfigure()
    target.rest()
    return target


def icmp6(packet: Packet, body: bytes) -> Packet:
    """An ICMPv6 message of any content, its sum right."""
    body = body[:2] + b"\0\0" + body[4:]
    body = body[:2] + struct.pack("!H", in6_chksum(58, packet, body)) + body[4:]
    packet.nh = 58
    return packet / Raw(body)


def addresses(target: Target) -> set[str]:
    return {str(address.ip) for address in target.nic.ipv6}


# -- Neighbor Discovery ---------------------------------------------------------------------------


def solicitation(options: bytes) -> Packet:
    header = bytes([135, 0, 0, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, TARGET[6])
    return icmp6(ip(6, hlim=255), header + options)


def test_neighbor_discovery_with_sound_options_is_answered(target: Target) -> None:
    target.inject(solicitation(bytes([1, 1]) + bytes(6)))
    assert target.answers(ICMPv6ND_NA)


@pytest.mark.parametrize(
    "options",
    [bytes([1, 0]) + bytes(6), bytes([1, 2]) + bytes(6), bytes([1]), bytes([1, 1]), bytes([1, 255]) + bytes(38),
     bytes([1, 1]) + bytes(6) + bytes([14, 0])],
    ids=["length zero", "beyond the packet", "type only", "no address", "2040 bytes", "second of length zero"],
)  # fmt: skip
def test_options_of_neighbor_discovery_must_fit(target: Target, options: bytes) -> None:
    target.inject(solicitation(options))
    assert target.answers(ICMPv6ND_NA) == []
    assert target.statistics().guard_nd_options == 1
    target.assert_unharmed()


@pytest.mark.parametrize("kind", [133, 134, 135, 136, 137])
@pytest.mark.parametrize("length", [1, 4, 7, 8, 15, 16, 23, 24, 39, 40])
def test_messages_of_neighbor_discovery_must_be_whole(router: Target, kind: int, length: int) -> None:
    whole = {133: 8, 134: 16, 135: 24, 136: 24, 137: 40}[kind]
    router.inject(icmp6(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255), (bytes([kind]) + bytes(60))[:length]))
    assert router.statistics().guard_nd_options == (length != whole)


@pytest.mark.parametrize("option", [bytes([3, 1]) + bytes(6), bytes([3, 3]) + bytes(22), bytes([5, 2]) + bytes(14)])
def test_structures_in_options_have_their_size(router: Target, option: bytes) -> None:
    body = bytes([134, 0, 0, 0, 64, 0, 0, 60]) + bytes(8) + option
    router.inject(icmp6(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255), body))
    assert router.statistics().guard_nd_options == 1


def advertisement(**prefix: object) -> Packet:
    options = ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER_MAC) / ICMPv6NDOptPrefixInfo(prefixlen=64, A=1, L=1, **prefix)
    return IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=1800) / options


def live_on(target: Target) -> None:
    """Hours pass, with some traffic in each ten minutes: a stack left alone does not count them."""
    for _ in range(20):
        target.time.run(limit=590)
        target.talk(6, amount=10)


def test_a_router_is_believed_when_autoconfiguration_was_asked_for(router: Target) -> None:
    router.inject(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))
    assert any(address.startswith("fd01::") for address in addresses(router))


def test_a_router_is_not_believed_otherwise(target: Target) -> None:
    """Not even about the lifetime of addresses that the user gave, which lwIP would let end after two hours."""
    target.inject(advertisement(prefix="fd00::", validlifetime=1, preferredlifetime=0))
    assert target.statistics().guard_nd_unasked == 1
    live_on(target)
    assert "fd00::1" in addresses(target)


def test_a_believed_router_has_no_say_in_the_users_addresses(router: Target) -> None:
    router.inject(advertisement(prefix="fd00::", validlifetime=1, preferredlifetime=0))
    live_on(router)
    assert "fd00::1" in addresses(router)


def test_a_redirect_is_not_believed_unasked(target: Target) -> None:
    udp = target.stack.udp(6)
    udp.send(b"first", (ATTACKER[6], 9))
    redirect = ICMPv6ND_Redirect(tgt="fe80::77", dst=ATTACKER[6]) / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:77")
    target.inject(IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=255) / redirect)
    target.out.clear()
    udp.send(b"second", (ATTACKER[6], 9))
    (packet,) = target.answers(UDP)
    assert packet[Ether].dst == ATTACKER_MAC


def test_an_address_in_use_cannot_be_called_a_duplicate(target: Target) -> None:
    """RFC 4862 5.4.5 wants that of tentative addresses only; lwIP gives any address up."""
    option = ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC)
    target.inject(ip(6, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=TARGET[6], O=1) / option)
    target.assert_unharmed()


def test_an_address_still_being_tested_can(router: Target) -> None:
    router.inject(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))
    (mine,) = (address for address in addresses(router) if address.startswith("fd01::"))
    option = ICMPv6NDOptDstLLAddr(lladdr=ATTACKER_MAC)
    router.inject(IPv6(src=mine, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=mine, O=1) / option)
    router.time.run(limit=30)
    router.inject(IPv6(src=LINK_LOCAL, dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS(tgt=mine))
    assert router.answers(ICMPv6ND_NA) == []


# -- Fragments --------------------------------------------------------------------------------------


def fragments6(body: bytes, size: int = 64, *, nh: int = 58, hlim: int = 255, identity: int = 7) -> list[Packet]:
    pieces = [(at, body[at : at + size]) for at in range(0, len(body), size)]
    header = IPv6(src=LINK_LOCAL, dst=TARGET[6], hlim=hlim)
    return [
        header / IPv6ExtHdrFragment(offset=at // 8, m=int(at + size < len(body)), nh=nh, id=identity) / Raw(piece)
        for at, piece in pieces
    ]


def test_a_large_ping_over_ipv6_is_answered(target: Target) -> None:
    whole = ip(6) / ICMPv6EchoRequest(data=bytes(4000))
    target.inject(*(IPv6(bytes(p)) for p in _as_from_attacker(bytes(whole)[40:])))
    assert target.answers(IPv6ExtHdrFragment)


def _as_from_attacker(body: bytes) -> list[Packet]:
    return [
        ip(6)
        / IPv6ExtHdrFragment(offset=at // 8, m=int(at + 1400 < len(body)), nh=58, id=3)
        / Raw(body[at : at + 1400])
        for at in range(0, len(body), 1400)
    ]


@pytest.mark.parametrize("order", ["first to last", "last to first"])
def test_neighbor_discovery_does_not_come_in_fragments(router: Target, order: str) -> None:
    """RFC 6980. Nor under the name of another protocol: lwIP takes the next header of whichever fragment came first."""
    body = bytes(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))[40:]
    body = body[:2] + b"\0\0" + body[4:]
    body = body[:2] + struct.pack("!H", in6_chksum(58, IPv6(src=LINK_LOCAL, dst=TARGET[6]), body)) + body[4:]
    plain = fragments6(body, 32)
    assert len(plain) == 2
    plain[0][IPv6ExtHdrFragment].nh = 58 if order == "first to last" else 17
    router.inject(*(plain if order == "first to last" else reversed(plain)))
    assert not any(address.startswith("fd01::") for address in addresses(router))
    assert router.statistics().guard_nd_fragment == 1
    router.time.run(limit=100)


def test_nor_in_a_fragment_that_is_the_whole(router: Target) -> None:
    message = bytes(advertisement(prefix="fd01::", validlifetime=9000, preferredlifetime=9000))[40:]
    router.inject(IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255) / IPv6ExtHdrFragment(nh=58) / Raw(message))
    assert router.statistics().guard_nd_fragment == 1
    assert not any(address.startswith("fd01::") for address in addresses(router))


@pytest.mark.parametrize("nh", [0, 43, 44, 60])
@pytest.mark.parametrize("offset", [0, 8])
def test_no_header_hides_behind_a_fragments(target: Target, nh: int, offset: int) -> None:
    """RFC 7112: what follows cannot be checked before the whole is there."""
    target.inject(ip(6) / IPv6ExtHdrFragment(offset=offset, m=1, nh=nh, id=9) / Raw(bytes(64)))
    assert target.statistics().guard_fragment == 1
    assert target.statistics().frag_rx == 0


def test_nothing_stands_between_the_ipv6_header_and_a_fragments(target: Target) -> None:
    header = ip(6) / IPv6ExtHdrDestOpt(options=[]) / IPv6ExtHdrFragment(m=1, nh=17, id=9)
    target.inject(header / Raw(bytes(64)))
    assert target.statistics().guard_fragment == 1
    assert target.statistics().frag_rx == 0


@pytest.mark.parametrize("size", [0, 7])
def test_a_first_fragment_tells_what_it_is(target: Target, size: int) -> None:
    target.inject(ip(6) / IPv6ExtHdrFragment(m=1, nh=17, id=9) / Raw(bytes(size)))
    assert target.statistics().guard_fragment == 1


def test_ipv6_fragments_do_not_add_up_to_more_than_lwip_can_count(target: Target) -> None:
    """lwIP asserts that the header fits before what was put together."""
    for offset in range(0, 8190, 180):
        size = min(1440, 65535 - offset * 8)
        more = int(offset + 180 < 8190)
        target.inject(ip(6) / IPv6ExtHdrFragment(offset=offset, m=more, nh=17, id=5) / Raw(bytes(size)))
    assert target.statistics().guard_fragment > 0
    target.assert_unharmed()


def test_ipv4_fragments_do_not_add_up_to_more_than_lwip_can_count(target: Target) -> None:
    """Behind the last fragment more can follow; the 16-bit length of the whole wraps."""
    pieces = [ip(4, id=1, proto=1, frag=offset, flags="MF") / Raw(bytes(1480)) for offset in range(370, 8140, 185)]
    pieces.append(ip(4, id=1, proto=1, frag=8140, flags="MF") / Raw(bytes(65535 - 8140 * 8)))
    pieces.append(ip(4, id=1, proto=1, frag=185) / Raw(bytes(1480)))
    pieces.append(ip(4, id=1, proto=1, flags="MF") / ICMP(type=8, chksum=0xF7FF) / Raw(bytes(1472)))
    target.inject(*pieces)
    assert target.statistics().guard_fragment == 1
    target.assert_unharmed()


def test_ping_of_death(target: Target) -> None:
    target.inject(ip(4, id=2, frag=8189, proto=1) / Raw(bytes(1480)))
    assert target.statistics().guard_fragment == 1
    target.assert_unharmed()


def test_dhcp_answers_do_not_come_in_fragments(target: Target) -> None:
    """lwIP's parser follows an option into the next fragment, but not into the one behind that."""
    target.inject(ip(4, dst="255.255.255.255", flags="MF", id=3) / UDP(sport=67, dport=68, len=600) / Raw(bytes(320)))
    assert target.statistics().guard_fragment == 1
    assert target.statistics().frag_rx == 0


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


# -- TCP ---------------------------------------------------------------------------------------------------


def with_options(options: bytes, flags: int = 2, **fields: object) -> Packet:
    """A segment whose options are these very bytes, filled up with zeros to a multiple of four."""
    options += bytes(-len(options) % 4)
    packet = ip(4) / TCP(sport=40000, dport=80, flags=flags, dataofs=5 + len(options) // 4, **fields) / Raw(options)
    return packet


@pytest.mark.parametrize(
    "options",
    [b"\1\1\1\2", b"\2\4\5", b"\1\2\4\5", b"\1\1\3\3", b"\1\1\1\4", b"\1\1\1\xfe", b"\2\0\0\0", b"\2\3\0\0",
     b"\2\5\0\0\0", b"\3\2\0\0", b"\3\4\1\1", b"\4\3\1\0", b"\xfe\0\0\0", b"\xfe\1\0\0", b"\xfe\x29" + bytes(38),
     b"\x08\x09" + bytes(8)],
)  # fmt: skip
def test_tcp_options_are_whole_and_of_their_size(target: Target, options: bytes) -> None:
    """lwIP reads the length, and what it promises, beyond the end of the options."""
    listener = serve(target)
    if options in (b"\2\4\5", b"\3\4\1\1"):
        options = options.ljust(4, b"\1")[:3] + b"\2" if options == b"\3\4\1\1" else options[:3]
    packet = with_options(options)
    if len(options) % 4:
        packet[TCP].dataofs = 5 + len(options) // 4
        packet = ip(4) / TCP(sport=40000, dport=80, flags="S", dataofs=6) / Raw(b"\1" * (4 - len(options)) + options)
    target.inject(packet)
    assert target.answers(TCP) == []
    assert target.statistics().guard_tcp_options == 1
    listener.close()
    target.assert_unharmed()


@pytest.mark.parametrize(
    "options", [b"", b"\0", b"\1\1\1\1", b"\2\4\5\xb4", b"\3\3\7\1\4\2", b"\xfd\4\0\0", b"\0\2\0\0"]
)
def test_sound_tcp_options_pass(target: Target, options: bytes) -> None:
    serve(target)
    target.inject(with_options(options))
    (answer,) = target.answers(TCP)
    assert answer[TCP].flags == "SA"


@pytest.mark.parametrize("options", [b"\2\4\0\1", b"\3\3\x0e\1", b"\4\2\1\1"], ids=["mss", "scale", "sack"])
def test_options_of_the_handshake_come_with_it_only(target: Target, options: bytes) -> None:
    """In mid connection lwIP takes a new MSS; its sender then asserts."""
    listener = serve(target)
    peer = Peer(target).connect(options=[("MSS", 1460)])
    server = listener.accept()
    mss = server.info.mss
    server.send(bytes(1000))
    target.inject(with_options(options, 16, seq=peer.seq, ack=peer.ack))
    assert server.info.mss == mss
    server.send(bytes(1000))
    assert target.statistics().guard_tcp_options == 1


def test_an_answer_to_another_syn_sets_nothing(target: Target) -> None:
    """lwIP reads the options of a SYN|ACK before it looks whether it answers our SYN."""
    client = target.stack.tcp()
    client.connect((ATTACKER[4], 5000))
    (syn,) = target.answers(TCP)
    wrong = TCP(sport=5000, dport=syn[TCP].sport, flags="SA", seq=1, ack=syn[TCP].seq + 2, options=[("WScale", 14)])
    target.inject(ip(4) / wrong)
    answers = [packet[TCP] for packet in target.answers(TCP)]
    assert [str(answer.flags) for answer in answers] == ["RA", "S"]
    right = TCP(sport=5000, dport=syn[TCP].sport, flags="SA", seq=1, ack=syn[TCP].seq + 1, window=1000)
    target.inject(ip(4) / right)
    target.inject(ip(4) / TCP(sport=5000, dport=syn[TCP].sport, flags="A", seq=2, ack=syn[TCP].seq + 1, window=1000))
    assert client.info.send_window == 1000
    client.abort()
    target.assert_unharmed()


def test_a_syn_that_meets_ours_sets_nothing(target: Target) -> None:
    client = target.stack.tcp()
    client.connect((ATTACKER[4], 5000))
    (syn,) = target.answers(TCP)
    target.inject(ip(4) / TCP(sport=5000, dport=syn[TCP].sport, flags="S", seq=1, options=[("WScale", 14)]))
    assert target.statistics().guard_tcp_flags == 1
    client.abort()
    target.assert_unharmed()


def test_a_second_answer_in_the_handshake_sets_nothing(target: Target) -> None:
    serve(target)
    peer = Peer(target)
    (answer,) = peer.send("S", ack=0)
    assert peer.send("SA", seq=peer.seq, ack=answer.seq + 1, options=[("WScale", 14), ("MSS", 1)]) == []
    peer.seq, peer.ack = peer.seq + 1, answer.seq + 1
    peer.send("A")


@pytest.mark.parametrize("flags", ["", "F", "P", "U", "FPU", "SF", "SFA"])
def test_flags_that_say_nothing_or_contradict_themselves(target: Target, flags: str) -> None:
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    peer.send(flags, b"data")
    with pytest.raises(BlockingIOError):
        server.recv(100)
    assert target.statistics().guard_tcp_flags == 1
    server.abort()


def test_data_out_of_order_stays_within_the_window(target: Target) -> None:
    """lwIP queues it untrimmed, and asserts when the gap has been filled and it does not fit."""
    listener = serve(target, rcvbuf=4096)
    peer = Peer(target).connect()
    server = listener.accept()
    (answer,) = peer.send("A", bytes(1460), seq=peer.seq + 4000)
    assert (answer.flags, answer.ack) == ("A", peer.seq)
    for at in range(0, 4000, 1000):
        peer.send("A", b"y" * 1000, seq=peer.seq + at)
    assert server.recv(10_000) == b"y" * 4000
    assert target.statistics().guard_tcp_window == 1
    server.abort()


def test_data_beyond_the_end_of_the_stream_is_not_taken(target: Target) -> None:
    """lwIP gives the FIN to whatever covers it, which then is a byte longer than the window."""
    listener = serve(target, rcvbuf=4096)
    peer = Peer(target).connect()
    server = listener.accept()
    peer.send("FA", seq=peer.seq + 3500)
    for at in range(0, 3000, 1000):
        peer.send("A", b"y" * 1000, seq=peer.seq + at)
    peer.send("A", b"z" * 1096, seq=peer.seq + 3000)
    peer.send("A", b"y" * 500, seq=peer.seq + 3000)
    assert server.recv(10_000) == b"y" * 3500
    assert server.recv(10_000) == b""
    server.abort()


@pytest.mark.parametrize("first", [0, 1])
def test_a_window_closed_from_the_start_and_then_small(target: Target, first: int) -> None:
    """lwIP makes segments of the full size while it knows of no window, and asserts that it would do so again."""
    listener = serve(target)
    peer = Peer(target).connect(window=first)
    server = listener.accept()
    assert server.send(b"a" * 1000) == 1000
    peer.send("A", window=100)
    assert server.send(b"b" * 1000) == 1000
    received = b""
    for _ in range(300):
        target.time.run(limit=0.5)
        data = peer.received()
        peer.ack += len(data)
        received += data
        peer.send("A", window=100)
    assert received == b"a" * 1000 + b"b" * 1000
    server.abort()


def test_the_byte_of_a_window_probe_may_be_the_last_there_was(target: Target) -> None:
    """lwIP asserts that something is left to probe with."""
    listener = serve(target)
    peer = Peer(target).connect(window=0)
    server = listener.accept()
    server.send(b"a")
    target.time.run(limit=1)
    assert peer.received() == b"a"
    peer.send("A", window=0, ack=peer.ack + 1)
    target.time.run(limit=1)
    server.send(b"b")
    target.time.run(limit=1)
    assert peer.received() == b"b"
    server.abort()
    target.assert_unharmed()


def test_a_retransmission_timeout_does_not_grow_for_ever(target: Target) -> None:
    """What was sent to a peer that is gone is given up, and its memory with it."""
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    server.send(bytes(1000))
    target.time.run(limit=40)  # a round trip of 40 seconds
    peer.send("A", ack=peer.ack + 1000)
    peer.ack += 1000
    server.send(bytes(100_000))
    server.close()
    target.time.run(limit=1800)
    target.assert_unharmed()
