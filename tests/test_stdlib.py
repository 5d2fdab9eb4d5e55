"""CPython's own tests on the sockets of a stack, with every interpreter of this machine; see ``stdlib/__init__.py``.

They mostly wait, so several run at once: each module in each interpreter is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from stdlib import table
from stdlib.interpreters import Interpreter, found, with_cffi
from stdlib.suite import AT_ONCE, MODULES, Outcome, run


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[tuple[Interpreter, str], Future[Outcome]]]:
    """Those that were asked for, begun. An interpreter that cannot have cffi is skipped, but not where all must run."""
    wanted: list[tuple[Any, Any]] = [
        (item.callspec.params["interpreter"], item.callspec.params["module"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_what_has_passed_passes.__name__
    ]
    usable: dict[Interpreter, Interpreter] = {}
    for interpreter in {interpreter: None for interpreter, _ in wanted}:
        try:
            usable[interpreter] = with_cffi(interpreter)
        except subprocess.CalledProcessError:
            if "CI" in os.environ:
                raise
    wanted.sort(key=lambda pair: MODULES.index(pair[1]))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {(one, module): pool.submit(run, usable[one], module) for one, module in wanted if one in usable}
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(700)
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("interpreter", found(), ids=lambda interpreter: interpreter.series)
def test_what_has_passed_passes(
    outcomes: dict[tuple[Interpreter, str], Future[Outcome]], interpreter: Interpreter, module: str
) -> None:
    if (interpreter, module) not in outcomes:
        pytest.skip(f"cffi cannot be installed for Python {interpreter.version}")
    outcome = outcomes[interpreter, module].result()
    assert not outcome.failures, "\n\n".join(f"{test}\n{text}" for test, text in outcome.failures.items())
    assert not table.lost(interpreter, module, outcome)
