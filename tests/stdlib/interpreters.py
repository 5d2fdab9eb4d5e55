"""The interpreters of this machine that have CPython's tests and can load the extension, which is the same for all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VERSIONS: Final = ("3.11", "3.12", "3.13")

_ASK: Final = "import sys, platform, test.test_socket; print(sys.executable, platform.python_version())"


@dataclass(frozen=True)
class Interpreter:
    """`executable` can import lwipy, given :meth:`environment`; `version` has three numbers."""

    executable: str
    version: str

    @property
    def series(self) -> str:
        return ".".join(self.version.split(".")[:2])

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}


@cache
def found() -> list[Interpreter]:
    """This interpreter first, then one for each other version that is installed here."""
    here = _ask(sys.executable)
    interpreters = [here] if here is not None else []
    for version in VERSIONS:
        for command in _candidates(version):
            other = _ask(command)
            if other is not None and all(other.series != known.series for known in interpreters):
                interpreters.append(other)
    return interpreters


def _candidates(version: str) -> list[str]:
    """On the path, or where pyenv keeps those that it does not put there."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    return ([on_path] if on_path else []) + [str(path) for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]


def _ask(command: str) -> Interpreter | None:
    answer = subprocess.run([command, "-c", _ASK], capture_output=True, text=True)
    return Interpreter(*answer.stdout.split()) if answer.returncode == 0 else None


def with_cffi(interpreter: Interpreter) -> Interpreter:
    """The same, or one in an environment of its own that has cffi. CalledProcessError when that cannot be made."""
    if subprocess.run([interpreter.executable, "-c", "import cffi"], capture_output=True).returncode == 0:
        return interpreter
    folder = ROOT / ".cache" / "stdlib" / interpreter.version
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([interpreter.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "cffi"], check=True, capture_output=True)
        (folder / "ready").touch()
    return Interpreter(str(python), interpreter.version)
