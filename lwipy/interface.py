"""Interfaces: where frames go in and come out.

Theory of operation. Frames for the wire wait in the core until someone takes them: the caller of :meth:`frames`, the
callable in :attr:`on_frame`, or the link that the interface was made with. Frames from the wire are given to the core
at once.

Invariant: frames have one taker. Setting :attr:`on_frame` or a link makes :meth:`frames` give nothing.
"""

from __future__ import annotations

import errno
import os
import struct
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from lwipy._addressed import GREATEST_MTU, Addressed
from lwipy._native import check, ffi, lib
from lwipy.stages.staged import Staged

if TYPE_CHECKING:
    from lwipy.endpoints.base import Buffer
    from lwipy.links.base import Link
    from lwipy.stack import Stack


@dataclass(frozen=True)
class Counters:
    """Frames and bytes of an interface, and why frames did not get through."""

    rx_frames: int
    rx_bytes: int
    tx_frames: int
    tx_bytes: int
    rx_malformed: int
    rx_other: int
    rx_nomem: int
    rx_down: int
    tx_full: int
    tx_down: int
    tx_error: int
    rx_offload: int


class Interface(Staged, Addressed):
    """An interface of a stack; made by :meth:`Stack.add_interface`. What it may put between itself and the wire
    (impairment, pacing, capture) is :class:`lwipy.stages.staged.Staged`'s, its addresses are
    :class:`lwipy._addressed.Addressed`'s."""

    def __init__(self, stack: Stack, number: int, name: str, layer: int, mac: bytes, mtu: int) -> None:
        Staged.__init__(self)
        Addressed.__init__(self, stack, number, name, mac, mtu)
        self.layer = layer
        self._link: Link | None = None
        self._on_frame: Callable[[bytes], None] | None = None

    def __repr__(self) -> str:
        return f"<Interface {self.name} {self.ipv4 or ''} {' '.join(map(str, self.ipv6))}>" if self.number else (
            f"<Interface {self.name} removed>"
        )  # fmt: skip

    @property
    def link(self) -> Link | None:
        return self._link

    def attach(self, link: Link) -> None:
        """Gives the interface a link, as :meth:`Stack.add_interface` does. ValueError when it has one."""
        if self._link is not None:
            raise ValueError(f"interface {self.name} has a link already: {self._link!r}")
        if link.layer not in (None, self.layer):
            raise ValueError(f"{link!r} carries layer {link.layer}, interface {self.name} layer {self.layer}")
        self._link = link
        try:
            link.attach(self)
        except BaseException:
            self._link = None
            raise
        self._deliver(self._on_frame is not None or link.takes_frames)

    # -- Frames ------------------------------------------------------------------------------------

    def receive(self, frame: Buffer) -> None:
        """One frame from the wire: Ethernet without checksum (L2) or an IP packet (L3).

        A malformed frame is dropped and counted, see :attr:`counters` and :attr:`Stack.statistics`.
        """
        self._stack._sync()
        data = ffi.from_buffer(frame)
        result = lib.lwipy_netif_receive(self._stack._core, self.number, data, len(data))
        self._stack._after()
        self._check(result)

    def receive_many(self, frames: Iterable[Buffer] | Buffer, offsets: Buffer | array[int] | None = None) -> None:
        """A batch of frames from the wire, in one call of the core.

        Either an iterable of frames; or one buffer with all of them, and `offsets` that say where they lie: frame i
        from offsets[i] to offsets[i + 1], in an ``array("I")`` or any buffer of 32-bit unsigned numbers. The second way
        makes no object for a frame. ValueError names an offset that is beyond the buffer or before the last one;
        no frame has been received then.
        """
        if offsets is not None:
            self._receive_batch(frames, offsets)
            return
        several = cast("Iterable[Buffer]", frames)
        packed = b"".join(part for frame in several for part in (struct.pack("=I", memoryview(frame).nbytes), frame))
        self._stack._sync()
        result = lib.lwipy_netif_receive_packed(self._stack._core, self.number, packed, len(packed))
        self._stack._after()
        self._check(result)

    def _receive_batch(self, frames: Any, offsets: Any) -> None:
        with memoryview(frames) as view, _offsets(offsets) as places:
            self._stack._sync()
            data, at = ffi.from_buffer(view), ffi.from_buffer("uint32_t[]", places)
            result = lib.lwipy_netif_receive_batch(self._stack._core, self.number, data, len(data), at, len(at) - 1)
            del data, at
            if result <= lib.LWIPY_EOFFSET:
                index = lib.LWIPY_EOFFSET - result
                least = places[index - 1] if index else 0
                raise ValueError(f"offset {index} is {places[index]}: expected {least} to {view.nbytes}")
        self._stack._after()
        self._check(result)

    def frames_into(self, buffer: bytearray | memoryview, offsets: bytearray | memoryview | array[int]) -> int:
        """Frames for the wire, one behind the other into `buffer`; how many. Frame i lies from offsets[i] to
        offsets[i + 1], which is written into `offsets`, an ``array("I")`` or any buffer of 32-bit unsigned numbers.

        As many as both have room for; others wait for the next call. ValueError when `buffer` has no room for the
        first one. :attr:`mtu` and 18 bytes are enough for any frame.
        """
        with memoryview(buffer) as view, _offsets(offsets) as places:
            room = ffi.from_buffer(view, require_writable=True)
            at = ffi.from_buffer("uint32_t[]", places, require_writable=True)
            result = lib.lwipy_netif_take_batch(self._stack._core, self.number, room, len(room), at, len(at) - 1)
            del room, at
            if result <= lib.LWIPY_EOFFSET:
                raise ValueError(f"a buffer of {view.nbytes} bytes: a frame of {lib.LWIPY_EOFFSET - result} waits")
        return self._check(result)

    def frames(self) -> list[bytes]:
        """The frames for the wire since the last call."""
        found: list[bytes] = []
        while True:
            pending = self._check(lib.lwipy_netif_pending(self._stack._core, self.number))
            if not pending:
                return found
            buffer = ffi.new("char[]", max(pending, GREATEST_MTU + 32))
            size = self._check(lib.lwipy_netif_take(self._stack._core, self.number, buffer, len(buffer)))
            found += _unpacked(ffi.buffer(buffer, size)[:])

    @property
    def on_frame(self) -> Callable[[bytes], None] | None:
        """Called with each frame for the wire, from whatever drives the stack."""
        return self._on_frame

    @on_frame.setter
    def on_frame(self, function: Callable[[bytes], None] | None) -> None:
        self._on_frame = function
        self._deliver(function is not None or self._link_takes_frames)

    def _deliver(self, on: bool) -> None:
        self._check(lib.lwipy_netif_deliver(self._stack._core, self.number, on))
        self._stack._after()

    @property
    def _link_takes_frames(self) -> bool:
        return self._link is not None and self._link.takes_frames

    def _dispatch(self) -> None:
        """Gives waiting frames to their taker."""
        if self._on_frame is not None:
            for frame in self.frames():
                self._on_frame(frame)
        elif self._link is not None and self._link_takes_frames and (frames := self.frames()):
            self._link.transmit(frames)

    # -- State -------------------------------------------------------------------------------------

    def _flags(self) -> int:
        return self._check(lib.lwipy_netif_flags(self._stack._core, self.number))

    def _set_flag(self, flag: int, on: bool) -> None:
        flags = self._flags() | flag if on else self._flags() & ~flag
        self._check(lib.lwipy_netif_set_state(self._stack._core, self.number, flags))
        self._stack._after()

    @property
    def up(self) -> bool:
        """Whether the interface is in use (administratively up)."""
        return bool(self._flags() & lib.LWIPY_NETIF_UP)

    @up.setter
    def up(self, on: bool) -> None:
        self._set_flag(lib.LWIPY_NETIF_UP, on)

    @property
    def link_up(self) -> bool:
        """Whether there is a wire."""
        return bool(self._flags() & lib.LWIPY_NETIF_LINK)

    @link_up.setter
    def link_up(self, on: bool) -> None:
        self._set_flag(lib.LWIPY_NETIF_LINK, on)

    @property
    def counters(self) -> Counters:
        out = ffi.new("lwipy_netif_counters *")
        self._check(lib.lwipy_netif_get_counters(self._stack._core, self.number, out))
        return Counters(*(getattr(out, field.name) for field in fields(Counters)))

    @property
    def checksums(self) -> None:
        raise AttributeError("checksums can be set, not asked")

    @checksums.setter
    def checksums(self, on: bool) -> None:
        """Whether sums are made and checked; a wire within one process needs none."""
        self._check(lib.lwipy_netif_set_checksums(self._stack._core, self.number, on))

    def remove(self) -> None:
        """Takes the interface away; its link is closed, connections over its addresses fail."""
        if not self.number:
            return
        number, link = self.number, self._link
        if link is not None:
            link.detach()
        self._retire_stages()
        self.number, self._link, self._on_frame = 0, None, None
        self._stack._forget(self, number)
        check(self._stack._core, lib.lwipy_netif_remove(self._stack._core, number))
        self._stack._after()


