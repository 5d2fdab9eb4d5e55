"""The methods of TcpEndpoint that are C (csrc/python/connection.c, end.c): arguments, errors, ends and news."""

from __future__ import annotations

import contextlib
import errno
import gc
import weakref
from array import array
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from wired import Joined

import lwipy
from lwipy import Event, TcpEndpoint
from lwipy._dispatch import Dispatcher
from lwipy._native import calls


@pytest.fixture
def joined() -> Iterator[Joined]:
    joined = Joined()
    try:
        yield joined
    finally:
        for stack in joined.stacks:
            for endpoint in stack._endpoints.values():
                endpoint.on_event = None
            stack.close()


def until(joined: Joined, condition: Callable[[], object]) -> None:
    for _ in range(100_000):
        if condition():
            return
        joined.poll()
    raise AssertionError("nothing came of 100 000 turns")


def waiting(joined: Joined) -> int:
    buffer = bytearray(1 << 20)
    return joined.server.recv_into_if_any(buffer, True) or 0


# -- Arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["send", "send_if_room", "recv", "recv_into", "recv_into_if_any"])
def test_the_number_and_kind_of_arguments_is_looked_at(joined: Joined, name: str) -> None:
    method = getattr(joined.client, name)
    for arguments in [(), (None,), (b"", 1, 2), (3.5,), ("text",), (object(),)]:
        with pytest.raises((TypeError, BufferError)):
            method(*arguments)
    with pytest.raises(TypeError):
        next(iter(method, None))  # a call without any memory of arguments
    wrong: list[dict[str, Any]] = [{"flags": 1}, {"peek": True}, {"flags": 1, "peek": True}]
    for keywords in wrong:
        with pytest.raises(TypeError):
            method(**keywords)
    too_many: list[dict[str, Any]] = [{"flags": 1}, {"data": b""}, {"size": 1}, {"buffer": bytearray(1)}]
    for keywords in too_many:
        with pytest.raises(TypeError):
            method(1 if name == "recv" else bytearray(1), **keywords)
    with pytest.raises(TypeError):
        getattr(TcpEndpoint, name)(object(), b"")


def test_arguments_may_be_named(joined: Joined) -> None:
    assert joined.client.send(data=b"some") + joined.client.send_if_room(data=b"thing") == 9
    until(joined, lambda: waiting(joined) == 9)
    buffer = bytearray(4)
    assert joined.server.recv_into(peek=True, buffer=buffer) == 4
    assert joined.server.recv_into_if_any(buffer=buffer, peek=True) == 4
    assert joined.server.recv_into(buffer=buffer) == 4
    assert (bytes(buffer), joined.server.recv(size=100)) == (b"some", b"thing")


def test_what_is_sent_may_be_any_bytes_in_a_row(joined: Joined) -> None:
    parts: list[Any] = [b"ab", bytearray(b"cd"), memoryview(b"xefx")[1:3], array("H", [0x6767, 0x6868]), b""]
    assert [joined.client.send(part) for part in parts] == [2, 2, 2, 4, 0]
    until(joined, lambda: waiting(joined) == 10)
    assert joined.server.recv(100) == b"abcdefgghh"
    with pytest.raises(BufferError):
        joined.client.send(memoryview(bytes(100_000))[::2])
    with pytest.raises(BufferError):
        joined.server.recv_into(b"cannot be written")  # type: ignore[arg-type]


def test_sizes_are_those_of_numbers(joined: Joined) -> None:
    joined.client.send(b"0123456789")
    until(joined, lambda: waiting(joined) == 10)
    for size in (-1, -(10**30)):
        with pytest.raises(ValueError, match=f"size {size} is negative"):
            joined.server.recv(size)
    assert joined.server.recv(0) == b""
    assert joined.server.recv(True) == b"0"
    assert joined.server.recv(10**30) == b"123456789"
    with pytest.raises(BlockingIOError):
        joined.server.recv(10**30)


def test_a_megabyte_comes_at_a_time(joined: Joined) -> None:
    data, sent = bytes(range(256)) * 8192, 0
    joined.server.set_option(lwipy.Option.RCVBUF, 4 << 20)
    joined.client.set_option(lwipy.Option.SNDBUF, 4 << 20)
    arrived = bytearray()
    while len(arrived) < len(data):
        sent += joined.client.send_if_room(data[sent:])
        joined.poll()
        if len(arrived) or waiting(joined) == 1 << 20:  # as much as there may be, before the first is taken
            try:
                part = joined.server.recv(len(data))
            except BlockingIOError:
                continue
            assert len(part) <= 1 << 20
            arrived += part
    assert arrived == data


