"""Buffers that receive calls borrow: what has arrived is copied out of them, so a large size costs nothing by itself.

Invariant: a buffer is in a pool or with one borrower, never both; a list's append and pop are atomic.
"""

from __future__ import annotations

from typing import Any, Final

from lwipy._native import ffi

#: Two sizes, bytes: one for any datagram and most reads, one for the largest read of a stream.
_SMALL: Final = 1 << 16
_LARGE: Final = 1 << 20
_KEPT: Final = 4
_small: Final[list[Any]] = []
_large: Final[list[Any]] = []


def borrow(size: int) -> Any:
    """A ``char[]`` of at least `size` bytes, or the largest there is. Its content is whatever was there."""
    pool, length = (_small, _SMALL) if size <= _SMALL else (_large, _LARGE)
    try:
        return pool.pop()
    except IndexError:
        return ffi.new("char[]", length)


def give_back(buffer: Any) -> None:
    pool = _small if len(buffer) == _SMALL else _large
    if len(pool) < _KEPT:
        pool.append(buffer)
