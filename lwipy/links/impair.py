"""A bad network around a link."""

from __future__ import annotations

from typing import Unpack

from lwipy.links.base import Link
from lwipy.links.wrapper import Wrapper
from lwipy.stages.impairment import Direction, ImpairStage, Settings


class Impair(Wrapper):
    """Loses, delays, reorders, repeats and corrupts what passes between an interface and `link`, in C.

    `link` may be None: an interface that is driven by hand or wired. The settings are those of
    :class:`lwipy.stages.Impairment`, for one `direction` ("in" is from the wire) or both, and can be changed
    at any time by :meth:`set`. Everything random follows from `seed`; without one it is drawn, and
    :attr:`seed` tells it. ValueError names a bad value.
    """

    stage: ImpairStage

    def __init__(
        self,
        link: Link | None = None,
        *,
        seed: int | None = None,
        direction: Direction = "both",
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(link, ImpairStage(seed=seed, direction=direction, **settings))

    def set(self, direction: Direction = "both", **settings: Unpack[Settings]) -> None:
        """Changes what is named, for frames to come. ValueError: a bad value; nothing has changed then."""
        self.stage.set(direction, **settings)

    @property
    def seed(self) -> int:
        return self.stage.seed
