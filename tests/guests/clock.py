"""Where an emulator can trust the host's clock.

An emulated PC takes its TSC from the host's. On some hosts (virtual machines resumed from a snapshot) the cores'
TSCs lie seconds apart: then a guest's clock leaps whenever its thread moves to another core, timers of seconds end
at once, and TCP takes every packet for lost; and on the core that is behind, the host's own monotonic clock stands
still between two ticks.  On such a host an emulator is kept on one core whose clock runs.
"""

from __future__ import annotations

import os
import threading
import time
from functools import lru_cache
from pathlib import Path

_CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
# Longer than the 4 ms between two ticks of the kernel's, after which the cores' clocks have been compared.
_LOOK_SECONDS = 0.005
_ROUNDS = 2
# A clock that runs differs at each look, thousands of times in 5 ms; one that stands still changes at the tick.
_FEW = 20


@lru_cache(maxsize=1)
def keep_steady() -> tuple[str, ...]:
    """What to put before an emulator's command line: nothing, or `taskset` with the one core to stay on."""
    cores = os.sched_getaffinity(0)
    steady: list[int] = []
    # A thread of its own, so that the caller's affinity stays what it is.
    looking = threading.Thread(target=lambda: steady.extend(_steady(cores)))
    looking.start()
    looking.join()
    if set(steady) == cores and _CLOCKSOURCE.exists() and _CLOCKSOURCE.read_text().strip() == "tsc":
        return ()
    return ("taskset", "-c", str(min(steady or cores)))


def _steady(cores: set[int]) -> set[int]:
    """The cores whose monotonic clock runs; moves the calling thread about."""
    steady = set(cores)
    for core in sorted(cores) * _ROUNDS:
        os.sched_setaffinity(0, {core})
        if _distinct_readings() <= _FEW:
            steady.discard(core)
    return steady


def _distinct_readings() -> int:
    # By thread time, since the clock that is looked at may stand still.
    limit = time.thread_time() + _LOOK_SECONDS
    seen = set()
    while time.thread_time() < limit:
        seen.add(time.monotonic_ns())
    return len(seen)
