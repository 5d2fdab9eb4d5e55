"""What wakes a loop that drives a stack."""

from __future__ import annotations

import asyncio
import threading
from contextlib import closing
from typing import Any

from aio_world import VirtualLoop, ask, echo, run, soon, two_hosts
from conftest import Pair

import lwipy
from lwipy.aio import (
    driving,
    open_connection,
    start_server,
)
from lwipy.aio.driver import LoopDriver


def test_an_idle_stack_takes_no_turns_and_has_no_timer() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        async with two_hosts(clock=loop.time) as pair, await start_server(pair.b, echo, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            writer.write(b"hello")
            assert await reader.read(100) == b"hello"
            await asyncio.sleep(120)  # lwIP's housekeeping looks after its tables for a good minute
            turns = loop.turns
            await asyncio.sleep(3600)
            assert loop.turns - turns < 10
            for stack in (pair.a, pair.b):
                assert isinstance(stack._driver, LoopDriver)
                assert stack._driver._timer is None
            writer.write(b"still there?")
            assert await reader.read(100) == b"still there?"
            writer.close()

    run(main, VirtualLoop)


def test_lost_segments_are_sent_again_without_anybody_asking() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with two_hosts(clock=loop.time) as pair, await start_server(pair.b, echo, "10.0.0.2", 80):
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            pair.nic_a.link_up = False
            writer.write(b"lost at first")
            await asyncio.sleep(0.01)
            pair.nic_a.link_up = True
            assert await reader.read(100) == b"lost at first"
            writer.close()

    run(main, VirtualLoop)


def test_timers_run_in_the_loop_at_their_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[tuple[str, float, int]] = []

        def note(name: str) -> None:
            ran.append((name, loop.time(), threading.get_ident()))

        with closing(lwipy.Stack(clock=loop.time)) as stack:
            async with driving(stack):
                started = loop.time()
                stack.call_later(50, lambda: note("late"))
                await asyncio.sleep(1)
                stack.call_later(2, lambda: note("early"))
                stack.call_later(10, lambda: note("never")).cancel()
                await asyncio.sleep(100)
        assert [(name, round(when - started, 2)) for name, when, _ in ran] == [("early", 3), ("late", 50)]
        assert {thread for _, _, thread in ran} == {threading.get_ident()}

    run(main, VirtualLoop)


def test_a_timer_of_another_thread_wakes_the_loop(pair: Pair) -> None:
    async def main() -> int:
        async with driving(pair.a):
            ran: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            callback = lambda: ran.set_result(threading.get_ident())  # noqa: E731
            await asyncio.to_thread(pair.a.call_later, 0.01, callback)
            return await ran

    assert run(main) == threading.get_ident()


def test_frames_for_the_wire_are_handed_out_in_the_loop() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            nic = stack.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24")
            frames: list[tuple[bytes, int]] = []
            nic.on_frame = lambda frame: frames.append((frame, threading.get_ident()))
            async with driving(stack):
                endpoint = stack.udp()
                await asyncio.to_thread(endpoint.send, b"x", ("10.0.0.9", 9))
                await soon(lambda: any(frame[12:14] == b"\x08\x06" for frame, _ in frames))
            assert {thread for _, thread in frames} == {threading.get_ident()}

    run(main)


def test_a_loop_without_readers_gets_a_watcher_thread(pair: Pair) -> None:
    class Proactorlike(asyncio.SelectorEventLoop):
        def add_reader(self, *args: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    async def main() -> None:
        async with driving(pair.a), driving(pair.b), await start_server(pair.b, echo, "10.0.0.2", 80):
            assert await ask(pair.a, bytes(1_000_000)) == bytes(1_000_000)
            await asyncio.sleep(0.05)  # asleep, and woken from outside
            assert await ask(pair.a, b"hello") == b"hello"

    before = threading.active_count()
    run(main, Proactorlike)
    assert threading.active_count() <= before
