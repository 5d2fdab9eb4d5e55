"""Congestion control and loss recovery towards peers that know less than lwipy does, or lie."""

from __future__ import annotations

import random
from typing import Any

import pytest
from attacker import Peer, Target, serve
from scapy.layers.inet import TCP

import lwipy
from lwipy import RecoveryPhase, TcpEndpoint
from lwipy.links import Impair
from lwipy.testing import VirtualTime

CONTROLLERS = pytest.mark.parametrize("controller", ["cubic", "reno", "bbr"])
DATA = random.Random(8).randbytes(600_000)
SACK_PERMITTED = 4


@pytest.fixture
def target(virtual: VirtualTime) -> Target:
    return Target(virtual)


# -- A peer without SACK -----------------------------------------------------------------------------------------------


def without_sack(frame: bytes) -> bytes:
    """A SYN's frame with its SACK-permitted option blotted out; the interfaces here do not look at sums."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6 or not frame[47] & 2:
        return frame
    changed, at, end = bytearray(frame), 54, 34 + (frame[46] >> 4) * 4
    while at < end and changed[at]:
        size = 1 if changed[at] == 1 else changed[at + 1]
        if changed[at] == SACK_PERMITTED:
            changed[at : at + size] = b"\x01" * size
        at += size
    return bytes(changed)


@CONTROLLERS
@pytest.mark.parametrize("settings", [{"loss": 0.03}, {"loss": 0.02, "reorder": 0.05, "duplicate": 0.05}])
def test_a_peer_without_sack(virtual: VirtualTime, controller: str, settings: dict[str, Any]) -> None:
    a, b = virtual.stack(seed=1), virtual.stack(seed=2)
    link = Impair(seed=9, delay=0.01, **settings)
    nic_a = a.add_interface(link, mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", checksums=False)
    nic_b = b.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24", checksums=False)
    nic_a.add_neighbour("10.0.0.2", "02:00:00:00:00:02")
    nic_b.add_neighbour("10.0.0.1", "02:00:00:00:00:01")
    nic_a.on_frame = lambda frame: nic_b.receive(without_sack(frame))
    nic_b.on_frame = lambda frame: nic_a.receive(without_sack(frame))
    listener, client = b.tcp(), a.tcp()
    listener.bind(("10.0.0.2", 80))
    listener.listen()
    client.congestion = controller
    client.connect(("10.0.0.2", 80))
    virtual.run(lambda: listener.info.queued)
    server, arrived, left = listener.accept(), bytearray(), memoryview(DATA)

    def step() -> bool:
        nonlocal left
        try:
            while left:
                left = left[client.send(left) :]
        except BlockingIOError:
            pass
        try:
            while True:
                arrived.extend(server.recv(65536))
        except BlockingIOError:
            return len(arrived) == len(DATA)

    seconds = virtual.run(step, 200)
    assert arrived == DATA
    assert seconds < 20
    assert client.info.retransmitted_segments > 5
    assert client.info.timeouts < client.info.retransmitted_segments


# -- Peers that lie ----------------------------------------------------------------------------------------------------


def sending(target: Target, controller: str, amount: int = 30_000) -> tuple[Peer, TcpEndpoint]:
    """The target has sent to a peer that has acknowledged nothing."""
    listener = serve(target)
    listener.congestion = controller
    peer = Peer(target).connect(options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)])
    end = listener.accept()
    end.send(DATA[:amount])
    target.time.run(limit=0.001)
    return peer, end


@CONTROLLERS
def test_blocks_of_what_was_never_sent_mean_nothing(target: Target, controller: str) -> None:
    peer, end = sending(target, controller)
    una = peer.ack
    for left, right in [
        (una + 10_000_000, una + 10_001_460), (una - 50_000, una - 10_000), (una + 2920, una + 1460),
        (una, una), (una - 1460, una + 1460), (una + 14_000, una + 20_000_000), (0, 0xFFFFFFFF),
    ]:  # fmt: skip
        for _ in range(5):
            peer.send("A", options=[("SAck", (left & 0xFFFFFFFF, right & 0xFFFFFFFF))])
    info = end.info
    assert info.phase is RecoveryPhase.OPEN
    assert info.lost_segments == info.retransmitted_segments == 0
    assert info.in_flight == 14_600


@CONTROLLERS
def test_data_that_was_sacked_and_thrown_away_is_sent_again(target: Target, controller: str) -> None:
    peer, end = sending(target, controller, 14_600)
    for _ in range(4):
        peer.send("A", options=[("SAck", (peer.ack + 1460, peer.ack + 14_600))])
    target.out.clear()
    peer.ack += 1460
    peer.send("A")  # the hole is filled; where is what was SACKed?
    target.time.run(limit=5)
    again = {segment[TCP].seq for segment in target.answers(TCP) if len(segment[TCP].payload)}
    assert peer.ack in again
    assert end.info.timeouts > 0
    peer.ack += 1460
    peer.send("A")
    target.time.run(limit=1)
    assert end.info.unacked == 14_600 - 2920


@CONTROLLERS
def test_an_acknowledgement_for_a_few_bytes_opens_no_larger_window(target: Target, controller: str) -> None:
    """ACK division (Savage et al., 1999)."""
    peer, end = sending(target, controller, 200_000)
    before = end.info.congestion_window
    target.time.run(limit=0.005)
    for _ in range(146):
        peer.ack += 10
        peer.send("A")
    assert end.info.congestion_window <= before + 2 * 1460


@CONTROLLERS
def test_a_duplicate_sends_one_segment_at_most(target: Target, controller: str) -> None:
    """DupACK spoofing: no window grows by them, though each says that something has arrived."""
    listener = serve(target)
    listener.congestion = controller
    peer = Peer(target).connect(options=[("MSS", 1460), ("WScale", 7)])
    end = listener.accept()
    end.send(DATA[:200_000])
    target.time.run(limit=0.001)
    target.out.clear()
    sent = sum(len(segment.payload) for _ in range(150) for segment in peer.send("A"))
    assert sent <= 150 * 1460
    assert end.info.congestion_window <= 20 * 14_600


@CONTROLLERS
def test_acknowledging_what_has_not_arrived_only_hurts_the_liar(target: Target, controller: str) -> None:
    """Optimistic ACKs: the sender stays within what the peer's window allows, and others are served as before."""
    peer, end = sending(target, controller, 200_000)
    for _ in range(50):
        peer.ack = (peer.ack + 1460) & 0xFFFFFFFF
        peer.send("A")
        target.time.run(limit=0.0001)
    for beyond in (1, 1460, 1 << 20, 1 << 31):
        peer.send("A", ack=(peer.ack + 10_000_000 + beyond) & 0xFFFFFFFF)
    info = end.info
    assert info.in_flight <= info.send_window
    end.abort()
    target.assert_unharmed()


@CONTROLLERS
def test_reports_of_duplicates_that_never_were(target: Target, controller: str) -> None:
    """A peer that says it had everything twice may get its window back, and no more."""
    peer, end = sending(target, controller, 200_000)
    target.time.run(limit=1)  # a timeout
    before = 14_600
    for _ in range(100):
        peer.send("A", options=[("SAck", (peer.ack - 1460, peer.ack))])
    assert end.info.congestion_window <= before + 2 * 1460
    assert lwipy.TcpState.ESTABLISHED is end.info.state
