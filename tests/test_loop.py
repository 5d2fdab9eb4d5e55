"""How a stack is driven: it sleeps when there is nothing to do, wakes for whatever there is, and ends when told to."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from conftest import Pair
from descriptors import descriptors
from links import Peer, arp_request, driver_of, eventually, exchange, is_arp_reply, wakeups

import lwipy
from lwipy.aio import driving, open_connection, start_server
from lwipy.links import QemuDgram, QemuStream
from lwipy.testing import VirtualTime, fail

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

        def quiet() -> bool:
            before, started = wakeups(), time.monotonic()
            time.sleep(1.5)
            return wakeups() - before <= 2 * (time.monotonic() - started) + 2

        eventually(quiet)
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
        later, sooner = threading.Event(), threading.Event()
        stack.call_later(200, later.set)
        time.sleep(0.05)  # asleep until then
        stack.call_later(0.01, sooner.set)
        assert sooner.wait(100)
        assert not later.is_set()


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
    assert threading.active_count() <= threads
    assert descriptors() <= before


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
