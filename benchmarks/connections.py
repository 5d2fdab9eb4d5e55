"""``python -m benchmarks connections``: how many connections asyncio sets up in a second, on lwipy and on the kernel.

Three ways to count, for what a program does is one side of it. `accept`: a server takes what comes, its clients are
bare calls of C (system calls for the kernel), `connect`: the other way round, and `both`: the two sides in one loop;
then both with streams. One thread, an in-process wire or the kernel's loopback, in turns in the same run; connections
stay open until the clock has stopped. Then the same on uvloop, if it is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import lwipy
from benchmarks.clock import on_one_processor
from lwipy import aio
from lwipy._native import ffi, lib

#: Connections that are on their way at the same time.
AT_ONCE: Final = 100


class Side(Protocol):
    """A server's host and a client's, either of them asyncio's or driven by bare calls."""

    async def create_server(self, factory: Callable[[], Any]) -> tuple[Any, int]: ...
    async def create_connection(self, factory: Callable[[], Any], port: int) -> tuple[Any, Any]: ...
    async def start_server(self, connected: Callable[[Any, Any], None]) -> tuple[Any, int]: ...
    async def open_connection(self, port: int) -> tuple[Any, Any]: ...
    def bare_listener(self) -> tuple[Any, int]: ...
    def bare_connect(self, port: int, count: int) -> list[Any]: ...
    def bare_accept(self, listener: Any) -> list[Any]: ...
    def bare_close(self, handles: list[Any], *, client: bool) -> None: ...


class OnLwipy:
    """Two stacks on a wire, driven by the running loop."""

    def __init__(self, server: lwipy.Stack, client: lwipy.Stack) -> None:
        self.server, self.client = server, client
        self._made = ffi.new("lwipy_handle *")

    async def create_server(self, factory: Callable[[], Any]) -> tuple[Any, int]:
        server = await aio.create_server(self.server, factory, "10.0.0.1", 0, backlog=10_000)
        return server, server.sockets[0].getsockname()[1]

    async def create_connection(self, factory: Callable[[], Any], port: int) -> tuple[Any, Any]:
        return await aio.create_connection(self.client, factory, "10.0.0.1", port)

    async def start_server(self, connected: Callable[[Any, Any], None]) -> tuple[Any, int]:
        server = await aio.start_server(self.server, connected, "10.0.0.1", 0, backlog=10_000)
        return server, server.sockets[0].getsockname()[1]

    async def open_connection(self, port: int) -> tuple[Any, Any]:
        return await aio.open_connection(self.client, "10.0.0.1", port)

    def bare_listener(self) -> tuple[Any, int]:
        listener = self.server.tcp()
        listener.bind(("10.0.0.1", 0))
        listener.listen(10_000)
        return listener, listener.address[1]

    def bare_connect(self, port: int, count: int) -> list[Any]:
        core, made, handles = self.client._core, self._made, []
        to = ffi.new("lwipy_address *", {"family": 4, "bytes": [10, 0, 0, 1], "port": port})
        for _ in range(count):
            lib.lwipy_socket(core, lib.LWIPY_TCP, 4, 0, made)
            lib.lwipy_connect(core, made[0], to)
            handles.append(made[0])
        self.client._after()
        return handles

    def bare_accept(self, listener: Any) -> list[Any]:
        handles = []
        while lib.lwipy_tcp_accept(self.server._core, listener._handle, self._made) == 0:
            handles.append(self._made[0])
        return handles

    def bare_close(self, handles: list[Any], *, client: bool) -> None:
        stack = self.client if client else self.server
        for handle in handles:
            lib.lwipy_abort(stack._core, handle)
        stack._after()


class OnKernel:
    """The loopback."""

    async def create_server(self, factory: Callable[[], Any]) -> tuple[Any, int]:
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=4096)
        return server, server.sockets[0].getsockname()[1]

    async def create_connection(self, factory: Callable[[], Any], port: int) -> tuple[Any, Any]:
        return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)

    async def start_server(self, connected: Callable[[Any, Any], None]) -> tuple[Any, int]:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=4096)
        return server, server.sockets[0].getsockname()[1]

    async def open_connection(self, port: int) -> tuple[Any, Any]:
        return await asyncio.open_connection("127.0.0.1", port)

    def bare_listener(self) -> tuple[Any, int]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        return listener, listener.getsockname()[1]

    def bare_connect(self, port: int, count: int) -> list[Any]:
        made = [socket.socket() for _ in range(count)]
        for each in made:
            each.connect(("127.0.0.1", port))
        return made

    def bare_accept(self, listener: Any) -> list[Any]:
        made = []
        while True:
            try:
                made.append(listener.accept()[0])
            except BlockingIOError:
                return made

    def bare_close(self, handles: list[Any], *, client: bool) -> None:
        for each in handles:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            each.close()


