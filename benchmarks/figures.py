"""What a measurement gives: samples, gathered over alternating runs, as medians with their spread.

Every case is a function that runs once and yields one :class:`Sample` for each thing it compares. Running it several
times gives the alternation: what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


class MissingError(Exception):
    """A peer or a tool that is not on this machine; the text says what to install."""


@dataclass(frozen=True)
class Sample:
    """One value of one run; or why there is none."""

    name: str
    value: float | None
    missing: str = ""
    #: What it is compared within, such as "up, MTU 1500"; "" where a case has one kind of figure.
    kind: str = ""


@dataclass(frozen=True)
class Case:
    """A measurement. `run` is called once for each round."""

    name: str
    title: str
    unit: str
    run: Callable[[], Iterable[Sample]]
    higher_is_better: bool = True
    #: What the ratios are to: the best of the peers of the same kind whose names begin so; "" for none.
    reference: str | tuple[str, ...] = ""
    #: The names whose ratio to the reference is asked for begin so.
    ours: str = "lwipy"
    #: Whether it is in the plot of a run that measures more.
    drawn: bool = False


@dataclass
class Figure:
    """All rounds of one name."""

    name: str
    values: list[float] = field(default_factory=list)
    missing: str = ""
    kind: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def lowest(self) -> float:
        return min(self.values)

    @property
    def highest(self) -> float:
        return max(self.values)


@dataclass
class Result:
    """A case and its figures, in the order in which they first came."""

    case: Case
    rounds: int
    figures: dict[str, Figure] = field(default_factory=dict)
    failure: str = ""

    def add(self, sample: Sample) -> None:
        figure = self.figures.setdefault(sample.name, Figure(sample.name, kind=sample.kind))
        if sample.value is None:
            figure.missing = sample.missing
        else:
            figure.values.append(sample.value)

    def reference(self, figure: Figure) -> Figure | None:
        """The best of the peers that the figure is compared with."""
        if not self.case.reference:
            return None
        peers = [
            peer
            for peer in self.figures.values()
            if peer.values and peer.kind == figure.kind and peer.name.startswith(self.case.reference)
        ]
        best = max if self.case.higher_is_better else min
        return best(peers, key=lambda peer: peer.median) if peers else None

    def ratio(self, figure: Figure) -> float | None:
        """To the reference's median."""
        reference = self.reference(figure)
        if reference is None or not figure.values or not reference.median:
            return None
        return figure.median / reference.median

    def as_json(self) -> dict[str, Any]:
        figures = []
        for figure in self.figures.values():
            entry: dict[str, Any] = {"name": figure.name}
            if figure.values:
                entry |= {"median": figure.median, "lowest": figure.lowest, "highest": figure.highest}
                entry |= {"values": figure.values, "ratio": self.ratio(figure)}
            if figure.missing:
                entry["missing"] = figure.missing
            figures.append(entry)
        case = asdict(self.case)
        return {key: case[key] for key in ("name", "title", "unit")} | {
            "rounds": self.rounds, "figures": figures, "failure": self.failure,
        }  # fmt: skip


def measure(
    case: Case,
    rounds: int,
    tell: Callable[[Sample], None] = lambda sample: None,
    after: Callable[[int], None] = lambda done: None,
) -> Result:
    """Runs the case so many times, and tells of each sample and of the end of each round.

    A case that fails as a whole says why in `failure`.
    """
    result = Result(case, rounds)
    try:
        for done in range(1, rounds + 1):
            for sample in case.run():
                result.add(sample)
                tell(sample)
            after(done)
    except MissingError as missing:
        result.failure = str(missing)
    return result


def attempt(name: str, run: Callable[[], float]) -> Iterator[Sample]:
    """One sample of a peer that may be missing."""
    try:
        yield Sample(name, run())
    except MissingError as missing:
        yield Sample(name, None, str(missing))
