"""The figures as a table for people, as JSON, and as a plot."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, MissingError, Result


def machine() -> str:
    """One line: processors, system, Python."""
    model = kind = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
        model = f"{names[0]}, " if names else ""
        kind = " of a virtual machine" if " hypervisor" in text else ""
    system = f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}"
    return f"{model}{os.cpu_count()} cores{kind}, {system}, CPython {platform.python_version()}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def markdown(results: Sequence[Result]) -> str:
    """One table: case, who, median (lowest to highest), ratio to the peer that the case compares with."""
    lines = ["| | | median (lowest to highest) | of the peer |", "|---|---|---|---|"]
    for result in results:
        title = f"{result.case.title}, {result.case.unit}"
        if result.failure:
            lines.append(f"| {title} | | not measured: {result.failure} | |")
        for figure in result.figures.values():
            if figure.values:
                spread = f"{_number(figure.lowest)} to {_number(figure.highest)}"
                ratio = result.ratio(figure)
                value = f"{_number(figure.median)} ({spread})"
                lines.append(f"| {title} | {figure.name} | {value} | {'' if ratio is None else f'{ratio:.2f}'} |")
            else:
                lines.append(f"| {title} | {figure.name} | not measured: {figure.missing} | |")
            title = ""
    rounds = max((result.rounds for result in results), default=0)
    lines += ["", f"{datetime.now(UTC):%d %B %Y}; {machine()}; medians of {rounds} rounds, all sides in each round."]
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> str:
    report: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(),
        "machine": machine(),
        "cases": [result.as_json() for result in results],
    }
    return json.dumps(report, indent=2) + "\n"


@dataclass(frozen=True)
class Panel:
    """The figures of a case that are of one kind, what was missing left out."""

    result: Result
    kind: str
    figures: list[Figure]

    @property
    def title(self) -> str:
        case = self.result.case
        kind = f", {self.kind}" if self.kind else ""
        return f"{case.title}{kind} ({case.unit}{'' if case.higher_is_better else ', less is better'})"

    def label(self, figure: Figure) -> str:
        return figure.name.removesuffix(f", {self.kind}") if self.kind else figure.name


def panels(results: Sequence[Result]) -> list[Panel]:
    """What a plot shows: the cases that are drawn, or all if none of them is."""
    chosen = [result for result in results if result.case.drawn] or list(results)
    found = []
    for result in chosen:
        measured = [figure for figure in result.figures.values() if figure.values]
        for kind in dict.fromkeys(figure.kind for figure in measured):
            alike = [figure for figure in measured if figure.kind == kind]
            found.append(Panel(result, kind, sorted(alike, key=lambda figure: figure.median)))
    return found


def plot(results: Sequence[Result], path: Path) -> None:
    """A panel for each case and kind, a bar for each figure, whiskers from the lowest to the highest round."""
    try:
        import matplotlib
    except ImportError:
        raise MissingError("the plot needs matplotlib: pip install 'lwipy[bench]'") from None
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a tenth of the size
    from matplotlib import pyplot

    shown = panels(results)
    if not shown:
        raise MissingError("nothing was measured, so there is nothing to plot")
    columns = 2 if len(shown) > 1 else 1
    rows = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    heights = [0.8 + 0.3 * max(len(panel.figures) for panel in row) for row in rows]
    figure, axes = pyplot.subplots(
        len(rows), columns, figsize=(6 * columns, sum(heights) + 0.4), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, places in zip(rows, axes, strict=True):
        for place in places[len(row) :]:
            place.set_axis_off()
        for panel, place in zip(row, places, strict=False):
            _draw(panel, place)
    rounds = max(panel.result.rounds for panel in shown)
    figure.supxlabel(
        f"{datetime.now(UTC):%d %B %Y}; {machine()}; medians of {rounds} rounds, all sides in turn", fontsize=7
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    if path.suffix == ".svg":
        path.write_text(re.sub(r"<!--.*?-->|\n\s*", lambda found: found[0][:1].strip("<"), path.read_text()))


def _draw(panel: Panel, place: Any) -> None:
    bars = panel.figures
    medians = [one.median for one in bars]
    spread = [[one.median - one.lowest for one in bars], [one.highest - one.median for one in bars]]
    colours = ["#2a6f97" if one.name.startswith(panel.result.case.ours) else "#adb5bd" for one in bars]
    drawn = place.barh([panel.label(one) for one in bars], medians, xerr=spread, color=colours, ecolor="#495057")
    place.bar_label(drawn, [_number(median) for median in medians], fontsize=7, padding=3)
    if max(medians) > 50 * min(medians) > 0:
        place.set_xscale("log")
        place.set_xlim(min(medians) / 3, max(one.highest for one in bars) * 4)
        place.xaxis.set_major_formatter("{x:g}")
    else:
        place.set_xlim(0, max(one.highest for one in bars) * 1.15)
    place.set_title(panel.title, fontsize=8, loc="left")
    place.minorticks_off()
    place.tick_params(labelsize=7, length=0)
