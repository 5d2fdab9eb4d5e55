"""One side of a measurement, as a program of its own: the same code over the kernel's sockets and over a stack's.

``python -m benchmarks.traffic NETWORK TASK ADDRESS [STREAMS SECONDS]`` prints one line of JSON when it is done, and
"ready" before that when it listens. NETWORK is ``kernel``, or ``tap`` or ``plain``: a stack behind a TAP device that is
made here, with or without offload; the device's other end gets an address in the namespace that the program runs in.
TASK is ``sink`` (listens, receives, says how many bytes in how many seconds), ``source`` (connects, sends until the
time is over), ``echo`` (listens, sends back), ``ask`` (connects, asks with one byte, says how long each answer took);
with ``-aio`` behind it by asyncio streams instead of blocking sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lwipy
from benchmarks.clock import on_one_processor
from lwipy import aio
from lwipy.links import Tap

PORT = 7000
CHUNK = 1 << 20
ROUNDS = 3000
OURS, THEIRS = "10.90.0.1", "10.90.0.2"

# -- The two networks -------------------------------------------------------------------------------------------------


class Kernel:
    """The sockets of this machine, with Linux's default congestion control: BBR paces, and would measure that."""

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        return made

    def create_connection(self, address: tuple[str, int], timeout: float) -> socket.socket:
        connection = self._socket()
        connection.settimeout(timeout)
        connection.connect(address)
        return connection

    def create_server(self, address: tuple[str, int]) -> socket.socket:
        server = self._socket()
        server.bind(("", address[1]))  # any address: the guest's device may not be there yet
        server.listen(64)
        return server

    async def open_connection(self, host: str, port: int, **options: Any) -> Any:
        return await asyncio.open_connection(sock=self.create_connection((host, port), 20), **options)

    async def start_server(self, serve: Any, host: str, port: int, **options: Any) -> Any:
        return await asyncio.start_server(serve, sock=self.create_server((host, port)), **options)


class Stack:
    """The sockets of a stack."""

    def __init__(self, stack: lwipy.Stack) -> None:
        self._stack = stack
        self.create_connection = stack.create_connection
        self.create_server = stack.create_server

    async def open_connection(self, host: str, port: int, **options: Any) -> Any:
        return await aio.open_connection(self._stack, host, port, **options)

    async def start_server(self, serve: Any, host: str, port: int, **options: Any) -> Any:
        return await aio.start_server(self._stack, serve, host, port, **options)


@contextlib.contextmanager
def network(name: str, asynchronous: bool) -> Iterator[Any]:
    if name == "kernel":
        yield Kernel()
        return
    with contextlib.ExitStack() as exits:
        stack = lwipy.Stack()
        exits.callback(stack.close)
        if not asynchronous:
            exits.enter_context(stack)
        tap = Tap("guest", offload=name == "tap")
        subprocess.run(["ip", "address", "add", f"{THEIRS}/24", "dev", tap.name], check=True)
        subprocess.run(["ip", "link", "set", tap.name, "up"], check=True)
        stack.add_interface(tap, ipv4=f"{OURS}/24")
        yield Stack(stack)


# -- Blocking sockets -------------------------------------------------------------------------------------------------


def accepted(net: Any, address: str, streams: int) -> list[Any]:
    with net.create_server((address, PORT)) as server:
        print("ready", flush=True)
        return [server.accept()[0] for _ in range(streams)]


def at_once(function: Callable[[Any], Any], connections: list[Any]) -> list[Any]:
    """Its results, with a thread for each connection where there are several."""
    if len(connections) == 1:
        return [function(connections[0])]
    with ThreadPoolExecutor(len(connections)) as pool:
        return list(pool.map(function, connections))


