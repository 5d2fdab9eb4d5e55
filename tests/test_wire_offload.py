"""Long frames over a wire: segments cross together, nobody sees it, and every byte arrives."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wired import NO_MERGE, Joined

import lwipy
from lwipy import FastPath


@pytest.fixture
def joined(request: pytest.FixtureRequest) -> Iterator[Joined]:
    pair = Joined(**getattr(request, "param", {}))
    yield pair
    pair.close()


KINDS = {
    "plain": {},
    "IPv6": {"family": 6},
    "IP alone": {"layer": 3},
    "IPv6 alone": {"layer": 3, "family": 6},
    "no sums": {"checksums": False},
    "odd": {"mtu": 1499},
    "odd, IPv6": {"mtu": 1399, "family": 6},
    "small": {"mtu": 576},
    "large": {"mtu": 9000},
    "everything": {"without": FastPath(0)},
    "every acknowledgement": {"without": FastPath.ONE_ACK | FastPath.MERGE},
    "copied": {"without": FastPath.HOLDING | FastPath.MERGE},
}


@pytest.mark.parametrize("joined", list(KINDS.values()), ids=list(KINDS), indirect=True)
def test_segments_cross_together_and_every_byte_arrives(joined: Joined) -> None:
    joined.transfer(300_000)  # the receiver lays out its blocks
    segments, frames = joined.segments, joined.frames
    joined.transfer(3_000_000)
    assert joined.frames - frames > 2 * (joined.segments - segments)
    joined.transfer(500_000, joined.server, joined.client)


OFF = {
    "as asked": {"offload": False},
    "without it": {"without": FastPath.WIRE_OFFLOAD | NO_MERGE},
    "here alone": {"without_b": FastPath.WIRE_OFFLOAD | NO_MERGE},
    "without blocks": {"without": FastPath.BLOCKS | NO_MERGE},
    "without room for blocks": {"memory": 1 << 21},
}


@pytest.mark.parametrize("joined", list(OFF.values()), ids=list(OFF), indirect=True)
def test_where_one_side_does_not_agree_frames_are_as_ever(joined: Joined) -> None:
    segments, frames = joined.segments, joined.frames
    joined.transfer(1_000_000)
    assert joined.frames - frames < joined.segments - segments + 20  # there are neighbours to be asked for, too
    joined.transfer(300_000, joined.server, joined.client)


def test_counters_say_what_they_say_without(joined: Joined) -> None:
    """Frames and bytes of the MTU, as on a wire that cuts."""

    def unsaid() -> tuple[int, int]:
        sent, received = joined.nics[0].counters, joined.nics[1].counters
        return sent.tx_frames - received.rx_frames, sent.tx_bytes - received.rx_bytes

    before = unsaid()  # what was said before there was a wire
    joined.transfer(2_000_000)
    joined.poll()
    assert unsaid() == before
    assert joined.nics[0].counters.tx_full == joined.nics[1].counters.rx_malformed == 0


def longest(path: Path) -> tuple[int, int]:
    """The length of the longest frame in a capture, and how many frames there are."""
    raw, at, lengths = path.read_bytes(), 24, []
    order = "<" if raw[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    while at < len(raw):
        kept, length = struct.unpack_from(order + "II", raw, at + 8)
        lengths.append(length)
        at += 16 + kept
    return max(lengths), len(lengths)


@pytest.mark.parametrize("side", [0, 1])
def test_who_looks_sees_frames_of_the_mtu(joined: Joined, side: int, tmp_path: Path) -> None:
    """A capture, from whenever it is there until it is gone; long frames may be on their way."""
    joined.transfer(500_000)
    waiting = 0
    while part := joined.client.send_if_room(bytes(60_000)):
        waiting += part
    with joined.nics[side].capture(tmp_path / "wire.pcap"):
        buffer = bytearray(1 << 16)
        while waiting:
            joined.poll()
            waiting -= joined.server.recv_into_if_any(buffer) or 0
        joined.transfer(500_000)
    length, count = longest(tmp_path / "wire.pcap")
    assert length <= 1514
    assert count > 300
    segments, frames = joined.segments, joined.frames
    joined.transfer(1_000_000)
    assert joined.frames - frames > 2 * (joined.segments - segments)


def test_an_impaired_wire_carries_single_frames(joined: Joined) -> None:
    joined.transfer(300_000)
    impairment = joined.nics[1].impair(loss=0.01, duplicate=0.01, seed=1)
    joined.transfer(400_000)
    impairment.remove()
    joined.transfer(1_000_000)


def test_each_segment_is_held_to_the_mtu_of_the_receiver() -> None:
    """As single frames are: nothing longer gets in, and it is counted."""
    pair = Joined((1500, 1500))
    pair.transfer(300_000)
    pair.nics[1].mtu = 1000
    pair.client.send_if_room(bytes(60_000))
    pair.poll()
    counters = pair.nics[1].counters
    assert counters.rx_malformed > 10
    assert not pair.server.ready() & lwipy.Event.READABLE
    pair.close()


def test_an_end_that_goes_takes_what_is_on_its_way() -> None:
    for first in (0, 1):
        pair = Joined()
        pair.transfer(300_000)
        pair.client.send_if_room(bytes(200_000))
        pair.nics[first].remove()
        pair.poll()
        pair.client.close()
        pair.close()


def test_what_is_not_read_outlives_the_wire() -> None:
    pair = Joined()
    pair.transfer(300_000)
    data = pair.rng.randbytes(60_000)
    assert pair.client.send_if_room(data) == len(data)
    while pair.client.info.unacked or pair.client.info.unsent:
        pair.poll()
    pair.nics[0].remove()
    assert pair.server.recv(len(data)) == data
    pair.close()


def test_two_threads_and_sockets() -> None:
    with lwipy.Stack() as a, lwipy.Stack() as b:
        nics = [stack.add_interface(ipv4=f"10.0.0.{i}/24") for i, stack in enumerate((a, b), 1)]
        lwipy.wire(*nics)
        data = random.Random(5).randbytes(8_000_000)
        with b.create_server(("10.0.0.2", 80)) as listener:
            client = a.create_connection(("10.0.0.2", 80), timeout=60)
            server, _ = listener.accept()
        with client, server:
            server.settimeout(60)
            thread = threading.Thread(target=client.sendall, args=(data,))
            thread.start()
            arrived = bytearray()
            while len(arrived) < len(data):
                arrived += server.recv(1 << 18)
            thread.join()
            assert arrived == data
