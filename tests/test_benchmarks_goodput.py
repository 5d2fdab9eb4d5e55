"""The line that goodput is measured over: what it loses, delays and drops. No figure is judged here."""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the line is made of TAP devices and ppoll()", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.clock import on_one_processor
from benchmarks.compiled import library
from benchmarks.delay_line import Counts, Settings
from benchmarks.goodput import Cell, Figures, cells, read, table, write

FULL = 1514


class Line:
    """The line between two datagram sockets, in a thread."""

    def __init__(self, first: socket.socket, second: socket.socket) -> None:
        self.first, self.second = first, second
        self.counts = (Counts * 2)()
        for end in (first, second):
            end.settimeout(20)

    def send(self, *numbers: int, size: int = FULL) -> None:
        for number in numbers:
            self.first.send(number.to_bytes(4, "big").ljust(size, b"."))

    def receive(self, end: bytes) -> list[int]:
        """The numbers of what arrives, up to a small frame, which the line neither loses nor overtakes."""
        arrived = []
        while (frame := self.second.recv(2048)) != end:
            arrived.append(int.from_bytes(frame[:4], "big"))
        return arrived


@contextmanager
def line(
    delay: float = 0.001,
    rate: float = 1e9,
    loss: float = 0,
    reorder: float = 0,
    queue: int = 1000,
    seed: int = 1,
    at_once: int = 0,
) -> Iterator[Line]:
    """`at_once`: so many frames are there when it begins, and come at the same time however busy the machine is."""
    settings = Settings(int(delay * 1e9), rate, loss, reorder, queue, 8, seed)
    with ExitStack() as stack:
        ends = [
            stack.enter_context(end) for _ in range(2) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ]
        for end in ends[1::2]:
            end.setblocking(False)
        until, stop = os.pipe()
        made = Line(ends[0], ends[2])
        made.send(*range(at_once))
        run = ctypes.CDLL(str(library("delay_line.c"))).delay_line
        arguments = (ends[1].fileno(), 0, ends[3].fileno(), until, ctypes.byref(settings), made.counts)
        thread = threading.Thread(target=run, args=arguments)
        thread.start()
        try:
            yield made
        finally:
            os.close(stop)
            thread.join(20)
            os.close(until)


def test_frames_arrive_in_order_and_no_sooner_than_the_way_takes() -> None:
    with on_one_processor(), line(delay=0.02) as way:  # two have clocks of their own here and there
        started = time.monotonic()
        way.send(1, 2, 3)
        way.first.send(b"end")
        assert way.receive(b"end") == [1, 2, 3]
        assert time.monotonic() - started >= 0.02
        way.second.send(b"answer")
        assert way.first.recv(2048) == b"answer"
        assert time.monotonic() - started >= 0.04


def test_the_seed_alone_says_which_frames_are_lost() -> None:
    runs = []
    for _ in range(2):
        with line(loss=0.2, seed=7) as way:
            arrived = []
            for first in range(0, 200, 5):  # few enough at a time for the sockets' own queues
                way.send(*range(first, first + 5))
                way.first.send(b"end")
                arrived += way.receive(b"end")
        runs.append(arrived)
        assert way.counts[0].lost == 200 - len(arrived)
    assert runs[0] == runs[1]
    assert 20 < way.counts[0].lost < 60


def test_what_the_queue_has_no_room_for_is_dropped_and_counted() -> None:
    with line(rate=1e7, queue=3, at_once=8) as way:
        assert [int.from_bytes(way.second.recv(2048)[:4], "big") for _ in range(3)] == [0, 1, 2]
    assert way.counts[0].full == 5


def test_a_late_frame_is_overtaken() -> None:
    with line(rate=1e7, reorder=0.3, seed=3, at_once=10) as way:
        arrived = [int.from_bytes(way.second.recv(2048)[:4], "big") for _ in range(10)]
    assert sorted(arrived) == list(range(10)) != arrived
    assert way.counts[0].overtaken > 0


def test_figures_are_kept_and_shown(tmp_path: Path) -> None:
    options = argparse.Namespace(
        controllers=["cubic"], rtt=[1.0, 20.0], loss=[0.0], reorder=1.0, rate=100.0, queue=200, seconds=8.0
    )
    wanted = list(cells(options))
    assert [(cell.rtt, cell.impairment) for cell in wanted] == [
        (0.001, "0 % lost"), (0.001, "1 % late"), (0.02, "0 % lost"), (0.02, "1 % late"),
    ]  # fmt: skip
    measured = {cell: Figures({"1": 80.0, "2": 90.0, "3": 100.0}, {"1": 81.0, "2": 99.0, "3": 70.0}) for cell in wanted}
    write(tmp_path / "figures", measured, options)
    assert read(tmp_path / "figures") == measured
    assert "| 20 ms | 0.90 (81.0 [70.0-99.0] / 90.0 [80.0-100.0]) |" in table(measured)
    assert Cell("cubic", 0.02, 0.0, 0.0) in measured
