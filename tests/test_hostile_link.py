"""Ethernet and ARP from someone who obeys no rule."""

from __future__ import annotations

import random
import struct

import pytest
from attacker import (
    ATTACKER,
    ATTACKER_MAC,
    FRIEND,
    ICMP,
    TARGET,
    TARGET_MAC,
    UDP,
    Ether,
    Raw,
    Target,
    VirtualTime,
    framed,
    ip,
)
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr
from scapy.layers.l2 import ARP, Dot1Q

import lwipy

BROADCAST = "ff:ff:ff:ff:ff:ff"


@pytest.mark.parametrize("size", range(15))
def test_a_runt_is_counted(target: Target, size: int) -> None:
    target.nic.receive((bytes.fromhex((TARGET_MAC + ATTACKER_MAC).replace(":", "")) + b"\x08\x00" + bytes(9))[:size])
    assert target.nic.counters.rx_malformed == 1
    target.assert_unharmed()


def test_frames_up_to_the_mtu_pass(target: Target) -> None:
    target.inject(ip(4) / ICMP() / Raw(bytes(1472)))
    assert len(target.answers(ICMP)) == 1
    assert target.nic.counters.rx_malformed == 0


@pytest.mark.parametrize("excess", [1, 100, 10_000, 64_000])
def test_longer_frames_are_counted(target: Target, excess: int) -> None:
    target.inject(framed(ip(4) / ICMP() / Raw(bytes(1472))) + bytes(4 + excess))
    assert target.nic.counters.rx_malformed == 1
    target.assert_unharmed()


@pytest.mark.parametrize("mtu", [1500, 65521, 65535])
@pytest.mark.parametrize("size", [65534, 65535, 65536, 65537, 65549, 65553, 65554, 70_000, 131_072])
def test_lengths_around_what_sixteen_bits_hold(mtu: int, size: int) -> None:
    """lwIP's lengths have 16 bits: one that wraps would let a frame be copied into a few bytes."""
    with VirtualTime() as time:
        target = Target(time, mtu=mtu)
        packet = ip(4, len=min(size - 14, 65521), id=1) / ICMP() / Raw(bytes(size - 14 - 28))
        target.inject(framed(packet))
        counters = target.nic.counters
        assert counters.rx_malformed == (size > 65535 or mtu == 1500)
        target.assert_unharmed()


def test_the_largest_mtu_works(target: Target) -> None:
    with VirtualTime() as time:
        Target(time, mtu=65535).talk(amount=1_000_000)


def test_the_least_mtu_works() -> None:
    """For IPv4; IPv6 wants 1280 bytes (RFC 8200 5), which a solicitation for a neighbour shows already."""
    with VirtualTime() as time:
        Target(time, mtu=68).talk(4)


def test_padding_costs_no_memory(target: Target) -> None:
    """A byte in a long frame, kept out of order or in a queue, must not keep the frame."""
    udp = target.stack.udp()
    udp.bind((TARGET[4], 7))
    frame = framed(ip(4) / UDP(sport=9, dport=7) / Raw(b"x"))
    frame += bytes(1514 - len(frame))
    before = target.statistics().memory_used
    target.nic.receive_many([frame] * 10_000)
    assert target.statistics().udp_queue_full > 0
    assert target.statistics().memory_used - before < 1 << 20
    udp.close()


@pytest.mark.parametrize("kind", [0x0000, 0x05DC, 0x0600, 0x8035, 0x8847, 0x8863, 0x8864, 0x88CC, 0xFFFF])
def test_other_protocols_are_counted(target: Target, kind: int) -> None:
    before = target.statistics().arp_drop
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=kind) / Raw(bytes(100)))
    assert target.statistics().arp_drop == before + 1  # lwIP counts what Ethernet carries beside IP there


@pytest.mark.parametrize("size", range(6))
def test_a_tag_is_whole(target: Target, size: int) -> None:
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC, type=0x8100) / Raw((b"\0\5\x08\0" + bytes(8))[:size]))
    target.assert_unharmed()


def test_tagged_frames_are_another_networks(target: Target) -> None:
    tagged = Dot1Q(vlan=1) / Dot1Q(vlan=2) / ip(4) / ICMP()
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / tagged)
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / tagged.payload)
    assert target.answers(ICMP) == []
    assert target.statistics().arp_drop == 2


def test_frames_for_others_are_counted_and_left_alone(target: Target) -> None:
    target.inject(Ether(src=ATTACKER_MAC, dst="02:00:00:00:00:99") / ip(4) / ICMP())
    assert target.answers(ICMP) == []
    assert target.nic.counters.rx_other == 1
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / ip(4, dst="10.0.0.99") / ICMP())
    assert target.answers(ICMP) == []
    assert target.statistics().ip4_drop == 1


# -- ARP ------------------------------------------------------------------------------------------


def asked(target: Target) -> bool:
    target.out.clear()
    target.inject(Ether(src=ATTACKER_MAC, dst=BROADCAST) / ARP(hwsrc=ATTACKER_MAC, psrc="10.0.0.9", pdst=TARGET[4]))
    return bool(target.answers(ARP))


