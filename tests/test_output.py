"""Sending where much is in flight: the end of the list remembered and not, the same bytes at the same times."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest
from pairs import VirtualPair

import lwipy
from lwipy import FastPath, Option, TcpEndpoint
from lwipy.links import Impair

BOTH = (FastPath(0), FastPath.TAIL)
DATA = random.Random(9).randbytes(3_000_000)
BUFFER = 4 << 20

LONG = partial(Impair, delay=0.02, rate=1e9, queue=2000)
NETWORKS: dict[str, Callable[..., Impair]] = {
    "long": LONG,
    "lossy": partial(LONG, loss=0.01),
    "disordered": partial(LONG, jitter=0.001, reorder=0.05, duplicate=0.05),
    "all of it": partial(LONG, loss=0.01, jitter=0.001, reorder=0.02, duplicate=0.02, corrupt=0.01),
    "overflowing": partial(Impair, delay=0.02, rate=2e8, queue=50),
}


class Course(NamedTuple):
    """How a transfer went."""

    seconds: float
    frames: int
    resent: int
    timeouts: int


@pytest.fixture(params=BOTH, ids=["with", "without"])
def tail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lwipy.Stack, "default_without", request.param)


def connect(network: VirtualPair, controller: str) -> tuple[TcpEndpoint, TcpEndpoint]:
    client, server = network.connect()
    client.congestion = controller
    client.set_option(Option.SNDBUF, BUFFER)
    server.set_option(Option.RCVBUF, BUFFER)
    return client, server


def course(link: Impair, controller: str) -> Course:
    network = VirtualPair(link, seed=5)
    try:
        client, server = connect(network, controller)
        assert network.transfer(DATA, client, server) == DATA
        info = client.info
        frames = link.stage.outgoing_counters.frames
        return Course(network.now, frames, info.retransmitted_segments, info.timeouts)
    finally:
        network.close()


@pytest.mark.parametrize("controller", ["cubic", "bbr"])
@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=list(NETWORKS))
def test_every_byte_arrives_and_nothing_on_the_wire_differs(
    network: Callable[..., Impair], controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    courses = []
    for without in BOTH:
        monkeypatch.setattr(lwipy.Stack, "default_without", without)
        courses.append(course(network(seed=4), controller))
    assert courses[0] == courses[1]


def arrive(network: VirtualPair, end: TcpEndpoint, size: int) -> bytes:
    got = bytearray()
    while len(got) < size:
        try:
            got += end.recv(1 << 20)
        except BlockingIOError:
            network.step()
        assert network.now < 4600
    return bytes(got)


@pytest.mark.usefixtures("tail")
@pytest.mark.parametrize("controller", ["cubic", "bbr", "reno"])
def test_all_that_is_in_flight_may_be_lost_at_once(controller: str) -> None:
    """The timeout takes every segment off the list, the last one too, and they come back in pieces."""
    link = LONG(seed=2)
    network = VirtualPair(link, seed=5)
    try:
        client, server = connect(network, controller)
        assert client.send(DATA[:1_000_000]) == 1_000_000
        assert arrive(network, server, 1_000_000) == DATA[:1_000_000]
        for turn in range(3):
            part = DATA[turn * 500_000 : (turn + 1) * 500_000]
            assert client.send(part) == len(part)
            network.run(0.001)
            link.set("out", loss=1.0)
            network.run(0.5)
            link.set("out", loss=0.02)
            assert client.send(part) == len(part)
            assert arrive(network, server, 2 * len(part)) == part + part
        assert client.info.timeouts >= 3
    finally:
        network.close()


@pytest.mark.usefixtures("tail")
def test_segments_of_a_byte_and_a_window_that_shuts() -> None:
    network = VirtualPair(LONG(seed=2, loss=0.01), seed=5)
    try:
        client, server = network.connect()
        client.set_option(Option.NODELAY, 1)
        client.set_option(Option.SNDBUF, BUFFER)
        sent = bytearray()
        for at in range(2000):
            assert client.send(DATA[at : at + 1]) == 1
            sent += DATA[at : at + 1]
            if at % 50 == 0:
                network.run(0.001)
        assert client.send(DATA[:1_000_000]) == 1_000_000
        network.run(20)
        assert client.info.unsent > 0, "the peer's window is shut"
        assert arrive(network, server, 1_002_000) == bytes(sent) + DATA[:1_000_000]
    finally:
        network.close()


@pytest.mark.usefixtures("tail")
@pytest.mark.parametrize("way", ["close", "abort"])
def test_a_connection_may_end_with_much_in_flight(way: str) -> None:
    network = VirtualPair(LONG(seed=2, loss=0.01), seed=5)
    try:
        before = network.a.statistics.memory_used
        client, server = connect(network, "cubic")
        assert client.send(DATA) == len(DATA)
        network.run(0.3)
        if way == "abort":
            client.abort()
        else:
            client.close()
            assert arrive(network, server, len(DATA)) == DATA
        server.close()
        network.run(200)
        assert network.a.statistics.memory_used <= before + 4096
    finally:
        network.close()
