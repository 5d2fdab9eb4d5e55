"""A StackGroup of two stacks beside one of one: TCP segments that they take from one interface, 64 flows.

The frames are prepared, with their checksums, so that making them costs nothing while the clock runs: in order, with
200 or 1400 bytes each, of flows in turns, as many as a member's queue holds. They are given to the interface in one
call; then the clock runs until every stack has taken its share, acknowledged it and thrown it away (the sockets have
shut down reading, so no Python takes part). What one call costs to steer is in the figure.
"""

from __future__ import annotations

import socket
import struct
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import lwipy
from benchmarks.clock import now
from benchmarks.figures import Case, Sample

FLOWS: Final = 64
BATCHES: Final = 12
BYTES: Final = 2_500_000  # in a batch: less than a member's queue
MAC, PEER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
OURS, THEIRS = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Flow:
    """A connection whose client side is this program."""

    def __init__(self, port: int) -> None:
        self.port, self.sequence, self.acknowledged = port, 1000, 0

    def segment(self, flags: int, data: bytes = b"", sum_of_data: int = 0) -> bytes:
        words = (self.port, 80, self.sequence & 0xFFFFFFFF, self.acknowledged, 0x50, flags, 65535)
        header = struct.pack("!HHIIBBH", *words)
        whole = _sum(THEIRS + OURS + struct.pack("!HH", 6, 20 + len(data)) + header) + sum_of_data
        while whole >> 16:
            whole = (whole & 0xFFFF) + (whole >> 16)
        header += struct.pack("!HH", ~whole & 0xFFFF, 0)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + THEIRS + OURS
        ip = ip[:10] + struct.pack("!H", ~_sum(ip) & 0xFFFF) + ip[12:]
        self.sequence += len(data) + (flags & 2 > 0)
        return MAC + PEER + b"\x08\0" + ip + header + data


def _establish(nic: lwipy.Interface, flow: Flow) -> None:
    nic.receive(flow.segment(2))
    while True:
        for frame in nic.frames():
            if len(frame) > 47 and frame[47] & 0x12 == 0x12:
                flow.acknowledged = int.from_bytes(frame[38:42], "big") + 1
                nic.receive(flow.segment(16))
                return
        time.sleep(0.001)


def rate(count: int, size: int) -> float:
    """Millions of segments per second."""
    with lwipy.StackGroup(count) as group, ExitStack() as open_ones:
        nic = group.add_interface(mac=MAC, ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.2", PEER)
        listener = open_ones.enter_context(group.create_server(("10.0.0.1", 80), backlog=FLOWS))
        flows = [Flow(20_000 + number) for number in range(FLOWS)]
        for flow in flows:
            _establish(nic, flow)
            server = open_ones.enter_context(listener.accept()[0])
            server.shutdown(socket.SHUT_RD)
        rounds = max(1, BYTES // ((size + 58) * FLOWS))
        data = bytes(range(256)) * (size // 256 + 1)
        data, expected = data[:size], group.statistics.tcp_rx
        sum_of_data = _sum(data)
        batches = []
        for _ in range(BATCHES):
            frames = [flow.segment(24, data, sum_of_data) for _ in range(rounds) for flow in flows]
            batches.append((b"".join(frames), array("I", range(0, (len(frames) + 1) * len(frames[0]), len(frames[0])))))
        started = now()
        for buffer, offsets in batches:
            nic.receive_many(buffer, offsets)
            expected += rounds * FLOWS
            while group.statistics.tcp_rx < expected:
                time.sleep(0.0002)
            nic.frames()
        seconds = now() - started
        if nic.steering.full:
            raise RuntimeError(f"{nic.steering.full} frames found a queue full")
        return BATCHES * rounds * FLOWS / seconds / 1e6


def run() -> Iterator[Sample]:
    for size in (200, 1400):
        for count in (1, 2):
            yield Sample(f"lwipy, {count} stack{'s' if count > 1 else ''}, {size} bytes", rate(count, size))


CASES = [Case("group", "TCP segments into a StackGroup", "million/s", run, reference="lwipy, 1 stack,")]
