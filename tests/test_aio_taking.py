"""What a stream's reader takes from the transport by itself: the bytes that it would have been fed, and no others."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest
from aio_world import Recorder, VirtualLoop, ended, reset, run, soon, two_hosts
from conftest import Pair
from tcp_world import connected

import lwipy
from lwipy import Event, Option, TcpState
from lwipy._native import WOULD_BLOCK, calls, lib
from lwipy.aio import StreamTransport, driving, open_connection, start_server
from lwipy.aio.reading import PIECE, SHARE
from lwipy.blocking import Socket
from lwipy.errors import StackClosedError
from lwipy.links import Impair

MEGABYTE = 1 << 20
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How long what readers take is, as it happens."""
    sizes: list[int] = []
    take = StreamTransport.take

    def counted(transport: StreamTransport, most: int) -> bytes:
        data = take(transport, most)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(StreamTransport, "take", counted)
    return sizes


@asynccontextmanager
async def stream(pair: Pair) -> AsyncIterator[tuple[Stream, Stream]]:
    """Both ends of a connection; who asserts what of the one closes it, the other is closed here."""
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    async with await start_server(pair.b, lambda *ends: accepted.put_nowait(ends), "10.0.0.2", 80):
        ours = await open_connection(pair.a, "10.0.0.2", 80)
        theirs = await accepted.get()
        yield ours, theirs
        for _, writer in (ours, theirs):
            writer.transport.abort()


def queued(writer: asyncio.StreamWriter) -> int:
    """Bytes that have come and that nobody has read from the stack."""
    transport: Any = writer.transport
    return int(transport._endpoint.info.queued)


async def waits(reading: asyncio.Future[Any]) -> bool:
    """Whether it has no result after some turns of the loop."""
    for _ in range(20):
        await asyncio.sleep(0)
    return not reading.done()


# -- Which bytes -----------------------------------------------------------------------------------------------------


async def read_somehow(reader: asyncio.StreamReader, content: bytes, chance: random.Random) -> None:
    """Reads `content` by whatever method, and the end behind it."""
    at = 0
    while at < len(content):
        size = min(chance.choice((1, 100, 5000, 40_000, 100_000, MEGABYTE)), len(content) - at)
        how = chance.random()
        if how < 0.1:
            data = await reader.readexactly(size)
        elif how < 0.2 and content.find(b"\n", at, at + 50_000) >= 0:
            data = await reader.readuntil(b"\n")
        else:
            data = await reader.read(size)
            assert 0 < len(data) <= size
        assert data == content[at : at + len(data)]
        at += len(data)
        if chance.random() < 0.1:
            await asyncio.sleep(0.001)
    assert await reader.read(MEGABYTE) == b""
    assert reader.at_eof()


@pytest.mark.parametrize(
    "weather",
    [{}, {"loss": 0.01}, {"reorder": 0.05}, {"duplicate": 0.05}, {"loss": 0.01, "reorder": 0.03, "delay": 0.002}],
    ids=lambda weather: " and ".join(weather) or "fair",
)
def test_every_byte_comes_once_and_in_order_however_it_is_read(weather: dict[str, float], taken: list[int]) -> None:
    chance = random.Random(repr(weather))
    content = chance.randbytes(3 * MEGABYTE)

    async def main() -> None:
        async with two_hosts(clock=asyncio.get_running_loop().time) as pair:
            pair.nic_a.remove()
            pair.nic_b.remove()
            nic_a = pair.a.add_interface(Impair(None, seed=3, **weather), ipv4="10.0.0.1/24")  # type: ignore[arg-type]
            lwipy.wire(nic_a, pair.b.add_interface(ipv4="10.0.0.2/24"))
            async with stream(pair) as ((reader, _), (_, writer)):

                async def send() -> None:
                    for at in range(0, len(content), 100_003):
                        writer.write(content[at : at + 100_003])
                        await writer.drain()
                    writer.write_eof()

                await asyncio.gather(send(), read_somehow(reader, content, chance))

    run(main, VirtualLoop, debug=False)
    assert any(taken)


@asynccontextmanager
async def unread(size: int) -> AsyncIterator[tuple[Stream, Stream]]:
    """A stream whose one end has been sent `size` bytes, which wait in the stack: its transport is paused."""
    async with two_hosts() as pair, stream(pair) as ((reader, writer), theirs):
        transport: Any = writer.transport
        transport._endpoint.set_option(Option.RCVBUF, 2 * size)
        transport.pause_reading()
        theirs[1].write(bytes(size))
        await soon(lambda: queued(writer) == size)
        yield (reader, writer), theirs


async def rest_of(reader: asyncio.StreamReader) -> int:
    """How much comes until the end, in objects as long as may be."""
    total = 0
    while data := await reader.read(MEGABYTE):
        assert len(data) <= PIECE
        total += len(data)
    return total


def test_what_came_before_the_end_is_read_before_it(taken: list[int]) -> None:
    async def main() -> None:
        async with unread(3 * PIECE) as ((reader, writer), (_, their_writer)):
            their_writer.write_eof()
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert await rest_of(reader) == 3 * PIECE
            assert reader.at_eof()

    run(main)
    assert any(taken)


