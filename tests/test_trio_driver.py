"""Who drives a stack in trio, when it wakes, and how it ends."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
import trio
import trio.testing
from conftest import Pair
from trio_world import PORT, connected, run, two_hosts

import lwipy
from lwipy.trio import UdpSocket, driving, open_tcp_listeners, open_tcp_stream


class Turns(trio.abc.Instrument):
    """Counts the turns of trio's loop, which are its wake-ups, and the steps of tasks."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1


def test_an_idle_stack_wakes_nobody() -> None:
    turns = Turns()

    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            async with near, far:
                await near.send_all(b"hello")
                assert await far.receive_some() == b"hello"
                await trio.sleep(120)  # lwIP's housekeeping looks after its tables for a good minute
                before = turns.count
                await trio.sleep(3600)
                assert turns.count - before < 10
                await near.send_all(b"still there?")
                assert await far.receive_some() == b"still there?"

    run(main, instruments=[turns])


def test_an_idle_stack_wakes_nobody_in_real_time_either() -> None:
    turns = Turns()

    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            stack.add_interface(ipv4="10.0.0.1/24")
            async with driving(stack):
                await trio.sleep(0.3)
                before = turns.count
                await trio.sleep(0.5)
                assert turns.count - before < 20

    run(main, virtual=False, instruments=[turns])


def test_driving_nests_and_whoever_began_may_leave_first() -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            left = trio.Event()

            async def first(task_status: trio.TaskStatus[None]) -> None:
                with closing(lwipy.Stack(clock=trio.current_time)) as stack:
                    lwipy.wire(stack.add_interface(ipv4="10.0.1.1/24"), pair.b.add_interface(ipv4="10.0.1.2/24"))
                    async with driving(stack):
                        nursery.start_soon(second, stack)
                        await trio.sleep(1)
                    task_status.started()
                    await left.wait()

            async def second(stack: lwipy.Stack) -> None:
                async with driving(stack), driving(stack):
                    await trio.sleep(2)
                    (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.1.2")
                    async with listener, await open_tcp_stream(stack, "10.0.1.2", PORT):
                        left.set()

            await nursery.start(first)

    run(main)


def test_only_one_may_drive() -> None:
    async def main() -> None:
        with lwipy.Stack() as threaded:
            with pytest.raises(RuntimeError, match="driven already"):
                async with driving(threaded):
                    raise AssertionError("not reached")
        with closing(lwipy.Stack()) as stack:
            async with driving(stack):
                with pytest.raises(RuntimeError, match="driven already"):
                    stack.__enter__()
                with stack.create_server(("", PORT)) as listener, pytest.raises(RuntimeError, match="cannot block"):
                    listener.accept()
            async with driving(stack):
                pass  # given back, and taken again

    run(main, virtual=False)


def test_without_a_driver_one_is_told_what_to_do() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            with pytest.raises(RuntimeError, match=r"use `async with lwipy\.trio\.driving"):
                await open_tcp_stream(stack, "10.0.0.2", PORT)
            with pytest.raises(RuntimeError, match="nothing drives"):
                await open_tcp_listeners(stack, PORT)
            with pytest.raises(RuntimeError, match="nothing drives"):
                UdpSocket(stack)

    run(main)


def test_a_clock_that_is_not_trios_is_refused() -> None:
    async def main() -> None:
        with closing(lwipy.Stack(clock=time.monotonic)) as stack:
            with pytest.raises(ValueError, match="clock is not trio's"):
                async with driving(stack):
                    raise AssertionError("not reached")

    run(main)


def test_streams_on_stacks_that_threads_drive(threads: Pair) -> None:
    async def main() -> None:
        near, far = await connected(threads)
        async with near, far:
            for size in (1, 100_000):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send_all, bytes(size))
                    got = 0
                    while got < size:
                        got += len(await far.receive_some())

    run(main, virtual=False)


def test_blocking_sockets_of_other_threads() -> None:
    async def main() -> None:
        async with two_hosts(virtual=False) as pair:
            (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.0.2")

            def talk() -> bytes:
                with pair.a.create_connection(("10.0.0.2", PORT), timeout=60) as sock:
                    sock.sendall(b"from a thread")
                    return bytes(sock.recv(100))

            async def serve() -> None:
                async with listener, await listener.accept() as stream:
                    await stream.send_all((await stream.receive_some()).upper())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(serve)
                assert await trio.to_thread.run_sync(talk) == b"FROM A THREAD"

    run(main, virtual=False)


def test_timers_of_any_thread_run_in_trio() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            async with driving(stack):
                ran = trio.Event()
                here: list[int] = []

                def ring() -> None:
                    here.append(threading.get_ident())
                    ran.set()

                await trio.to_thread.run_sync(stack.call_later, 0.01, ring)
                await ran.wait()
                assert here == [threading.get_ident()]

    run(main, virtual=False)


def test_an_exception_in_a_callback_ends_the_block_and_is_raised_from_it() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        with closing(lwipy.Stack(clock=trio.current_time)) as stack:
            with pytest.raises(ZeroDivisionError):
                async with driving(stack):
                    stack.call_later(1, fail)
                    await trio.sleep_forever()
            with pytest.raises(KeyError) as info:
                async with driving(stack):
                    stack.call_later(1, fail)
                    with trio.CancelScope(shield=True):
                        await trio.sleep(2)
                    raise KeyError
            assert "ZeroDivisionError" in info.value.__notes__[0]
            async with driving(stack):
                await trio.sleep(1)

    run(main)


def test_the_programs_own_error_comes_out_as_it_is() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            with pytest.raises(KeyError):
                async with driving(stack):
                    raise KeyError

    run(main)


@pytest.mark.parametrize("where", ["task", "callback", "thread"])
def test_a_stack_closed_while_driven(where: str) -> None:
    async def main() -> None:
        stack = lwipy.Stack()
        async with driving(stack):
            if where == "task":
                stack.close()
            elif where == "callback":
                stack.call_later(0.01, stack.close)
            else:
                await trio.to_thread.run_sync(stack.close)
            while not stack.closed:
                await trio.sleep(0.001)

    run(main, virtual=False)


def test_a_cancelled_program_gives_its_stacks_back() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            with trio.move_on_after(0.01):
                async with driving(stack):
                    await trio.sleep_forever()
            with stack:
                stack.create_server(("", PORT)).close()

    run(main, virtual=False)


@pytest.mark.parametrize(("module", "library"), [("trio", "trio"), ("anyio", "anyio")])
def test_without_the_library_the_extra_is_named(module: str, library: str) -> None:
    program = f"import sys; sys.modules[{library!r}] = None; import lwipy.{module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert f"pip install 'lwipy[{module}]'" in done.stderr
