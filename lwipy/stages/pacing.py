"""A burst limit towards the wire: ``csrc/pace.c`` set and asked from Python."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import ffi, lib
from lwipy.stages.base import Stage
from lwipy.stages.impairment import check_count, check_number

if TYPE_CHECKING:
    from lwipy.interface import Interface

_GREATEST_BURST: Final = 4096
_LONGEST: Final = 3600.0


@dataclass(frozen=True)
class Pacing:
    """At most `burst` frames, and `burst_bytes` bytes, in any `interval` seconds; `queue` frames may wait.

    That alone is blind: when the host's scheduler holds up an emulator, it finds many intervals' frames at once. So
    each TCP connection over the interface also keeps at most `in_flight` segments unacknowledged, what the card holds:
    twice the burst unless told otherwise, 0 for no such limit.

    The defaults are for the emulated NE2000 of QEMU and v86, which holds eight full frames and drops the rest without
    a word. A card with more buffers takes a larger burst; an `interval` of 1e-6 leaves it all to `in_flight`.
    `burst_bytes` lets many small frames through together: ``Pacing(burst=24, burst_bytes=6056, in_flight=8)``.
    """

    burst: int = 4
    interval: float = 0.001
    burst_bytes: int | None = None
    queue: int = 1024
    in_flight: int | None = None

    def __post_init__(self) -> None:
        check_count("burst", self.burst, _GREATEST_BURST)
        check_number("interval", self.interval)
        if not 1e-6 <= self.interval <= _LONGEST:
            raise ValueError(f"interval {self.interval} is out of range: expected 1e-6 to 3600 seconds")
        if self.burst_bytes is not None:
            check_count("burst_bytes", self.burst_bytes, 2**63 - 1)
        check_count("queue", self.queue, 2**32 - 1)
        if self.in_flight is not None and self.in_flight != 0:
            check_count("in_flight", self.in_flight, 65535)

    def _pack(self) -> Any:
        return ffi.new(
            "lwipy_pacing *",
            {
                "burst": self.burst,
                "burst_bytes": self.burst_bytes or 0,
                "interval": round(self.interval * 1e6),
                "queue": self.queue,
                "in_flight": 2 * self.burst if self.in_flight is None else self.in_flight,
            },
        )


@dataclass(frozen=True)
class PacingCounters:
    """Frames that went on (`passed`), those that had to wait (`waited`) or still do (`waiting`).

    Those dropped because the queue was full are `queue_full`; the interface's `tx_full` counts them too.
    """

    passed: int = 0
    waited: int = 0
    queue_full: int = 0
    waiting: int = 0


class PaceStage(Stage):
    """The stage behind :attr:`Interface.pacing`: next to the wire, behind whatever wraps the link."""

    def __init__(self, pacing: Pacing) -> None:
        super().__init__()
        self._pacing = pacing
        self._counters = PacingCounters()

    def place(self, interface: Interface) -> None:
        core, number = interface.stack._core, interface.number
        self._place(interface, lib.lwipy_pace_add(core, number, self._pacing._pack()))

    @property
    def pacing(self) -> Pacing:
        return self._pacing

    @pacing.setter
    def pacing(self, pacing: Pacing) -> None:
        self._check(lib.lwipy_pace_set(*self._where, pacing._pack()))
        self._pacing = pacing
        if self.interface is not None:
            self.interface.stack._after()  # what waits may go sooner now

    @property
    def counters(self) -> PacingCounters:
        if self.interface is not None:
            self._remember()
        return self._counters

    def _remember(self) -> None:
        out = ffi.new("lwipy_pace_counters *")
        self._check(lib.lwipy_pace_get_counters(*self._where, out))
        self._counters = PacingCounters(*(getattr(out, f.name) for f in fields(PacingCounters)))
