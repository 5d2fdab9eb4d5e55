"""The stream transport as protocols see it: what is called, in which order, with what, and what may be done inside."""

from __future__ import annotations

import array
import asyncio
import random
from typing import Any

import pytest
from aio_world import Buffered, Recorder, connected, run, soon, two_hosts

from lwipy.aio import create_connection, create_server
from lwipy.aio.reading import PIECE

MEGABYTE = 1 << 20


# -- Writing ---------------------------------------------------------------------------------------------------------


def test_anything_bytes_like_can_be_written() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            write = client.transport.write
            changing = bytearray(b"four")
            write(b"one ")
            write(bytearray(b"two "))
            write(memoryview(b"xthree x")[1:-1])
            write(changing)
            write(array.array("I", [0x20202020]))
            write(b"")
            client.transport.writelines([b"li", bytearray(b"ne"), memoryview(b"s")])
            client.transport.writelines([])
            await soon(lambda: server.data.endswith(b"lines"))
        assert server.data == b"one two three four    lines"

    run(main)


def test_what_waits_in_the_buffer_is_a_copy() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            text = bytearray(b"a" * 2 * MEGABYTE)
            client.transport.write(text)
            assert client.transport.get_write_buffer_size() > 0
            text[:] = b"b" * len(text)
            client.transport.write_eof()
            await server.ended
        assert set(server.data) == set(b"a")

    run(main, debug=False)


@pytest.mark.parametrize("wrong", ["text", 7, None, [1, 2], memoryview(bytes(10))[::2]])
def test_other_things_cannot(wrong: Any) -> None:
    async def main() -> None:
        async with connected() as (client, _):
            with pytest.raises(TypeError):
                client.transport.write(wrong)
            assert not client.transport.is_closing()

    run(main)


def test_nothing_can_be_written_after_the_end() -> None:
    async def main() -> None:
        async with connected() as (client, _):
            assert client.transport.can_write_eof()
            client.transport.write_eof()
            with pytest.raises(RuntimeError, match="after write_eof"):
                client.transport.write(b"x")
            with pytest.raises(RuntimeError, match="after write_eof"):
                client.transport.writelines([b"x"])

    run(main)


def test_writing_is_paused_above_the_high_mark_and_resumed_below_the_low_one() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            transport = client.transport
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=MEGABYTE, low=1000)
            assert transport.get_write_buffer_limits() == (1000, MEGABYTE)
            with pytest.raises(ValueError, match="must be >= low"):
                transport.set_write_buffer_limits(high=1, low=2)
            server.transport.pause_reading()
            while "pause" not in client.calls:
                assert transport.get_write_buffer_size() <= MEGABYTE
                transport.write(bytes(100_000))
                await asyncio.sleep(0)
            assert client.calls.count("pause") == 1
            transport.write(bytes(100_000))
            assert client.calls.count("pause") == 1
            assert "resume" not in client.calls
            server.transport.resume_reading()
            await soon(lambda: "resume" in client.calls)
            assert transport.get_write_buffer_size() <= 1000

    run(main)


def test_writing_more_from_resume_writing() -> None:
    class Pours(Recorder):
        left = 40

        def resume_writing(self) -> None:
            while self.left and self.transport.get_write_buffer_size() == 0:
                self.left -= 1
                self.transport.write(bytes(200_000))
            if not self.left:
                self.transport.close()

    async def main() -> None:
        async with connected(Pours) as (client, server):
            client.transport.set_write_buffer_limits(high=0)
            client.transport.write(bytes(MEGABYTE))
            await server.lost
        assert len(server.data) == MEGABYTE + 40 * 200_000
        assert client.calls[0] == "made"
        assert client.calls[-1] == "lost"
        assert client.error is None

    run(main, debug=False)


def test_aborting_from_resume_writing() -> None:
    class Aborts(Recorder):
        def resume_writing(self) -> None:
            self.transport.abort()

    async def main() -> None:
        async with connected(Aborts) as (client, server):
            client.transport.write(bytes(MEGABYTE))
            await client.lost
            await server.lost
        assert client.calls == ["made", "pause", "lost"]

    run(main)


# -- Reading ---------------------------------------------------------------------------------------------------------


def test_chunks_are_large() -> None:
    class Measures(Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def data_received(self, data: bytes) -> None:
            assert type(data) is bytes
            self.sizes.append(len(data))

    async def main() -> None:
        async with connected(server=Measures) as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(20 * MEGABYTE))
            client.transport.write_eof()
            await asyncio.sleep(0.1)
            server.transport.resume_reading()
            await server.ended
        assert sum(server.sizes) == 20 * MEGABYTE
        assert max(server.sizes) > PIECE // 2
        assert max(server.sizes) <= PIECE

    run(main, debug=False)


def test_nothing_is_delivered_while_paused() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            transport = server.transport
            assert transport.is_reading()
            transport.resume_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            client.transport.write(b"held back")
            client.transport.write_eof()
            await asyncio.sleep(0.02)
            assert server.calls == ["made"]
            transport.resume_reading()
            assert server.calls == ["made"]  # never inside resume_reading()
            transport.pause_reading()
            await asyncio.sleep(0.02)
            assert server.calls == ["made"]
            transport.resume_reading()
            transport.resume_reading()
            await server.lost
        assert server.calls == ["made", "data", "eof", "lost"]
        assert server.data == b"held back"

    run(main)


def test_whoever_waits_for_the_connection_acts_before_its_first_data() -> None:
    class Greets(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"welcome")

    async def main() -> None:
        async with two_hosts() as pair:
            server = await create_server(pair.b, Greets, "10.0.0.2", 80)
            for _ in range(20):
                transport, client = await create_connection(pair.a, Recorder, "10.0.0.2", 80)
                assert client.calls == ["made"]
                transport.pause_reading()
                await asyncio.sleep(0.002)
                assert client.calls == ["made"]
                transport.resume_reading()
                await soon(lambda: client.data == b"welcome")  # noqa: B023
                transport.close()
            server.close()
            await server.wait_closed()

    run(main)


def test_pausing_in_every_delivery() -> None:
    class Nibbles(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.001, self.transport.resume_reading)

    text = random.Random(2).randbytes(2 * MEGABYTE)

    async def main() -> None:
        async with connected(server=Nibbles) as (client, server):
            client.transport.write(text)
            client.transport.close()
            await server.lost
        assert server.data == text

    run(main, debug=False)


def test_a_buffered_protocol_gets_it_in_its_own_buffer() -> None:
    text = random.Random(3).randbytes(200_003)

    async def main() -> None:
        async with connected(server=Buffered) as (client, server):
            client.transport.write(text)
            client.transport.close()
            assert await server.lost is None
        assert server.data == text

    run(main)


def test_the_protocol_can_be_changed_in_mid_stream() -> None:
    class Switches(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.next = Buffered()
            self.next.transport = self.transport
            self.transport.set_protocol(self.next)
            assert self.transport.get_protocol() is self.next

    async def main() -> None:
        async with connected(server=Switches) as (client, server):
            client.transport.write(b"for the first")
            await soon(lambda: server.data)
            client.transport.write(b"for the second")
            client.transport.close()
            assert await server.next.lost is None
            assert server.next.data == b"for the second"
            assert server.calls == ["made", "data"]

    run(main)
