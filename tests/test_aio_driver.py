"""Driving stacks in an event loop: who may, when it wakes, and what happens to it at the end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import socket
import threading
import warnings
from contextlib import closing
from typing import Any

import pytest
from aio_world import Recorder, ask, echo, nothing_left, run, soon
from conftest import Pair

import lwipy
from lwipy._driver import Driver
from lwipy.aio import (
    create_connection,
    create_datagram_endpoint,
    create_server,
    driving,
    open_connection,
    start_server,
)
from lwipy.aio.driver import LoopDriver


def is_by_hand(stack: lwipy.Stack) -> bool:
    return type(stack._driver) is Driver


def test_two_stacks_on_one_loop(pair: Pair) -> None:
    async def main() -> None:
        async with driving(pair.a), driving(pair.b) as b:
            assert b is pair.b
            async with await start_server(pair.b, echo, "10.0.0.2", 80):
                assert await ask(pair.a, b"hello") == b"hello"

    run(main)
    assert is_by_hand(pair.a)
    assert is_by_hand(pair.b)


def test_one_stack_in_a_thread_and_the_other_in_the_loop() -> None:
    with lwipy.Stack() as a, closing(lwipy.Stack()) as b:
        Pair.of(a, b)

        def client() -> bytes:
            with a.create_connection(("10.0.0.2", 80), timeout=20) as sock:
                sock.sendall(bytes(300_000))
                sock.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: sock.recv(65536), b""))

        async def main() -> bytes:
            async with driving(b), await start_server(b, echo, "10.0.0.2", 80):
                return await asyncio.to_thread(client)

        assert run(main) == bytes(300_000)


def test_twenty_stacks_in_a_ring_on_one_loop() -> None:
    count = 20

    async def main() -> None:
        async with contextlib.AsyncExitStack() as held:
            ring = [held.enter_context(closing(lwipy.Stack())) for _ in range(count)]
            for number, stack in enumerate(ring):
                await held.enter_async_context(driving(stack))
                # Two interfaces: .1 of the network to the next stack, .2 of the one from the previous.
                stack.add_interface(ipv4=f"10.1.{number}.1/24", name="next")
                stack.add_interface(ipv4=f"10.1.{(number - 1) % count}.2/24", name="previous")
            for number, stack in enumerate(ring):
                following = ring[(number + 1) % count]
                lwipy.wire(stack.interfaces["next"], following.interfaces["previous"])
                await held.enter_async_context(await start_server(stack, echo, port=7))
            answers = await asyncio.gather(
                *(ask(stack, b"%d" % number, f"10.1.{number}.2", 7) for number, stack in enumerate(ring))
            )
            assert answers == [b"%d" % number for number in range(count)]

    run(main)


# -- Who drives ------------------------------------------------------------------------------------------------------


def test_driving_nests(pair: Pair) -> None:
    async def main() -> None:
        async with driving(pair.a):
            driver = pair.a._driver
            async with driving(pair.a):
                assert pair.a._driver is driver
            assert pair.a._driver is driver
            assert isinstance(driver, LoopDriver)
        assert is_by_hand(pair.a)

    run(main)


def test_a_stack_is_driven_on_its_first_use_and_by_the_next_loop_too(pair: Pair) -> None:
    async def main() -> None:
        async with await start_server(pair.b, echo, "10.0.0.2", 80):
            assert await ask(pair.a, b"hello") == b"hello"
        await nothing_left(pair)

    run(main)
    run(main)


def test_a_stack_driven_on_first_use_stays_so_after_a_block_that_drives_it(pair: Pair) -> None:
    async def main() -> None:
        async with await start_server(pair.b, echo, "10.0.0.2", 80):
            await ask(pair.a, b"first use")
            async with driving(pair.a):
                pass
            assert await ask(pair.a, b"hello") == b"hello"

    run(main)


def test_only_one_may_drive() -> None:
    async def main(stack: lwipy.Stack) -> None:
        async with driving(stack):
            raise AssertionError("a second driver was let in")

    with lwipy.Stack() as by_thread, pytest.raises(RuntimeError, match="driven already, by"):
        asyncio.run(main(by_thread))

    async def in_the_first(stack: lwipy.Stack) -> None:
        async with driving(stack):
            with pytest.raises(RuntimeError, match="driven already"):
                await asyncio.to_thread(asyncio.run, main(stack))
            with pytest.raises(RuntimeError, match="driven already"):
                stack.__enter__()

    with closing(lwipy.Stack()) as by_loop:
        run(lambda: in_the_first(by_loop))


def test_a_thread_may_drive_when_the_loop_has_gone(pair: Pair) -> None:
    async def main() -> None:
        async with driving(pair.a), driving(pair.b), await start_server(pair.b, echo, "10.0.0.2", 80):
            await ask(pair.a, b"hello")

    run(main)
    with pair.a as a, pair.b as b, b.create_server(("10.0.0.2", 81)) as server:
        with a.create_connection(("10.0.0.2", 81), timeout=20) as client, server.accept()[0] as peer:
            client.sendall(b"hello")
            assert peer.recv(10) == b"hello"


def test_a_clock_that_is_not_the_loops_is_refused() -> None:
    async def main() -> None:
        with closing(lwipy.Stack(clock=lambda: 0.0)) as stack:
            with pytest.raises(ValueError, match=r"Stack\(clock=loop.time\)"):
                async with driving(stack):
                    pass

    run(main)


def test_a_stack_with_a_clock_of_its_own_is_left_to_its_owner(hosts: Pair) -> None:
    assert hosts.time is not None

    async def main() -> bytes:
        server = await start_server(hosts.b, echo, "10.0.0.2", 80)
        assert is_by_hand(hosts.b)
        answer = asyncio.create_task(ask(hosts.a, b"hello"))
        while not answer.done():
            assert hosts.time is not None
            hosts.time.settle()
            hosts.time.now += 0.01
            await asyncio.sleep(0)
        server.close()
        return await answer

    assert run(main) == b"hello"


# -- Other people's drivers: the events come to the transport's loop -------------------------------------------------


def test_streams_on_stacks_that_threads_drive(threads: Pair) -> None:
    async def main() -> None:
        async with await start_server(threads.b, echo, "10.0.0.2", 80):
            text = bytes(2_000_000)
            assert await ask(threads.a, text) == text

    run(main)


def test_streams_on_a_stack_that_another_loop_drives(pair: Pair) -> None:
    async def serve(ready: threading.Event, stop: asyncio.Event) -> None:
        async with driving(pair.a), driving(pair.b), await start_server(pair.b, echo, "10.0.0.2", 80):
            ready.set()
            await stop.wait()

    ready, stop = threading.Event(), asyncio.Event()
    other: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_until_complete, args=(serve(ready, stop),))
    thread.start()
    try:
        assert ready.wait(20)
        assert run(lambda: ask(pair.a, bytes(1_000_000))) == bytes(1_000_000)
    finally:
        other.call_soon_threadsafe(stop.set)
        thread.join()
        other.close()


def test_blocking_sockets_of_other_threads_on_a_stack_that_the_loop_drives(pair: Pair) -> None:
    def client() -> bytes:
        with pair.a.create_connection(("10.0.0.2", 80), timeout=20) as sock:
            sock.sendall(b"from a thread")
            return sock.recv(100)

    async def main() -> bytes:
        async with driving(pair.a), driving(pair.b), await start_server(pair.b, echo, "10.0.0.2", 80):
            with pytest.raises(RuntimeError, match="cannot block in the thread of the event loop"):
                pair.a.create_connection(("10.0.0.2", 80), timeout=20)
            return await asyncio.to_thread(client)

    assert run(main) == b"from a thread"


# -- Trouble ---------------------------------------------------------------------------------------------------------


def test_an_exception_in_a_callback_is_reported_and_the_stack_goes_on(pair: Pair) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with driving(pair.a), driving(pair.b), await start_server(pair.b, echo, "10.0.0.2", 80):
            pair.a.call_later(0, lambda: 1 // 0)  # type: ignore[arg-type]
            assert await ask(pair.a, b"hello") == b"hello"
        (report,) = reports
        assert isinstance(report["exception"], ZeroDivisionError)
        assert report["stack"] is pair.a

    run(main)


def test_callbacks_run_in_the_context_they_were_asked_in(pair: Pair) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    seen: list[str] = []

    class Looks(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            seen.append(variable.get())

    async def main() -> None:
        async with driving(pair.a), driving(pair.b):
            variable.set("the server's")
            server, _ = await create_datagram_endpoint(pair.b, Looks, local_addr=("10.0.0.2", 9))
            variable.set("the client's")
            client, _ = await create_datagram_endpoint(pair.a, asyncio.DatagramProtocol, remote_addr=("10.0.0.2", 9))
            client.sendto(b"x")
            await soon(lambda: seen)
            client.close()
            server.close()

    run(main)
    assert seen == ["the server's"]


@pytest.mark.parametrize("where", ["in the loop", "in a thread"])
def test_a_stack_closed_while_driven_ends_its_connections(pair: Pair, where: str) -> None:
    async def main() -> None:
        async with driving(pair.a), driving(pair.b):
            server = await start_server(pair.b, echo, "10.0.0.2", 80)
            reader, writer = await open_connection(pair.a, "10.0.0.2", 80)
            if where == "in the loop":
                pair.a.close()
            else:
                await asyncio.to_thread(pair.a.close)
            with pytest.raises(lwipy.StackClosedError):
                await reader.read()
            with pytest.raises(lwipy.StackClosedError):
                await open_connection(pair.a, "10.0.0.2", 80)
            writer.close()
            with pytest.raises(lwipy.StackClosedError):
                await writer.wait_closed()
            pair.b.close()
            await server.wait_closed()
            assert not server.is_serving()

    run(main)


def test_a_stack_closed_in_its_own_callback(pair: Pair) -> None:
    async def main() -> None:
        async with driving(pair.a), driving(pair.b):
            pair.a.call_later(0, pair.a.close)
            await soon(lambda: pair.a.closed)

    run(main)


def test_a_loop_that_ended_without_goodbye_leaves_a_usable_stack(pair: Pair) -> None:
    async def main() -> None:
        await create_server(pair.b, Recorder, "10.0.0.2", 80)
        await create_connection(pair.a, Recorder, "10.0.0.2", 80)

    async def another() -> None:
        async with await start_server(pair.b, echo, "10.0.0.2", 81):
            assert await ask(pair.a, b"hello", port=81) == b"hello"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # that nobody closed them, and asyncio tells so
        asyncio.run(main())
        run(another)
        for stack in (pair.a, pair.b):
            for endpoint in list(stack._endpoints.values()):
                endpoint.close()
        gc.collect()
