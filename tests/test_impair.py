"""A bad network: each impairment alone, all together under TCP, and the same again from the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from impaired import Bench

from lwipy.stages import ImpairmentCounters


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


# -- Each by itself ------------------------------------------------------------------------------------------


def test_without_impairments_frames_pass_at_once(bench: Bench) -> None:
    bench.send(1, 2, 3)
    assert bench.sent() == [1, 2, 3]
    bench.come(4, 5)
    assert bench.received() == [4, 5]
    assert bench.outgoing == ImpairmentCounters(frames=3, passed=3)
    assert bench.incoming == ImpairmentCounters(frames=2, passed=2)


def test_lost_frames_are_gone_and_counted(bench: Bench) -> None:
    bench.impair.set(loss=0.5)
    bench.send(*range(1000))
    sent = bench.sent()
    assert sent == sorted(sent)
    assert bench.outgoing.lost == 1000 - len(sent)
    assert 400 < len(sent) < 600
    assert bench.nic.counters.tx_frames == len(sent)


def test_a_delayed_frame_comes_out_when_its_time_has_come_and_poll_says_when(bench: Bench) -> None:
    bench.impair.set(delay=0.25)
    bench.send(1)
    assert bench.stack.poll() == pytest.approx(0.25)
    bench.wait(0.1)
    bench.send(2)
    bench.wait(0.1499)
    assert bench.sent() == []
    bench.wait(0.0002)
    assert bench.sent() == [1]
    bench.wait(0.1)
    assert bench.sent() == [2]
    assert bench.outgoing.delayed == 2


def test_a_frame_from_the_wire_is_delayed_as_well(bench: Bench) -> None:
    bench.impair.set(delay=0.25)
    bench.come(1)
    assert bench.received() == []
    bench.wait(0.26)
    assert bench.received() == [1]


def test_jitter_spreads_frames_but_never_changes_their_order(bench: Bench) -> None:
    bench.impair.set(delay=0.1, jitter=0.1)
    arrivals = []
    for number in range(50):
        bench.send(number)
        for _ in range(3):
            bench.wait(0.001)
            arrivals += [(number, bench.now) for number in bench.sent()]
    while len(arrivals) < 50:
        bench.wait(0.001)
        arrivals += [(number, bench.now) for number in bench.sent()]
    assert [number for number, _ in arrivals] == list(range(50))
    delays = [when - number * 0.003 for number, when in arrivals]
    assert min(delays) >= 0.0999
    assert max(delays) <= 0.202
    assert max(delays) - min(delays) > 0.03


def test_a_shorter_delay_lets_no_frame_overtake(bench: Bench) -> None:
    bench.impair.set(delay=0.5)
    bench.send(1)
    bench.impair.set(delay=0)
    bench.send(2)
    assert bench.sent() == []
    bench.wait(0.51)
    assert bench.sent() == [1, 2]


def test_reordered_frames_are_overtaken_by_one_to_three(bench: Bench) -> None:
    bench.impair.set(reorder=0.2)
    bench.send(*range(500))
    bench.wait(0.011)
    sent = bench.sent()
    assert sorted(sent) == list(range(500))
    assert sent != sorted(sent)
    late = {place - number for place, number in enumerate(sent) if place > number}
    assert late == {1, 2, 3}
    assert bench.outgoing.reordered > 50


def test_a_reordered_frame_that_nothing_follows_goes_alone(bench: Bench) -> None:
    bench.impair.set(reorder=1)
    bench.send(1)
    assert bench.sent() == []
    assert bench.stack.poll() == pytest.approx(0.01)
    bench.wait(0.011)
    assert bench.sent() == [1]


def test_all_frames_reordered_come_all_the_same(bench: Bench) -> None:
    bench.impair.set(reorder=1)
    bench.send(*range(100))
    bench.wait(0.011)
    assert sorted(bench.sent()) == list(range(100))


def test_duplicated_frames_come_twice(bench: Bench) -> None:
    bench.impair.set(duplicate=1)
    bench.send(1, 2)
    assert bench.sent() == [1, 1, 2, 2]
    assert bench.outgoing == ImpairmentCounters(frames=2, duplicated=2, passed=4)


def test_a_corrupted_frame_differs_in_one_byte(bench: Bench) -> None:
    bench.send(*range(300), size=100)
    good = bench.nic.frames()
    again = Bench(corrupt=1)
    again.send(*range(300), size=100)
    bad = again.nic.frames()
    assert len(bad) == len(good)
    bits = []
    for before, after in zip(good, bad, strict=True):
        # The identification and so the header's sum may differ between two stacks; only the datagram is
        # compared.
        changed = [(x, y) for x, y in zip(before[28:], after[28:], strict=True) if x != y]
        assert len(changed) <= 1
        bits += [(x ^ y).bit_count() for x, y in changed]
    assert len(bits) > 150
    assert 1 in bits
    assert max(bits) > 1
    again.close()


def test_corrupted_frames_from_the_wire_never_reach_the_application(bench: Bench) -> None:
    bench.impair.set("in", corrupt=1)
    bench.come(*range(500))
    # What was hit in a part of the header that no sum protects against being meant for us does arrive,
    # unharmed.
    assert set(bench.received()) <= set(range(500))
    assert bench.incoming.corrupted == 500


def test_a_slow_line_sends_one_frame_after_the_other(bench: Bench) -> None:
    bench.impair.set(rate=8000 * 128)  # 128 bytes a millisecond
    bench.send(1, 2, 3, size=100)  # 128 bytes with their headers
    assert bench.sent() == []
    for number in (1, 2, 3):
        bench.wait(0.00101)
        assert bench.sent() == [number]
    bench.wait(1.0)
    bench.send(4, size=100)
    assert bench.stack.poll() == pytest.approx(0.001, abs=2e-6)


def test_the_queue_of_a_slow_line_is_bounded_in_frames(bench: Bench) -> None:
    bench.impair.set(rate=8000 * 128, queue=5)
    bench.send(*range(8), size=100)
    assert bench.outgoing.queue_full == 3
    bench.wait(0.0021)
    bench.send(8, 9, 10, size=100)
    assert bench.outgoing.queue_full == 4
    bench.wait(1)
    assert bench.sent() == [0, 1, 2, 3, 4, 8, 9]


def test_and_in_bytes(bench: Bench) -> None:
    bench.impair.set(rate=8000 * 128, queue_bytes=300)
    bench.send(*range(8), size=100)
    bench.wait(1)
    assert bench.sent() == [0, 1]
    assert bench.outgoing.queue_full == 6


def test_frames_on_a_long_way_do_not_count_as_waiting_for_the_line(bench: Bench) -> None:
    bench.impair.set(rate=8000 * 128, queue=2, delay=60)
    for number in range(100):
        bench.send(number, size=100)
        bench.wait(0.00101)
    assert bench.outgoing.queue_full == 0
    assert bench.outgoing.kept == 100
    bench.wait(61)
    assert bench.sent() == list(range(100))


def test_a_faster_line_helps_those_that_come_then(bench: Bench) -> None:
    bench.impair.set(rate=8000, queue=3)
    bench.send(1, 2, size=100)
    bench.impair.set(rate=None)
    bench.send(3, 4, 5, size=100)
    bench.wait(1)
    assert bench.sent() == [1, 2, 3, 4, 5]


# -- Laws ----------------------------------------------------------------------------------------------------

probability = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@settings(max_examples=60, deadline=None)
@given(
    loss=probability,
    reorder=probability,
    duplicate=probability,
    corrupt=probability,
    delay=st.sampled_from([0.0, 0.003]),
    jitter=st.sampled_from([0.0, 0.002]),
    rate=st.sampled_from([None, 1e6]),
    queue=st.sampled_from([1, 20]),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_frame_is_accounted_for(**impairments: Any) -> None:
    bench = Bench(**impairments)
    for number in range(60):
        bench.send(number)
        bench.come(number)
        bench.wait(0.0005)
    for counters in (bench.outgoing, bench.incoming):
        assert counters.frames == 60
        assert counters.frames + counters.duplicated == (
            counters.lost + counters.queue_full + counters.passed + counters.kept
        )
    bench.wait(10)
    bench.wait(10)  # what stood aside has gone on its way
    assert (bench.outgoing.kept, bench.incoming.kept) == (0, 0)
    assert len(bench.nic.frames()) == bench.outgoing.passed == bench.nic.counters.tx_frames
    assert bench.nic.counters.rx_frames == 60
    bench.close()


def test_memory_comes_back() -> None:
    bench = Bench(delay=1, reorder=0.2)
    bench.send(0)
    bench.wait(2)
    before = bench.stack.statistics.memory_used
    bench.send(*range(1000), size=1000)
    bench.come(*range(200))
    assert bench.stack.statistics.memory_used > before + 1_000_000
    bench.wait(2)
    bench.wait(2)
    bench.received()
    assert bench.stack.statistics.memory_used == before
    bench.send(*range(1000), size=1000)
    bench.nic.remove()
    assert bench.stack.statistics.memory_used <= before
    bench.close()


def test_what_is_kept_is_bounded() -> None:
    bench = Bench(delay=3600)
    payload = bytes(60_000)
    bench.nic.mtu = 65535
    for _ in range(1500):
        bench.udp.send(payload, ("10.0.0.2", 9))
    assert bench.outgoing.queue_full > 0
    assert bench.outgoing.kept * 60_028 <= 64 << 20
    assert bench.stack.statistics.memory_used < 100 << 20
    bench.close()
