"""In what order a transport calls its protocol."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

import pytest
from aio_world import connected, reset, run, soon

import lwipy

MEGABYTE = 1 << 20


def test_the_life_of_a_connection() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(b"hello")
            await soon(lambda: server.data)
            client.transport.close()
            await server.lost
            await client.lost
        assert client.calls == ["made", "lost"]
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.error is None
        assert server.error is None

    run(main)


def test_a_closed_transport_flushes_all_that_was_written() -> None:
    text = random.Random(1).randbytes(5 * MEGABYTE)

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(text)
            client.transport.close()
            assert client.transport.is_closing()
            assert client.transport.get_write_buffer_size() > 0
            client.transport.close()
            await server.lost
            await client.lost
        assert server.data == text
        assert client.calls == ["made", "pause", "resume", "lost"]
        assert client.error is None

    run(main, debug=False)


@pytest.mark.parametrize("ending", ["end", "reset"])
def test_much_and_little_in_turn_and_then_the_end(ending: str) -> None:
    """Large pieces are received into memory of their own, small ones by way of a buffer that all share."""
    pieces = [random.Random(size).randbytes(size) for size in (1, 300_000, 7, 200_000, 200_000, 1, 1)]
    text = b"".join(pieces)

    async def main() -> None:
        async with connected() as (client, server):
            for number, piece in enumerate(pieces, 1):
                client.transport.write(piece)
                await soon(lambda: len(server.data) == sum(map(len, pieces[:number])))  # noqa: B023
            if ending == "end":
                client.transport.close()
            else:
                reset(client.transport)
            await server.lost
        assert server.data == text
        assert server.calls[-2:] == (["eof", "lost"] if ending == "end" else ["data", "lost"])
        assert isinstance(server.error, ConnectionResetError if ending == "reset" else type(None))

    run(main)


def test_half_close_lasts_while_eof_received_says_so() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.keep_open = True
            client.transport.write(b"question")
            client.transport.write_eof()
            client.transport.write_eof()
            await server.ended
            assert not server.transport.is_closing()
            server.transport.write(b"answer after the end")
            await soon(lambda: client.data)
            assert client.data == b"answer after the end"
            server.transport.close()
            await client.lost
        assert server.calls == ["made", "data", "eof", "lost"]
        assert client.error is None

    run(main)


def test_an_end_in_the_buffer_goes_out_behind_the_data() -> None:
    text = bytes(3 * MEGABYTE)

    async def main() -> None:
        async with connected() as (client, server):
            server.keep_open = True
            client.transport.write(text)
            client.transport.write_eof()
            await server.ended
            assert server.data == text
            assert not client.transport.is_closing()

    run(main, debug=False)


def test_an_aborted_transport_resets_its_peer() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(bytes(3 * MEGABYTE))
            client.transport.abort()
            client.transport.abort()
            await client.lost
            await server.lost
        assert client.error is None
        assert isinstance(server.error, ConnectionResetError)
        assert server.calls.count("lost") == 1

    run(main)


def test_an_abort_that_loses_nothing_looks_like_a_close_to_the_peer() -> None:
    """As the kernel has it for asyncio: what the endpoint took is sent, and the end behind it."""

    async def main() -> None:
        async with connected() as (client, server):
            client.transport.write(b"all there is")
            client.transport.abort()
            await server.lost
        assert server.data == b"all there is"
        assert server.error is None
        assert client.calls == ["made", "lost"]

    run(main)


def test_abort_after_close_gives_up_flushing() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.transport.pause_reading()
            client.transport.write(bytes(3 * MEGABYTE))
            client.transport.close()
            await asyncio.sleep(0.05)
            assert "lost" not in client.calls
            client.transport.abort()
            await client.lost
            server.transport.resume_reading()
            await server.lost
        assert isinstance(server.error, ConnectionResetError)

    run(main)


def test_a_linger_of_zero_resets_too() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            sock = client.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.transport.close()
            await server.lost
        assert isinstance(server.error, ConnectionResetError)

    run(main)


def test_a_peer_that_is_gone_is_told_once() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            reset(server.transport)
            await client.lost
            assert client.transport.is_closing()
            for _ in range(10):
                client.transport.write(b"to nobody")
            client.transport.write_eof()
            client.transport.close()
            client.transport.abort()
            await asyncio.sleep(0.01)
        assert client.calls == ["made", "lost"]
        assert isinstance(client.error, ConnectionResetError)

    run(main)


def test_a_reset_is_told_to_a_half_closed_protocol_that_only_waits() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            client.keep_open = True
            server.transport.write_eof()
            await client.ended
            reset(server.transport)
            await client.lost
        assert isinstance(client.error, ConnectionResetError)

    run(main)


def test_a_closed_stack_is_told_as_such() -> None:
    async def main() -> None:
        async with connected() as (client, server):
            server.transport._endpoint.stack.close()
            await server.lost
            client.transport.abort()
            assert isinstance(server.error, lwipy.StackClosedError)
            assert server.calls == ["made", "lost"]
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
