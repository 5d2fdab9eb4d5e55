"""Fragments that mean harm, IPv4 and IPv6."""

from __future__ import annotations

import itertools
import random
import socket
import struct
from socket import AF_INET, AF_INET6

import pytest
from attacker import (
    ATTACKER,
    ATTACKER_MAC,
    TARGET,
    TARGET_MAC,
    UDP,
    Ether,
    Raw,
    Target,
    heard,
    ip,
    listening,
)
from scapy.layers.inet6 import (
    IPv6ExtHdrFragment,
)
from scapy.utils import checksum

ETHERNET = bytes(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=0x800))[:12]


def pieces(family: int, body: bytes, size: int, identity: int, proto: int = 17) -> list[bytes]:
    """The frames of a fragmented packet, made by hand: scapy would take minutes for the floods."""
    found = []
    source, target = (socket.inet_pton({4: AF_INET, 6: AF_INET6}[family], end[family]) for end in (ATTACKER, TARGET))
    for at in range(0, len(body), size):
        part, more = body[at : at + size], at + size < len(body)
        if family == 4:
            words = (0x4500, 20 + len(part), identity, more << 13 | at // 8, 64 << 8 | proto, 0)
            header = struct.pack("!6H", *words) + source + target
            header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
            found.append(ETHERNET + b"\x08\0" + header + part)
        else:
            header = struct.pack("!IHBB", 6 << 28, 8 + len(part), 44, 64) + source + target
            found.append(ETHERNET + b"\x86\xdd" + header + struct.pack("!BBHI", proto, 0, at | more, identity) + part)
    return found


def datagram(family: int, payload: bytes) -> bytes:
    return bytes(ip(family) / UDP(sport=9, dport=7) / Raw(payload))[{4: 20, 6: 40}[family] :]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [8, 16, 1000])
@pytest.mark.parametrize("order", ["forward", "backward", "shuffled", "twice"])
def test_fragments_in_any_order_make_a_whole(target: Target, family: int, size: int, order: str) -> None:
    udp = listening(target, family)
    payload = random.Random(1).randbytes(9000)
    parts = pieces(family, datagram(family, payload), size, 1)
    if order == "backward":
        parts.reverse()
    elif order == "shuffled":
        random.Random(2).shuffle(parts)
    elif order == "twice":
        parts = [part for part in parts for _ in range(2)]
    target.inject(*parts)
    assert heard(udp)[0] == payload
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_that_overlap_make_nothing(target: Target, family: int) -> None:
    """RFC 5722, and RFC 1858 for IPv4: what would be written over was checked already."""
    udp = listening(target, family)
    body = datagram(family, bytes(2000))
    first, second, third = pieces(family, body, 800, 1)
    liar = pieces(family, b"\xff" * 2400, 400, 1)[1]  # within the first
    straddler = pieces(family, b"\xff" * 2400, 600, 1)[1]  # over the end of the first
    target.inject(first, liar, straddler, third, second)
    assert [set(data) for data in heard(udp)] in ([], [{0}])
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_that_never_end_are_bounded(target: Target, family: int) -> None:
    """Thousands of datagrams of which only the first fragment comes."""
    for n in range(8):
        target.inject(
            *(pieces(family, bytes(2960), 1400, identity)[0] for identity in range(n * 1000, n * 1000 + 1000))
        )
    assert target.statistics().memory_used < 16 << 20
    udp = listening(target, family)
    whole = pieces(family, datagram(family, b"through" * 500), 1000, 50_000)
    target.inject(*whole)
    assert heard(udp) == [b"through" * 500]
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_tiny_fragments_are_bounded(target: Target, family: int) -> None:
    """One datagram of eight bytes a piece: more than are kept at once, so it never becomes whole."""
    udp = listening(target, family)
    target.inject(*pieces(family, datagram(family, bytes(40_000)), 8, 3))
    assert heard(udp) == []
    assert target.statistics().memory_used < 4 << 20
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_whole_datagrams_of_tiny_fragments_fill_a_queue_sooner(target: Target, family: int) -> None:
    udp = listening(target, family)
    for identity in range(100):
        target.inject(*pieces(family, datagram(family, bytes(4000)), 8, identity))
    assert target.statistics().udp_queue_full > 0
    assert target.statistics().memory_used < 2 << 20
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_of_no_bytes(target: Target, family: int) -> None:
    udp = listening(target, family)
    for identity, offset in itertools.product(range(3), (0, 1, 100, 8191)):
        for more in (0, 1):
            if family == 4:
                target.inject(ip(4, id=identity, proto=17, frag=offset, flags=more))
            else:
                target.inject(ip(6) / IPv6ExtHdrFragment(offset=offset, m=more, nh=17, id=identity))
    target.inject(*pieces(family, datagram(family, bytes(2000)), 1000, 1))
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
def test_several_last_fragments(target: Target, family: int) -> None:
    udp = listening(target, family)
    body = datagram(family, bytes(3000))
    parts = pieces(family, body, 800, 1)
    short = pieces(family, body[:1600], 800, 1)[1]
    target.inject(parts[-1], short, *parts[:-1])
    for data in heard(udp):
        assert set(data) == {0}
    udp.close()
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [1473, 8000, 65487])
def test_large_datagrams_both_ways(target: Target, family: int, size: int) -> None:
    udp = listening(target, family)
    friend = target.friend.udp(family)
    payload = random.Random(size).randbytes(size)
    friend.send(payload, (TARGET[family], 7))
    target.time.run(limit=1)
    received = udp.receive()
    assert received.data == payload
    udp.send(received.data[::-1], received.source)
    target.time.run(limit=1)
    assert friend.receive().data == payload[::-1]
