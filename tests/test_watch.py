"""Descriptors that a stack watches for its program: by hand, by its thread, in an event loop."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from links import driver_of, eventually

import lwipy
from lwipy.aio import driving


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_descriptor_is_watched_by_hand(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with closing(lwipy.Stack()) as stack:
        seen: list[bytes] = []
        stack.watch(reading, lambda: seen.append(os.read(reading, 100)))
        stack.poll()
        assert seen == []
        os.write(writing, b"one")
        stack.poll()
        assert seen == [b"one"]
        stack.poll()
        assert seen == [b"one"]


def test_a_descriptor_is_watched_by_the_thread(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with lwipy.Stack() as stack:
        seen: list[tuple[bytes, threading.Thread]] = []
        stack.watch(reading, lambda: seen.append((os.read(reading, 100), threading.current_thread())))
        for text in (b"one", b"two"):
            os.write(writing, text)
            eventually(lambda text=text: (text, driver_of(stack)) in seen)  # type: ignore[misc]


def test_a_descriptor_is_watched_by_an_event_loop(pipe: tuple[int, int]) -> None:
    reading, writing = pipe

    async def main() -> bytes:
        seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        with closing(lwipy.Stack()) as stack:
            async with driving(stack):
                stack.watch(reading, lambda: seen.set_result(os.read(reading, 100)))
                await asyncio.sleep(0)
                os.write(writing, b"one")
                return await asyncio.wait_for(seen, 20)

    assert asyncio.run(main()) == b"one"


def test_what_is_not_read_is_told_again_until_unwatched(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with lwipy.Stack() as stack:
        calls: list[None] = []
        stack.watch(reading, lambda: calls.append(None))
        os.write(writing, b"one")
        eventually(lambda: len(calls) > 10)
        stack.unwatch(reading)
        time.sleep(0.05)
        calls.clear()
        time.sleep(0.05)
        assert calls == []
        stack.unwatch(reading)


def test_the_last_watch_of_a_descriptor_counts(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with closing(lwipy.Stack()) as stack:
        seen: list[str] = []
        stack.watch(reading, lambda: seen.append("first"))

        def second() -> None:
            seen.append("second")
            stack.unwatch(reading)

        stack.watch(reading, second)
        os.write(writing, b"one")
        stack.poll()
        stack.poll()
        assert seen == ["second"]


def test_more_descriptors_than_one_report_holds_are_all_told() -> None:
    with lwipy.Stack() as stack:
        pairs = [socket.socketpair() for _ in range(200)]
        waiting = set(range(200))

        def watch(number: int) -> Callable[[], None]:
            def ready() -> None:
                pairs[number][0].recv(1)
                waiting.discard(number)

            return ready

        for number, (ours, theirs) in enumerate(pairs):
            theirs.send(b"x")
            stack.watch(ours.fileno(), watch(number))
        eventually(lambda: not waiting)
        for ours, theirs in pairs:
            stack.unwatch(ours.fileno())
            ours.close()
            theirs.close()


def test_a_callback_that_fails_does_not_end_the_watch(pipe: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    reading, writing = pipe
    with lwipy.Stack() as stack:
        seen: list[bytes] = []

        def read() -> None:
            seen.append(os.read(reading, 100))
            if len(seen) == 1:
                raise RuntimeError("on purpose")

        stack.watch(reading, read)
        os.write(writing, b"one")
        eventually(lambda: seen == [b"one"])
        os.write(writing, b"two")
        eventually(lambda: seen == [b"one", b"two"])
    assert "on purpose" in caplog.text


def test_a_descriptor_that_is_full_is_told_when_it_takes_more() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, lwipy.Stack() as stack:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        takes = threading.Event()

        def ready() -> None:
            stack.unwatch(ours.fileno())
            takes.set()

        stack.watch(ours.fileno(), ready, write=True)
        assert not takes.wait(0.05)
        theirs.recv(1 << 20)
        assert takes.wait(20)


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    with closing(lwipy.Stack()) as stack, (tmp_path / "file").open("w") as file:
        with pytest.raises(PermissionError):
            stack.watch(file.fileno(), print)
        with pytest.raises(OSError, match="descriptor 1000000") as caught:
            stack.watch(1_000_000, print)
        assert caught.value.errno == errno.EBADF
