"""Two stacks in one process and one thread, joined by a wire, driven by hand: what the core itself costs from Python.

One TCP stream, 64 KB writes of ``bytes``, reads into one buffer; every byte is counted. The wire carries segments uncut
(``csrc/wire_offload.c``), as the kernel's veth does, or frames of the MTU only: both are measured. The loop in C makes
the same calls of the core, sends by reference too, from and into the same memory: where that lies in the caches makes
as much of a difference as Python does. The time is the processor's, not the wall's, so that a busy neighbour counts
less, and it is one processor for all. But what else its host does changes a processor's pace, by up to a half and
several times a second: the two loops take turns of some milliseconds, and a run is the median of each's.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass

import lwipy
from benchmarks import pair_in_c
from benchmarks.clock import on_one_processor
from benchmarks.figures import Case, Sample

WRITE = 64 * 1024
READ = 256 * 1024
#: No zeros: pages that were never written are one and the same.
DATA = random.Random(1).randbytes(WRITE)
BUFFER = bytearray(READ)


@dataclass(frozen=True)
class Result:
    """One run."""

    gigabits: float
    nanoseconds_per_frame: float
    frames: int


@dataclass
class Pair:
    """An established connection between two stacks."""

    server_stack: lwipy.Stack
    client_stack: lwipy.Stack
    nic: lwipy.Interface
    server: lwipy.TcpEndpoint
    client: lwipy.TcpEndpoint

    @classmethod
    def connect(cls, mtu: int, checksums: bool, offload: bool) -> Pair:
        server_stack, client_stack = lwipy.Stack(), lwipy.Stack()
        nic = server_stack.add_interface(ipv4="10.0.0.1/24", mtu=mtu, checksums=checksums)
        other = client_stack.add_interface(ipv4="10.0.0.2/24", mtu=mtu, checksums=checksums)
        lwipy.wire(nic, other, offload=offload)
        listener, client = server_stack.tcp(), client_stack.tcp()
        listener.bind(("", 80))
        listener.listen()
        client.connect(("10.0.0.1", 80))
        while not listener.info.queued:
            client_stack.poll()
            server_stack.poll()
        return cls(server_stack, client_stack, nic, listener.accept(), client)

    def close(self) -> None:
        self.client_stack.close()
        self.server_stack.close()


def transfer(pair: Pair, total: int) -> Result:
    """Moves `total` bytes from the client to the server."""
    data, buffer = DATA, BUFFER
    send, receive = pair.client.send_if_room, pair.server.recv_into_if_any
    sent = received = 0
    before = pair.nic.counters
    started = time.process_time()
    while received < total:
        while sent < total and (part := send(data)):
            sent += part
        pair.server_stack.poll()
        while got := receive(buffer):
            received += got
            if got < READ:  # nothing more is there
                break
        pair.client_stack.poll()  # the acknowledgements, last: the next sends find room
    seconds = time.process_time() - started
    after = pair.nic.counters
    frames = after.rx_frames + after.tx_frames - before.rx_frames - before.tx_frames
    return Result(received * 8 / seconds / 1e9, seconds / frames * 1e9, frames)


def transfer_in_c(pair: Pair, total: int, driven: pair_in_c.Transfer) -> Result:
    """The same loop in C, with the same core and the same connection."""
    before = pair.nic.counters
    seconds = driven(pair.client, pair.server, DATA, BUFFER, total)
    after = pair.nic.counters
    frames = after.rx_frames + after.tx_frames - before.rx_frames - before.tx_frames
    return Result(total * 8 / seconds / 1e9, seconds / frames * 1e9, frames)


def runs(mtu: int, checksums: bool, offload: bool, count: int, megabytes: int) -> Iterator[tuple[Result, Result]]:
    """`count` runs over one connection after one that warms up: each from Python, then from C."""
    pair = Pair.connect(mtu, checksums, offload)
    driven = pair_in_c.Transfer()
    try:
        transfer(pair, 32 << 20)
        for _ in range(count):
            yield transfer(pair, megabytes << 20), transfer_in_c(pair, megabytes << 20, driven)
    finally:
        pair.close()


TURNS, MEGABYTES = 16, 32
#: MTU, checksums, and whether the wire carries segments uncut.
KINDS = [
    (1500, True, True),
    (1500, True, False),
    (1500, False, True),
    (1500, False, False),
    (9000, False, True),
    (9000, False, False),
    (65_000, False, False),
]


def turns() -> Iterator[tuple[str, list[tuple[Result, Result]]]]:
    """One run of each kind: what it is, and how the two loops did in their turns."""
    for mtu, checksums, offload in KINDS:
        wire = "uncut segments" if offload else "frames of the MTU"
        with on_one_processor():
            done = list(runs(mtu, checksums, offload, TURNS, MEGABYTES))
        yield f"MTU {mtu}, {wire}, checksums {'on' if checksums else 'off'}", done


def samples() -> Iterator[Sample]:
    for what, done in turns():
        yield Sample(f"lwipy, {what}", statistics.median(python.gigabits for python, _ in done))
        yield Sample(f"C, {what}", statistics.median(c.gigabits for _, c in done))


def shares() -> Iterator[Sample]:
    for what, done in turns():
        yield Sample(f"lwipy, {what}", statistics.median(python.gigabits / c.gigabits for python, c in done))


CASES = [
    Case("pair", "in-process pair, one thread, 64 KB writes from Python", "Gbit/s", samples),
    Case("pair_share", "the same against a loop in C, turn by turn", "times", shares),
]
