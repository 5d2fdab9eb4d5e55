"""A StackGroup of two stacks beside one of one and a plain Stack: TCP segments that they take, 64 flows.

The peers are a loop in C (group.c) in one thread: of each flow in turns a segment of 200 or 1400 bytes with its
checksum, made from one frame that lies in the cache, 64 of them in a batch, as a link reads them; and their
acknowledgements are read, which say how many more may be sent. What arrives is acknowledged and thrown away (the
sockets have shut down reading), so no Python takes part. Each batch has one segment of a flow, so nothing is merged:
this is the most work that segments of that size are.

The thread of the peers is the one that drives the plain Stack, or a group's front, in place of the thread that would
read a link. So a Stack uses one processor, and a group of one two already; on two processors, two stacks share them
with the front: of what that takes for a frame, g, and a stack, s, the ratio of the groups is at most 2 s / (s + g).
Therefore further cases have the same by work: segments in a second of the processor that the busiest thread used, which
is the rate where every thread has one to itself. What the front writes, another processor's cache has to fetch: a
group pays where the work for a frame, sums and TCP and what the application does, is more than that.

With a link for each stack there is no front: :mod:`benchmarks.queues`.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import cffi

import lwipy
from benchmarks.clock import on_one_processor
from benchmarks.compiled import address_of, library
from benchmarks.figures import Case, Sample
from lwipy._native import ffi

FLOWS: Final = 64
SEGMENTS: Final = 400_000
AHEAD: Final = 256 << 10  # bytes that are on their way at most
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


def establish(nic: lwipy.Interface, flow: Flow) -> None:
    nic.receive(flow.segment(2))
    while True:
        for frame in nic.frames():
            if len(frame) > 47 and frame[47] & 0x12 == 0x12:
                flow.acknowledged = int.from_bytes(frame[38:42], "big") + 1
                nic.receive(flow.segment(16))
                return
        time.sleep(0.001)


class Sender:
    """group.c's peers of so many flows. Calling it sends, and gives the seconds that it took."""

    _fields: Final = """
        void *core; int nic; uint32_t flows, first_port, ports, length, data; uint64_t ahead;
        uint8_t *frames; uint32_t *offsets; uint32_t *acknowledged; void *receive, *take, *poll;
    """
    _functions: Final = {
        "receive": "lwipy_netif_receive_batch", "take": "lwipy_netif_take_batch", "poll": "lwipy_poll"
    }  # fmt: skip

    def __init__(self) -> None:
        self._ffi: Any = cffi.FFI()
        self._ffi.cdef(
            f"struct group {{ {self._fields} }}; double send_rounds(const struct group *group, uint64_t rounds);"
        )
        self._lib: Any = self._ffi.dlopen(str(library("group.c")))

    def __call__(self, stack: lwipy.Stack, nic: lwipy.Interface, flows: list[Flow], size: int, rounds: int) -> float:
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        first, last = flows[0].port, flows[-1].port
        acknowledged = array("I", bytes(4 * (last - first + 1)))
        for flow in flows:
            acknowledged[flow.port - first] = flow.sequence
        frames = [flow.segment(24, data, _sum(data)) for flow in flows]
        length = len(frames[0])
        buffer, offsets = bytearray().join(frames), array("I", range(0, (len(flows) + 1) * length, length))
        group = self._ffi.new("struct group *")
        group.core, group.nic = self._ffi.cast("void *", int(ffi.cast("uintptr_t", stack._core))), nic.number
        group.flows, group.first_port, group.ports = len(flows), first, len(acknowledged)
        group.length, group.data = length, size
        group.ahead = AHEAD
        places = [self._ffi.from_buffer("uint32_t[]", part) for part in (offsets, acknowledged)]
        group.offsets, group.acknowledged = places
        group.frames = whole = self._ffi.from_buffer(buffer)
        for name, function in self._functions.items():
            setattr(group, name, self._ffi.cast("void *", address_of(function)))
        seconds: float = self._lib.send_rounds(group, rounds)
        del whole, places
        if seconds < 0:
            raise RuntimeError("segments were not acknowledged")
        return seconds


class Threads:
    """Seconds of processors that threads have used: the stacks' own, and this one, which feeds them."""

    def __init__(self, stacks: Sequence[lwipy.Stack]) -> None:
        idents = [stack._driver._thread.ident for stack in stacks]  # type: ignore[attr-defined]
        self._clocks = [time.pthread_getcpuclockid(ident) for ident in (*idents, threading.get_ident())]
        self._before = self._used()

    def _used(self) -> list[float]:
        return [time.clock_gettime(clock) for clock in self._clocks]

    def busiest(self) -> float:
        return max(now - before for before, now in zip(self._before, self._used(), strict=True))


def measured(count: int, size: int) -> tuple[float, float]:
    """Millions of segments in a second, and in a second of the busiest thread's processor. `count` 0 is a Stack."""
    sender = Sender()
    with lwipy.StackGroup(count) if count else lwipy.Stack() as stack, ExitStack() as open_ones:
        nic = stack.add_interface(mac=MAC, ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.2", PEER)
        listener = open_ones.enter_context(stack.create_server(("10.0.0.1", 80), backlog=FLOWS))
        flows = [Flow(20_000 + number) for number in range(FLOWS)]
        for flow in flows:
            establish(nic, flow)
            server = open_ones.enter_context(listener.accept()[0])
            server.shutdown(socket.SHUT_RD)
        fed, others = (stack._front, stack.stacks) if isinstance(stack, lwipy.StackGroup) else (stack, ())
        driver: Any = fed._driver
        driver.stop()  # this thread takes its place
        with on_one_processor():
            threads = Threads(others)
            seconds = sender(fed, nic, flows, size, SEGMENTS // FLOWS)
            work = threads.busiest()
        if isinstance(nic, lwipy.GroupInterface) and nic.steering.full:
            raise RuntimeError(f"{nic.steering.full} frames found a queue full")
        segments = SEGMENTS // FLOWS * FLOWS
        return segments / seconds / 1e6, segments / work / 1e6


NAMES: Final = {0: "lwipy, a Stack", 1: "lwipy, a group of 1", 2: "lwipy, a group of 2"}


def by_clock(size: int) -> Iterator[Sample]:
    for count, name in NAMES.items():
        yield Sample(name, measured(count, size)[0])


def by_work(size: int) -> Iterator[Sample]:
    for count, name in NAMES.items():
        yield Sample(name, measured(count, size)[1])


CASES = [
    Case(name, f"TCP segments of {size} bytes into a StackGroup{text}", unit, partial(run, size), reference=NAMES[1])
    for name, size, run, text, unit in (
        ("group", 200, by_clock, "", "million/s"),
        ("group_large", 1400, by_clock, "", "million/s"),
        ("group_work", 200, by_work, ", by the busiest thread's processor", "million/s"),
        ("group_large_work", 1400, by_work, ", by the busiest thread's processor", "million/s"),
    )
]
