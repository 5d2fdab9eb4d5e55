"""CPython's own tests on the sockets of a stack, with every interpreter of this machine; see ``stdlib/__init__.py``."""

from __future__ import annotations

import subprocess

import pytest
from stdlib import table
from stdlib.interpreters import Interpreter, found, with_cffi
from stdlib.suite import MODULES, run


@pytest.mark.timeout(700)
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("interpreter", found(), ids=lambda interpreter: interpreter.series)
def test_what_has_passed_passes(interpreter: Interpreter, module: str) -> None:
    try:
        usable = with_cffi(interpreter)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cffi cannot be installed for Python {interpreter.version}: {error}")
    outcome = run(usable, module)
    assert not outcome.failures, "\n\n".join(f"{test}\n{text}" for test, text in outcome.failures.items())
    assert not table.lost(usable, module, outcome)


def test_an_interpreter_with_cpythons_tests_is_here() -> None:
    assert found(), "CPython's package `test` is missing: Debian has it as libpython3-testsuite"
