"""A capture of frames that Wireshark reads: ``csrc/capture.c`` started, stopped and asked from Python."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal, Protocol

from lwipy._native import ffi, lib
from lwipy.stages.base import Stage

if TYPE_CHECKING:
    from typing import Self

    from lwipy.interface import Interface

_log = logging.getLogger("lwipy.capture")

GREATEST_SNAPLEN: Final = 262144
_PATIENCE: Final = 1.0


class HasFileno(Protocol):
    def fileno(self) -> int: ...


#: Where a capture goes: a path, a descriptor, or an open file. The latter two stay the caller's.
Target = str | os.PathLike[str] | int | HasFileno


@dataclass(frozen=True)
class CaptureCounters:
    """`frames` recorded, `bytes` of the file so far and those `pending`, frames `dropped`."""

    frames: int = 0
    bytes: int = 0
    pending: int = 0
    dropped: int = 0


class Capture(Stage):
    """A running capture; made by :meth:`Interface.capture` or :class:`lwipy.links.Pcap`. A context manager.

    What was recorded reaches the file within 0.1 s of the stack's time, and at the latest when the capture
    ends. When writing fails, the recording ends, :attr:`error` says why and the log tells once; traffic goes
    on. A pipe whose reader is slow loses frames (counted), and never holds up the stack.

    `snaplen`: bytes kept of each frame. `start`: what the stamps shall begin with, seconds since 1970; the
    wall clock without it. `at`: "wire" records what the wire sees, behind all other stages; "stack" what the
    stack sees.
    """

    def __init__(
        self,
        target: Target,
        *,
        snaplen: int = GREATEST_SNAPLEN,
        at: Literal["wire", "stack"] = "wire",
        start: float | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= snaplen <= GREATEST_SNAPLEN:
            raise ValueError(f"snaplen {snaplen} is out of range: expected 1 to {GREATEST_SNAPLEN} bytes")
        if at not in ("wire", "stack"):
            raise ValueError(f"a capture at {at!r} is unknown: expected 'wire' or 'stack'")
        if start is not None and not 0 <= start < 2**32:
            raise ValueError(f"start {start} is out of range: expected seconds since 1970, below 2**32")
        self.target = target
        self._snaplen = snaplen
        self._at_wire = at == "wire"
        self._start = start
        self._counters = CaptureCounters()
        self._error: OSError | None = None
        self._told = False

    def _open(self) -> int:
        """A descriptor that the core will own."""
        if isinstance(self.target, int):
            return os.dup(self.target)
        if not isinstance(self.target, str | os.PathLike):
            return os.dup(self.target.fileno())
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return os.open(self.target, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)

    def place(self, interface: Interface) -> None:
        """Begins. OSError when the file cannot be opened or written to."""
        self._error, self._told = None, True  # until it is in place, an error is raised, not logged
        start = time.time_ns() if self._start is None else round(self._start * 1e9)
        interface.stack._sync()
        core, fd = interface.stack._core, self._open()
        number = lib.lwipy_capture_add(core, interface.number, fd, self._at_wire, self._snaplen, start)
        if number == lib.LWIPY_EFAILED:
            os.close(fd)  # it has not reached the core
        self._place(interface, number)
        self._remember()
        if self._error is not None:
            error = self._error
            self.remove()
            raise error
        self._told = False

    def flush(self) -> None:
        """Writes what was recorded so far."""
        self._check(lib.lwipy_capture_flush(*self._where))
        self._look_for_trouble()

    def stop(self) -> None:
        """Ends the capture; the file is complete then. Stopping twice is allowed."""
        self.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def error(self) -> OSError | None:
        """What made an end to the recording, or None."""
        if self.interface is not None:
            self._remember()
        return self._error

    @property
    def counters(self) -> CaptureCounters:
        if self.interface is not None:
            self._remember()
        return self._counters

    def _remember(self) -> None:
        out = ffi.new("lwipy_capture_counters *")
        self._check(lib.lwipy_capture_get_counters(*self._where, out))
        self._counters = CaptureCounters(*(getattr(out, f.name) for f in fields(CaptureCounters)))
        if out.error and self._error is None:
            name = getattr(self.target, "name", self.target)
            self._error = OSError(out.error, os.strerror(out.error), str(name))

    def _look_for_trouble(self) -> None:
        self._remember()
        if self._error is not None and not self._told and self.interface is not None:
            self._told = True
            _log.warning(
                "the capture of %s has ended: %s; %d frames recorded before it are lost",
                self.interface.name, self._error, self._counters.dropped,
            )  # fmt: skip

    def _retire(self) -> None:
        if self.interface is not None:
            try:
                self._write_the_rest()
            except OSError:
                pass  # the stack has failed; the core writes what it has when it is closed
        super()._retire()

    def _write_the_rest(self) -> None:
        """What the reader of a pipe takes within a second; a file takes everything at once."""
        self.flush()
        patience = time.monotonic() + _PATIENCE
        while self.counters.pending and time.monotonic() < patience:
            time.sleep(0.005)
            self.flush()
        if pending := self.counters.pending:
            _log.warning("the last %d bytes of a capture found no reader", pending)
