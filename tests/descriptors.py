"""This process's open descriptors, for tests that leave none behind."""

from __future__ import annotations

import contextlib
from pathlib import Path


def descriptors() -> set[str]:
    """The open descriptors and what they are.

    For what is open that was not: their number may fall at any time, when garbage of an earlier test is collected.
    """
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the look itself has one
            found.add(f"{entry.name} {entry.readlink()}")
    return found