def _offsets(offsets: Any) -> memoryview:
    """The numbers of a batch; TypeError or ValueError for what has another shape."""
    view = memoryview(offsets)
    if view.format in ("B", "b", "c") and view.nbytes % 4 == 0:
        view = view.cast("B").cast("I")
    if view.itemsize != 4 or view.format not in ("I", "i", "L", "l") or view.ndim != 1:
        raise TypeError(f"offsets must be 32-bit unsigned numbers, such as array('I'), not format {view.format!r}")
    if len(view) < 1:
        raise ValueError("offsets are empty: expected one more than there are frames")
    return view


def _unpacked(packed: bytes) -> Iterable[bytes]:
    at, end = 0, len(packed)
    while at < end:
        (length,) = struct.unpack_from("=I", packed, at)
        yield packed[at + 4 : at + 4 + length]
        at += 4 + length


def wire(a: Interface, b: Interface, *, offload: bool = True) -> None:
    """Joins two interfaces, of one stack or of two, in C: what one sends the other receives. lwipy_wire.

    With `offload`, consecutive segments of a connection cross as one frame of up to 64 KB, as they do on the kernel's
    veth, where that changes nothing that anybody sees: not while either interface has a capture, an impairment or a
    pace, and neither stack is without FastPath.WIRE_OFFLOAD. lwIP's segments, windows and counters are the same.

    There, and with FastPath.LENDING, large sends of ``bytes`` cross by reference: the reader copies them out of the
    sender's object, which lives until it was read, or the connection or the reading stack is gone.

    Undone by removing either. ValueError when they cannot be joined: the same interface, or L2 with L3.
    """
    for end in (a, b):
        if not isinstance(end, Interface):
            raise TypeError(f"cannot wire {end!r}: expected an Interface")
        if end.number == 0:
            raise OSError(errno.ENODEV, f"interface {end.name} was removed")
    if a is b:
        raise ValueError(f"cannot wire {a.name} to itself")
    if a.layer != b.layer:
        raise ValueError(f"cannot wire {a.name} (L{a.layer}) to {b.name} (L{b.layer}): both must be of one layer")
    one, other = a._interface, b._interface  # a group's may have no wire of its own
    result = lib.lwipy_wire(one.stack._core, one.number, other.stack._core, other.number, offload)
    if result == lib.LWIPY_ENODEV:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    check(a.stack._core, result)
