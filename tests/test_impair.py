"""A bad network: each impairment alone, all together under TCP, and the same again from the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lwipy
from lwipy.links import Impair, Link
from lwipy.stages import Impairment, ImpairmentCounters


class Bench:
    """A stack with one IP interface whose network is bad; datagrams tell which number they are."""

    def __init__(self, **impairments: Any) -> None:
        self.now = 0.0
        self.stack = lwipy.Stack(lambda: self.now)
        self.impair = Impair(None, **{"seed": 7, **impairments})
        self.nic = self.stack.add_interface(self.impair, layer=3, ipv4="10.0.0.1/24")
        self.udp = self.stack.udp()
        self.udp.bind(("10.0.0.1", 9))
        self.peer = lwipy.Stack(lambda: self.now)
        self.peer_nic = self.peer.add_interface(layer=3, ipv4="10.0.0.2/24")
        self.peer_udp = self.peer.udp()

    def send(self, *numbers: int, size: int = 4) -> None:
        for number in numbers:
            self.udp.send(number.to_bytes(size, "big"), ("10.0.0.2", 9))

    def sent(self) -> list[int]:
        """The numbers of the datagrams that have come out to the wire."""
        return [int.from_bytes(packet[28:], "big") for packet in self.nic.frames()]

    def come(self, *numbers: int) -> None:
        for number in numbers:
            self.peer_udp.send(number.to_bytes(4, "big"), ("10.0.0.1", 9))
        self.nic.receive_many(self.peer_nic.frames())

    def received(self) -> list[int]:
        found = []
        while True:
            try:
                found.append(int.from_bytes(self.udp.receive().data, "big"))
            except BlockingIOError:
                return found

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.stack.poll()

    def close(self) -> None:
        self.stack.close()
        self.peer.close()

    @property
    def outgoing(self) -> ImpairmentCounters:
        return self.impair.stage.outgoing_counters

    @property
    def incoming(self) -> ImpairmentCounters:
        return self.impair.stage.incoming_counters


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


# -- How it is set -------------------------------------------------------------------------------------------


def test_one_direction_alone(bench: Bench) -> None:
    bench.impair.set("out", loss=1)
    bench.send(1)
    bench.come(2)
    assert bench.sent() == []
    assert bench.received() == [2]
    assert bench.impair.stage.incoming == Impairment()
    assert bench.impair.stage.outgoing == Impairment(loss=1)


def test_what_is_not_named_stays(bench: Bench) -> None:
    bench.impair.set(loss=0.25, delay=0.5)
    bench.impair.set("in", loss=0)
    assert bench.impair.stage.incoming == Impairment(delay=0.5)
    assert bench.impair.stage.outgoing == Impairment(loss=0.25, delay=0.5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": -0.1}, "loss -0.1 is not a probability: expected 0 to 1"),
        ({"corrupt": 1.5}, "corrupt 1.5 is not a probability"),
        ({"duplicate": float("nan")}, "duplicate nan is not a probability"),
        ({"delay": -1}, "delay -1 is out of range: expected 0 to 3600 seconds"),
        ({"jitter": float("inf")}, "jitter inf is out of range"),
        ({"rate": 0}, "rate 0 is out of range: expected 1 to 1e15 bits per second"),
        ({"queue": 0}, "queue 0 is out of range: expected 1 to"),
        ({"queue_bytes": -5}, "queue_bytes -5 is out of range"),
        ({"seed": -1}, "seed -1 is out of range"),
        ({"direction": "up"}, "direction 'up' is unknown: expected 'both', 'in' or 'out'"),
    ],
)
def test_a_bad_value_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Impair(None, **settings)


@pytest.mark.parametrize("settings", [{"loss": "1"}, {"delay": None}, {"queue": 1.5}, {"seed": "x"}, {"speed": 1}])
def test_a_value_of_the_wrong_kind_is_a_type_error(settings: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        Impair(None, **settings)


def test_a_bad_value_changes_nothing(bench: Bench) -> None:
    with pytest.raises(ValueError, match="loss 2"):
        bench.impair.set(delay=1, loss=2)
    assert bench.impair.stage.outgoing == Impairment()


def test_an_interface_is_impaired_without_a_link() -> None:
    stack = lwipy.Stack()
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    stage = nic.impair(loss=1, direction="out", seed=3)
    stack.udp().send(b"gone", ("10.0.0.2", 9))
    assert nic.frames() == []
    assert nic.impair(loss=0) is stage
    stack.udp().send(b"there", ("10.0.0.2", 9))
    assert len(nic.frames()) == 1
    assert (stage.outgoing_counters.lost, stage.outgoing_counters.passed, stage.seed) == (1, 1, 3)
    stack.close()


def test_removing_it_lets_all_go_at_once_in_order(bench: Bench) -> None:
    bench.impair.set(delay=10, reorder=0.3)
    bench.send(*range(50))
    bench.come(*range(50))
    bench.impair.stage.remove()
    assert sorted(bench.sent()) == list(range(50))
    assert sorted(bench.received()) == list(range(50))
    bench.send(50)
    assert bench.sent() == [50]


def test_counters_outlive_the_interface(bench: Bench) -> None:
    bench.impair.set(loss=1)
    bench.send(1, 2, 3)
    bench.nic.remove()
    assert bench.outgoing.lost == 3
    bench.impair.set(loss=0.5)
    assert bench.impair.stage.outgoing.loss == 0.5


def test_wrappers_nest_and_the_outermost_is_nearest_the_stack() -> None:
    stack = lwipy.Stack()
    far = Impair(Impair(None, loss=1, seed=1), duplicate=1, seed=1)
    nic = stack.add_interface(far, layer=3, ipv4="10.0.0.1/24")
    stack.udp().send(b"x", ("10.0.0.2", 9))
    inner = far.link
    assert isinstance(inner, Impair)
    assert far.stage.outgoing_counters == ImpairmentCounters(frames=1, duplicated=1, passed=2)
    assert inner.stage.outgoing_counters == ImpairmentCounters(frames=2, lost=2)
    assert nic.frames() == []
    stack.close()


class Recorder(Link):
    """A link of the user's own, in Python."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.attached: list[lwipy.Interface] = []

    def attach(self, interface: lwipy.Interface) -> None:
        self.attached.append(interface)

    def detach(self) -> None:
        self.attached.pop()

    def transmit(self, frames: list[bytes]) -> None:
        self.sent += frames


def test_around_a_link_in_python() -> None:
    now = 0.0
    stack, link = lwipy.Stack(lambda: now), Recorder()
    link.layer = 3
    nic = stack.add_interface(Impair(link, delay=0.5, seed=1), ipv4="10.0.0.1/24")
    assert link.attached == [nic]
    stack.udp().send(b"later", ("10.0.0.2", 9))
    assert link.sent == []
    now = 0.6
    stack.poll()
    assert [frame[28:] for frame in link.sent] == [b"later"]
    nic.remove()
    assert link.attached == []
    stack.close()


def test_only_links_can_be_wrapped() -> None:
    with pytest.raises(TypeError, match="wraps a Link or None, not str"):
        Impair("tap0")  # type: ignore[arg-type]


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
