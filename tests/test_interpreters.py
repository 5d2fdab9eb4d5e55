"""Sub-interpreters: those that share the GIL have stacks of their own; those with a GIL of their own say why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lwipy

TALK = """
import lwipy
with lwipy.Stack() as a, lwipy.Stack() as b:
    lwipy.wire(a.add_interface(ipv4="10.0.0.1/24"), b.add_interface(ipv4="10.0.0.2/24"))
    with a.create_server(("10.0.0.1", 80)) as server, b.create_connection(("10.0.0.1", 80), timeout=60) as client:
        sock, _ = server.accept()
        with sock:
            sock.sendall(b"from inside")
            assert client.recv(100) == b"from inside"
"""

INTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
except ImportError:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
exec(talk)
for _ in range(3):
    one = create()
    failure = interpreters.run_string(one, talk)
    assert failure is None, failure
    interpreters.destroy(one)
exec(talk)
print("all have talked")
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: an interpreter that fails may take it along."""
    command = [sys.executable, "-c", f"talk = {TALK!r}\n{script}"]
    # A sub-interpreter does not look into the present folder.
    found = {**os.environ, "PYTHONPATH": str(Path(lwipy.__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=found)


def test_interpreters_that_share_the_gil_have_stacks_of_their_own() -> None:
    done = run(INTERPRETERS)
    assert (done.returncode, done.stdout.strip()) == (0, "all have talked"), done.stderr


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.11 and 3.12 cannot be asked for one from Python")
def test_an_interpreter_with_its_own_gil_is_told_what_is_wrong() -> None:
    script = """
import _interpreters
one = _interpreters.create("isolated")
failure = _interpreters.run_string(one, talk)
print(failure.msg if failure is not None else "worked")
_interpreters.destroy(one)
"""
    assert "does not support loading in subinterpreters" in run(script).stdout
