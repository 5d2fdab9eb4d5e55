"""What stacks send without a copy: kept alive until nobody reads it any more.

The bytes of a large send are not copied: the core refers to the sender's object until they are acknowledged or the
connection is gone (``csrc/held.c``), and a stack at the other end of a wire until it has read them (``csrc/lend.c``),
which may be after the sender was closed. Only what can neither change nor move is sent so, which is ``bytes`` and views
of it. ``csrc/python/notes.c`` keeps those objects, and has the theory.
"""

from __future__ import annotations

from typing import Any, Final

from lwipy._native import calls, ffi, lib

#: Bytes below which copying is cheaper than keeping count.
LEAST: Final = 16 * 1024


class Held:
    """The objects that one stack sends. Sends of `least` bytes and more are held."""

    __slots__ = ("_notes", "least")

    def __init__(self, least: int) -> None:
        self.least = least
        self._notes = calls.notes()

    def __len__(self) -> int:
        return int(calls.held(self._notes))

    def way(self, core: Any) -> Any:
        """What the functions of :data:`calls` take in the core's place. It keeps the core alive."""
        return calls.way(int(ffi.cast("uintptr_t", core)), core, self._notes, self.least)

    def end(self, core: Any, close: Any = lib.lwipy_close, collect: Any = calls.collect) -> None:
        """Frees the core, which reads nothing any more then."""
        close(core)
        collect(self._notes)
