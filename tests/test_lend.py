"""What is held crosses a wire by reference: every byte arrives, objects live until they were read, and no longer."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pairs import VirtualPair
from wired import Lent

import lwipy
from lwipy import Event, FastPath
from lwipy._native import calls

SIZE = 60_000
ALL = FastPath(0)


@pytest.fixture
def lent(request: pytest.FixtureRequest) -> Iterator[Lent]:
    pair = Lent(**getattr(request, "param", {}))
    yield pair
    pair.close()
    pair.collect()


KINDS = {
    "plain": {},
    "IPv6": {"family": 6},
    "IP alone": {"layer": 3},
    "IPv6 alone": {"layer": 3, "family": 6},
    "no sums": {"checksums": False},
    "odd": {"mtu": 1499},
    "small": {"mtu": 576},
    "large": {"mtu": 9000},
    "larger": {"mtu": 40_001},
    "largest": {"mtu": 65_000},
    "largest, frames of the MTU": {"mtu": 65_000, "offload": False},
    "largest, no sums": {"mtu": 65_000, "checksums": False, "family": 6},
}


@pytest.mark.parametrize("lent", list(KINDS.values()), ids=list(KINDS), indirect=True)
def test_an_object_lives_until_it_was_read_and_every_byte_arrives(lent: Lent) -> None:
    data = lent.rng.randbytes(SIZE)
    before = sys.getrefcount(data)
    lent.post(data)
    assert lent.kept == 1  # though it is acknowledged
    assert lent.read(100) == data[:100]
    assert lent.kept == 1
    assert lent.read(SIZE - 100) == data[100:]
    assert lent.kept == 0
    assert sys.getrefcount(data) == before
    lent.transfer(2_000_000)
    lent.transfer(500_000, lent.server, lent.client)
    assert lent.kept == 0


COPIED = {
    "without it": {"without": FastPath.LENDING},
    "the sender without it": {"without": FastPath.LENDING, "without_b": ALL},
    "the receiver without it": {"without_b": FastPath.LENDING},
    "without holding": {"without": FastPath.HOLDING},
    "without blocks": {"without": FastPath.BLOCKS},
    "frames of a small MTU": {"offload": False},
}


@pytest.mark.parametrize("lent", list(COPIED.values()), ids=list(COPIED), indirect=True)
def test_elsewhere_an_object_lives_until_it_is_acknowledged(lent: Lent) -> None:
    data = lent.rng.randbytes(SIZE)
    lent.post(data)
    assert lent.kept == 0
    assert lent.read(SIZE) == data
    lent.transfer(1_000_000)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("mtu", [1500, 65_000])
def test_who_looks_at_frames_sees_their_bytes(mtu: int, side: int, tmp_path: Path) -> None:
    lent = Lent(mtu)
    data = lent.rng.randbytes(SIZE)
    lent.client.send_if_room(data)  # on its way by reference
    with lent.nics[side].capture(tmp_path / "wire.pcap"):
        lent.poll()
        assert lent.read(SIZE) == data
        piece = lent.rng.randbytes(SIZE)
        lent.post(piece)
        assert lent.kept == 0
        assert lent.read(SIZE) == piece
    assert piece[-20:] in (tmp_path / "wire.pcap").read_bytes()
    lent.post(data)
    assert lent.kept == 1
    lent.close()


def test_an_impaired_wire_carries_copies() -> None:
    lent = Lent(65_000)
    impairment = lent.nics[1].impair(loss=0.05, duplicate=0.05, seed=3)
    lent.transfer(1_000_000)
    impairment.remove()
    lent.transfer(1_000_000)
    lent.close()


@pytest.mark.parametrize("without", [ALL, FastPath.LENDING, FastPath.ONE_ACK, FastPath.TAIL], ids=str)
@pytest.mark.parametrize("mtu", [1500, 20_000, 65_000])
def test_what_is_lost_goes_again_though_others_point_to_it(
    monkeypatch: pytest.MonkeyPatch, mtu: int, without: FastPath
) -> None:
    """The receiver's interface is down now and then, so frames and acknowledgements are lost; pieces of many sizes,
    each dropped by its sender at once."""
    monkeypatch.setattr(lwipy.Stack, "default_without", without)
    rng = random.Random(mtu)
    pair = VirtualPair()
    pair.nic_a.mtu = pair.nic_b.mtu = mtu
    client, server = pair.connect()
    expected, arrived, buffer = bytearray(), bytearray(), bytearray(1 << 18)

    def read() -> None:
        size = rng.choice((1000, 30_000, len(buffer)))
        while got := server.recv_into_if_any(memoryview(buffer)[:size]):
            arrived.extend(buffer[:got])

    while len(expected) < 2_000_000:
        piece = rng.randbytes(rng.choice((100, 3000, 16384, 40_000, 65_536, 200_000)))
        expected += piece
        part = piece
        while part:
            part = part[client.send_if_room(part) :]
            pair.nic_b.link_up = rng.random() > 0.1
            if part or rng.random() < 0.5:
                pair.step()
            if rng.random() < 0.7:
                read()
    del piece, part
    pair.nic_b.link_up = True
    while len(arrived) < len(expected):
        pair.step()
        read()
    assert arrived == expected
    assert pair.nic_b.counters.rx_down > 0
    assert client.info.retransmitted_segments > 0
    pair.run(5)
    calls.release(pair.a._way)
    assert len(pair.a._held) == 0
    pair.close()


def test_a_frame_longer_than_the_receivers_mtu_is_dropped_and_let_go() -> None:
    lent = Lent(40_000)
    lent.nics[1].mtu = 1000
    lent.client.send_if_room(bytes(SIZE))
    lent.poll()
    assert lent.nics[1].counters.rx_malformed > 0
    assert not lent.server.ready() & Event.READABLE
    lent.client.abort()
    assert lent.kept == 0
    lent.close()


def test_a_stack_is_reminded_of_what_came_home() -> None:
    """The receiver was the last to let go, and only it is driven."""
    pair = VirtualPair()
    client, server = pair.connect()
    buffer = bytearray(SIZE)
    for _ in range(10):
        assert client.send_if_room(bytes(SIZE)) == SIZE
        pair.run(1)
        assert len(pair.a._held) <= 1
        assert server.recv_into(buffer) == SIZE
    assert len(pair.a._held) == 1
    pair.time.now += 1
    pair.b.poll()
    assert len(pair.a._held) == 0
    pair.close()


def test_the_same_object_may_cross_many_times(lent: Lent) -> None:
    data = lent.rng.randbytes(20_000)
    before = sys.getrefcount(data)
    count = 0
    while lent.client.send_if_room(data) == len(data):
        count += 1
    for _ in range(10):
        lent.poll()
    arrived = b""
    while got := lent.server.recv_into_if_any(buffer := bytearray(SIZE)):
        arrived += buffer[:got]
        lent.poll()
    assert arrived[: len(data) * count] == data * count
    lent.poll()
    assert lent.kept == 0
    assert sys.getrefcount(data) == before
