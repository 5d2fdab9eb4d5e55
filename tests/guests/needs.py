"""What a machine must have for guests to run on it; a test that misses something says so and is skipped, except in
CI, where it fails: there nothing may be missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Literal

from .console import GuestError
from .image import AMD64, image
from .packages import PackageError
from .v86 import state

Emulator = Literal["qemu", "v86"]

# Program: the Debian package that has it.
PROGRAMS: dict[Emulator, dict[str, str]] = {
    "qemu": {"qemu-system-x86_64": "qemu-system-x86"},
    "v86": {"node": "nodejs", "npm": "npm"},
}
BUILDERS = {"apt-get": "apt", "dpkg-deb": "dpkg", "taskset": "util-linux"}


def missing(emulator: Emulator) -> str:
    """One sentence that names the programs this machine lacks to run guests in `emulator`; empty if it has all."""
    absent = [program for program in {**PROGRAMS[emulator], **BUILDERS} if not shutil.which(program)]
    return f"guests in {emulator} need {', '.join(absent)}, not found on this machine" if absent else ""


def build(emulator: Emulator) -> None:
    """Makes all that guests in `emulator` need and that is not in the cache yet.

    Raises PackageError, GuestError or OSError when something cannot be had.
    """
    if emulator == "qemu":
        image(AMD64)
    else:
        state("ne2k")
        state("virtio")


def need(emulator: Emulator) -> None:
    """To be called by a test (or fixture) before it starts a guest: builds what is to be built; skips the test, or
    fails it if the environment has CI, when this machine cannot run guests in `emulator`."""
    # Preparing a machine must not need pytest.
    import pytest

    lack = missing(emulator)
    if not lack:
        try:
            build(emulator)
        except (PackageError, GuestError, OSError, subprocess.SubprocessError) as error:
            lack = f"guests in {emulator} could not be built: {error}"
    if lack and os.environ.get("CI"):
        pytest.fail(lack, pytrace=False)
    if lack:
        pytest.skip(lack)