@pytest.mark.parametrize(
    "fields", [{"hwtype": 6}, {"hwlen": 0}, {"hwlen": 8}, {"hwlen": 255}, {"plen": 0}, {"plen": 16}, {"ptype": 0x86DD}]
)
def test_arp_for_other_hardware_is_counted(target: Target, fields: dict[str, int]) -> None:
    packet = bytearray(bytes(ARP(hwsrc=ATTACKER_MAC, psrc=ATTACKER[4], pdst=TARGET[4])))
    at = {"hwtype": (0, "!H"), "ptype": (2, "!H"), "hwlen": (4, "!B"), "plen": (5, "!B")}
    for name, value in fields.items():
        struct.pack_into(at[name][1], packet, at[name][0], value)
    target.inject(Ether(src=ATTACKER_MAC, dst=BROADCAST, type=0x806) / Raw(bytes(packet)))
    assert target.answers(ARP) == []
    assert target.statistics().arp_drop == 1
    assert asked(target)


@pytest.mark.parametrize("source", ["255.255.255.255", "10.0.0.255", "224.0.0.1", "0.0.0.0", TARGET[4], FRIEND[4]])
@pytest.mark.parametrize("hardware", [BROADCAST, "01:00:5e:00:00:01", "00:00:00:00:00:00", ATTACKER_MAC])
@pytest.mark.parametrize("operation", [1, 2, 0, 9, 65535])
def test_absurd_senders(target: Target, source: str, hardware: str, operation: int) -> None:
    packet = ARP(op=operation, hwsrc=hardware, psrc=source, pdst=TARGET[4])
    target.inject(Ether(src=ATTACKER_MAC, dst=BROADCAST) / packet)
    target.inject(Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / packet)
    target.time.run(limit=400)  # what a lie about the friend's address costs is as long as an entry lives
    target.inject(Ether(src=ATTACKER_MAC, dst=BROADCAST) / ARP(hwsrc=ATTACKER_MAC, psrc="10.0.0.9", pdst=TARGET[4]))
    target.friend_nic.ipv4 = "10.0.0.2/24"  # announces itself again
    target.assert_unharmed()


def test_an_address_of_ours_is_not_anothers_to_tell(target: Target) -> None:
    target.inject(
        Ether(src=ATTACKER_MAC, dst=BROADCAST) / ARP(op=2, hwsrc=ATTACKER_MAC, psrc=TARGET[4], pdst=TARGET[4])
    )
    target.assert_unharmed()


def test_a_static_neighbour_stays(target: Target) -> None:
    """ARP's and Neighbor Discovery's alike, whatever is said about it."""
    lie = "02:00:00:00:00:99"
    target.inject(Ether(src=lie, dst=TARGET_MAC) / ARP(op=2, hwsrc=lie, psrc=ATTACKER[4], pdst=TARGET[4]))
    target.inject(ip(6, hlim=255) / ICMPv6ND_NA(tgt=ATTACKER[6], O=1, S=1) / ICMPv6NDOptDstLLAddr(lladdr=lie))
    target.time.run(limit=2)
    for family in (4, 6):
        target.out.clear()
        target.stack.udp(family).send(b"?", (ATTACKER[family], 9))
        assert Ether(target.out[-1]).dst == ATTACKER_MAC


def test_an_arp_flood_is_bounded(target: Target) -> None:
    draw = random.Random(1)
    for _ in range(20):
        target.inject(
            *(
                bytes.fromhex("ffffffffffff") + mac + b"\x08\x06\0\1\x08\0\6\4\0\1" + mac + bytes([10, 0, 0, n])
                + bytes(6) + bytes([10, 0, 0, 1])
                for n in range(3, 254)
                if (mac := b"\2" + draw.randbytes(5))
            )
        )  # fmt: skip
    assert target.statistics().memory_used < 1 << 20
    target.assert_unharmed()


def test_packets_waiting_for_an_unknown_neighbour_are_bounded(target: Target) -> None:
    """Whoever makes us answer addresses that nobody has makes us ask for them."""
    for family in (4, 6):
        udp = target.stack.udp(family)
        for n in range(20_000):
            host = f"10.0.0.{3 + n % 60}" if family == 4 else f"fd00::{3 + n % 200:x}:9"
            try:
                udp.send(bytes(1400), (host, 9))
            except OSError:
                pass
        udp.close()
    assert target.statistics().memory_used < 32 << 20
    target.assert_unharmed()


def test_an_interface_that_is_down_hears_nothing(target: Target) -> None:
    target.nic.up = False
    target.inject(ip(4) / ICMP())
    assert target.nic.counters.rx_down == 1
    target.nic.up = True
    target.nic.link_up = False
    target.inject(ip(4) / ICMP())
    assert target.nic.counters.rx_down == 2
    target.nic.link_up = True
    target.assert_unharmed()


def test_a_point_to_point_interface_takes_ip_only() -> None:
    with VirtualTime() as time:
        stack = time.stack(seed=1)
        nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24", mtu=1500)
        draw = random.Random(3)
        frames = [draw.randbytes(draw.randrange(0, 1501)) for _ in range(5000)] + [b"", bytes(1501), bytes(70_000)]
        nic.receive_many(frames)
        assert nic.counters.rx_malformed > 4000
        nic.frames()
        nic.receive(bytes(ip(4) / ICMP()))
        assert len(nic.frames()) == 1


def test_a_wire_carries_what_the_other_sides_mtu_refuses() -> None:
    with VirtualTime() as time:
        a, b = time.stack(seed=1), time.stack(seed=2)
        large = a.add_interface(ipv4="10.0.0.1/24", mtu=9000)
        small = b.add_interface(ipv4="10.0.0.2/24", mtu=1500)
        lwipy.wire(large, small)
        a.udp().send(bytes(8000), ("10.0.0.2", 9))
        time.run(limit=1)
        assert small.counters.rx_malformed == 1
