"""Segments that share a frame's headers: what the device makes of it is what lwIP would have sent, with and without."""

from __future__ import annotations

import random
import struct
from contextlib import closing
from typing import NamedTuple

import pytest
from vnet_device import OffloadPair, bytes_of

import lwipy
from lwipy import FastPath, Option

BOTH = (FastPath(0), FastPath.FOLLOWING)
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


class Segment(NamedTuple):
    """Of a real frame, what the receiver goes by. PSH is the last one's of a bundle, and so left out."""

    seq: int
    ack: int
    flags: int
    window: int
    data: bytes


def segment(frame: bytes, family: int) -> Segment:
    at = 34 if family == 4 else 54
    seq, ack, offset, flags, window = struct.unpack_from("!IIBBH", frame, at + 4)
    return Segment(seq, ack, flags & ~0x08, window, frame[at + (offset >> 4) * 4 :])


class Watched(OffloadPair):
    """Notes every real frame of a connection; loses, repeats and delays some."""

    def __init__(self, seed: int = 0, bad: float = 0.0) -> None:
        super().__init__()
        self.chance, self.bad = random.Random(seed), bad
        self.seen: list[bytes] = []
        self.late: list[bytes] = []
        take = self.device.take
        self.device.take = lambda: self.spoiled(take())  # type: ignore[method-assign]

    def spoiled(self, frames: list[bytes]) -> list[bytes]:
        self.seen += frames
        found: list[bytes] = []
        for frame in frames:
            fate = self.chance.random()
            if fate < self.bad:
                continue
            if fate < 2 * self.bad:
                self.late.append(frame)
                continue
            found += [frame] * (2 if fate < 3 * self.bad else 1)
        if self.late and self.chance.random() < 0.5:
            found.append(self.late.pop(0))
        return found

    def segments(self, family: int) -> list[Segment]:
        kind = b"\x08\x00" if family == 4 else b"\x86\xdd"
        protocol = 23 if family == 4 else 20
        return [segment(f, family) for f in self.seen if f[12:14] == kind and f[protocol] == 6]


@pytest.fixture(params=BOTH, ids=["with", "without"])
def following(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lwipy.Stack, "default_without", request.param)


@FAMILIES
def test_the_device_makes_the_segments_that_lwip_would_have_sent(family: int, monkeypatch: pytest.MonkeyPatch) -> None:
    courses = []
    for without in BOTH:
        monkeypatch.setattr(lwipy.Stack, "default_without", without)
        with closing(Watched()) as pair:
            client, server = pair.connect(family)
            pair.seen.clear()
            before, sent_before = pair.near.statistics, pair.nic.counters
            for size in (1, 1459, 1460, 1461, 5000, 100_000, 400_000):
                pair.move(client, server, bytes_of(size))
            client.shutdown(write=True)
            for _ in range(10):
                pair.turn()
            assert server.recv(1) == b""
            after, sent = pair.near.statistics, pair.nic.counters
            segments = pair.segments(family)
            start = segments[0].seq
            assert sent.tx_frames - sent_before.tx_frames == len(pair.seen)
            assert sent.tx_bytes - sent_before.tx_bytes == sum(map(len, pair.seen))
            assert after.tcp_tx - before.tcp_tx == len(segments)
            courses.append([s._replace(seq=(s.seq - start) & 0xFFFFFFFF, ack=0) for s in segments])
            assert max(pair.device.cut_into) >= 40
    assert courses[0] == courses[1]


def test_each_segment_has_its_own_identification(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router beyond the device may cut them further, and who puts them together again goes by that number."""
    for without in BOTH:
        monkeypatch.setattr(lwipy.Stack, "default_without", without)
        with closing(Watched()) as pair:
            client, server = pair.connect(4)
            pair.seen.clear()
            pair.move(client, server, bytes_of(1_000_000))
            numbers = [struct.unpack_from("!H", f, 18)[0] for f in pair.seen if f[12:14] == b"\x08\x00"]
            assert len(numbers) > 600
            assert len(set(numbers)) == len(numbers)


@pytest.mark.usefixtures("following")
@FAMILIES
@pytest.mark.parametrize("controller", ["cubic", "bbr", "reno", "lwip"])
def test_every_byte_arrives_over_a_bad_line(family: int, controller: str) -> None:
    with closing(Watched(seed=family, bad=0.01)) as pair:
        client, server = pair.connect(family)
        client.congestion = controller
        client.set_option(Option.SNDBUF, 1 << 20)
        pair.move(client, server, bytes_of(1_000_000))
        assert pair.far.statistics.tcp_chkerr == 0
        segments = pair.segments(family)
        assert len({s.seq for s in segments}) < len(segments), "some went again"


@pytest.mark.usefixtures("following")
def test_a_window_that_shuts_amid_a_bundle() -> None:
    with closing(Watched()) as pair:
        client, server = pair.connect(4)
        server.set_option(Option.RCVBUF, 20_000)
        pair.move(client, server, bytes_of(300_000), read=3000)
        assert pair.far.statistics.guard_tcp_window == 0


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize("way", ["close", "abort", "link"])
def test_a_connection_may_end_with_much_in_flight(way: str) -> None:
    with closing(Watched(bad=0.01)) as pair:
        client, server = pair.connect(4)
        client.set_option(Option.SNDBUF, 1 << 20)
        used = pair.near.statistics.memory_used
        assert client.send(bytes_of(1_000_000)) == 1_000_000
        for _ in range(5):
            pair.turn()
        if way == "link":
            pair.device.wire.close()
            pair.near.poll()
            assert client.send(b"into the void") == 13
        else:
            client.close() if way == "close" else client.abort()
            server.abort()
            while pair.near.statistics.memory_used > used:
                assert pair.now < 600
                pair.turn()