def test_peeking_is_by_name_or_place(joined: Joined) -> None:
    joined.client.send(b"abc")
    until(joined, lambda: waiting(joined) == 3)
    buffer, server = bytearray(3), joined.server
    assert server.recv_into(buffer, peek=True) == 3
    assert server.recv_into_if_any(buffer, True) == 3
    assert server.recv_into_if_any(buffer, peek=True) == 3
    with pytest.raises(TypeError):
        server.recv_into(buffer, True)  # type: ignore[call-arg]
    assert server.recv_into_if_any(buffer, peek=False) == 3
    assert server.recv_into_if_any(buffer) is None


# -- Errors ------------------------------------------------------------------------------------------------------------


def methods_of(endpoint: TcpEndpoint) -> list[Callable[[], object]]:
    return [
        lambda: endpoint.send(b"x"),
        lambda: endpoint.send(bytes(100_000)),
        lambda: endpoint.send_if_room(b"x"),
        lambda: endpoint.recv(1),
        lambda: endpoint.recv_into(bytearray(1)),
        lambda: endpoint.recv_into_if_any(bytearray(1)),
    ]


def test_in_vain_is_said_so(joined: Joined) -> None:
    with pytest.raises(BlockingIOError, match="no data waits") as caught:
        joined.server.recv(1)
    assert caught.value.errno == errno.EAGAIN
    with pytest.raises(BlockingIOError, match="no data waits"):
        joined.server.recv_into(bytearray(1))
    while joined.client.send_if_room(bytes(100_000)):
        pass
    assert joined.client.send_if_room(b"x") == 0
    with pytest.raises(BlockingIOError, match="the send buffer is full") as caught:
        joined.client.send(b"x")
    assert caught.value.errno == errno.EAGAIN
    assert joined.client.send(b"") == 0


def test_a_closed_endpoint_is_a_bad_descriptor(joined: Joined) -> None:
    joined.client.close()
    for method in methods_of(joined.client):
        with pytest.raises(OSError, match="the TcpEndpoint is closed") as caught:
            method()
        assert caught.value.errno == errno.EBADF
    assert len(joined.stacks[0]._held) == 0


def test_a_closed_stack_is_said_to_be_closed(joined: Joined) -> None:
    joined.stacks[0].close()
    for method in methods_of(joined.client):
        with pytest.raises(lwipy.StackClosedError):
            method()


def test_what_ended_a_connection_is_raised(joined: Joined) -> None:
    joined.server.abort()
    until(joined, lambda: joined.client.info.state == 0)
    with pytest.raises(ConnectionResetError):
        joined.client.send(b"x")
    with pytest.raises(BrokenPipeError):
        joined.client.send_if_room(b"x")
    assert joined.client.recv(1) == b""


def test_a_listener_neither_sends_nor_receives(joined: Joined) -> None:
    listener = joined.stacks[0].tcp()
    listener.bind(("", 0))
    listener.listen()
    with pytest.raises(BrokenPipeError):
        listener.send(b"x")
    with pytest.raises(OSError, match="not connected"):
        listener.recv(1)


# -- Classes -----------------------------------------------------------------------------------------------------------


def test_a_class_of_ones_own_may_do_otherwise(joined: Joined) -> None:
    class Loud(TcpEndpoint):
        def send(self, data: bytes | bytearray | memoryview, /) -> int:
            return super().send(bytes(data).upper())

    listener = joined.stacks[1].tcp()
    listener.bind(("", 81))
    listener.listen()
    client = Loud(joined.stacks[0], 4)
    client.connect(("10.0.0.2", 81))
    until(joined, lambda: listener.info.queued)
    joined.server = listener.accept()
    client.send(b"hello")
    until(joined, lambda: waiting(joined) == 5)
    assert joined.server.recv(5) == b"HELLO"


