"""The streams' reader: asyncio's own in everything that can be seen, and no copies where none is needed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from lwipy.aio.reader import StreamReader


class Held:
    """A transport that notes whether its reading is paused."""

    def __init__(self) -> None:
        self.paused: list[bool] = []

    def pause_reading(self) -> None:
        self.paused.append(True)

    def resume_reading(self) -> None:
        self.paused.append(False)


def made(kind: type[asyncio.StreamReader], limit: int) -> tuple[asyncio.StreamReader, Held]:
    reader, transport = kind(limit), Held()
    reader.set_transport(transport)  # type: ignore[arg-type]
    return reader, transport


async def outcome(call: Callable[[], Awaitable[bytes]]) -> Any:
    """What a read gives: bytes, the error's name, or None while it has to wait."""
    try:
        return await asyncio.wait_for(call(), 0.001)
    except TimeoutError:
        return None
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        return type(error).__name__, getattr(error, "partial", None)


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_fed_and_read_it_is_as_with_asyncios_own(seed: int) -> None:
    chance = random.Random(seed)

    def reading() -> Callable[[asyncio.StreamReader], Awaitable[bytes]]:
        size = chance.choice((1, 7, 100, 5000))
        return chance.choice((
            lambda reader: reader.read(size),
            lambda reader: reader.read(size),
            lambda reader: reader.readexactly(size),
            lambda reader: reader.readline(),
            lambda reader: reader.readuntil(b"ab"),
            lambda reader: reader.read(0),
        ))  # fmt: skip

    async def main() -> None:
        (ours, held), (theirs, held_too) = made(StreamReader, 1000), made(asyncio.StreamReader, 1000)
        for _ in range(60):
            for _ in range(chance.choice((0, 1, 1, 2))):
                data = bytes(chance.choices(b"ab\n", (9, 9, 1), k=chance.choice((0, 1, 50, 900, 4000))))
                data = bytearray(data) if chance.random() < 0.1 else data  # type: ignore[assignment]
                ours.feed_data(data)
                theirs.feed_data(data)
            read = reading()
            assert await outcome(lambda: read(ours)) == await outcome(lambda: read(theirs))  # noqa: B023
            assert held.paused == held_too.paused
            assert ours.at_eof() == theirs.at_eof()
        ours.feed_eof()
        theirs.feed_eof()
        assert await ours.read(3) == await theirs.read(3)
        assert await ours.read() == await theirs.read()
        assert ours.at_eof()
        assert await ours.read(1) == b""

    asyncio.run(main())


def test_what_came_at_once_and_is_read_at_once_is_not_copied() -> None:
    async def main() -> None:
        reader, _ = made(StreamReader, 1 << 16)
        data = bytes(100_000)
        reader.feed_data(data)
        assert await reader.read(1 << 20) is data

    asyncio.run(main())


def test_who_waits_gets_what_comes_and_what_is_wrong() -> None:
    async def main() -> None:
        reader, _ = made(StreamReader, 1000)
        waiting = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already waiting"):
            await reader.read(1)
        reader.feed_data(b"x" * 15)
        assert await waiting == b"x" * 10
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError):
            await reader.read(10)

    asyncio.run(main())
