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
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import lwipy
from benchmarks.connections import OnLwipy, streams
from benchmarks.native import library
from lwipy.aio import create_connection, create_server, driving

COUNTS = (100, 1000, 10_000, 50_000)
ROUNDS = 4000
EXPORTS = """
struct scale { double setup, teardown, segment, memory, idle; };
int bench_scale(uint32_t count, int one_bucket, uint32_t rounds, struct scale *out);
double bench_set_up(uint32_t count);
"""


def native(count: int, *, demultiplexer: bool = True, rounds: int = ROUNDS) -> dict[str, float]:
    """The figures of benchmarks/scale.c."""
    ffi, lib = library("scale.c", EXPORTS)
    out = ffi.new("struct scale *")
    if lib.bench_scale(count, not demultiplexer, rounds, out) != 0:
        raise RuntimeError(f"{count} connections could not be made")
    return {name: float(getattr(out, name)) for name in ("setup", "teardown", "segment", "memory", "idle")}


def set_up(count: int, connections: int = 20_000) -> float:
    """Connections a second, between new stacks each time, until there were so many: their median, for what a hundred
    take is over in less than a millisecond."""
    _, lib = library("scale.c", EXPORTS)
    return float(statistics.median(lib.bench_set_up(count) for _ in range(max(1, connections // count))))


def _wired() -> tuple[lwipy.Stack, lwipy.Stack]:
    a, b = lwipy.Stack(), lwipy.Stack()
    lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
    return a, b


@contextmanager
def _traced() -> Iterator[Callable[[], int]]:
    """Bytes that Python has allocated since the beginning."""

    def used() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        yield used
    finally:
        tracemalloc.stop()


def endpoints(count: int) -> float:
    """Bytes of Python for an idle end that is an endpoint of the stack's own kind."""
    a, b = _wired()
    with closing(a), closing(b), _traced() as used:
        listener = a.tcp()
        listener.bind(("", 80))
        listener.listen(count)
        ends = []
        for _ in range(count):
            client = b.tcp()
            client.connect(("10.0.0.1", 80))
            while not listener.info.queued:
                b.poll()
                a.poll()
            ends += [client, listener.accept()]
        return used() / len(ends)


def sockets(count: int) -> float:
    """Of one that is a blocking socket."""
    a, b = _wired()
    with a, b, a.create_server(("10.0.0.1", 80), backlog=100) as server, _traced() as used:
        ends = [end for _ in range(count) for end in (b.create_connection(("10.0.0.1", 80)), server.accept()[0])]
        try:
            return used() / len(ends)
        finally:
            for end in ends:
                end.close()


async def transports(count: int) -> float:
    """Of one that is asyncio's, with a protocol of the plainest kind."""
    a, b = _wired()
    with closing(a), closing(b):
        made: list[Any] = []

        class Kept(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.append(transport)

        async with driving(a), driving(b):
            server = await create_server(a, Kept, "10.0.0.1", 80, backlog=1000)
            with _traced() as used:
                for _ in range(0, count, 100):
                    await asyncio.gather(*(create_connection(b, Kept, "10.0.0.1", 80) for _ in range(100)))
                while len(made) < 2 * count:
                    await asyncio.sleep(0)
                await asyncio.sleep(0.05)
                found = used() / len(made)
            for transport in made:
                transport.abort()
            server.close()
            await asyncio.sleep(0.05)
    return found


async def asyncio_rate(count: int = 2000) -> float:
    """Connections a second of asyncio's streams, both ends in this loop, as benchmarks/connections.py has them."""
    a, b = _wired()
    with closing(a), closing(b):
        async with driving(a), driving(b):
            return await streams(OnLwipy(a, b), count)


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
            found[count].append({**native(count), "setup": set_up(count)})
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
    python = {"endpoint": endpoints(2000), "socket": sockets(500), "transport": asyncio.run(transports(2000))}
    rate = statistics.median([asyncio.run(asyncio_rate()) for _ in range(runs + 1)][1:])  # the first one warms up
    print(f"segment at 50 000 against 100: {rows[-1]['segment'] / rows[0]['segment']:.1f} times")
    print(f"one list, 1 000 connections: {plain:.0f} ns a segment")
    for kind, size in python.items():
        print(f"an idle end in Python, {kind}: {size:.0f} bytes more")
    print(f"asyncio streams, both ends in one loop: {rate:.0f} connections a second")
    extra = {"one_list_1000": plain, "python_bytes": python, "asyncio_rate": rate, "deadlines": deadlines()}
    print(f"stacks with an idle connection that wake by themselves: {extra['deadlines']} of 2")
    if options.json is not None:
        options.json.write_text(json.dumps([*rows, extra], indent=2) + "\n")


if __name__ == "__main__":
    main()
