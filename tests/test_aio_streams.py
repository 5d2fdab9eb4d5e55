"""Streams and connecting: what asyncio.open_connection and start_server do, on stacks."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aio_world import VirtualLoop, ended, run, soon, two_hosts
from conftest import Pair

from lwipy.aio import open_connection, start_server

MEGABYTE = 1 << 20
HOSTS = pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"], ids=["ipv4", "ipv6"])
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def pump(source: bytes, writer: asyncio.StreamWriter, block: int = 65536) -> None:
    for at in range(0, len(source), block):
        writer.write(source[at : at + block])
        await writer.drain()


async def digest(reader: asyncio.StreamReader) -> tuple[int, str]:
    total, sha = 0, hashlib.sha256()
    while data := await reader.read(MEGABYTE):
        total += len(data)
        sha.update(data)
    return total, sha.hexdigest()


# -- Bytes -----------------------------------------------------------------------------------------------------------


@HOSTS
def test_a_conversation(host: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readline()
        writer.write(b"answer to " + question)
        assert await reader.read() == b""
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, serve, host, 80):
            reader, writer = await open_connection(pair.a, host, 80)
            writer.write(b"question\n")
            assert await reader.readline() == b"answer to question\n"
            writer.write_eof()
            assert await reader.read() == b""
            await ended(writer)

    run(main)


@HOSTS
def test_64_megabytes_each_way_at_once(host: str) -> None:
    size = 64 * MEGABYTE
    there, back = (random.Random(seed).randbytes(size) for seed in (1, 2))
    received: list[tuple[int, str]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, got = await asyncio.gather(pump(back, writer), digest(reader))
        received.append(got)
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, serve, host, 80):
            reader, writer = await open_connection(pair.a, host, 80)

            async def send() -> None:
                await pump(there, writer, 100_003)
                writer.write_eof()

            _, got = await asyncio.gather(send(), digest(reader))
            received.append(got)
            await ended(writer)

    run(main, debug=False)
    assert received == [(size, hashlib.sha256(data).hexdigest()) for data in (there, back)]


def test_each_side_may_end_first() -> None:
    """Half-close: the side that has said its last word still hears the other's."""
    text = bytes(500_000)

    async def speak_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == text
        writer.write(text)
        await ended(writer)

    async def listen_after_own_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        writer.write_eof()
        assert await reader.read() == text
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair:
            async with await start_server(pair.b, speak_after_the_end, "10.0.0.2", 80):
                reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
                await listen_after_own_end(reader, writer)
            async with await start_server(pair.b, listen_after_own_end, "10.0.0.2", 81):
                reader, writer = await open_connection(pair.a, "10.0.0.2", 81)
                await speak_after_the_end(reader, writer)

    run(main)


def test_many_small_writes_arrive_in_order() -> None:
    lines = [b"%d\n" % number for number in range(20_000)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in lines:
            writer.write(line)
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, serve, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            assert [line async for line in reader] == lines
            await ended(writer)

    run(main)


def test_two_hundred_connections_at_once() -> None:
    everyone = asyncio.Barrier(200)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await everyone.wait()
        writer.write(await reader.readexactly(4))
        await ended(writer)

    async def one(pair: Pair, number: int) -> None:
        reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
        writer.write(number.to_bytes(4, "big"))
        assert int.from_bytes(await reader.read(), "big") == number
        await ended(writer)

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, serve, "10.0.0.2", 80, backlog=200):
            await asyncio.gather(*(one(pair, number) for number in range(200)))

    run(main)


def test_a_slow_reader_holds_the_writer_back() -> None:
    """Nothing but the two socket buffers and asyncio's own limits fills up, however much is to be sent."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent.append(65536)

    sent: list[int] = []

    async def main() -> None:
        async with two_hosts() as pair, await start_server(pair.b, flood, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            await soon(lambda: len(sent) > 5)
            before = -1
            while before != len(sent):
                before = len(sent)
                await asyncio.sleep(0.1)
            assert sum(sent) < 2 * MEGABYTE
            assert pair.a.statistics.memory_used + pair.b.statistics.memory_used < 4 * MEGABYTE
            assert len(await reader.readexactly(5 * MEGABYTE)) == 5 * MEGABYTE
            writer.transport.abort()

    run(main)


def test_no_byte_is_lost_on_a_bad_wire() -> None:
    """Frames carried by hand between the hosts, every twentieth dropped."""
    text = random.Random(7).randbytes(300_000)
    drops = random.Random(8)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await pump(await reader.read(), writer)
        await ended(writer)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair:
            pair.nic_a.remove()
            pair.nic_b.remove()
            a = pair.a.add_interface(ipv4="10.0.0.1/24")
            b = pair.b.add_interface(ipv4="10.0.0.2/24")
            a.on_frame = lambda frame: drops.random() < 0.05 or loop.call_soon(b.receive, frame)  # type: ignore[assignment]
            b.on_frame = lambda frame: drops.random() < 0.05 or loop.call_soon(a.receive, frame)  # type: ignore[assignment]
            async with await start_server(pair.b, serve, "10.0.0.2", 80, limit=MEGABYTE):
                reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
                await pump(text, writer)
                writer.write_eof()
                assert await reader.read() == text
                await ended(writer)

    run(main, VirtualLoop)
