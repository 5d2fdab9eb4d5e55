"""The tables of what has passed: ``results/3.11.md`` and its like, one row for each class of each module."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Final

from stdlib.interpreters import Interpreter
from stdlib.suite import Outcome, Tally

_FOLDER: Final = Path(__file__).parent / "results"
_ROW: Final = re.compile(r"\| ([\w.]+) \| (\w+) \| (\d+) \|")
_HEAD: Final = """\
# CPython {version}: its own tests on the sockets of a stack

Server and client of each test are sockets of one stack, inside `lwipy.patched()`. What passed once must pass again
(`tests/test_stdlib.py`). "Skipped" is what the tests themselves skip here; "left out" has its reasons in `left_out.py`.

| Module | Class | Passed | Skipped | Left out |
|---|---|---|---|---|
"""


def path(interpreter: Interpreter) -> Path:
    return _FOLDER / f"{interpreter.series}.md"


def read(interpreter: Interpreter) -> tuple[str, dict[tuple[str, str], int]]:
    """The version that the table was made with, and how many tests of each class passed."""
    text = path(interpreter).read_text()
    version = re.search(r"CPython ([\d.]+)", text)
    if version is None:
        raise ValueError(f"{path(interpreter)} does not say which version of CPython it is of")
    return version[1], {(module, name): int(passed) for module, name, passed in _ROW.findall(text)}


def lost(interpreter: Interpreter, module: str, outcome: Outcome) -> list[str]:
    """What the table has and the outcome has not, in words. Other releases have other tests: no counts."""
    version, recorded = read(interpreter)
    if version != interpreter.version:
        return []
    return [
        f"{name}: {outcome.classes.get(name, Tally()).passed} passed, {count} did before"
        for (of, name), count in recorded.items()
        if of == module and outcome.classes.get(name, Tally()).passed < count
    ]


def write(interpreter: Interpreter, outcomes: dict[str, Outcome]) -> None:
    rows, total = [], 0
    for module, outcome in outcomes.items():
        for name, tally in sorted(outcome.classes.items()):
            total += tally.passed
            rows.append(
                f"| {module} | {name} | {tally.passed} | {_because(tally.skipped)} | {_because(tally.left_out)} |"
            )
    _FOLDER.mkdir(exist_ok=True)
    text = _HEAD.format(version=interpreter.version) + "\n".join(rows) + f"\n\n{total} tests pass.\n"
    path(interpreter).write_text(text)


def _because(reasons: Counter[str]) -> str:
    return "; ".join(f"{count}: {' '.join(why.split())}" for why, count in sorted(reasons.items())).replace("|", "/")
