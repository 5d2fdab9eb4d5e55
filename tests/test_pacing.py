"""A burst limit towards the wire: no card with few buffers is ever given more than it holds."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pairs import VirtualPair

import lwipy
from lwipy import Pacing
from lwipy.stages import PacingCounters


class Bench:
    """A stack with one IP interface; datagrams tell which number they are."""

    def __init__(self, pacing: Pacing | None) -> None:
        self.now = 0.0
        self.stack = lwipy.Stack(lambda: self.now)
        self.nic = self.stack.add_interface(layer=3, ipv4="10.0.0.1/24")
        self.nic.pacing = pacing
        self.udp = self.stack.udp()

    def send(self, *numbers: int, size: int = 4) -> None:
        for number in numbers:
            self.udp.send(number.to_bytes(size, "big"), ("10.0.0.2", 9))

    def sent(self) -> list[int]:
        return [int.from_bytes(packet[28:], "big") for packet in self.nic.frames()]

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.stack.poll()


def test_a_burst_goes_at_once_and_the_rest_an_interval_later() -> None:
    bench = Bench(Pacing(burst=4, interval=0.001))
    bench.send(*range(10))
    assert bench.sent() == [0, 1, 2, 3]
    assert bench.stack.poll() == pytest.approx(0.001)
    bench.wait(0.0009)
    assert bench.sent() == []
    bench.wait(0.00011)
    assert bench.sent() == [4, 5, 6, 7]
    bench.wait(0.00101)
    assert bench.sent() == [8, 9]
    assert bench.nic.pacing_counters == PacingCounters(passed=10, waited=6)
    bench.stack.close()


def test_a_driver_that_comes_late_makes_no_larger_burst() -> None:
    bench = Bench(Pacing(burst=4, interval=0.001))
    bench.send(*range(10))
    bench.sent()
    bench.wait(1)
    assert bench.sent() == [4, 5, 6, 7]
    bench.stack.close()


def test_frames_from_the_wire_are_not_held_up() -> None:
    bench, peer = Bench(Pacing(burst=1, interval=10)), Bench(None)
    bench.udp.bind(("10.0.0.1", 9))
    peer.nic.ipv4 = "10.0.0.3/24"
    for number in range(3):
        peer.udp.send(bytes([number]), ("10.0.0.1", 9))
    bench.nic.receive_many(peer.nic.frames())
    assert [bench.udp.receive().data for _ in range(3)] == [b"\0", b"\1", b"\2"]
    bench.stack.close()
    peer.stack.close()


def test_a_byte_budget_lets_many_small_frames_through_together() -> None:
    bench = Bench(Pacing(burst=24, interval=0.001, burst_bytes=3000))
    bench.send(*range(3), size=1000)
    assert bench.sent() == [0, 1]
    bench.wait(0.00101)
    bench.wait(0.00101)
    bench.sent()
    bench.send(*range(20))
    assert bench.sent() == list(range(20))
    bench.stack.close()


def test_a_frame_larger_than_the_budget_goes_alone() -> None:
    bench = Bench(Pacing(burst=4, interval=0.001, burst_bytes=100))
    bench.send(1, 2, size=1000)
    assert bench.sent() == [1]
    bench.wait(0.00101)
    assert bench.sent() == [2]
    bench.stack.close()


def test_the_queue_is_bounded_and_what_it_drops_is_counted() -> None:
    bench = Bench(Pacing(burst=2, interval=1, queue=5))
    bench.send(*range(10))
    assert bench.nic.pacing_counters == PacingCounters(passed=2, waited=5, queue_full=3, waiting=5)
    assert bench.nic.counters.tx_full == 3
    for _ in range(4):
        bench.wait(1.001)
    assert bench.sent() == [0, 1, 2, 3, 4, 5, 6]
    assert bench.nic.counters.tx_frames == 7
    bench.stack.close()


def test_it_can_be_changed_while_frames_wait() -> None:
    bench = Bench(Pacing(burst=1, interval=60))
    bench.send(*range(10))
    assert bench.sent() == [0]
    bench.nic.pacing = Pacing(burst=4, interval=60)
    bench.wait(0)
    assert bench.sent() == [1, 2, 3]
    bench.nic.pacing = Pacing(burst=2, interval=0.001)
    bench.wait(0.00101)
    assert bench.sent() == [4, 5]
    assert bench.nic.pacing == Pacing(burst=2, interval=0.001)
    bench.stack.close()


def test_taking_it_away_lets_all_go() -> None:
    bench = Bench(Pacing(burst=1, interval=60))
    bench.send(*range(5))
    bench.nic.pacing = None
    assert bench.sent() == [0, 1, 2, 3, 4]
    bench.send(5, 6)
    assert bench.sent() == [5, 6]
    assert bench.nic.pacing is None
    bench.stack.close()


def test_nothing_waits_on_an_interface_that_is_down() -> None:
    bench = Bench(Pacing(burst=1, interval=1))
    bench.send(1, 2)
    bench.nic.link_up = False
    bench.wait(1.001)
    assert bench.sent() == [1]
    assert bench.nic.counters.tx_down == 1
    bench.stack.close()


def test_it_is_behind_every_wrapper_whatever_came_first() -> None:
    now = 0.0
    stack = lwipy.Stack(lambda: now)
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    nic.pacing = Pacing(burst=2, interval=0.001)
    nic.impair(duplicate=1, seed=1)
    stack.udp().send(b"a", ("10.0.0.2", 9))
    stack.udp().send(b"b", ("10.0.0.2", 9))
    assert [frame[28:] for frame in nic.frames()] == [b"a", b"a"]
    now = 0.0011
    stack.poll()
    assert [frame[28:] for frame in nic.frames()] == [b"b", b"b"]
    stack.close()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"burst": 0}, "burst 0 is out of range: expected 1 to 4096"),
        ({"burst": 5000}, "burst 5000 is out of range"),
        ({"interval": 0}, "interval 0 is out of range: expected 1e-6 to 3600 seconds"),
        ({"burst_bytes": 0}, "burst_bytes 0 is out of range"),
        ({"queue": -1}, "queue -1 is out of range"),
        ({"in_flight": -1}, "in_flight -1 is out of range"),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Pacing(**values)


@settings(max_examples=60, deadline=None)
@given(
    burst=st.integers(1, 9),
    interval=st.sampled_from([0.001, 0.0037]),
    burst_bytes=st.sampled_from([None, 200, 1000]),
    moves=st.lists(st.tuples(st.integers(0, 7), st.sampled_from([0.0, 0.0004, 0.001, 0.01])), max_size=40),
)
def test_no_interval_ever_sees_more_than_a_burst(
    burst: int, interval: float, burst_bytes: int | None, moves: list[tuple[int, float]]
) -> None:
    bench = Bench(Pacing(burst, interval, burst_bytes))
    number, log = 0, []
    for count, pause in moves:
        bench.send(*range(number, number + count), size=50)
        number += count
        log += [(bench.now, sent) for sent in bench.sent()]
        bench.wait(pause)
        log += [(bench.now, sent) for sent in bench.sent()]
    while len(log) < number:
        bench.wait(interval)
        log += [(bench.now, sent) for sent in bench.sent()]
    assert [sent for _, sent in log] == list(range(number))
    for first, _ in log:
        within = [when for when, _ in log if first <= when < first + interval - 2e-6]
        assert len(within) <= burst
        assert burst_bytes is None or len(within) * 78 <= max(burst_bytes, 78)
    bench.stack.close()


def deliver(pacing: Pacing | None) -> int:
    """A transfer to a stack whose card holds eight full frames and empties one each 0.2 ms: frames it dropped."""
    pair = VirtualPair()
    card = pair.nic_b.impair(direction="in", rate=1514 * 8 * 5000, queue_bytes=8 * 1536, seed=1)
    pair.nic_a.pacing = pacing
    data = random.Random(3).randbytes(2_000_000)
    client, server = pair.connect()
    assert hashlib.sha256(pair.transfer(data, client, server)).digest() == hashlib.sha256(data).digest()
    dropped = card.incoming_counters.queue_full
    pair.close()
    return dropped


def test_a_card_of_eight_frames_loses_none() -> None:
    assert deliver(None) > 10
    assert deliver(Pacing(burst=4, interval=0.001, in_flight=0)) == 0


def test_what_tcp_has_in_flight_is_a_limit_that_needs_no_clock() -> None:
    assert deliver(Pacing(burst=1000, interval=0.001, in_flight=0)) > 10
    assert deliver(Pacing(burst=1000, interval=0.001, in_flight=8)) == 0


def test_a_guest_that_is_held_up_finds_no_more_than_its_card_holds() -> None:
    pair = VirtualPair()
    pair.nic_a.pacing = Pacing()
    client, server = pair.connect()
    data = memoryview(bytes(1_000_000))
    arrived = 0
    while arrived < 1_000_000:
        try:
            data = data[client.send(data) :]
        except BlockingIOError:
            pass
        # b sleeps for a tenth of a second, twenty times as long as a needs for eight frames
        for _ in range(100):
            pair.time.now += 0.001
            pair.a.poll()
        assert client.info.unacked <= 8 * 1460
        pair.step()
        try:
            arrived += len(server.recv(1 << 20))
        except BlockingIOError:
            pass
    pair.close()


def test_taking_it_away_lets_tcp_grow_again() -> None:
    pair = VirtualPair()
    pair.nic_a.pacing = Pacing()
    client, _ = pair.connect()
    pair.nic_b.impair(direction="in", delay=0.02, seed=1)
    client.send(bytes(200_000))
    pair.run(0.3)
    assert 0 < client.info.in_flight <= 8 * 1460
    pair.nic_a.pacing = None
    pair.run(1)
    assert client.info.congestion_window > 20 * 1460
    pair.close()
