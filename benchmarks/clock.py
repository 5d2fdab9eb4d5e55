"""The wall's clock for measurements that span threads and processes.

Some virtual machines' processors disagree about the time, by as much as a second, and a thread that moves between
them sees it jump. The kernel's coarse clock is kept by one of them and never does; its steps are 4 ms, so what is
measured with it lasts a good part of a second.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_COARSE: Final = 6  # CLOCK_MONOTONIC_COARSE, which the time module has no name for


def now() -> float:
    """Seconds, the same on every processor."""
    return time.clock_gettime(_COARSE) if sys.platform == "linux" else time.monotonic()


@contextmanager
def on_one_processor() -> Iterator[None]:
    """Keeps this thread where it is, for clocks of different processors may differ. The other threads run anywhere."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
