"""The wall's clock for measurements that span threads and processes.

Some virtual machines' processors disagree about the time, by as much as a second, and a thread that moves between
them sees it jump. The kernel's coarse clock is kept by one of them and never does; its steps are 4 ms, so what is
measured with it lasts a good part of a second.
"""

from __future__ import annotations

import sys
import time
from typing import Final

_COARSE: Final = 6  # CLOCK_MONOTONIC_COARSE, which the time module has no name for


def now() -> float:
    """Seconds, the same on every processor."""
    return time.clock_gettime(_COARSE) if sys.platform == "linux" else time.monotonic()