def sink(net: Any, address: str, streams: int, seconds: float) -> Any:
    def drain(connection: Any) -> tuple[int, float, float]:
        buffer, total = bytearray(CHUNK), 0
        with connection:
            first = connection.recv_into(buffer)
            started = time.perf_counter()
            while got := connection.recv_into(buffer):
                total += got
            return total, started if first else time.perf_counter(), time.perf_counter()

    done = at_once(drain, accepted(net, address, streams))
    return {"bytes": sum(d[0] for d in done), "seconds": max(d[2] for d in done) - min(d[1] for d in done)}


def source(net: Any, address: str, streams: int, seconds: float) -> Any:
    data = bytes(CHUNK)

    def send(connection: Any) -> None:
        with connection:
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    at_once(send, [net.create_connection((address, PORT), 20) for _ in range(streams)])
    return {}


def echo(net: Any, address: str, streams: int, seconds: float) -> Any:
    def answer(connection: Any) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)

    at_once(answer, accepted(net, address, streams))
    return {}


def ask(net: Any, address: str, streams: int, seconds: float) -> Any:
    times = []
    with net.create_connection((address, PORT), 20) as connection, on_one_processor():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            connection.sendall(b"?")
            connection.recv(100)
            times.append(time.perf_counter() - started)
    return quantiles(times)


def quantiles(times: list[float]) -> Any:
    times = sorted(times[len(times) // 10 :])
    return {"p50": times[len(times) // 2] * 1e6, "p99": times[len(times) * 99 // 100] * 1e6}


# -- asyncio streams --------------------------------------------------------------------------------------------------


async def serve(net: Any, address: str, streams: int, handle: Callable[..., Awaitable[Any]]) -> list[Any]:
    done: asyncio.Queue[Any] = asyncio.Queue()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done.put_nowait(await handle(reader, writer))
        writer.close()

    server = await net.start_server(one, address, PORT, limit=CHUNK)
    print("ready", flush=True)
    results = [await done.get() for _ in range(streams)]
    server.close()
    return results


async def sink_aio(net: Any, address: str, streams: int, seconds: float) -> Any:
    async def drain(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> tuple[int, float, float]:
        total = 0
        await reader.read(CHUNK)
        started = time.perf_counter()
        while data := await reader.read(CHUNK):
            total += len(data)
        return total, started, time.perf_counter()

    done = await serve(net, address, streams, drain)
    return {"bytes": sum(d[0] for d in done), "seconds": max(d[2] for d in done) - min(d[1] for d in done)}


async def source_aio(net: Any, address: str, streams: int, seconds: float) -> Any:
    data = bytes(CHUNK)

    async def send() -> None:
        reader, writer = await net.open_connection(address, PORT, limit=CHUNK)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            writer.write(data)
            await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()

    await asyncio.gather(*(send() for _ in range(streams)))
    return {}


async def echo_aio(net: Any, address: str, streams: int, seconds: float) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    await serve(net, address, streams, answer)
    return {}


async def ask_aio(net: Any, address: str, streams: int, seconds: float) -> Any:
    reader, writer = await net.open_connection(address, PORT)
    times = []
    with on_one_processor():
        for _ in range(ROUNDS):
            started = time.perf_counter()
            writer.write(b"?")
            await reader.read(100)
            times.append(time.perf_counter() - started)
    writer.close()
    return quantiles(times)


TASKS: dict[str, Any] = {
    "sink": sink,
    "source": source,
    "echo": echo,
    "ask": ask,
    "sink-aio": sink_aio,
    "source-aio": source_aio,
    "echo-aio": echo_aio,
    "ask-aio": ask_aio,
}


def main(name: str, task: str, address: str, streams: str = "1", seconds: str = "0.5") -> None:
    sys.setswitchinterval(0.005)
    asynchronous = task.endswith("-aio")
    with network(name, asynchronous) as net:
        result = TASKS[task](net, address, int(streams), float(seconds))
        if asynchronous:
            result = asyncio.run(result)
        print(json.dumps(result), flush=True)
        threading.Event().wait(0.05)  # the last acknowledgements


if __name__ == "__main__":
    main(*sys.argv[1:])
