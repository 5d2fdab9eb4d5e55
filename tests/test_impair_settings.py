"""How impairments are set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from impaired import Bench

import lwipy
from lwipy.links import Impair, Link
from lwipy.stages import Impairment, ImpairmentCounters


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


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
