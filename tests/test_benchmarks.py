"""The benchmarks' front: rounds, medians, table and JSON. No figure is judged here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import report  # noqa: E402
from benchmarks.__main__ import PROGRAMS  # noqa: E402
from benchmarks.figures import Case, MissingError, Sample, attempt, measure  # noqa: E402


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def case() -> Case:
    values = iter([(10.0, 5.0), (30.0, 4.0), (20.0, 6.0)])

    def once() -> Iterator[Sample]:
        ours, theirs = next(values)
        yield Sample("lwipy", ours)
        yield Sample("kernel", theirs)
        yield from attempt("absent", absent)

    return Case("made", "A made-up thing", "Gbit/s", once, reference="kernel")


def absent() -> float:
    raise MissingError("absent is not installed")


def test_medians_spread_and_ratios() -> None:
    result = measure(case(), 3, lambda sample: None)
    figure = result.figures["lwipy"]
    assert (figure.median, figure.lowest, figure.highest) == (20, 10, 30)
    assert result.ratio(figure) == 4
    assert json.loads(json.dumps(result.as_json()))["figures"][1]["values"] == [5, 4, 6]


def test_the_table_names_what_is_missing() -> None:
    table = report.markdown([measure(case(), 3, lambda sample: None)])
    assert "| A made-up thing, Gbit/s | lwipy | 20 (10 to 30) | 4.00 |" in table
    assert "|  | absent | not measured: absent is not installed | |" in table
    assert "medians of 3 rounds" in table


def test_ratios_are_within_a_kind_and_to_the_best_peer() -> None:
    def once() -> Iterator[Sample]:
        yield Sample("lwipy, up", 2.0, kind="up")
        yield Sample("one, up", 1.0, kind="up")
        yield Sample("other, up", 4.0, kind="up")
        yield Sample("one, down", 100.0, kind="down")

    for higher, ratio in ((True, 0.5), (False, 2.0)):
        result = measure(Case("made", "Made up", "s", once, higher_is_better=higher, reference=("one", "other")), 1)
        assert result.ratio(result.figures["lwipy, up"]) == ratio


def test_a_plot_has_a_panel_for_each_kind(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")

    def once() -> Iterator[Sample]:
        yield Sample("lwipy, TAP, up", 6.0, kind="up")
        yield Sample("PyTCP, up", 0.001, kind="up")
        yield Sample("lwipy, TAP, down", 5.0, kind="down")
        yield Sample("absent, down", None, "absent is not installed", "down")

    drawn = measure(Case("made", "A made-up thing", "Gbit/s", once, drawn=True), 2)
    results = [drawn, measure(case(), 3)]
    up, down = report.panels(results)
    assert [up.label(figure) for figure in up.figures] == ["PyTCP", "lwipy, TAP"]
    assert [down.label(figure) for figure in down.figures] == ["lwipy, TAP"]
    report.plot(results, tmp_path / "plot.svg")
    picture = (tmp_path / "plot.svg").read_text()
    assert "A made-up thing, up (Gbit/s)" in picture
    assert "kernel" not in picture
    assert report.panels([measure(case(), 3)]), "where no case is drawn by default, all are"


def test_a_run_writes_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    done = run("frames", "--rounds", "1", "--json", str(path))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(path.read_text())["cases"]
    assert [figure["name"] for figure in found["figures"]] == ["out, buffer", "in, buffer", "out, list", "in, list"]
    assert all(figure["median"] > 0 for figure in found["figures"])
    assert "frames: round 1 of 1" in done.stderr
    assert " s in all" in done.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["frames", "--rounds", "0"]])
def test_wrong_arguments_are_named(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe does not say there that its reader is gone")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_cut_ends_it_without_a_traceback(unbuffered: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "connections", "--help"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert program.stdout is not None
    program.stdout.close()
    assert program.communicate()[1] == b""


def test_help_lists_the_benchmarks() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("pair", "frames", "group", "peers", "qemu", "http", "profile"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_say_what_they_take(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m benchmarks {name}" in done.stdout
