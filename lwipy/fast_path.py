"""What makes a stack fast, by name: for tests that run without it, and for measurements."""

from __future__ import annotations

import enum

from lwipy._native import lib


class FastPath(enum.IntFlag):
    """Mechanisms that a :class:`lwipy.Stack` can be made without. Each is a file of ``csrc/`` with its theory."""

    MERGE = lib.LWIPY_WITHOUT_MERGE  #: frames of a batch become one segment (merge.c)
    ONE_ACK = lib.LWIPY_WITHOUT_ONE_ACK  #: one acknowledgement for a batch (ack.c)
    DEMUX = lib.LWIPY_WITHOUT_DEMUX  #: connections are found by their hash (demux.c)
    BLOCKS = lib.LWIPY_WITHOUT_BLOCKS  #: frames of a wire are copied once, to where they are read from (blocks.c)
    HOLDING = lib.LWIPY_WITHOUT_HOLDING  #: large sends of bytes are not copied (held.c)
    WIRE_OFFLOAD = lib.LWIPY_WITHOUT_WIRE_OFFLOAD  #: a wire carries TCP segments uncut (wire_offload.c)
    LENDING = lib.LWIPY_WITHOUT_LENDING  #: what is held crosses a wire by reference (lend.c)
    TAIL = lib.LWIPY_WITHOUT_TAIL  #: what is sent is appended to what is in flight without a walk over it (output.c)
    FOLLOWING = lib.LWIPY_WITHOUT_FOLLOWING  #: of segments that leave as one frame, one gets headers (output.c)
    LANES = lib.LWIPY_WITHOUT_LANES  #: frames go between the threads of a group without a lock (lane.c)
    LONG_FRAMES = lib.LWIPY_WITHOUT_LONG_FRAMES  #: frames for a device that cuts are not bound to 64 KB (bundle.c)
    TEMPO = lib.LWIPY_WITHOUT_TEMPO  #: a window is sent at a rate, not in bursts; on ways of 2 ms and more (tempo.c)
    ERRANDS = lib.LWIPY_WITHOUT_ERRANDS  #: who drives receives and sends for the threads that wait (errand.c)

    @classmethod
    def named(cls, names: str) -> FastPath:
        """Those of a list such as ``"merge,demux"``. ValueError for one that there is not."""
        found = cls(0)
        for name in filter(None, names.upper().split(",")):
            if name not in cls.__members__:
                raise ValueError(f"{name.lower()!r} is no part of the fast path: expected {', '.join(cls.__members__)}")
            found |= cls[name]
        return found