def test_an_end_without_a_beginning_raises() -> None:
    class Bare(TcpEndpoint):
        def __init__(self) -> None:
            pass

    for method in methods_of(Bare()):
        with pytest.raises(AttributeError, match="_stack"):
            method()
    bare = Bare()
    bare._stack = None  # type: ignore[assignment]
    for method in methods_of(bare):
        with pytest.raises(AttributeError, match="_way"):
            method()
    assert type(calls.End()).__name__ == "End"


def test_an_endpoint_in_a_cycle_is_collected(joined: Joined) -> None:
    class Mine(TcpEndpoint):  # with a dictionary
        me: TcpEndpoint

    endpoint = Mine(joined.stacks[0], 4)
    endpoint.me = endpoint
    gone = weakref.ref(endpoint)
    endpoint.close()
    del endpoint
    gc.collect()
    assert gone() is None


# -- News --------------------------------------------------------------------------------------------------------------


def test_who_is_in_the_middle_of_a_call_may_be_told_that_the_stack_was_closed() -> None:
    stack = lwipy.Stack()
    listener, client = stack.tcp(), stack.tcp()
    listener.bind(("127.0.0.1", 80))
    listener.listen()
    client.connect(("127.0.0.1", 80))
    while not listener.info.queued:
        stack.poll()
    server = listener.accept()
    stack._after = stack.close  # a send to this very host leaves something for it to hear of
    server.send(bytes(100_000))
    assert stack.closed
    with pytest.raises(lwipy.StackClosedError):
        server.send(b"x")


def test_events_come_with_the_turn_and_only_once(joined: Joined) -> None:
    told: list[Event] = []
    with pytest.raises(BlockingIOError):
        joined.server.recv(1)
    joined.server.on_event = told.append
    joined.client.send(b"x")
    until(joined, lambda: told)
    joined.client.send(b"y")
    until(joined, lambda: waiting(joined) == 2)
    assert told == [Event.READABLE]


def test_who_gets_a_handler_from_anothers_handler_is_told_of_the_same_turn(joined: Joined) -> None:
    first, second = joined.client, joined.stacks[0].tcp()
    told: list[Event] = []

    def begin(_: Event) -> None:
        second.on_event = told.append

    first.on_event = begin
    joined.stacks[0]._dispatcher.run([first, int(Event.READABLE), second, int(Event.WRITABLE)])
    assert told == [Event.WRITABLE]


def test_a_turn_within_a_handler_tells_nobody_until_that_returns(joined: Joined) -> None:
    stack, order = joined.stacks[1], []
    with pytest.raises(BlockingIOError):
        joined.server.recv(1)
    other = stack.tcp()
    other.bind(("", 82))
    other.listen()

    def readable(_: Event) -> None:
        order.append("begin")
        client = joined.stacks[0].tcp()
        client.connect(("10.0.0.2", 82))
        until(joined, lambda: other.info.queued)
        stack._dispatcher.run([other, int(Event.CLOSED)])  # as another thread would that had fetched it
        order.append("end")

    joined.server.on_event = readable
    other.on_event = lambda event: order.append(f"other {event!r}")
    joined.client.send(b"x")
    until(joined, lambda: len(order) >= 4)
    assert order[:2] == ["begin", "end"]
    assert sorted(order[2:]) == sorted([f"other {Event.CLOSED!r}", f"other {Event.READABLE!r}"])


def test_what_a_handler_raises_costs_no_other_its_events(joined: Joined) -> None:
    first, second = joined.client, joined.stacks[0].tcp()
    told: list[Event] = []

    def fail(_: Event) -> None:
        joined.stacks[0]._dispatcher.run([second, int(Event.CLOSED)])
        raise LookupError

    first.on_event, second.on_event = fail, told.append
    with pytest.raises(LookupError):
        joined.stacks[0]._dispatcher.run([first, int(Event.READABLE), second, int(Event.WRITABLE)])
    assert told == [Event.WRITABLE, Event.CLOSED]


def test_nobody_else_may_begin_to_tell_while_a_thread_is_about_to() -> None:
    class Watched(Dispatcher):
        begun: ClassVar[list[bool]] = []

        def _run(self) -> None:
            self.begun.append(self._stack._telling)
            super()._run()

    with contextlib.closing(lwipy.Stack()) as stack:
        dispatcher = Watched(stack, stack._watches)
        dispatcher.run()
        dispatcher.run()
        assert Watched.begun == [True, True]
        assert not stack._telling
