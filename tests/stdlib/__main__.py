"""Runs CPython's tests on a stack with every interpreter that is found, and writes the tables.

    cd tests && python -m stdlib [MODULE...]        without modules: all of them, and the tables are written

It writes no table where a test failed or one that passed before does not.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from stdlib import table
from stdlib.interpreters import Interpreter, found, with_cffi
from stdlib.suite import AT_ONCE, MODULES, Outcome, run


def main(modules: list[str]) -> int:
    failed = False
    wanted = modules or list(MODULES)
    for interpreter in map(with_cffi, found()):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = dict(zip(wanted, pool.map(partial(_run, interpreter), wanted), strict=True))
        good = all(not outcome.failures for outcome in outcomes.values())
        if table.path(interpreter).exists():
            lost = [line for module, outcome in outcomes.items() for line in table.lost(interpreter, module, outcome)]
            print("\n".join(lost), end="\n" if lost else "")
            good &= not lost
        if good and not modules:
            table.write(interpreter, outcomes)
        failed |= not good
    return int(failed)


def _run(interpreter: Interpreter, module: str) -> Outcome:
    outcome = run(interpreter, module)
    passed = sum(tally.passed for tally in outcome.classes.values())
    print(f"{interpreter.version} {module}: {passed} passed, {len(outcome.failures)} failed", flush=True)
    for test, text in outcome.failures.items():
        print(f"{test}\n{text}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
