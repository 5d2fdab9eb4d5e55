"""The rate at which a window is sent, over long ways in virtual time: nothing depends on how fast this machine is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pairs import VirtualPair
from test_congestion_model import stream

import lwipy
from lwipy import FastPath, Option, TcpEndpoint
from lwipy.links import Impair

DATA = random.Random(11).randbytes(2_000_000)
SEGMENT = 1460
NETWORKS: dict[str, dict[str, Any]] = {
    "loss": {"loss": 0.02},
    "disorder": {"reorder": 0.05, "duplicate": 0.05},
    "everything": {"loss": 0.01, "reorder": 0.05, "duplicate": 0.05, "corrupt": 0.01, "jitter": 0.002},
    "a queue that overflows": {"rate": 50e6, "queue": 40},
}


@pytest.fixture(params=[FastPath(0), FastPath.TEMPO], ids=["with", "without"])
def paced(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(lwipy.Stack, "default_without", request.param)
    return bool(request.param == FastPath(0))


@contextmanager
def connected(
    round_trip: float, controller: str = "cubic", **settings: Any
) -> Iterator[tuple[VirtualPair, TcpEndpoint, TcpEndpoint]]:
    network = VirtualPair(Impair(seed=3, delay=round_trip / 2, **settings), seed=3)
    try:
        client, server = network.connect()
        client.congestion = controller
        yield network, client, server
    finally:
        network.close()


def send(network: VirtualPair, client: TcpEndpoint, segments: int) -> float:
    """So many at once; how many of those in flight they are when nothing is left to do at this moment."""
    before = client.info.in_flight
    assert client.send(bytes(segments * SEGMENT)) == segments * SEGMENT
    network.time.settle()
    return (client.info.in_flight - before) / SEGMENT


@pytest.mark.parametrize("settings", list(NETWORKS.values()), ids=list(NETWORKS))
@pytest.mark.parametrize("controller", ["cubic", "reno"])
def test_every_byte_arrives(paced: bool, controller: str, settings: dict[str, Any]) -> None:
    with connected(0.03, controller, **settings) as (network, client, server):
        assert network.transfer(DATA, client, server) == DATA
        assert (client.info.pacing_rate > 0) == paced


@pytest.mark.parametrize("late", [0.0003, 0.001])
def test_a_long_line_is_full_again_soon_after_the_beginning(late: float) -> None:
    """The queue overflows once. Bursts behind the repair would make it overflow again: that took three seconds more."""
    with stream(0.1, "cubic", late) as (way, _, _link):
        way.run(1.5)
        assert way.run(2.5) > 80


def test_what_was_late_and_waited_in_vain_to_go_again_costs_nothing() -> None:
    """In the second round trip a segment is late, and there before the rate let it go again: the beginning goes on."""
    with stream(0.1, "cubic", 0.0005) as (way, client, link):
        link.set("out", reorder=0.02)
        assert way.run(2) > 40
        assert client.info.undone_reductions > 0


def test_what_is_free_at_once_does_not_leave_at_once(paced: bool) -> None:
    """The window has grown, and nothing is in flight: with a rate that takes half a round trip."""
    with connected(0.1) as (network, client, server):
        client.set_option(Option.SNDBUF, 1 << 20)
        server.set_option(Option.RCVBUF, 1 << 20)
        send(network, client, 400)
        network.run(1)
        assert len(server.recv(1 << 20)) == 400 * SEGMENT
        send(network, client, 1)
        network.run(0.11)
        assert client.info.congestion_window > 90 * SEGMENT
        at_once = send(network, client, 90)
        assert at_once < 40 if paced else at_once == 90
        network.run(0.06)
        assert client.info.unsent == 0


def test_a_first_window_leaves_at_once(paced: bool) -> None:
    with connected(0.1) as (network, client, _):
        assert send(network, client, 4) == 4
        assert send(network, client, 6) == 6
        assert client.info.congestion_window == 10 * SEGMENT


def test_the_rate_is_the_windows_in_a_round_trip(paced: bool) -> None:
    with connected(0.1) as (network, client, _):
        send(network, client, 10)
        network.run(0.2)
        info = client.info
        assert info.pacing_rate == (pytest.approx(2 * info.congestion_window / 0.1, rel=0.01) if paced else 0)


def test_a_short_way_has_no_rate() -> None:
    with connected(0.001) as (network, client, _):
        send(network, client, 10)
        network.run(0.2)
        assert client.info.pacing_rate == 0


def test_the_applications_limit_is_the_lower_one() -> None:
    with connected(0.1) as (network, client, _):
        for limit in (50_000, 1 << 30, 0):
            client.set_option(Option.MAX_PACING_RATE, limit)
            send(network, client, 10)
            network.run(1)
            info = client.info
            own = pytest.approx(2 * info.congestion_window / 0.1, rel=0.05)
            assert info.pacing_rate == (limit if limit == 50_000 else own)
