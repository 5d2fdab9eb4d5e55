"""How a stack is driven: it sleeps when there is nothing to do, wakes for whatever there is, and ends when told to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Pair
from links import Peer, arp_request, eventually, exchange, is_arp_reply, wakeups

import lwipy
from lwipy.aio import driving, open_connection, start_server
from lwipy.links import QemuDgram, QemuStream
from lwipy.testing import VirtualTime, fail


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "guest.sock")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def driver_of(stack: lwipy.Stack) -> threading.Thread:
    thread = stack._driver._thread  # type: ignore[attr-defined]
    assert isinstance(thread, threading.Thread)
    return thread


def descriptors() -> set[str]:
    """The open descriptors and what they are."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(f"{entry.name} {entry.readlink()}")
    return found


# -- Sleep ------------------------------------------------------------------------------------------


def test_a_quiet_stack_has_no_deadline_at_all(virtual: VirtualTime, path: str) -> None:
    """A minute after the last traffic the last housekeeping is done; then nothing ever wakes it by itself."""
    stack = virtual.stack()
    stack.add_interface(QemuStream(path + ".s"), ipv4="10.0.0.1/24", ipv6="fd00::1/64")
    stack.add_interface(QemuDgram(path + ".d"), ipv4="10.0.1.1/24")
    peer = Peer.connect(path + ".s")
    stack.poll()
    peer.send(arp_request("10.0.0.1"))
    virtual.run(limit=150)
    assert stack.poll() is None
    peer.close()


