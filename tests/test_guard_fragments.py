"""Fragments that lwIP 2.2.1 must not see (csrc/guard.c): a test for each weakness, failing without the guard."""

from __future__ import annotations

import struct

import pytest
from attacker import (
    ICMP,
    LINK_LOCAL,
    TARGET,
    UDP,
    IPv6,
    Packet,
    Raw,
    Target,
    addresses,
    advertisement,
    ip,
)
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    in6_chksum,
)


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
