"""A group whose stacks read the wire themselves, and a peer: what the tests of queues begin with.

The peer is a group with as many queues, joined queue by queue: its answers leave from the stack that it has the flow
in, which is another half of the time, so half of what arrives is at the wrong queue. Or it is a stack whose frames come
to any queue by chance, or all to one.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from group_lab import Lab
from vnet_device import CSUM, TSO4, TSO6, FakeTap

import lwipy
from lwipy.links import QemuDgram

WAYS = ["wires", "datagrams", "devices", "chance", "one queue"]


def is_reset(frame: bytes) -> bool:
    """Of TCP over IPv4 or IPv6 without options."""
    at = {b"\x08\x00": 23, b"\x86\xdd": 20}.get(frame[12:14])
    flags = 47 if at == 23 else 67
    return at is not None and len(frame) > flags and frame[at] == 6 and bool(frame[flags] & 4)


def spread(nic: lwipy.GroupInterface, peer: lwipy.Interface, choose: Callable[[], int]) -> list[bytes]:
    """Joins them: the peer's frames come to the queue that is chosen. The RSTs that the group sends."""
    resets: list[bytes] = []

    def out(frame: bytes) -> None:
        if is_reset(frame):
            resets.append(frame)
        peer.receive(frame)

    for queue in nic.queues:
        queue.on_frame = out
    peer.on_frame = lambda frame: nic.queues[choose()].receive(frame)
    return resets


@contextmanager
def queued(count: int, way: str, folder: Path) -> Iterator[Lab]:
    """Groups of `count` stacks on one network, their frames on this way; those of devices are long, without sums."""
    dice = random.Random(7)
    with lwipy.StackGroup(count) as group, lwipy.StackGroup(count) as peers, lwipy.Stack() as peer:
        ours: list[lwipy.links.Link | None] = [None] * count
        theirs = ours
        if way == "datagrams":
            ends = [(str(folder / f"ours{i}"), str(folder / f"theirs{i}")) for i in range(count)]
            ours = [QemuDgram(here, there) for here, there in ends]
            theirs = [QemuDgram(there, here) for here, there in ends]
        elif way == "devices":
            pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
            ours = [FakeTap(pair[0].detach(), CSUM | TSO4 | TSO6) for pair in pairs]
            theirs = [FakeTap(pair[1].detach(), CSUM | TSO4 | TSO6) for pair in pairs]
        nic = group.add_interface(ours, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        if way in ("chance", "one queue"):
            single = peer.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64")
            spread(nic, single, lambda: dice.randrange(count) if way == "chance" else count - 1)
            yield Lab(group, peer, nic)
        else:
            other = peers.add_interface(theirs, ipv4="10.0.0.2/24", ipv6="fd00::2/64")
            for here, there in zip(nic.queues, other.queues, strict=True):
                if way == "wires":
                    lwipy.wire(here, there)
            yield Lab(group, peers, nic)
