"""Makes this machine ready for the tests that run guests: `python -m guests.prepare`, run in tests/.

As root it installs Debian's packages for what is missing; then it builds the images, so that the tests find them.
It can be run again at any time, and does then what is still to be done. What cannot be had is told in a line and is
no failure here: the tests that need it say so themselves.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from .console import GuestError
from .needs import PROGRAMS, Emulator, build, missing
from .packages import PackageError

# Beside the emulators: what tests with the kernel and with Debian's servers as peers use, and a compiler for Windows.
_OTHERS = {
    "ip": "iproute2", "ping": "iputils-ping", "taskset": "util-linux", "redis-server": "redis-server",
    "mosquitto": "mosquitto", "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64",
}  # fmt: skip


def install() -> str:
    """Installs the packages of all programs that are missing; one line that says what could not be, or nothing."""
    programs = {program: package for group in (*PROGRAMS.values(), _OTHERS) for program, package in group.items()}
    packages = sorted({package for program, package in programs.items() if not shutil.which(program)})
    if not packages:
        return ""
    if "npm" in packages:
        # npm asks its registry by https, and Debian's packages only recommend what that takes.
        packages.append("ca-certificates")
    if not shutil.which("apt-get"):
        return f"without apt-get these were not installed: {' '.join(packages)}"
    if os.geteuid():
        return f"without root these were not installed: {' '.join(packages)}"
    # In runlevel 1 no server is started by being installed.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    said = done.stderr.strip().splitlines()
    return f"apt-get could not install {' '.join(packages)}: {said[-1] if said else ''}" if done.returncode else ""


def main() -> None:
    if problem := install():
        print(f"guests: {problem}")
    emulators: tuple[Emulator, ...] = ("qemu", "v86")
    for emulator in emulators:
        began = time.monotonic()
        lack = missing(emulator)
        try:
            if not lack:
                build(emulator)
        except (PackageError, GuestError, OSError, subprocess.SubprocessError) as error:
            lack = f"guests in {emulator} could not be built: {error}"
        print(f"guests: {lack or f'those in {emulator} are ready ({time.monotonic() - began:.0f} s)'}", flush=True)


if __name__ == "__main__":
    main()