def test_a_stack_with_nothing_to_do_sleeps(path: str) -> None:
    """Connected and after traffic, it wakes for its housekeeping, once a second for a minute, and for nothing else."""
    with lwipy.Stack() as stack:
        stack.add_interface(QemuStream(path + ".s"), ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        stack.add_interface(QemuDgram(path + ".d"), ipv4="10.0.1.1/24")
        peer = Peer.connect(path + ".s")
        peer.arp()
        eventually(lambda: (stack._deadline() or 1) > 0.15)  # IPv6 has introduced itself
        before, started = wakeups(), time.monotonic()
        time.sleep(2.5)
        assert wakeups() - before <= 2 * (time.monotonic() - started) + 2
        peer.close()


def test_an_established_connection_without_traffic_has_no_timer_of_its_own(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = hosts.a.tcp()
    listener.bind(("", 80))
    listener.listen()
    client = hosts.b.tcp()
    client.connect(("10.0.0.1", 80))
    hosts.time.run(limit=150)
    assert hosts.a.poll() is None
    assert hosts.b.poll() is None


# -- Wake-ups ---------------------------------------------------------------------------------------


def test_no_wake_up_of_another_thread_is_lost() -> None:
    with lwipy.Stack() as stack, ThreadPoolExecutor(4) as pool:

        def call(number: int) -> None:
            chance = random.Random(number)
            for _ in range(500):
                called = threading.Event()
                stack.call_later(0, called.set)
                if chance.random() < 0.1:
                    stack.poll()  # a stranger's poll must not take the sleeper's wake-up away
                assert called.wait(20)

        for done in [pool.submit(call, number) for number in range(4)]:
            done.result(120)


def test_a_timer_set_from_another_thread_comes_before_a_later_one() -> None:
    with lwipy.Stack() as stack:
        order: list[str] = []
        done = threading.Event()
        stack.call_later(0.3, lambda: order.append("later"))
        stack.call_later(0.31, done.set)
        time.sleep(0.05)
        stack.call_later(0.01, lambda: order.append("sooner"))
        assert done.wait(20)
        assert order == ["sooner", "later"]


def test_callbacks_run_in_the_drivers_thread_and_one_that_fails_costs_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with lwipy.Stack() as stack:
        thread = driver_of(stack)
        seen: list[threading.Thread] = []
        done = threading.Event()

        def fail() -> None:
            raise RuntimeError("on purpose")

        stack.call_later(0, fail)
        stack.call_later(0, lambda: seen.append(threading.current_thread()))
        stack.call_later(0.01, done.set)
        assert done.wait(20)
        assert seen == [thread]
        assert "on purpose" in caplog.text


# -- The end ----------------------------------------------------------------------------------------


def test_closing_ends_the_thread_and_gives_everything_back(path: str) -> None:
    gc.collect()
    before = descriptors()
    threads = threading.active_count()
    for _ in range(20):
        with lwipy.Stack() as stack:
            stack.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
            stack.add_interface(QemuDgram(path + ".d"), ipv4="10.0.1.1/24")
            peer = Peer.connect(path)
            peer.arp()
            peer.close()
        del stack
    gc.collect()
    assert threading.active_count() == threads
    assert descriptors() == before


def test_a_callback_may_close_its_stack() -> None:
    stack = lwipy.Stack()
    stack.__enter__()
    thread = driver_of(stack)
    stack.call_later(0, stack.close)
    thread.join(20)
    assert not thread.is_alive()
    assert stack.closed


def test_several_threads_may_close_a_busy_stack_at_once(path: str) -> None:
    for _ in range(20):
        stack = lwipy.Stack()
        stack.__enter__()
        stack.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
        thread = driver_of(stack)
        peer = Peer.connect(path)
        peer.send(*[arp_request("10.0.0.1")] * 200)
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(stack.close) for _ in range(4)]:
                done.result(20)
        thread.join(20)
        assert not thread.is_alive()
        peer.close()


def test_a_stack_that_nobody_refers_to_ends_by_itself() -> None:
    stack = lwipy.Stack()
    stack.__enter__()
    thread, gone = driver_of(stack), weakref.ref(stack)
    time.sleep(0.05)
    del stack
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()
    assert gone() is None


def test_whoever_waits_hears_that_the_stack_has_failed(caplog: pytest.LogCaptureFixture) -> None:
    with lwipy.Stack() as stack, ThreadPoolExecutor(1) as pool:
        thread = driver_of(stack)
        sock = stack.socket(type=socket.SOCK_DGRAM)
        sock.bind(("", 53))
        waiting = pool.submit(sock.recv, 100)
        time.sleep(0.1)
        fail(stack, "a test's own assertion")
        stack.call_later(0, lambda: None)
        with pytest.raises(lwipy.StackError, match="a test's own assertion"):
            waiting.result(20)
        thread.join(20)
        assert "the stack has failed" in caplog.text
        with pytest.raises(lwipy.StackError, match="a test's own assertion"):
            stack.tcp()


# -- Watched descriptors ----------------------------------------------------------------------------


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


# -- Links in an event loop -------------------------------------------------------------------------


def test_an_event_loop_serves_links_and_leaves_them_alone_when_nothing_comes(path: str) -> None:
    """Two stacks in one loop, a megabyte each way over a link that C moves."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    async def main() -> None:
        with closing(lwipy.Stack()) as host, closing(lwipy.Stack()) as guest:
            async with driving(host), driving(guest):
                link = QemuStream(path)
                host.add_interface(link, ipv4="10.0.0.1/24")
                guest.add_interface(QemuStream(path, listen=False), ipv4="10.0.0.2/24")
                while not link.connected:
                    await asyncio.sleep(0.001)
                server = await start_server(host, serve, "10.0.0.1", 80)
                reader, writer = await open_connection(guest, "10.0.0.1", 80)
                content = random.Random(1).randbytes(1 << 20)
                writer.write(content)
                writer.write_eof()
                assert await reader.read() == content
                writer.close()
                server.close()

    asyncio.run(main())


def test_a_link_goes_on_when_the_driver_changes(path: str) -> None:
    """By hand, in a loop, by a thread: the same interface and the same connection to its peer."""
    stack = lwipy.Stack()
    stack.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
    peer = Peer.connect(path)

    def answered() -> None:
        while not is_arp_reply(peer.receive()):
            pass

    stack.poll()
    peer.send(arp_request("10.0.0.1"))
    stack.poll()
    answered()

    async def in_a_loop() -> None:
        async with driving(stack):
            peer.send(arp_request("10.0.0.1"))
            await asyncio.to_thread(answered)

    asyncio.run(in_a_loop())
    with stack:
        peer.arp()
    peer.close()


def test_links_and_sockets_in_one_thread_with_a_wire_to_another_stack(path: str) -> None:
    """A router's place: one stack on a link and on a wire at the same time."""
    with lwipy.Stack() as middle, lwipy.Stack() as wired, lwipy.Stack() as linked:
        middle.add_interface(QemuStream(path), ipv4="10.0.0.1/24")
        inner = middle.add_interface(ipv4="10.0.1.1/24")
        lwipy.wire(inner, wired.add_interface(ipv4="10.0.1.2/24"))
        nic = linked.add_interface(QemuStream(path, listen=False), ipv4="10.0.0.2/24")
        eventually(lambda: nic.link_up)
        with (
            middle.create_server(("", 80)) as server,
            wired.create_connection(("10.0.1.1", 80), timeout=20) as one,
            linked.create_connection(("10.0.0.1", 80), timeout=20) as two,
        ):
            ends = {}
            for _ in range(2):
                sock, address = server.accept()
                ends[address[0]] = sock
            with ThreadPoolExecutor(2) as pool:
                both = [pool.submit(exchange, ends["10.0.1.2"], one), pool.submit(exchange, ends["10.0.0.2"], two)]
                for done in both:
                    done.result(60)
            for sock in ends.values():
                sock.close()
