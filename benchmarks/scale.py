"""``python -m benchmarks scale``: one stack with 100 to 50 000 connections, from C and from Python.

Two stacks of one process and one thread, joined by a wire, checksums off. Times are the processor's. A segment's cost
includes both ends, the application, and its acknowledgement; a byte goes by each of 64 connections at random.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lwipy
from benchmarks.native import library
from lwipy.aio import create_server, driving, open_connection

COUNTS = (100, 1000, 10_000, 50_000)
ROUNDS = 4000
EXPORTS = """
struct scale { double setup, teardown, segment, memory, idle; };
int bench_scale(uint32_t count, int one_bucket, uint32_t rounds, struct scale *out);
"""


def native(count: int, *, demultiplexer: bool = True, rounds: int = ROUNDS) -> dict[str, float]:
    """The figures of benchmarks/scale.c."""
    ffi, lib = library("scale.c", EXPORTS)
    out = ffi.new("struct scale *")
    if lib.bench_scale(count, not demultiplexer, rounds, out) != 0:
        raise RuntimeError(f"{count} connections could not be made")
    return {name: float(getattr(out, name)) for name in ("setup", "teardown", "segment", "memory", "idle")}


def objects(count: int) -> float:
    """Bytes of Python for an idle end: its endpoint, without an application's own."""
    a, b = lwipy.Stack(), lwipy.Stack()
    try:
        lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
        listener = a.tcp()
        listener.bind(("", 80))
        listener.listen(count)
        gc.collect()
        tracemalloc.start()
        ends = []
        for _ in range(count):
            end = b.tcp()
            end.connect(("10.0.0.1", 80))
            b.poll()
            a.poll()
            ends += [end, listener.accept()] if listener.info.queued else [end]
        gc.collect()
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return used / len(ends)
    finally:
        b.close()
        a.close()


async def asyncio_rate(count: int, at_once: int = 200) -> float:
    """Connections a second, set up by asyncio streams to an asyncio server, both in this loop, and closed."""
    a, b = lwipy.Stack(), lwipy.Stack()
    lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
    try:
        async with driving(a), driving(b):
            server = await create_server(a, asyncio.Protocol, "10.0.0.1", 80, backlog=1000)
            started = time.perf_counter()
            writers = []
            for _ in range(count // at_once):
                opened = await asyncio.gather(*(open_connection(b, "10.0.0.1", 80) for _ in range(at_once)))
                writers += [writer for _, writer in opened]
            seconds = time.perf_counter() - started
            for writer in writers:
                writer.close()
            server.close()
            await asyncio.sleep(0.1)
            return len(writers) / seconds
    finally:
        b.close()
        a.close()


def deadlines() -> int:
    """What would wake two stacks of themselves that have an idle connection, some minutes after the last traffic."""
    now = 1000.0
    a, b = lwipy.Stack(clock=lambda: now), lwipy.Stack(clock=lambda: now)
    try:
        lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
        listener, client = a.tcp(), b.tcp()
        listener.bind(("", 80))
        listener.listen()
        client.connect(("10.0.0.1", 80))
        for _ in range(2000):
            a.poll()
            b.poll()
            now += 0.1
        return sum(stack.poll() is not None for stack in (a, b))
    finally:
        b.close()
        a.close()


def measure(runs: int) -> Iterator[dict[str, Any]]:
    """One row of figures for each count: medians of `runs`."""
    found: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    for _ in range(runs):
        for count in COUNTS:
            found[count].append(native(count))
    for count, results in found.items():
        row = {name: statistics.median(result[name] for result in results) for name in results[0]}
        spread = [result["segment"] for result in results]
        yield {"connections": count, **row, "segment_lowest": min(spread), "segment_highest": max(spread)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", "--runs", dest="runs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    runs = options.runs
    rows = list(measure(runs))
    print("connections  ns/segment   (lowest to highest)  bytes/end  set up/s  closed/s  idle CPU")
    for row in rows:
        print(
            f"{row['connections']:>11}  {row['segment']:>10.0f}  ({row['segment_lowest']:>8.0f} to "
            f"{row['segment_highest']:>7.0f})  {row['memory']:>9.0f}  {row['setup']:>8.0f}  {row['teardown']:>8.0f}  "
            f"{row['idle']:>7.2%}"
        )
    plain = native(1000, demultiplexer=False, rounds=200)["segment"]
    python = objects(2000)
    rate = statistics.median(asyncio.run(asyncio_rate(4000)) for _ in range(runs))
    print(f"segment at 50 000 against 100: {rows[-1]['segment'] / rows[0]['segment']:.1f} times")
    print(f"one list, 1 000 connections: {plain:.0f} ns a segment")
    print(f"an idle end in Python: {python:.0f} bytes more")
    print(f"asyncio streams: {rate:.0f} connections a second")
    extra = {"one_list_1000": plain, "python_bytes": python, "asyncio_rate": rate, "deadlines": deadlines()}
    print(f"stacks with an idle connection that wake by themselves: {extra['deadlines']} of 2")
    if options.json is not None:
        options.json.write_text(json.dumps([*rows, extra], indent=2) + "\n")


if __name__ == "__main__":
    main()
