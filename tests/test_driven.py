"""A stack's poll(), which is C (csrc/python/driven.c): what it does itself, what it leaves to Python, and lifetimes."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pairs import VirtualPair

import lwipy
from lwipy._native import calls
from lwipy.endpoints.base import Event


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    with contextlib.closing(lwipy.Stack()) as stack:
        yield stack


@pytest.fixture
def pair() -> Iterator[VirtualPair]:
    pair = VirtualPair()
    yield pair
    pair.close()


def test_it_takes_no_arguments(stack: lwipy.Stack) -> None:
    with pytest.raises(TypeError):
        stack.poll(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        stack.poll(timeout=1)  # type: ignore[call-arg]
    assert "seconds until the next deadline" in str(lwipy.Stack.poll.__doc__)


def test_a_stack_that_was_never_made_has_nothing_to_run() -> None:
    with pytest.raises(AttributeError, match="_first"):
        calls.Driven().poll()
    bare = lwipy.Stack.__new__(lwipy.Stack)
    bare._first = ()
    with pytest.raises(AttributeError, match="_way"):
        bare.poll()
    way = calls.way(1, None, calls.notes(), 0)
    bare._way = way
    with pytest.raises(AttributeError, match="_endpoints"):
        bare.poll()


def test_what_is_no_way_is_refused(stack: lwipy.Stack) -> None:
    way, stack._way = stack._way, object()
    with pytest.raises(ValueError, match="PyCapsule"):
        stack.poll()
    stack._way = way
    stack.poll()


def test_timers_run_first_and_shorten_the_way_to_the_next_turn(stack: lwipy.Stack) -> None:
    ran: list[int] = []
    stack.call_later(0, lambda: ran.append(1))
    stack.poll()
    assert ran == [1]
    stack.call_later(0.01, lambda: ran.append(2))  # earlier than whatever the core has
    delay = stack.poll()
    assert delay is not None
    assert delay <= 0.01


def test_an_exception_before_or_after_the_turn_is_raised(stack: lwipy.Stack, pair: VirtualPair) -> None:
    def fail(_: object = None) -> None:
        raise LookupError

    stack.call_later(0, fail)
    with pytest.raises(LookupError):
        stack.poll()
    client, server = pair.connect()
    server.on_event = fail
    with pytest.raises(BlockingIOError):
        server.recv(1)
    client.send(b"x")
    with pytest.raises(LookupError):
        pair.run(1)
    server.on_event = None
    assert server.recv(1) == b"x"


def test_events_are_told_with_the_turn_if_one_of_several_hears(pair: VirtualPair) -> None:
    listener, clients = pair.b.tcp(), [pair.a.tcp() for _ in range(3)]
    listener.bind(("", 81))
    listener.listen()
    for client in clients:
        client.connect(("10.0.0.2", 81))
    pair.run(1)
    servers = [listener.accept() for _ in clients]
    told: list[tuple[int, Event]] = []
    for server in servers:
        with pytest.raises(BlockingIOError):
            server.recv(1)

    def first(event: Event) -> None:
        told.append((1, event))
        servers[2].on_event = lambda event: told.append((2, event))  # in time: its event is told after this one

    servers[1].on_event = first
    for client in clients:
        client.send(b"x")
    pair.run(1)
    assert told == [(1, Event.READABLE), (2, Event.READABLE)]


def test_a_callback_that_polls_is_not_called_within_itself(pair: VirtualPair) -> None:
    client, server = pair.connect()
    depth = deepest = told = 0

    def poll(_: Event) -> None:
        nonlocal depth, deepest, told
        depth += 1
        deepest = max(deepest, depth)
        told += 1
        while server.recv_into_if_any(bytearray(100)):
            pass
        if told < 5:
            client.send(b"more")
        pair.a.poll()
        pair.b.poll()
        depth -= 1

    with pytest.raises(BlockingIOError):
        server.recv(1)
    server.on_event = poll
    client.send(b"x")
    pair.run(1)
    server.on_event = None
    assert told == 5
    assert deepest == 1


def test_what_listens_that_is_no_endpoint_is_told_by_name(pair: VirtualPair) -> None:
    """Such as an endpoint of a test: whatever has an `on_event`."""

    class Other:
        def __init__(self) -> None:
            self.found: list[Event] = []
            self.on_event = self.found.append

    client, server = pair.connect()
    with pytest.raises(BlockingIOError):
        server.recv(1)
    other = Other()
    pair.b._endpoints[server._handle] = other  # type: ignore[assignment]
    client.send(b"x")
    pair.run(1)
    assert other.found == [Event.READABLE]
    pair.b._endpoints[server._handle] = server


def poll_until_closed(stack: lwipy.Stack, begun: threading.Barrier) -> None:
    begun.wait()
    with pytest.raises(lwipy.StackClosedError):
        while True:
            stack.poll()
            stack._driver.kick()


def test_closed_while_threads_poll_it() -> None:
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            stack, begun = lwipy.Stack(), threading.Barrier(3)
            polling = [pool.submit(poll_until_closed, stack, begun) for _ in range(2)]
            begun.wait()
            stack.close()
            for each in polling:
                each.result()


def test_who_looks_at_the_attention_word_has_the_core(stack: lwipy.Stack) -> None:
    word, held = stack._attention, weakref.ref(stack._core)
    stack.close()
    assert word[0] >= 0
    assert held() is not None
    assert stack._attention[0] == 0
    stack._driver.kick()  # as a thread may that looks just then
    del word
    assert held() is None


def test_a_stack_in_a_cycle_is_collected() -> None:
    class Mine(lwipy.Stack):
        me: lwipy.Stack

    stack = Mine()
    stack.me = stack
    stack._endpoints[0] = stack  # type: ignore[assignment]
    stack._first = [stack]
    gone = weakref.ref(stack)
    del stack
    gc.collect()
    assert gone() is None