def test_what_came_before_a_reset_is_read_before_it(taken: list[int]) -> None:
    async def main() -> None:
        total = 0
        async with unread(3 * PIECE) as ((reader, writer), (_, their_writer)):
            transport: Any = writer.transport
            reset(their_writer.transport)
            await soon(lambda: transport._endpoint.info.state is TcpState.CLOSED)
            transport.resume_reading()
            with pytest.raises(ConnectionResetError):
                while True:
                    total += len(await reader.read(MEGABYTE))
            assert total == 3 * PIECE

    run(main)
    assert any(taken)


def test_an_object_that_is_read_in_parts_was_taken_once(taken: list[int]) -> None:
    async def main() -> None:
        async with unread(SHARE * PIECE) as ((reader, writer), _):
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(SHARE * PIECE // 1024):
                assert await reader.read(1024) == bytes(1024)

    run(main)
    assert 0 < len([size for size in taken if size]) <= SHARE


# -- When ------------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_while_the_transport_is_paused() -> None:
    async def main() -> None:
        async with unread(3 * PIECE) as ((reader, writer), _):
            reading = asyncio.ensure_future(reader.read(MEGABYTE))
            assert await waits(reading)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert await reading
            assert await reader.read(MEGABYTE)
            before = queued(writer)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not await waits(reading := asyncio.ensure_future(reader.read(MEGABYTE))):
                pass  # what it was fed before
            assert queued(writer) == before
            reading.cancel()

    run(main)


def test_the_others_have_their_turn_while_one_reads_what_is_there() -> None:
    async def main() -> None:
        async with unread(4 * SHARE * PIECE) as ((reader, writer), _):
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            await reader.read(MEGABYTE)  # it was fed that
            turns: list[None] = []
            asyncio.get_running_loop().call_soon(turns.append, None)
            total = 0
            while not turns:
                total += len(await reader.read(MEGABYTE))
            assert PIECE < total <= (SHARE + 1) * PIECE

    run(main)


def test_another_protocol_gets_what_comes_from_then_on() -> None:
    async def main() -> None:
        async with unread(3 * PIECE) as ((reader, writer), _):
            transport: Any = writer.transport
            recorder = Recorder()
            transport.set_protocol(recorder)
            reading = asyncio.ensure_future(reader.read(MEGABYTE))
            transport.resume_reading()
            await soon(lambda: len(recorder.data) == 3 * PIECE)
            assert await waits(reading)
            reading.cancel()

    run(main)


def test_two_cannot_read_at_once() -> None:
    async def main() -> None:
        async with unread(3 * PIECE) as ((reader, writer), _):
            reading = asyncio.ensure_future(reader.read(MEGABYTE))
            assert await waits(reading)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            with pytest.raises(RuntimeError, match="already waiting"):
                await reader.read(MEGABYTE)
            assert await reading

    run(main)


def test_a_stack_that_is_closed_meanwhile_ends_the_stream() -> None:
    """Bytes wait in it, and the transport has not been told yet when the reader asks."""

    async def main() -> None:
        with closing(lwipy.Stack()) as a, closing(lwipy.Stack()) as b:
            pair = Pair.of(a, b)
            async with driving(a), driving(b), stream(pair) as ((reader, writer), (_, their_writer)):
                transport: Any = writer.transport
                transport.pause_reading()
                their_writer.write(bytes(PIECE))
                await soon(lambda: queued(writer) == PIECE)
                transport.resume_reading()
                a.close()
                with pytest.raises(StackClosedError):
                    await reader.read(MEGABYTE)

    run(main)


# -- A thread drives -------------------------------------------------------------------------------------------------


def test_every_byte_comes_once_and_in_order_from_a_thread(threads: Pair) -> None:
    content = random.Random(5).randbytes(8 * MEGABYTE)

    def send(listener: Socket) -> None:
        connection = listener.accept()[0]
        with connection:
            connection.sendall(content)

    async def main() -> None:
        reader, writer = await open_connection(threads.a, "10.0.0.2", 80)
        await read_somehow(reader, content, random.Random(6))
        await ended(writer)

    with threads.b.create_server(("10.0.0.2", 80)) as listener:
        sender = threading.Thread(target=send, args=(listener,))
        sender.start()
        run(main, debug=False)
        sender.join()


# -- The core --------------------------------------------------------------------------------------------------------


def test_who_asks_for_bytes_only_is_told_of_the_end_by_an_event(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    server.send(b"bytes")
    server.shutdown(write=True)
    events: list[Event] = []
    client.on_event = events.append
    hosts.time.run(lambda: client.info.state is TcpState.CLOSE_WAIT)

    def take() -> Any:
        return calls.recv(hosts.b._way, client._handle, PIECE, lib.LWIPY_QUEUED)

    assert take() == b"bytes"
    events.clear()
    assert take() == WOULD_BLOCK
    hosts.time.run(lambda: any(Event.READABLE in event for event in events))
    assert client.recv(10) == b""
