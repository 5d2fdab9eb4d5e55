"""An interface's side of the stages: what it has between itself and the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Unpack, cast

from lwipy.stages.capture import GREATEST_SNAPLEN, Capture, Target
from lwipy.stages.impairment import Direction, ImpairStage, Settings
from lwipy.stages.pacing import PaceStage, Pacing, PacingCounters

if TYPE_CHECKING:
    from lwipy.interface import Interface
    from lwipy.stages.base import Stage


class Staged:
    """The part of :class:`lwipy.Interface` that puts stages in place and keeps count of them."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []
        self._impairment: ImpairStage | None = None
        self._pace: PaceStage | None = None

    @property
    def _interface(self) -> Interface:
        return cast("Interface", self)

    def impair(
        self, *, direction: Direction = "both", seed: int | None = None, **settings: Unpack[Settings]
    ) -> ImpairStage:
        """Makes the network behind this interface worse, or better again; see :class:`lwipy.stages.Impairment`.

        The first call puts a stage in place, further ones change what they name. The answer tells the counters and
        the seed, and its remove() ends it all. ValueError names a bad value.
        """
        stage = self._impairment
        if stage is None or stage.interface is None:
            stage = ImpairStage(seed=seed, direction=direction, **settings)
            stage.place(self._interface)
            self._impairment = stage
        else:
            stage.set(direction, **settings)
            if seed is not None:
                stage.seed = seed
        return stage

    @property
    def pacing(self) -> Pacing | None:
        """The burst limit towards the wire: assign ``Pacing(burst=4, interval=0.001)``, or None for no limit."""
        return self._pace.pacing if self._pace is not None else None

    @pacing.setter
    def pacing(self, pacing: Pacing | None) -> None:
        if pacing is None:
            stage, self._pace = self._pace, None
            if stage is not None:
                stage.remove()
        elif self._pace is not None:
            self._pace.pacing = pacing
        else:
            stage = PaceStage(pacing)
            stage.place(self._interface)
            self._pace = stage

    @property
    def pacing_counters(self) -> PacingCounters:
        """What the burst limit did since it was set; zeros without one."""
        return self._pace.counters if self._pace is not None else PacingCounters()

    def capture(
        self,
        target: Target,
        *,
        snaplen: int = GREATEST_SNAPLEN,
        at: Literal["wire", "stack"] = "wire",
        start: float | None = None,
    ) -> Capture:
        """Writes every frame, in both directions, to a file that Wireshark reads; see :class:`lwipy.stages.Capture`.

        `target` is a path, a descriptor or an open file. OSError when it cannot be opened or written to.
        """
        capture = Capture(target, snaplen=snaplen, at=at, start=start)
        capture.place(self._interface)
        return capture

    def _look_for_trouble(self) -> None:
        for stage in list(self._stages):
            stage._look_for_trouble()

    def _retire_stages(self) -> None:
        """Their end in the core is near."""
        for stage in list(self._stages):
            stage._retire()
