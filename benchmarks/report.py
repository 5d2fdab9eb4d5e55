"""The figures as a table for people, as JSON, and as a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import MissingError, Result


def machine() -> str:
    """One line: system, processors, Python."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = f"{names[0]}, " if names else ""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return f"{model}{os.cpu_count()} cores, {system}, CPython {platform.python_version()}"


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


def plot(results: Sequence[Result], path: Path) -> None:
    """A panel for each case, a bar for each figure, whiskers from the lowest to the highest round."""
    try:
        import matplotlib
    except ImportError:
        raise MissingError("the plot needs matplotlib: pip install 'lwipy[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [result for result in results if any(figure.values for figure in result.figures.values())]
    if not shown:
        raise MissingError("nothing was measured, so there is nothing to plot")
    heights = [1 + 0.35 * len(result.figures) for result in shown]
    figure, panels = pyplot.subplots(
        len(shown), figsize=(9, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for result, (panel,) in zip(shown, panels, strict=True):
        bars = [one for one in result.figures.values() if one.values][::-1]
        medians = [one.median for one in bars]
        spread = [[one.median - one.lowest for one in bars], [one.highest - one.median for one in bars]]
        colours = ["#2a6f97" if one.name.startswith(result.case.ours) else "#adb5bd" for one in bars]
        panel.barh([one.name for one in bars], medians, xerr=spread, color=colours, ecolor="#495057", capsize=2)
        better = "more" if result.case.higher_is_better else "less"
        panel.set_title(f"{result.case.title} ({result.case.unit}, {better} is better)", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
    rounds = max(result.rounds for result in shown)
    figure.supxlabel(f"{datetime.now(UTC):%d %B %Y}; {machine()}; medians of {rounds} rounds", fontsize=7)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
