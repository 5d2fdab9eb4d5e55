"""``python -m benchmarks echo``: what an event costs in Python. One byte there and back, connections, and their memory.

Both ends in one thread, joined by a wire in the process; beside it asyncio over the kernel's loopback, in the same run,
in turns. Round trips in microseconds, connections per second, bytes of Python's for one end of an idle connection.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import lwipy
from lwipy import aio

WARM = 500


@dataclass(frozen=True)
class Latency:
    """Round trips of one run, microseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, nanoseconds: list[int]) -> Latency:
        ordered = sorted(nanoseconds[WARM:])
        return cls(ordered[len(ordered) // 2] / 1e3, ordered[len(ordered) * 99 // 100] / 1e3)


class World:
    """Where connections are made: the asyncio functions, with or without a stack in front."""

    def __init__(self, name: str, server: lwipy.Stack | None = None, client: lwipy.Stack | None = None) -> None:
        self.name = name
        self.host = "127.0.0.1" if server is None else "10.0.0.1"
        self._server, self._client = server, client

    async def serve(self, factory: Callable[[], asyncio.Protocol], backlog: int = 1024) -> tuple[Any, int]:
        loop = asyncio.get_running_loop()
        if self._server is None:
            server: Any = await loop.create_server(factory, self.host, 0, backlog=backlog)
        else:
            server = await aio.create_server(self._server, factory, self.host, 0, backlog=backlog)
        return server, server.sockets[0].getsockname()[1]

    async def connect(self, factory: Callable[[], asyncio.Protocol], port: int) -> tuple[Any, Any]:
        if self._client is None:
            return await asyncio.get_running_loop().create_connection(factory, self.host, port)
        return await aio.create_connection(self._client, factory, self.host, port)

    async def streams(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._client is None:
            return await asyncio.open_connection(self.host, port)
        return await aio.open_connection(self._client, self.host, port)


@asynccontextmanager
async def worlds() -> AsyncIterator[list[World]]:
    """Two stacks on a wire, and the kernel."""
    with closing(lwipy.Stack()) as server, closing(lwipy.Stack()) as client:
        nic = server.add_interface(ipv4="10.0.0.1/16")
        lwipy.wire(nic, client.add_interface(ipv4="10.0.0.2/16"))
        async with aio.driving(server), aio.driving(client):
            yield [World("lwipy", server, client), World("kernel")]


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.write(data)


class Ping(asyncio.Protocol):
    """Sends a byte, and the next when it came back, and notes how long that took."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.times: list[int] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write
        self._ping()

    def _ping(self) -> None:
        self._sent = time.perf_counter_ns()
        self.write(b"x")

    def data_received(self, data: bytes) -> None:
        self.times.append(time.perf_counter_ns() - self._sent)
        self.left -= 1
        if self.left:
            self._ping()
        else:
            self.done.set_result(None)


async def protocols(world: World, count: int) -> Latency:
    server, port = await world.serve(Echo)
    transport, ping = await world.connect(lambda: Ping(count), port)
    await ping.done
    transport.close()
    server.close()
    await server.wait_closed()
    return Latency.of(ping.times)


async def streams(world: World, count: int) -> Latency:
    server, port = await world.serve(Echo)
    reader, writer = await world.streams(port)
    times = []
    for _ in range(count):
        sent = time.perf_counter_ns()
        writer.write(b"x")
        await reader.read(1)
        times.append(time.perf_counter_ns() - sent)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return Latency.of(times)


async def connections(world: World, count: int, at_once: int = 64) -> float:
    """Connections opened per second, `at_once` at a time, each closed by its client when it stands."""
    server, port = await world.serve(asyncio.Protocol)

    async def connect(share: int) -> None:
        for _ in range(share):
            transport, _ = await world.connect(asyncio.Protocol, port)
            transport.abort()

    gc.collect()
    started = time.perf_counter()
    await asyncio.gather(*(connect(count // at_once) for _ in range(at_once)))
    seconds = time.perf_counter() - started
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)
    return count // at_once * at_once / seconds


async def memory(world: World, count: int) -> float:
    """Bytes that Python allocates for one end of an idle connection, a protocol without state included."""
    server, port = await world.serve(asyncio.Protocol)
    transports = [(await world.connect(asyncio.Protocol, port))[0]]
    await asyncio.sleep(0.05)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(count):
        transports.append((await world.connect(asyncio.Protocol, port))[0])
    await asyncio.sleep(0.05)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for transport in transports:
        transport.abort()
    server.close()
    await server.wait_closed()
    return used / count / 2


async def measure(runs: int, count: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    latencies: list[tuple[str, Callable[[World, int], Awaitable[Latency]]]] = [
        ("echo of a byte, protocols", protocols),
        ("echo of a byte, streams", streams),
    ]
    numbers: list[tuple[str, Callable[[World, int], Awaitable[float]], str, int, int]] = [
        ("connections", connections, "per second", runs, count),
        ("an idle connection's end", memory, "bytes", 1, 1000),
    ]
    async with worlds() as both:
        for what, trip in latencies:
            trips: dict[str, list[Latency]] = {world.name: [] for world in both}
            for _ in range(runs):
                for world in both:
                    trips[world.name].append(await trip(world, count + WARM))
            for name, results in trips.items():
                p50, p99 = (statistics.median(getattr(one, part) for one in results) for part in ("p50", "p99"))
                rows.append({"what": what, "where": name, "p50_us": round(p50, 1), "p99_us": round(p99, 1)})
                print(f"{what:<28} {name:<7} p50 {p50:>7.1f} us   p99 {p99:>7.1f} us", flush=True)
        for what, number, unit, times, size in numbers:
            values: dict[str, list[float]] = {world.name: [] for world in both}
            for _ in range(times):
                for world in both:
                    values[world.name].append(await number(world, size))
            for name, found in values.items():
                rows.append({"what": what, "where": name, "unit": unit, "value": round(statistics.median(found))})
                print(f"{what:<28} {name:<7} {statistics.median(found):>9,.0f} {unit}", flush=True)
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks echo", description=__doc__)
    parser.add_argument("--rounds", "--runs", dest="runs", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--count", type=int, default=5000, help="round trips and connections in each (default 5000)")
    options = parser.parse_args(arguments)
    asyncio.run(measure(options.runs, options.count))


if __name__ == "__main__":
    main()
