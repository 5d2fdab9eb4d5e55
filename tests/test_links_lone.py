"""A device whose frames have come one by one is read once for each; what comes with them is not left lying."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from links import eventually
from vnet_device import Device, FakeTap

import lwipy
from lwipy._native import lib
from lwipy.interface import Interface
from lwipy.links.descriptor import DescriptorLink

FRAME = bytes(12) + b"\x88\xb5" + bytes(46)  # of an experiment's protocol: counted, and passed over
LONG = FRAME + bytes(1000)


class PlainTap(DescriptorLink):
    """A link over any descriptor that has one frame a read."""

    layer = 2

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def attach(self, interface: Interface) -> None:
        super().attach(interface)
        self._open(lib.LWIPY_LINK_TUN, self._fd)


class Line:
    """An interface, and the other end of its device."""

    def __init__(self, stack: lwipy.Stack, header: bool) -> None:
        self.device = Device()
        self._header = header
        self.interface = stack.add_interface(FakeTap(self.device.fd, 0) if header else PlainTap(self.device.fd))
        self._given = 0

    def give(self, *frames: bytes) -> None:
        for frame in frames:
            self.device.wire.send(bytes(10) + frame if self._header else frame)
        self._given += len(frames)

    def is_taken(self) -> bool:
        return self.interface.counters.rx_frames == self._given


@pytest.fixture(params=[True, False], ids=["vnet", "plain"])
def header(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def driven(header: bool) -> Iterator[Line]:
    with lwipy.Stack() as stack:
        line = Line(stack, header)
        with closing(line.device):
            yield line


@pytest.mark.parametrize("frame", [FRAME, LONG], ids=["short", "long"])
def test_each_frame_is_taken_though_the_batch_is_thought_to_be_over(driven: Line, frame: bytes) -> None:
    for number in range(60):
        driven.give(frame)
        eventually(driven.is_taken)
        if number % 7 == 6:
            driven.give(frame, LONG, frame, FRAME, frame)
            eventually(driven.is_taken)


def test_a_caller_that_polls_gets_to_the_end(header: bool) -> None:
    with closing(lwipy.Stack()) as stack:
        line = Line(stack, header)
        with closing(line.device):
            for _ in range(20):
                line.give(FRAME)
                stack.poll()
                assert line.is_taken()
            line.give(*[FRAME] * 5)
            for _ in range(5):
                stack.poll()
            assert line.is_taken()
