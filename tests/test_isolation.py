"""Stacks are independent, and give back all they took."""

from __future__ import annotations

import errno
import gc
import os
import threading
from pathlib import Path

import pytest
from conftest import Pair
from descriptors import descriptors

import lwipy
from lwipy import Event, StackClosedError, StackError
from lwipy._native import lib
from lwipy.testing import VirtualTime, fail


def resident() -> int:
    """This process's memory, bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def exchange(stack: lwipy.Stack) -> None:
    """Some traffic of a stack with itself."""
    server, client = stack.udp(), stack.udp()
    server.bind(("127.0.0.1", 7))
    client.send(bytes(1000), ("127.0.0.1", 7))
    stack.poll()
    assert len(server.receive().data) == 1000
    stack.tcp().connect(("127.0.0.1", 9))
    stack.poll()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see memory")
@pytest.mark.skipif(os.environ.get("LWIPY_SANITIZED") == "1", reason="the sanitizer keeps freed memory")
def test_a_thousand_stacks_leave_nothing_behind() -> None:
    def live_and_die(count: int) -> None:
        for _ in range(count):
            stack = lwipy.Stack()
            stack.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
            exchange(stack)
            stack.close()
        gc.collect()

    live_and_die(50)
    before, open_before = resident(), descriptors()
    live_and_die(1000)
    assert resident() - before < 5 << 20
    assert descriptors() <= open_before


def test_a_hundred_stacks_talk_in_a_ring(virtual: VirtualTime) -> None:
    """Each is wired to the next; what the first sends goes round and comes back to it.

    Time stands still: no packet waits too long for an address, however slow the machine is.
    """
    count = 100
    stacks = [virtual.stack() for _ in range(count)]
    right = [stack.add_interface(ipv4=f"10.{n}.0.1/24") for n, stack in enumerate(stacks)]
    left = [stack.add_interface(ipv4=f"10.{(n - 1) % count}.0.2/24") for n, stack in enumerate(stacks)]
    for n in range(count):
        lwipy.wire(right[n], left[(n + 1) % count])
    ends = [stack.udp() for stack in stacks]
    for n, end in enumerate(ends):
        end.bind(("", 7))

        def pass_on(event: Event, n: int = n, end: lwipy.UdpEndpoint = end) -> None:
            try:
                while n > 0 and not end.closed:
                    end.send(end.receive().data + bytes([n]), (f"10.{n}.0.2", 7))
            except BlockingIOError:
                pass

        end.on_event = pass_on
    ends[0].on_event = None
    ends[0].send(b"start", ("10.0.0.2", 7))
    for _ in range(500):
        for stack in stacks:
            stack.poll()
        if Event.READABLE in ends[0].ready():
            break
    assert ends[0].receive().data == b"start" + bytes(range(1, count))


def test_two_stacks_may_have_the_same_address() -> None:
    with lwipy.Stack() as one, lwipy.Stack() as other:
        listeners = []
        for stack in (one, other):
            stack.add_interface(ipv4="10.0.0.1/24")
            listeners.append(stack.create_server(("10.0.0.1", 80)))
        with one.create_connection(("10.0.0.1", 80), timeout=30):
            connection, _ = listeners[0].accept()
            connection.close()
            listeners[1].settimeout(0)
            with pytest.raises(BlockingIOError):
                listeners[1].accept()
        for listener in listeners:
            listener.close()


def test_stacks_run_side_by_side_in_threads() -> None:
    def work(results: list[int]) -> None:
        with lwipy.Stack() as a, lwipy.Stack() as b:
            Pair.of(a, b)
            with a.create_server(("10.0.0.1", 80)) as listener:
                with b.create_connection(("10.0.0.1", 80), timeout=20) as client:
                    server, _ = listener.accept()
                    threading.Thread(target=client.sendall, args=(bytes(2_000_000),)).start()
                    left = 2_000_000
                    while left:
                        left -= len(server.recv(1 << 16))
                    server.close()
        results.append(1)

    results: list[int] = []
    threads = [threading.Thread(target=work, args=(results,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 6


def test_a_closed_stack_says_so(hosts: Pair) -> None:
    end = hosts.a.tcp()
    hosts.a.close()
    hosts.a.close()
    with pytest.raises(StackClosedError, match="closed"):
        hosts.a.tcp()
    with pytest.raises(OSError, match=r"Bad file descriptor|closed"):
        end.listen()
    assert hosts.a.closed


def test_a_stack_may_be_closed_while_others_call_it() -> None:
    stack = lwipy.Stack()
    stack.add_interface(ipv4="10.0.0.1/24")
    stop = threading.Event()

    def hammer() -> None:
        try:
            end = stack.udp()
            end.bind(("127.0.0.1", 0))
            while not stop.is_set():
                end.send(b"x", end.address)
                stack.poll()
        except OSError:
            pass

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    stack.close()
    stop.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_stale_handle_never_reaches_another_connection(hosts: Pair) -> None:
    """The slot is given away again; the old number is refused."""
    first = hosts.a.udp()
    handle = first._handle
    first.close()
    second = hosts.a.udp()
    assert second._handle & 0xFFFFFFFF == handle & 0xFFFFFFFF
    assert second._handle != handle
    assert lib.lwipy_release(hosts.a._core, handle) == lib.LWIPY_EHANDLE
    assert not second.closed
    second.bind(("", 7))


def test_all_memory_comes_back_to_the_arena(hosts: Pair) -> None:
    assert hosts.time is not None
    hosts.time.run(limit=40)
    before = hosts.a.statistics.memory_used
    listener = hosts.a.tcp()
    listener.bind(("", 80))
    listener.listen()
    clients = [hosts.b.tcp() for _ in range(50)]
    for client in clients:
        client.connect(("10.0.0.1", 80))
    hosts.time.run(lambda: listener.info.queued == 50)
    for client in clients:
        client.send(bytes(10_000))
    hosts.time.run(limit=1)
    assert hosts.a.statistics.memory_used > before + 500_000
    for client in clients:
        client.abort()
    listener.close()
    hosts.time.run(limit=400)
    # The table of endpoints has grown, and stays.
    assert hosts.a.statistics.memory_used <= before + 4096
    assert hosts.a.statistics.endpoints == 0


def test_memory_has_a_bound_and_sends_feel_it() -> None:
    """A stack out of memory refuses, counts and goes on."""
    with lwipy.Stack(memory=1 << 20) as small, lwipy.Stack() as other:
        pair = Pair.of(small, other)
        ends = [small.udp() for _ in range(5)]
        errors = 0
        for end in ends:
            for _ in range(200):
                try:
                    end.send(bytes(60_000), ("10.0.0.2", 9))
                except OSError:
                    errors += 1
        sockets = []
        with pytest.raises(OSError):  # noqa: PT011
            while True:
                sockets.append(small.udp())
        for end in [*sockets, *ends]:
            end.close()
        assert small.statistics.memory_used < 1 << 20
        assert pair.nic_a.number


def test_interfaces_are_bounded_by_an_error(virtual: VirtualTime) -> None:
    stack = virtual.stack()
    with pytest.raises(OSError, match="at most 250 interfaces") as info:
        for _ in range(300):
            stack.add_interface(layer=3)
    assert info.value.errno == errno.ENOBUFS
    assert len(stack.interfaces) == 250
    stack.poll()


def test_an_assertion_of_lwips_ends_one_stack_alone(hosts: Pair) -> None:
    """The failed stack raises lwIP's text from then on; its neighbour and the process go on."""
    fail(hosts.a, "pbuf_free: p->ref > 0")
    for _ in range(2):
        with pytest.raises(StackError, match=r"pbuf_free: p->ref > 0 \(core.c:\d+\)"):
            hosts.a.udp()
    with pytest.raises(StackError):
        hosts.a.poll()
    hosts.b.udp().bind(("", 7))
    hosts.a.close()
    assert hosts.b.poll() is not None
