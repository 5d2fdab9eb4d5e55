"""Runs CPython's test modules, each in a process of its own, and adds up how they went."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from stdlib.interpreters import Interpreter

#: Those that take longest first, for several run at once.
MODULES: Final = (
    "test_imaplib", "test_socket", "test_xmlrpc", "test_asyncio.test_events", "test_asyncio.test_ssl",
    "test_socketserver", "test_httpservers", "test_httplib", "test_smtplib", "test_urllib2_localnet", "test_ftplib",
    "test_poplib", "test_asyncio.test_streams", "test_asyncio.test_sock_lowlevel", "test_asyncio.test_sendfile",
    "test_asyncio.test_server", "test_asyncio.test_buffered_proto", "test_asyncio.test_sslproto",
)  # fmt: skip
_SECONDS: Final = 280
_TRIES: Final = 3
#: Modules that run at the same time: mostly they wait.
AT_ONCE: Final = 4


@dataclass
class Tally:
    """How the tests of one class went."""

    passed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass
class Outcome:
    """How a module went: by class, and the text of each failure by test."""

    classes: dict[str, Tally]
    failures: dict[str, str]


def run(interpreter: Interpreter, module: str) -> Outcome:
    """What failed is tried again, by itself, as CPython's own runner does: many tests wait a second at most."""
    went = _run(interpreter, module, ())
    for _ in range(_TRIES - 1):
        failed = [test for test, (how, _) in went.items() if how == "failed"]
        if failed:
            went |= _run(interpreter, module, failed)
    return _add_up(went)


def _run(interpreter: Interpreter, module: str, tests: Iterable[str]) -> dict[str, list[str]]:
    # They leave files where they are, when they are stopped.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        child = subprocess.run(
            [interpreter.executable, "-m", "stdlib.child", f"test.{module}", *tests],
            cwd=folder,
            env=interpreter.environment() | {"STDLIB_TIMEOUT": str(_SECONDS)},
            capture_output=True,
            text=True,
            timeout=_SECONDS + 20,
        )
    if child.returncode != 0 or not child.stdout:
        print(child.stderr[-20_000:], file=sys.stderr)
        raise RuntimeError(f"{module} ended with status {child.returncode}")
    went: dict[str, list[str]] = json.loads(child.stdout)
    return went


def _add_up(went: dict[str, list[str]]) -> Outcome:
    outcome = Outcome({}, {})
    for test, (how, why) in went.items():
        tally = outcome.classes.setdefault(test.split(".")[-2] if "." in test else test, Tally())
        if how == "passed":
            tally.passed += 1
        elif how == "failed":
            outcome.failures[test] = why
        else:
            (tally.skipped if how == "skipped" else tally.left_out)[why] += 1
    return outcome
