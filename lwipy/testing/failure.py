"""Failures on demand, for tests of programs that must bear them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lwipy._native import lib

if TYPE_CHECKING:
    from lwipy.stack import Stack


def fail(stack: Stack, text: str = "failed by a test") -> None:
    """Ends `stack` the way a failed lwIP assertion does: its next call raises StackError with `text`."""
    lib.lwipy_fail(stack._core, text.encode())
