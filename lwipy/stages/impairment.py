"""A bad network, as long as one wants it: ``csrc/impair.c`` set and asked from Python."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, Unpack

from lwipy._native import ffi, lib
from lwipy.stages.base import Stage

if TYPE_CHECKING:
    from lwipy.interface import Interface

Direction = Literal["both", "in", "out"]

_IN: Final[int] = lib.LWIPY_IN
_OUT: Final[int] = lib.LWIPY_OUT
_DIRECTIONS: Final = {"both": (_IN, _OUT), "in": (_IN,), "out": (_OUT,)}
_LONGEST: Final = 3600.0


class Settings(TypedDict, total=False):
    """The fields of :class:`Impairment`, as keyword arguments."""

    loss: float
    delay: float
    jitter: float
    reorder: float
    duplicate: float
    corrupt: float
    rate: float | None
    queue: int
    queue_bytes: int | None


def check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")


def check_count(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise ValueError(f"{name} {value} is out of range: expected 1 to {most}")


@dataclass(frozen=True)
class Impairment:
    """What befalls the frames of one direction. Without arguments: nothing.

    `loss`, `reorder`, `duplicate`, `corrupt`: probabilities for each frame, 0 to 1. A reordered frame is
    overtaken by one to three later ones (or goes alone after 10 ms); a corrupted one has one bit or one byte
    changed, anywhere. Ethernet's checksum is not part of the frames here, so a corrupted one arrives; ARP has
    none of its own, and a table it has poisoned stays so for minutes (:meth:`Interface.add_neighbour` helps).
    `delay`: seconds on the way; `jitter`: up to so many more, drawn for each frame. Neither changes the
    order.
    `rate`: bits per second of the line, None for no limit, counting whole frames without preamble and
    checksum; `queue` frames and `queue_bytes` bytes may wait for it. Further, 64 MB may be on their way.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate: float | None = None
    queue: int = 1000
    queue_bytes: int | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            value = getattr(self, name)
            check_number(name, value)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value} is not a probability: expected 0 to 1")
        for name in ("delay", "jitter"):
            value = getattr(self, name)
            check_number(name, value)
            if not 0 <= value <= _LONGEST:
                raise ValueError(f"{name} {value} is out of range: expected 0 to {_LONGEST:.0f} seconds")
        if self.rate is not None:
            check_number("rate", self.rate)
            if not 1 <= self.rate <= 1e15:
                raise ValueError(f"rate {self.rate} is out of range: expected 1 to 1e15 bits per second")
        check_count("queue", self.queue, 2**32 - 1)
        if self.queue_bytes is not None:
            check_count("queue_bytes", self.queue_bytes, 2**63 - 1)

    def _pack(self) -> Any:
        return ffi.new(
            "lwipy_impairment *",
            {
                "loss": self.loss,
                "duplicate": self.duplicate,
                "corrupt": self.corrupt,
                "reorder": self.reorder,
                "delay": round(self.delay * 1e6),
                "jitter": round(self.jitter * 1e6),
                "rate": round(self.rate or 0),
                "queue": self.queue,
                "queue_bytes": self.queue_bytes or 2**63 - 1,
            },
        )


@dataclass(frozen=True)
class ImpairmentCounters:
    """Frames of one direction: frames + duplicated = lost + queue_full + passed + kept."""

    frames: int = 0
    lost: int = 0
    corrupted: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0
    queue_full: int = 0
    passed: int = 0
    kept: int = 0


class ImpairStage(Stage):
    """The stage that impairs an interface's frames; settable before it is in place, and while it works.

    Everything random follows from `seed`: with the same seed, frames and clock, the same happens. Without one
    it is drawn, and :attr:`seed` tells it, so that a run can be repeated.
    """

    def __init__(self, *, seed: int | None = None, direction: Direction = "both", **settings: Unpack[Settings]) -> None:
        super().__init__()
        self._settings = [Impairment(), Impairment()]
        self._counters = [ImpairmentCounters(), ImpairmentCounters()]
        self.seed = secrets.randbits(64) if seed is None else seed
        self.set(direction, **settings)

    def __repr__(self) -> str:
        return f"<ImpairStage in={self.incoming} out={self.outgoing} seed={self.seed}>"

    def set(self, direction: Direction = "both", **settings: Unpack[Settings]) -> None:
        """Changes what is named (see :class:`Impairment`) for frames to come; the rest stays as it is.

        ValueError names a bad value, and nothing has changed then.
        """
        if direction not in _DIRECTIONS:
            raise ValueError(f"direction {direction!r} is unknown: expected 'both', 'in' or 'out'")
        changed = {number: replace(self._settings[number], **settings) for number in _DIRECTIONS[direction]}
        for number, impairment in changed.items():
            self._settings[number] = impairment
            self._apply(number)

    def _apply(self, number: int) -> None:
        if self.interface is not None:
            self._check(lib.lwipy_impair_set(*self._where, number, self._settings[number]._pack()))

    @property
    def seed(self) -> int:
        """Where everything random begins; assigning it begins anew."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise TypeError(f"seed must be an int, not {type(seed).__name__}")
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed {seed} is out of range: expected 0 to 2**64 - 1")
        self._seed = seed
        if self.interface is not None:
            self._check(lib.lwipy_impair_seed(*self._where, seed))

    def place(self, interface: Interface) -> None:
        """Begins to work, nearest the stack of all stages there are. OSError: ENODEV, ENOBUFS."""
        self._place(interface, lib.lwipy_impair_add(interface.stack._core, interface.number))
        self.seed = self._seed
        for number in _DIRECTIONS["both"]:
            self._apply(number)

    @property
    def incoming(self) -> Impairment:
        """What befalls frames from the wire."""
        return self._settings[_IN]

    @property
    def outgoing(self) -> Impairment:
        """What befalls frames towards the wire."""
        return self._settings[_OUT]

    @property
    def incoming_counters(self) -> ImpairmentCounters:
        return self._count(_IN)

    @property
    def outgoing_counters(self) -> ImpairmentCounters:
        return self._count(_OUT)

    def _count(self, number: int) -> ImpairmentCounters:
        if self.interface is not None:
            out = ffi.new("lwipy_impair_counters *")
            self._check(lib.lwipy_impair_get_counters(*self._where, number, out))
            names = (field.name for field in fields(ImpairmentCounters))
            self._counters[number] = ImpairmentCounters(*(getattr(out, name) for name in names))
        return self._counters[number]

    def _remember(self) -> None:
        for number in _DIRECTIONS["both"]:
            self._count(number)