@contextmanager
def counted() -> Iterator[Callable[[], float]]:
    """Seconds of a stretch without what came before on the collector's mind."""
    gc.collect()
    started = time.perf_counter()
    yield lambda: time.perf_counter() - started


async def accept(side: Side, count: int) -> float:
    made: list[Any] = []

    class Taking(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)

    server, port = await side.create_server(Taking)
    clients = []
    with counted() as seconds:
        for wanted in range(AT_ONCE, count + 1, AT_ONCE):
            clients += side.bare_connect(port, AT_ONCE)
            while len(made) < wanted:
                await asyncio.sleep(0)
        rate = count / seconds()
    side.bare_close(clients, client=True)
    await _end(server, made)
    return rate


async def connect(side: Side, count: int) -> float:
    listener, port = side.bare_listener()
    made, accepted = [], []
    with counted() as seconds:
        for _ in range(0, count, AT_ONCE):
            one_time = [side.create_connection(asyncio.Protocol, port) for _ in range(AT_ONCE)]
            made += [transport for transport, _ in await asyncio.gather(*one_time)]
            accepted += side.bare_accept(listener)
        rate = count / seconds()
    side.bare_close(accepted, client=False)
    listener.close()
    await _end(None, made)
    return rate


async def both(side: Side, count: int) -> float:
    made: list[Any] = []

    class Taking(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.append(transport)

    server, port = await side.create_server(Taking)
    with counted() as seconds:
        for _ in range(0, count, AT_ONCE):
            await asyncio.gather(*(side.create_connection(Taking, port) for _ in range(AT_ONCE)))
        while len(made) < 2 * count:
            await asyncio.sleep(0)
        rate = count / seconds()
    await _end(server, made)
    return rate


async def streams(side: Side, count: int) -> float:
    made: list[Any] = []
    server, port = await side.start_server(lambda _, writer: made.append(writer))
    with counted() as seconds:
        for _ in range(0, count, AT_ONCE):
            opened = await asyncio.gather(*(side.open_connection(port) for _ in range(AT_ONCE)))
            made += [writer for _, writer in opened]
        while len(made) < 2 * count:
            await asyncio.sleep(0)
        rate = count / seconds()
    await _end(server, [writer.transport for writer in made])
    return rate


async def _end(server: Any, transports: list[Any]) -> None:
    for transport in transports:
        transport.abort()
    if server is not None:
        server.close()
        await server.wait_closed()
    await asyncio.sleep(0.05)


CASES: Final[dict[str, Callable[[Side, int], Awaitable[float]]]] = {
    "accept": accept, "connect": connect, "both": both, "streams": streams,
}  # fmt: skip


async def _all(count: int) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    with closing(lwipy.Stack()) as server, closing(lwipy.Stack()) as client:
        lwipy.wire(server.add_interface(ipv4="10.0.0.1/24"), client.add_interface(ipv4="10.0.0.2/24"))
        async with aio.driving(server), aio.driving(client):
            sides: dict[str, Side] = {"lwipy": OnLwipy(server, client), "kernel": OnKernel()}
            for case, measured in CASES.items():
                for name, side in sides.items():
                    found[case, name] = await measured(side, count)
    return found


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    except ImportError:
        pass
    return loops


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks connections", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--count", type=int, default=2000, help="connections in each (default 2000)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    rows = []
    for loop, factory in _loops().items():
        runs = []
        for _ in range(options.runs + 1):  # the first one warms up
            with on_one_processor(), asyncio.Runner(loop_factory=factory) as runner:
                runs.append(runner.run(_all(options.count)))
        for case, name in runs[0]:
            values = sorted(run[case, name] for run in runs[1:])
            middle = statistics.median(values)
            rows.append({"loop": loop, "case": case, "where": name, "per_second": middle, "all": values})
            print(f"{loop:<8} {case:<8} {name:<7} {middle:>9,.0f} a second  ({values[0]:,.0f} to {values[-1]:,.0f})")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
