"""Frames for embedders: batches in one buffer with offsets, in and out."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import lwipy

MAC = "02:00:00:00:00:01"


@pytest.fixture
def nic() -> Iterator[lwipy.Interface]:
    with closing(lwipy.Stack()) as stack:
        nic = stack.add_interface(mac=MAC, ipv4="10.0.0.1/24")
        nic.add_neighbour("10.0.0.2", "02:00:00:00:00:02")
        nic.frames()
        yield nic


def send(nic: lwipy.Interface, sizes: list[int]) -> None:
    with closing(nic.stack.udp()) as udp:
        for size in sizes:
            udp.send(bytes([size % 251]) * size, ("10.0.0.2", 9))


def test_frames_go_out_through_one_buffer(nic: lwipy.Interface) -> None:
    send(nic, [1, 100, 1000])
    buffer, offsets = bytearray(4000), array("I", bytes(4 * 10))
    assert nic.frames_into(buffer, offsets) == 3
    assert list(offsets[:4]) == [0, 43, 43 + 142, 43 + 142 + 1042]
    assert buffer[offsets[1] + 42 : offsets[2]] == bytes([100]) * 100
    assert nic.frames_into(buffer, offsets) == 0
    assert nic.frames() == []


def test_what_has_no_room_waits(nic: lwipy.Interface) -> None:
    send(nic, [10, 20, 30, 40])
    buffer, offsets = bytearray(52 + 62 + 10), array("I", bytes(4 * 10))
    assert nic.frames_into(buffer, offsets) == 2
    few = array("I", bytes(4 * 2))
    assert nic.frames_into(buffer, few) == 1
    assert list(few) == [0, 72]
    assert nic.frames_into(memoryview(buffer)[:82], few) == 1
    with pytest.raises(ValueError, match="a frame of 47 waits"):
        send(nic, [5])
        nic.frames_into(bytearray(46), few)
    assert len(nic.frames()) == 1


def test_frames_come_in_through_one_buffer(nic: lwipy.Interface) -> None:
    with closing(lwipy.Stack()) as peer, closing(nic.stack.udp()) as server, closing(peer.udp()) as client:
        other = peer.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24")
        other.add_neighbour("10.0.0.1", MAC)
        server.bind(("10.0.0.1", 9))
        other.frames()
        for number in range(50):
            client.send(bytes([number]) * (number + 1), ("10.0.0.1", 9))
        buffer, offsets = bytearray(10_000), array("I", bytes(4 * 100))
        count = other.frames_into(buffer, offsets)
        assert count == 50
        nic.receive_many(buffer, offsets[: count + 1])
        assert [server.receive().data for _ in range(50)] == [bytes([n]) * (n + 1) for n in range(50)]
        before = nic.counters.rx_frames
        nic.receive_many(memoryview(buffer), memoryview(offsets)[10:12])
        assert server.receive().data == bytes([10]) * 11
        nic.receive_many(bytes(buffer), bytes(memoryview(offsets)[20:22]))
        assert server.receive().data == bytes([20]) * 21
        assert nic.counters.rx_frames == before + 2


@pytest.mark.parametrize(
    ("offsets", "complaint"),
    [
        ([0, 60, 101], "offset 2 is 101: expected 60 to 100"),
        ([0, 60, 59], "offset 2 is 59: expected 60 to 100"),
        ([101, 101], "offset 0 is 101: expected 0 to 100"),
        ([0, 0xFFFFFFFF], "offset 1 is 4294967295: expected 0 to 100"),
    ],
)
def test_offsets_that_lie_are_named_and_nothing_is_received(
    nic: lwipy.Interface, offsets: list[int], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        nic.receive_many(bytes(100), array("I", offsets))
    assert nic.counters.rx_frames == 0


@pytest.mark.parametrize(
    ("offsets", "error"),
    [(array("I"), ValueError), (array("Q", [0, 1]), TypeError), (array("d", [0.0]), TypeError), ("text", TypeError),
     (b"\0\0\0\0\0", TypeError), ([0, 60], TypeError)],
)  # fmt: skip
def test_offsets_of_another_shape_are_refused(nic: lwipy.Interface, offsets: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"offsets|bytes-like"):
        nic.receive_many(bytes(100), offsets)
    with pytest.raises(error, match=r"offsets|bytes-like"):
        nic.frames_into(bytearray(100), offsets)


def test_empty_frames_are_counted_as_malformed(nic: lwipy.Interface) -> None:
    nic.receive_many(bytes(60), array("I", [0, 0, 0, 60]))
    counters = nic.counters
    assert (counters.rx_frames, counters.rx_malformed + counters.rx_other) == (3, 3)
    nic.receive_many(b"", array("I", [0]))
    assert nic.counters.rx_frames == 3


def test_a_buffer_that_cannot_be_written_is_refused(nic: lwipy.Interface) -> None:
    send(nic, [1])
    with pytest.raises((TypeError, BufferError)):
        nic.frames_into(bytes(100), array("I", bytes(8)))  # type: ignore[arg-type]
    with pytest.raises((TypeError, BufferError)):
        nic.frames_into(bytearray(100), bytes(8))  # type: ignore[arg-type]
    assert len(nic.frames()) == 1


def test_buffers_are_let_go(nic: lwipy.Interface) -> None:
    buffer, offsets = bytearray(100), array("I", [0, 60])
    nic.receive_many(buffer, offsets)
    nic.frames_into(buffer, offsets)
    with pytest.raises(ValueError, match="offset 1"):
        nic.receive_many(buffer, array("I", [0, 500]))
    buffer.clear()
    offsets.append(1)


def test_an_interface_that_was_removed(nic: lwipy.Interface) -> None:
    nic.remove()
    with pytest.raises(OSError, match="removed"):
        nic.receive_many(bytes(60), array("I", [0, 60]))
    with pytest.raises(OSError, match="removed"):
        nic.frames_into(bytearray(60), array("I", [0, 0]))
