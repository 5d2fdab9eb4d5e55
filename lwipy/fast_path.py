"""What makes a stack fast, by name: for tests that run without it, and for measurements."""

from __future__ import annotations

import enum

from lwipy._native import lib


class FastPath(enum.IntFlag):
    """Mechanisms that a :class:`lwipy.Stack` can be made without. Each is a file of ``csrc/`` with its theory."""

    MERGE = lib.LWIPY_WITHOUT_MERGE  #: frames of a batch become one segment (merge.c)
    ONE_ACK = lib.LWIPY_WITHOUT_ONE_ACK  #: one acknowledgement for a batch (ack.c)
