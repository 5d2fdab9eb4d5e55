"""The functions of C that Python's fast paths call (csrc/python/calls.c): arguments that do not fit, and lifetimes."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pairs import VirtualPair

import lwipy
from lwipy._native import calls, lib


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    with lwipy.Stack() as stack:
        yield stack


@pytest.mark.parametrize("no_way", [None, 5, object(), calls.notes()], ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("call", [calls.deadline, calls.release], ids=lambda call: str(call.__name__))
def test_what_is_no_way_is_refused(call: Callable[[Any], object], no_way: object) -> None:
    with pytest.raises(ValueError, match="PyCapsule"):
        call(no_way)


def test_the_number_and_kind_of_arguments_is_looked_at(stack: lwipy.Stack) -> None:
    way = stack._way
    for arguments in [(), (way,), (way, 1), (way, 1, b"", 0, 0)]:
        with pytest.raises(TypeError):
            calls.recv(*arguments)
    for arguments in [(), (way,), (way, {}, 1)]:
        with pytest.raises(TypeError):
            calls.events(*arguments)
    for handle in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            calls.recv(way, handle, 1, 0)
    with pytest.raises(ValueError, match="PyCapsule"):
        calls.events(object(), {})
    with pytest.raises(ValueError, match="PyCapsule"):
        calls.way(0, None, way, 0)


@pytest.mark.parametrize(
    ("call", "what", "wrong", "error"),
    [
        (calls.wait_send, b"", "text", TypeError),
        (calls.wait_send, b"", memoryview(bytes(10))[::2], BufferError),
        (calls.wait_recv, 1, "one", TypeError),
        (calls.wait_recv, 1, -1, OverflowError),
        (calls.wait_recv_into, bytearray(1), b"cannot be written", BufferError),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_what_waits_takes_what_fits(
    stack: lwipy.Stack, call: Callable[..., Any], what: object, wrong: object, error: type[Exception]
) -> None:
    way = stack._way
    with pytest.raises(ValueError, match="PyCapsule"):
        call(object(), 1, what, None)
    with pytest.raises(TypeError):
        call(way, 1, what)
    with pytest.raises(OverflowError):
        call(way, -1, what, None)
    with pytest.raises(TypeError):
        call(way, 1, what, "soon")
    with pytest.raises(error):
        call(way, 1, wrong, None)
    for timeout in (None, 0.0, 1e300):
        assert call(way, 12345, what, timeout) == lib.LWIPY_EHANDLE


def test_a_handle_of_nobody_is_answered_by_a_code(stack: lwipy.Stack) -> None:
    assert calls.recv(stack._way, 12345, 1, 0) == lib.LWIPY_EHANDLE


def test_events_of_endpoints_that_are_not_known_are_passed_over() -> None:
    pair = VirtualPair()
    client, server = pair.connect()
    with pytest.raises(BlockingIOError):
        server.recv(1)  # it is to be told
    client.send(b"x")
    found: list[object] = []
    endpoints, pair.b._endpoints = pair.b._endpoints, {}
    pair.run(1)
    pair.b._endpoints = endpoints
    server.on_event = found.append
    client.send(b"y")
    pair.run(1)
    assert found == []  # told once, to nobody
    assert server.recv(2) == b"xy"
    pair.close()


def test_who_has_the_way_has_the_core() -> None:
    """A call that began before close() ends in a core that is there; what that held is let go with it."""
    pair = VirtualPair()
    client, _ = pair.connect()
    client.send(bytes(50_000))
    way, held = pair.a._way, pair.a._held
    pair.close()
    gc.collect()
    assert calls.deadline(way) is not None
    assert len(held) == 1
    del way
    assert len(held) == 0
    with pytest.raises(lwipy.StackClosedError):
        pair.a.poll()
