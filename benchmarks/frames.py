"""Small frames through Python: batches of datagrams out of one stack and into another, in one buffer with offsets.

Out: frames that wait are moved into the caller's buffer (frames_into). In: a batch is given to the stack
(receive_many), which takes it up to the socket's queue; for comparison also as lists of bytes objects. Processor time.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import lwipy
from benchmarks.figures import Case, Sample

BATCH = 2048
PAYLOAD = 18  # the least Ethernet frame, 60 bytes


@dataclass
class Bench:
    """A stack that sends datagrams and one that receives them, joined by the caller's hands."""

    source: lwipy.Stack
    sink: lwipy.Stack

    def __post_init__(self) -> None:
        self.out = self.source.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24")
        self.into = self.sink.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24")
        self.out.add_neighbour("10.0.0.2", "02:00:00:00:00:02")
        self.client = self.source.udp()
        self.open()
        self.client.connect(("10.0.0.2", 9))
        self.buffer, self.offsets = bytearray(BATCH * 64), array("I", bytes(4 * (BATCH + 1)))
        self.out.frames()

    def open(self) -> None:
        """The socket; its queue has room for a batch."""
        self.server = self.sink.udp()
        self.server.set_option(lwipy.Option.RCVBUF, 4 << 20)
        self.server.bind(("10.0.0.2", 9))

    def fill(self) -> None:
        for _ in range(BATCH):
            self.client.send(bytes(PAYLOAD))

    def drain(self) -> None:
        """A new socket empties the queue at once."""
        self.server.close()
        self.open()

    def close(self) -> None:
        self.client.close()
        self.server.close()
        self.source.close()
        self.sink.close()


def _rate(count: int, seconds: float) -> float:
    return count / seconds / 1e6


def samples(batches: int = 40) -> Iterator[Sample]:
    """One run: millions of frames a second, each way, by buffer and by list."""
    bench = Bench(lwipy.Stack(), lwipy.Stack())
    spent = dict.fromkeys(("out, buffer", "in, buffer", "out, list", "in, list"), 0.0)
    try:
        for _ in range(batches):
            bench.fill()
            started = time.process_time()
            count = bench.out.frames_into(bench.buffer, bench.offsets)
            taken = time.process_time()
            bench.into.receive_many(bench.buffer, bench.offsets)
            spent["out, buffer"] += taken - started
            spent["in, buffer"] += time.process_time() - taken
            assert count == BATCH
            bench.drain()
            bench.fill()
            started = time.process_time()
            frames = bench.out.frames()
            taken = time.process_time()
            bench.into.receive_many(frames)
            spent["out, list"] += taken - started
            spent["in, list"] += time.process_time() - taken
            bench.drain()
        assert bench.into.counters.rx_frames == 2 * batches * BATCH
        assert bench.sink.statistics.udp_queue_full == 0
    finally:
        bench.close()
    for name, seconds in spent.items():
        yield Sample(name, _rate(batches * BATCH, seconds))


CASES = [Case("frames", "60-byte frames from Python, one thread", "million/s", samples, ours="")]
