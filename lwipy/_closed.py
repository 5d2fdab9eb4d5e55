"""What becomes of a stack that is closed: an object of another class, so that open ones need not ask."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import ffi
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    from lwipy.stack import Stack


class _Closed:
    """What a closed stack is besides: the attributes that it lacks are told by name."""

    @property
    def closed(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name in ("_core", "_way"):
            raise StackClosedError
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


_kinds: Final[dict[type[Stack], Any]] = {}


def closed_kind(kind: type[Stack]) -> Any:
    """What `kind`, a class of stacks, becomes when one of them is closed."""
    if kind not in _kinds:
        _kinds[kind] = type(kind.__name__, (_Closed, kind), {"__module__": kind.__module__})
    return _kinds[kind]


#: All of this process.
STACKS: Final[weakref.WeakSet[Stack]] = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """In the child of a fork(): its copies of stacks have no driver, and their locks may be held for ever."""
    for stack in list(STACKS):
        core = stack.__dict__.pop("_core", None)
        if core is not None:
            stack.__class__ = closed_kind(type(stack))
            del stack._way
            ffi.gc(core, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
