"""Runs one of CPython's test modules inside :func:`lwipy.patched` and says, as JSON, how each test went.

    python -m stdlib.child test.test_socket [PATTERN...]

The server and the client of each test are sockets of one stack, which talk over its loopback, and the event loops that
tests make are :class:`lwipy.aio.StackEventLoop`. The module is imported inside the patches, because it derives classes
and looks for features when it is imported.
"""

from __future__ import annotations

import asyncio
import faulthandler
import fnmatch
import importlib
import io
import json
import os
import sys
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import lwipy
from lwipy.aio import StackEventLoop
from stdlib import left_out


class Record(unittest.TextTestResult):
    """Keeps what happened to each test."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.went: dict[str, list[str]] = {}

    def _note(self, test: unittest.TestCase, how: str, why: str = "") -> None:
        self.went[test.id()] = [how, why]

    def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 (unittest's names)
        super().addSuccess(test)
        self.went.setdefault(test.id(), ["passed", ""])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self._note(test, "skipped", "expected to fail")

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._note(test, "failed", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", (self.failures + self.errors)[-1][1])


def flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flatten(test)
        else:
            yield test


@contextmanager
def lent_loops(stack: lwipy.Stack) -> Iterator[None]:
    """asyncio.SelectorEventLoop, and what asyncio.new_event_loop() makes, are loops on the stack."""

    class LentLoop(StackEventLoop):
        def __init__(self, selector: Any = None) -> None:
            super().__init__(stack, selector)

    with (
        mock.patch("asyncio.SelectorEventLoop", LentLoop),
        mock.patch.object(asyncio.DefaultEventLoopPolicy, "_loop_factory", LentLoop),
    ):
        yield


def run(name: str, patterns: list[str]) -> dict[str, list[str]]:
    """Test ids with how they went ("passed", "skipped", "left out", "failed") and why."""
    from test import support

    support.use_resources = ["network", "walltime", "cpu"]  # the network is the stack's; no large files
    went: dict[str, list[str]] = {}
    with lwipy.Stack() as stack, lwipy.patched(stack), lent_loops(stack):
        stack.add_interface(ipv4="192.0.2.1/24", name="eth0")
        suite, wanted = unittest.TestSuite(), unittest.TestSuite()
        suite.addTests(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)))
        for test in flatten(suite):
            if patterns and not any(fnmatch.fnmatchcase(test.id(), f"*{pattern}*") for pattern in patterns):
                continue
            why = left_out.reason(test.id())
            if why is None:
                wanted.addTest(test)
            else:
                went[test.id()] = ["left out", why]
        runner = unittest.TextTestRunner(stream=sys.stderr, verbosity=2, resultclass=Record, warnings="default")
        result = runner.run(wanted)
        assert isinstance(result, Record)
        return went | result.went


def main() -> None:
    faulthandler.dump_traceback_later(float(os.environ.get("STDLIB_TIMEOUT", "280")), exit=True)
    answer = sys.stdout
    sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(2), "wb"))  # what tests print is not the answer
    json.dump(run(sys.argv[1], sys.argv[2:]), answer)
    answer.flush()
    # Threads that tests left behind shall not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
