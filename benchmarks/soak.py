"""``python -m benchmarks soak``: many short connections through http.server and aiohttp; nothing may be left of them.

Each connection is one request of "Connection: close", on two stacks that a wire joins and over the kernel's loopback.
Client and server are one process: http.server answers in threads and is asked by http.client in a thread; aiohttp's
server and client share a loop. Rounds of both networks take turns, the kernel's are a fifth as long. Speed is
connections per second of the wall's time; memory is looked at after a tenth of the connections, when caches are
filled, and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import http.client
import resource
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from rich.progress import Progress

import lwipy
from lwipy.aio import driving

BODY = b"x" * 1024
ROUNDS = 10
#: The kernel, which is not what is soaked, gets one connection for so many of ours.
SHARE = 5
#: Seconds after which no connection is in TIME_WAIT any more.
QUIET = 2.5
CLIENTS = 16


@dataclass(frozen=True)
class State:
    """What the process and the stacks hold: bytes, and numbers of things."""

    process: int
    arena: int
    descriptors: int
    endpoints: int

    @classmethod
    def now(cls, stacks: tuple[lwipy.Stack, ...]) -> State:
        gc.collect()
        found = [stack.statistics for stack in stacks]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            pages * resource.getpagesize(),
            sum(one.memory_used for one in found),
            len(list(Path("/proc/self/fd").iterdir())),
            sum(one.endpoints for one in found),
        )


@dataclass(frozen=True)
class Outcome:
    """Of one library: connections per second by round, and what was held early and at the end."""

    ours: list[float]
    kernels: list[float]
    early: State
    late: State

    @property
    def ratio(self) -> float:
        return statistics.median(self.ours) / statistics.median(self.kernels)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


def since(began: float) -> float:
    """Seconds; never none, for clocks of virtual machines may stand still between two cores."""
    return max(time.perf_counter() - began, 1e-6)


@contextmanager
def two_stacks() -> Iterator[tuple[lwipy.Stack, lwipy.Stack]]:
    with lwipy.Stack() as server, lwipy.Stack() as client:
        lwipy.wire(server.add_interface(ipv4="10.0.0.1/24"), client.add_interface(ipv4="10.0.0.2/24"))
        yield server, client


# -- http.server -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(host: str, stack: lwipy.Stack | None) -> Iterator[int]:
    with lwipy.patched(stack) if stack is not None else nullcontext():
        server = Server((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(host: str, port: int, count: int, stack: lwipy.Stack | None) -> float:
    """Connections per second."""
    with lwipy.patched(stack, everywhere=False) if stack is not None else nullcontext():
        began = time.perf_counter()
        for _ in range(count):
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("GET", "/", headers={"Connection": "close"})
            if connection.getresponse().read() != BODY:
                raise AssertionError("another body than was sent")
            connection.close()
        return count / since(began)


def soak_http_server(connections: int, progress: Progress) -> Outcome:
    task = progress.add_task("http.server", total=connections)
    ours: list[float] = []
    kernels: list[float] = []
    early: State | None = None
    with two_stacks() as (a, b):
        with serving("10.0.0.1", a) as port, serving("127.0.0.1", None) as kernels_port:
            for _ in range(ROUNDS):
                ours.append(ask("10.0.0.1", port, connections // ROUNDS, b))
                progress.advance(task, connections // ROUNDS)
                kernels.append(ask("127.0.0.1", kernels_port, connections // ROUNDS // SHARE, None))
                early = early or settled((a, b))
            late = settled((a, b))
        assert early is not None
        return Outcome(ours, kernels, early, late)


def settled(stacks: tuple[lwipy.Stack, ...]) -> State:
    time.sleep(QUIET)
    return State.now(stacks)


# -- aiohttp -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def aiohttp_server(host: str, stack: lwipy.Stack | None) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=BODY)

    app = web.Application()
    app.add_routes([web.get("/", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    loop = asyncio.get_running_loop()
    server: Any
    if stack is None:
        server = await loop.create_server(runner.server, host, 0)
    else:
        server = await lwipy.aio.create_server(stack, runner.server, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


async def ask_aiohttp(url: str, count: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:

        async def client(requests: int) -> None:
            for _ in range(requests):
                async with session.get(url) as response:
                    if await response.read() != BODY:
                        raise AssertionError("another body than was sent")

        began = time.perf_counter()
        await asyncio.gather(*[client(count // CLIENTS) for _ in range(CLIENTS)])
        return count // CLIENTS * CLIENTS / since(began)


async def soak_aiohttp(connections: int, progress: Progress, a: lwipy.Stack, b: lwipy.Stack) -> Outcome:
    """On the loop of stack `b`; the kernel's side is measured by :func:`kernels_aiohttp`."""
    task = progress.add_task("aiohttp", total=connections)
    ours: list[float] = []
    kernels: list[float] = []
    early: State | None = None
    async with driving(a), aiohttp_server("10.0.0.1", a) as port:
        for _ in range(ROUNDS):
            with lwipy.patched(b, everywhere=False):
                ours.append(await ask_aiohttp(f"http://10.0.0.1:{port}/", connections // ROUNDS))
            progress.advance(task, connections // ROUNDS)
            kernels.append(await asyncio.to_thread(kernels_aiohttp, connections // ROUNDS // SHARE))
            if early is None:
                await asyncio.sleep(QUIET)
                early = State.now((a, b))
        await asyncio.sleep(QUIET)
        late = State.now((a, b))
    assert early is not None
    return Outcome(ours, kernels, early, late)


def kernels_aiohttp(count: int) -> float:
    """The same on asyncio's own loop."""

    async def main() -> float:
        async with aiohttp_server("127.0.0.1", None) as port:
            return await ask_aiohttp(f"http://127.0.0.1:{port}/", count)

    return asyncio.run(main())


# -- Both --------------------------------------------------------------------------------------------------------------


def soak_asyncio(connections: int, progress: Progress) -> Outcome:
    with closing(lwipy.Stack()) as a, closing(lwipy.Stack()) as b:
        lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
        with asyncio.Runner(loop_factory=lambda: lwipy.aio.StackEventLoop(b)) as runner:
            return runner.run(soak_aiohttp(connections, progress, a, b))


#: Each soaks one library with so many connections, at least 800.
LIBRARIES = {"http.server": soak_http_server, "aiohttp": soak_asyncio}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks soak", description=__doc__)
    parser.add_argument("--connections", type=int, default=100_000, help="through each library (default 100 000)")
    parser.add_argument("--library", choices=LIBRARIES, nargs="+", default=list(LIBRARIES))
    options = parser.parse_args(arguments)
    with Progress() as progress:
        outcomes = {library: LIBRARIES[library](options.connections, progress) for library in options.library}
    for library, outcome in outcomes.items():
        early, late = outcome.early, outcome.late
        print(
            f"{library:<12} {statistics.median(outcome.ours):>7.0f} connections/s "
            f"({min(outcome.ours):.0f} to {max(outcome.ours):.0f}), "
            f"kernel {statistics.median(outcome.kernels):.0f} "
            f"({min(outcome.kernels):.0f} to {max(outcome.kernels):.0f}), ratio {outcome.ratio:.2f}\n"
            f"{'':<12} process {early.process / 1e6:.1f} -> {late.process / 1e6:.1f} MB, "
            f"stacks {early.arena / 1e3:.1f} -> {late.arena / 1e3:.1f} kB, "
            f"descriptors {early.descriptors} -> {late.descriptors}, endpoints {early.endpoints} -> {late.endpoints}"
        )
