"""The lanes of a group (csrc/lane.c): everything arrives in order, what does not fit is counted, on and off."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

import pytest
from group_lab import MAC, PEER, Lab, exchange, lab_of

import lwipy
from lwipy import FastPath

ROOM = 2 << 20  # of a lane, bytes


@pytest.fixture(params=[FastPath(0), FastPath.LANES, ~FastPath(0)], ids=["on", "off", "plain"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastPath:
    chosen: FastPath = request.param
    monkeypatch.setattr(lwipy.Stack, "default_without", chosen)
    return chosen


@pytest.fixture(params=[1, 2])
def lab(request: pytest.FixtureRequest, without: FastPath) -> Iterator[Lab]:
    yield from lab_of(request.param)


def run_exchanges(lab: Lab, times: int) -> None:
    with lab.group.create_server(("10.0.0.1", 80)) as listener:
        for _ in range(times):
            with (
                lab.peer.create_connection(("10.0.0.1", 80), timeout=60) as there,
                listener.accept()[0] as here,
            ):
                here.settimeout(60)
                exchange(here, there)


def test_every_byte_crosses_in_order_round_the_circle_and_round(lab: Lab) -> None:
    run_exchanges(lab, 20)
    assert lab.nic.counters.rx_bytes > 2 * ROOM
    assert lab.nic.steering.full == 0


def test_every_byte_crosses_a_line_that_loses_repeats_and_reorders(lab: Lab) -> None:
    lab.nic.impair(loss=0.01, duplicate=0.02, reorder=0.05, seed=5)
    run_exchanges(lab, 2)


def datagram(size: int) -> bytes:
    """A frame for the discard port, without a sum."""
    udp = struct.pack("!HHHH", 5000, 9, 8 + size, 0) + bytes(size)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x0a\0\0\2", b"\x0a\0\0\1")
    return MAC + PEER + b"\x08\0" + ip + udp


def test_what_does_not_fit_into_a_lane_is_counted_and_the_rest_arrives() -> None:
    group = lwipy.StackGroup(1)
    try:
        nic = group.add_interface(mac=MAC, ipv4="10.0.0.1/24", checksums=False)
        nic.add_neighbour("10.0.0.2", PEER)
        group.poll()
        given = dropped = 0
        for size in (1400, 1, 733, 1472):
            frame = datagram(size)
            several = 2 * ROOM // (len(frame) + 12)
            offsets = array("I", range(0, (several + 1) * len(frame), len(frame)))
            nic.receive_many(frame * several, offsets)
            before = nic.steering.full
            group.poll()
            given += several
            assert group.statistics.ip4_rx + nic.steering.full == given
            assert (several - (before - dropped)) * len(frame) <= ROOM
            dropped = nic.steering.full
            nic.frames()
    finally:
        group.close()
