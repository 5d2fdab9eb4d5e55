"""What no flow has in a group, and the kernel as its peer."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from group_lab import COUNTS, MAC, PEER, Lab, echo_to_clients, lab_of
from kernel_peer import namespace, need

import lwipy
from lwipy.blocking import ping
from lwipy.links import Tap


@pytest.fixture(params=[1, 2, 3, 4])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from lab_of(request.param)


# -- What no flow has ------------------------------------------------------------------------------------------------


def test_pings_are_answered_and_the_groups_own_find_back(lab: Lab) -> None:
    assert ping(lab.peer, "10.0.0.1", timeout=30) is not None
    assert ping(lab.group, "10.0.0.2", timeout=30) is not None
    assert ping(lab.group, "fd00::2", timeout=30) is not None


@dataclass
class Bench:
    """A group polled by hand, whose frames the test makes and takes."""

    group: lwipy.StackGroup
    nic: lwipy.GroupInterface

    def ask(self, *frames: bytes) -> list[bytes]:
        self.nic.receive_many(frames)
        for _ in range(3):
            self.group.poll()
        return self.nic.frames()


@pytest.fixture(params=[1, 2, 4])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with closing(lwipy.StackGroup(request.param)) as group:
        nic = group.add_interface(mac=MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        nic.add_neighbour("10.0.0.2", PEER)
        for _ in range(3):
            group.poll()
        nic.frames()
        yield Bench(group, nic)


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(payload: bytes, protocol: int, *, fragment: int = 0, source: str = "10.0.0.2") -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    header += socket.inet_aton(source) + socket.inet_aton("10.0.0.1")
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def frame(packet: bytes, kind: int = 0x0800, target: bytes = MAC) -> bytes:
    return target + PEER + struct.pack("!H", kind) + packet


def arp(operation: int, sender: str, target: str, to: bytes = b"\xff" * 6) -> bytes:
    ends = PEER + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return frame(struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends, 0x0806, to)


def test_a_ping_is_answered_once(bench: Bench) -> None:
    question = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + bytes(56)
    question = question[:2] + struct.pack("!H", checksum(question)) + question[4:]
    (answer,) = [sent for sent in bench.ask(frame(ip4(question, 1))) if sent[12:14] == b"\x08\0"]
    assert answer[34:36] == b"\0\0"
    assert answer[38:] == question[4:]


def test_arp_is_answered_once_and_learned_by_all(bench: Bench) -> None:
    (answer,) = bench.ask(arp(1, "10.0.0.3", "10.0.0.1"))
    assert answer[12:14] == b"\x08\x06"
    assert answer[20:22] == b"\0\2"
    assert bench.nic.steering.suppressed >= len(bench.group.stacks) - 1
    # Whoever sends there now knows the way: no stack asks.
    for stack in bench.group.stacks:
        with closing(lwipy.Stack.udp(stack)) as udp:
            udp.send(b"x", ("10.0.0.3", 9))
    kinds = [sent[12:14] for sent in bench.ask()]
    assert kinds == [b"\x08\x00"] * len(bench.group.stacks)


def test_an_address_is_announced_once(bench: Bench) -> None:
    bench.nic.ipv4 = "10.0.0.9/24"
    announced = [sent for sent in bench.ask() if sent[12:14] == b"\x08\x06"]
    assert len(announced) == 1


def test_an_icmp_error_goes_to_the_stack_whose_packet_it_is_about(bench: Bench) -> None:
    """Not to the first stack for want of ports: by the flow that it carries."""
    before = bench.nic.steering
    for port in range(40_000, 40_020):
        about = ip4(struct.pack("!HHHH", 80, port, 8, 0), 17, source="10.0.0.1")
        message = struct.pack("!BBHI", 3, 3, 0, 0) + about
        bench.ask(frame(ip4(message[:2] + struct.pack("!H", checksum(message)) + message[4:], 1)))
    after = bench.nic.steering
    assert (after.flows - before.flows, after.to_first - before.to_first) == (20, 0)


def test_fragments_of_tcp_are_dropped_and_counted(bench: Bench) -> None:
    segment = struct.pack("!HHIIBBHHH", 5000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
    assert bench.ask(frame(ip4(segment, 6, fragment=0x2000)), frame(ip4(segment, 6, fragment=3))) == []
    assert bench.nic.steering.tcp_fragments == 2


def test_frames_for_others_and_empty_ones_are_counted(bench: Bench) -> None:
    bench.ask(frame(ip4(b"", 17), target=b"\x02" * 6), b"")
    counters = bench.nic.counters
    assert (counters.rx_other, counters.rx_malformed) == (1, 1)


def hostile(dice: random.Random) -> bytes:
    """A frame that is nearly right: cut anywhere, with some bytes changed."""
    ports = struct.pack("!HHHH", dice.randrange(65536), 80, 8, 0)
    ip6 = struct.pack("!IHBB", 6 << 28, dice.randrange(64), dice.choice([0, 6, 17, 43, 44, 58, 60]), 64)
    ip6 += dice.randbytes(16) + socket.inet_pton(socket.AF_INET6, "fd00::1") + dice.randbytes(dice.randrange(64))
    good = dice.choice(
        [
            arp(dice.randrange(4), "10.0.0.3", "10.0.0.1"),
            frame(ip4(ports, dice.choice([1, 2, 6, 17, 99]), fragment=dice.choice([0, 0, 0x2000, 5]))),
            frame(ip4(struct.pack("!BBHI", 3, 3, 0, 0) + ip4(ports, 6), 1)),
            frame(ip6, 0x86DD),
            frame(b"\0\1\x86\xdd" + ip6, 0x8100),
        ]
    )
    bad = bytearray(good[: dice.randrange(len(good) + 1)] if dice.random() < 0.5 else good)
    for _ in range(dice.randrange(4)):
        if len(bad) > 14:
            bad[dice.randrange(14, len(bad))] = dice.randrange(256)
    return bytes(bad)


@pytest.mark.parametrize("seed", range(8))
def test_hostile_frames_harm_no_stack(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    frames = [hostile(dice) for _ in range(2000)]
    bench.ask(*frames)
    steering = bench.nic.steering
    counters = bench.nic.counters
    shared = steering.flows + steering.fragments + steering.to_all + steering.to_first + steering.tcp_fragments
    assert shared + counters.rx_malformed + counters.rx_other == len(frames)
    (answer,) = [sent for sent in bench.ask(arp(1, "10.0.0.4", "10.0.0.1")) if sent[12:14] == b"\x08\x06"]
    assert answer[28:32] == socket.inet_aton("10.0.0.1")


# -- The kernel as the peer ------------------------------------------------------------------------------------------


@COUNTS
def test_many_connections_from_the_kernel_through_a_tap(count: int) -> None:
    need()
    with namespace() as kernel, lwipy.StackGroup(count) as group:
        tap = Tap()
        group.add_interface(tap, ipv4="10.0.0.1/24")
        kernel.take(tap.name, "10.0.0.2/24")
        echo_to_clients(group, kernel, "10.0.0.1")
