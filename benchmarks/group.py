"""A StackGroup of two stacks beside one of one: TCP segments that they take from one interface, 64 flows.

The frames are prepared, with their checksums, so that making them costs nothing while the clock runs: in order, with
200 or 1400 bytes each, of flows in turns. They are given to the interface in batches, the next one when the stacks have
less than three before them, so that none waits for work. The clock runs until they have taken everything, acknowledged
it and thrown it away (the sockets have shut down reading, so no Python takes part).

The thread that gives the frames steers them. So one stack uses two processors already, and where there are no more,
two stacks share them with that thread: of what it takes for a frame, g, and a stack, s, the ratio is at most
2 s / (s + g). Therefore further cases have the same by the stacks' own work: segments in a second of the processor that
the busiest of them used, which is the rate where every thread has one to itself.
"""

from __future__ import annotations

import socket
import struct
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import lwipy
from benchmarks.clock import on_one_processor
from benchmarks.figures import Case, Sample
from lwipy._native import ffi, lib

FLOWS: Final = 64
BATCHES: Final = 100
BYTES: Final = 600_000  # in a batch; a member's queue holds some of them
AHEAD: Final = 3  # batches that are on their way at most
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


def _batches(flows: list[Flow], size: int) -> list[tuple[bytes, array[int]]]:
    """All that is to be sent, as receive_many() takes it."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    sum_of_data, rounds = _sum(data), max(1, BYTES // ((size + 58) * len(flows)))
    batches = []
    for _ in range(BATCHES):
        frames = [flow.segment(24, data, sum_of_data) for _ in range(rounds) for flow in flows]
        length = len(frames[0])
        batches.append((b"".join(frames), array("I", range(0, (len(frames) + 1) * length, length))))
    return batches


class Meter:
    """Segments that stacks have taken, and seconds of processors that their threads have used."""

    def __init__(self, stacks: Sequence[lwipy.Stack]) -> None:
        self._cores: list[Any] = [stack._core for stack in stacks]
        threads = [stack._driver._thread for stack in stacks]  # type: ignore[attr-defined]
        self._clocks = [time.pthread_getcpuclockid(thread.ident) for thread in threads]
        self._out = ffi.new("lwipy_statistics *")
        self._before = self.used()

    def segments(self) -> int:
        total = 0
        for core in self._cores:
            lib.lwipy_get_statistics(core, self._out)
            total += self._out.tcp_rx
        return total

    def used(self) -> list[float]:
        return [time.clock_gettime(clock) for clock in self._clocks]

    def work(self) -> float:
        """What the busiest has used since the beginning."""
        return max(now - before for before, now in zip(self._before, self.used(), strict=True))


def _give(nic: lwipy.Interface, batches: list[tuple[bytes, array[int]]], meter: Meter) -> tuple[int, float]:
    """Segments, and seconds until they were taken."""
    first = expected = meter.segments()
    each = len(batches[0][1]) - 1
    started = time.perf_counter()
    for buffer, offsets in batches:
        nic.receive_many(buffer, offsets)
        expected += each
        while meter.segments() < expected - (AHEAD - 1) * each:
            time.sleep(0.0003)
        nic.frames()
    while meter.segments() < expected:
        time.sleep(0.0001)
    return expected - first, time.perf_counter() - started


def measured(count: int, size: int) -> tuple[float, float]:
    """Millions of segments in a second, and in a second of the busiest stack's processor."""
    with lwipy.StackGroup(count) as group, ExitStack() as open_ones:
        nic = group.add_interface(mac=MAC, ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.2", PEER)
        listener = open_ones.enter_context(group.create_server(("10.0.0.1", 80), backlog=FLOWS))
        flows = [Flow(20_000 + number) for number in range(FLOWS)]
        for flow in flows:
            _establish(nic, flow)
            server = open_ones.enter_context(listener.accept()[0])
            server.shutdown(socket.SHUT_RD)
        batches = _batches(flows, size)
        with on_one_processor():
            meter = Meter(group.stacks)
            segments, seconds = _give(nic, batches, meter)
            work = meter.work()
        if nic.steering.full:
            raise RuntimeError(f"{nic.steering.full} frames found a queue full")
        return segments / seconds / 1e6, segments / work / 1e6


def by_clock(size: int) -> Iterator[Sample]:
    for count in (1, 2):
        yield Sample(f"lwipy, {count} stack{'s' if count > 1 else ''}", measured(count, size)[0])


def by_work(size: int) -> Iterator[Sample]:
    for count in (1, 2):
        yield Sample(f"lwipy, {count} stack{'s' if count > 1 else ''}", measured(count, size)[1])


CASES = [
    Case(name, f"TCP segments of {size} bytes into a StackGroup{text}", unit, partial(run, size), reference="lwipy, 1")
    for name, size, run, text, unit in (
        ("group", 200, by_clock, "", "million/s"),
        ("group_large", 1400, by_clock, "", "million/s"),
        ("group_work", 200, by_work, ", by the busiest stack's processor", "million/s"),
        ("group_large_work", 1400, by_work, ", by the busiest stack's processor", "million/s"),
    )
]
