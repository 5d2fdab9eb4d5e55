"""The fast path: with each mechanism and without it, every byte arrives, whatever the network does to the frames."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Pair
from pairs import VirtualPair
from scapy.layers.inet import IP, TCP, fragment
from scapy.layers.l2 import Ether

import lwipy
from lwipy import FastPath, Option, TcpEndpoint
from lwipy.links import Impair
from lwipy.testing import VirtualTime

OF_BATCHES = (FastPath.MERGE, FastPath.ONE_ACK, FastPath.BLOCKS, FastPath.WIRE_OFFLOAD)  # test_demux.py has another
EVERYTHING = FastPath(0)
NOTHING = ~FastPath(0)
VARIANTS = {
    "fast": EVERYTHING,
    "plain": NOTHING,
    **{f"without {mechanism.name}": mechanism for mechanism in OF_BATCHES},
    **{f"only {mechanism.name}": NOTHING & ~mechanism for mechanism in OF_BATCHES},
}


@pytest.fixture(params=list(VARIANTS.values()), ids=list(VARIANTS))
def variant(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastPath:
    without: FastPath = request.param
    monkeypatch.setattr(lwipy.Stack, "default_without", without)
    return without


@pytest.fixture(params=["10.0.0.2", "fd00::2"], ids=["IPv4", "IPv6"])
def host(request: pytest.FixtureRequest) -> str:
    address: str = request.param
    return address


def exchange(pair: VirtualPair, host: str, size: int, seed: int) -> None:
    """Both directions at once, each with content of its own, then the ends."""
    contents = random.Random(seed).randbytes(size), random.Random(seed + 1).randbytes(size)
    ends = pair.connect(host)
    rng = random.Random(seed)
    sent, arrived, over = [0, 0], [bytearray(), bytearray()], [False, False]
    while not all(over):
        for side, end in enumerate(ends):
            try:
                while sent[side] < size:
                    sent[side] += end.send(contents[side][sent[side] : sent[side] + rng.choice((100, 5000, 65536))])
                if sent[side] == size:
                    sent[side] += 1
                    end.shutdown(write=True)
            except BlockingIOError:
                pass
            try:
                while part := end.recv(rng.choice((1000, 65536))):
                    arrived[1 - side] += part
                over[side] = True
            except BlockingIOError:
                pass
        pair.step()
        assert pair.now < 4600, f"{len(arrived[0])} and {len(arrived[1])} of {size} bytes after an hour"
    assert bytes(arrived[0]) == contents[0]
    assert bytes(arrived[1]) == contents[1]


NETWORKS = {
    "good": Impair,
    "slow": partial(Impair, delay=0.005, rate=1e9),
    "lossy": partial(Impair, loss=0.01, delay=0.001),
    "disordered": partial(Impair, delay=0.001, jitter=0.0005, reorder=0.02, duplicate=0.02),
    "all of it": partial(Impair, loss=0.01, delay=0.001, jitter=0.0005, reorder=0.01, duplicate=0.01, corrupt=0.005),
}


@pytest.mark.usefixtures("variant")
@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=list(NETWORKS))
def test_every_byte_arrives_in_order_both_ways(host: str, network: Callable[..., Impair]) -> None:
    pair = VirtualPair(network(seed=7))
    try:
        exchange(pair, host, 300_000, seed=11)
    finally:
        pair.close()


class ByHand:
    """A connection whose frames the test carries: 10.0.0.2 has sent `content` in ten full segments."""

    def __init__(self, virtual: VirtualTime) -> None:
        self.hosts = hosts = Pair.of(virtual.stack(seed=1), virtual.stack(seed=2), virtual, wired=False)
        self.virtual = virtual
        listener = hosts.a.tcp()
        listener.bind(("", 80))
        listener.listen()
        self.senders = [self._connect(listener) for _ in range(2)]
        self.content = random.Random(3).randbytes(14_600)

    def _connect(self, listener: TcpEndpoint) -> tuple[TcpEndpoint, TcpEndpoint]:
        client = self.hosts.b.tcp()
        client.set_option(Option.NODELAY, 1)
        client.connect(("10.0.0.1", 80))
        self.virtual.run(lambda: self.carry() or listener.info.queued)
        server = listener.accept()
        # One segment each way, so that the flow is known.
        client.send(b"first")
        self.virtual.run(lambda: self.carry() or server.info.queued)
        assert server.recv(10) == b"first"
        self.virtual.run(lambda: self.carry() or client.info.unacked == 0)
        return client, server

    def carry(self) -> bool:
        self.hosts.nic_a.receive_many(self.hosts.nic_b.frames())
        self.hosts.nic_b.receive_many(self.hosts.nic_a.frames())
        return False

    def frames(self, number: int = 0) -> list[bytes]:
        """What carries the content of one connection."""
        self.senders[number][0].send(self.content)
        frames = [bytes(frame) for frame in self.hosts.nic_b.frames()]
        assert len(frames) == 10
        return frames

    def give(self, frames: list[bytes]) -> int:
        """Gives them in one batch; how many segments lwIP saw."""
        before = self.hosts.a.statistics.tcp_rx
        self.hosts.nic_a.receive_many(frames)
        return self.hosts.a.statistics.tcp_rx - before

    def check(self, number: int = 0, content: bytes | None = None) -> None:
        """Whatever was lost on the way is sent again, and all arrives."""
        expected = self.content if content is None else content
        server = self.senders[number][1]
        arrived = bytearray()

        def arrive() -> bool:
            self.carry()
            try:
                arrived.extend(server.recv(65536))
            except BlockingIOError:
                pass
            return len(arrived) >= len(expected)

        self.virtual.run(arrive)
        assert bytes(arrived) == expected


@pytest.fixture
def by_hand(virtual: VirtualTime) -> ByHand:
    return ByHand(virtual)


def test_a_batch_becomes_one_segment_and_is_acknowledged_once(by_hand: ByHand) -> None:
    assert by_hand.give(by_hand.frames()) == 1
    assert by_hand.senders[0][1].info.queued == 14_600
    (answer,) = by_hand.hosts.nic_a.frames()
    assert Ether(bytes(answer))[TCP].flags == "A"
    by_hand.check()


def test_without_merging_each_frame_is_a_segment(virtual: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lwipy.Stack, "default_without", FastPath.MERGE)
    by_hand = ByHand(virtual)
    assert by_hand.give(by_hand.frames()) == 10
    assert len(by_hand.hosts.nic_a.frames()) == 1
    by_hand.check()


def test_flows_that_alternate_are_merged_each_by_itself(by_hand: ByHand) -> None:
    frames = [frame for both in zip(by_hand.frames(0), by_hand.frames(1), strict=True) for frame in both]
    assert by_hand.give(frames) == 2
    assert len(by_hand.hosts.nic_a.frames()) == 2
    by_hand.check(0)
    by_hand.check(1)


def changed(frame: bytes, change: Callable[[Ether], None]) -> bytes:
    packet = Ether(frame)
    change(packet)
    del packet[IP].chksum, packet[IP].len, packet[IP].ihl, packet[TCP].chksum, packet[TCP].dataofs
    return bytes(packet)


def urgent(packet: Ether) -> None:
    packet[TCP].flags |= "U"


def other_options(packet: Ether) -> None:
    packet[TCP].options = [("NOP", None)] * 4


def ip_options(packet: Ether) -> None:
    packet[IP].options = [b"\x01\x01\x01\x01"]


@pytest.mark.parametrize("change", [urgent, other_options, ip_options])
def test_what_is_not_plain_is_not_merged(by_hand: ByHand, change: Callable[[Ether], None]) -> None:
    frames = by_hand.frames()
    frames[5] = changed(frames[5], change)
    assert by_hand.give(frames) == 3
    by_hand.check()


def test_a_fragment_is_not_merged(by_hand: ByHand) -> None:
    frames = by_hand.frames()
    packet = Ether(frames[5])
    packet[IP].flags = 0
    del packet[IP].chksum
    frames[5:6] = [bytes(Ether(bytes(packet)[:14]) / piece) for piece in fragment(packet[IP], 800)]
    assert by_hand.give(frames) == 3
    by_hand.check()


@pytest.mark.parametrize("byte", [24, 60, 1000], ids=["IP's sum", "TCP's header", "payload"])
def test_a_frame_with_a_wrong_sum_is_not_merged(by_hand: ByHand, byte: int) -> None:
    frames = by_hand.frames()
    damaged = bytearray(frames[5])
    damaged[byte] ^= 1
    frames[5] = bytes(damaged)
    by_hand.give(frames)
    assert by_hand.senders[0][1].info.queued == 5 * 1460
    by_hand.check()


def test_what_is_pushed_within_is_pushed_in_the_end(by_hand: ByHand) -> None:
    """PSH of any frame counts for all; a FIN ends what is merged."""
    client, server = by_hand.senders[0]
    frames = by_hand.frames()
    client.shutdown(write=True)
    frames += [bytes(frame) for frame in by_hand.hosts.nic_b.frames()]
    assert by_hand.give(frames) == 2
    assert server.recv(20_000) == by_hand.content
    assert server.recv(1) == b""


def test_disorder_ends_merging_for_a_while(by_hand: ByHand) -> None:
    frames = by_hand.frames()
    frames[4], frames[5] = frames[5], frames[4]
    assert by_hand.give(frames) > 3
    by_hand.check()
    assert by_hand.give(by_hand.frames()) == 10
    assert len(by_hand.hosts.nic_a.frames()) == 5, "quick: every second one is acknowledged"
    by_hand.check()


@pytest.mark.parametrize("repeat", [0, 4, 9])
def test_frames_that_come_twice_count_once(by_hand: ByHand, repeat: int) -> None:
    frames = by_hand.frames()
    by_hand.give([*frames[: repeat + 1], *frames[repeat:]])
    by_hand.check()


def test_a_batch_beyond_the_window_is_cut_there(by_hand: ByHand) -> None:
    server = by_hand.senders[0][1]
    server.set_option(Option.RCVBUF, 5 * 1460)
    by_hand.give(by_hand.frames())
    by_hand.check()


def test_a_connection_that_is_closed_between_batches_is_not_missed(by_hand: ByHand) -> None:
    frames = by_hand.frames()
    by_hand.give(frames[:5])
    by_hand.senders[0][1].close()
    by_hand.give(frames[5:])
    assert any(Ether(bytes(frame))[TCP].flags.R for frame in by_hand.hosts.nic_a.frames())


# -- All of TCP's tests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", [mechanism.name for mechanism in FastPath])
def test_all_tests_of_tcp_pass_without(mechanism: str) -> None:
    here = Path(__file__).parent
    files = [here / "test_tcp.py", here / "test_tcp_listening.py"]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files],
        env={**os.environ, "LWIPY_WITHOUT": mechanism.lower()}, capture_output=True, text=True, cwd=here.parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_a_name_that_is_none_is_told() -> None:
    assert FastPath.named("merge,demux") == FastPath.MERGE | FastPath.DEMUX
    with pytest.raises(ValueError, match="'speed' is no part of the fast path: expected MERGE, ONE_ACK, DEMUX"):
        FastPath.named("merge,speed")
