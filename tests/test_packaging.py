"""Packaging: what a user installs, built the way a user builds it, without the network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: Over names and contents of lwip/src/**/*.[ch], sorted by name.
LWIP_2_2_1 = "f20702a7e7d96d52219dc70eac7e31bad4a618a1207cd02927f6d7e32ba13ab0"


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PIP_NO_INDEX": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of this tree and the wheel that was built from the sdist."""
    source = tmp_path_factory.mktemp("tree") / "lwipy"
    unwanted = shutil.ignore_patterns(".git", ".venv", ".cache", "build", "dist", "*.so", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, source, ignore=unwanted, symlinks=True)
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=out)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


def test_the_sdist_carries_all_that_a_build_needs(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "csrc/lwipy.h",
        "csrc/arch/cc.h",
        "lwip/src/core/tcp_in.c",
        "lwip/src/Filelists.mk",
        "lwip/COPYING",
    } <= names
    assert {"build_ffi.py", "pyproject.toml", "LICENSE", "lwipy/py.typed"} <= names


def test_the_wheel_serves_every_python_from_3_11(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert "-cp311-abi3-" in path.name
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert any(name.startswith("lwipy/_lwip.abi3.") for name in names)
    assert "lwipy/py.typed" in names
    assert any(name.endswith("licenses/lwip/COPYING") for name in names)
    assert not any(name.startswith(("tests", "csrc", "lwip/")) for name in names)


def test_the_installed_wheel_works_away_from_the_tree(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    installed = run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    program = "import lwipy; s = lwipy.Stack(); s.add_interface(ipv4='10.0.0.1/24'); print(lwipy.__file__)"
    done = run(sys.executable, "-c", program, cwd=tmp_path, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout


def test_a_tree_without_lwip_says_what_to_run(tmp_path: Path) -> None:
    for name in ("csrc", "lwipy", "build_ffi.py", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "lwip").mkdir()
    done = run(sys.executable, "-m", "build", "--no-isolation", "--wheel", ".", cwd=tmp_path)
    assert done.returncode != 0
    assert "run tools/fetch_lwip.sh" in done.stdout + done.stderr


def test_lwip_is_unmodified() -> None:
    """The sources that are compiled are those of the release, byte for byte."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "lwip" / "src").rglob("*.[ch]")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    assert digest.hexdigest() == LWIP_2_2_1
