"""vhost-user's control protocol, the back end's side: messages over a unix socket, with descriptors (SCM_RIGHTS).

Theory of operation. The master (QEMU) asks what we offer, says what its guest's driver has accepted, hands over the
guest's memory and, for each of two rings, where it lies and its eventfds; all in any order, and again when something
changes. Each message is a header of 12 bytes (request, flags, length) and a payload of fixed shape. :class:`Session`
keeps what was said and tells its owner when both rings can run, and when they must not any more.

The master is not trusted: what is malformed, or was not offered, ends the session. What the addresses are worth is
checked where they are used (``csrc/vhost_ring.c``).

Invariants:

1. Every descriptor that has come is closed, or is in ``regions`` or ``rings`` and closed with the session.
2. Reading never blocks, and takes nothing of the message behind the one that is read: its descriptors would be lost.
3. ``running`` is set between the owner's start() and stop(), and nothing that start() was given changes in between, but
   for the descriptors of calls.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

_HEADER: Final = struct.Struct("<III")
_U64: Final = struct.Struct("<Q")
_STATE: Final = struct.Struct("<II")
_ADDRESSES: Final = struct.Struct("<IIQQQQ")
_TABLE: Final = struct.Struct("<II")
_REGION: Final = struct.Struct("<QQQQ")

_VERSION, _REPLY, _NEED_REPLY = 1, 4, 8
_LONGEST: Final = 512  # bytes of a payload; ours have at most 264
_MOST_REGIONS: Final = 8
_NO_DESCRIPTOR: Final = 1 << 8
RINGS: Final = 2

# Features of the device (VIRTIO 1.2, 5.1.3 and 6) and of the protocol.
CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6, MRG_RXBUF = (
    1 << bit for bit in (0, 1, 7, 8, 11, 12, 15)
)
EVENT_IDX, PROTOCOL_FEATURES, VERSION_1 = 1 << 29, 1 << 30, 1 << 32
_REPLY_ACK: Final = 1 << 3


class ProtocolError(OSError):
    """The master has said what cannot be."""


class Region(NamedTuple):
    """A part of the guest's memory: its addresses there and in the master, bytes, where it is in the file."""

    guest: int
    size: int
    user: int
    offset: int
    fd: int


@dataclass
class Ring:
    """What is known of a virtqueue. Addresses are the master's; a descriptor is -1 where there is none."""

    size: int = 0
    base: int = 0
    descriptors: int = 0
    used: int = 0
    available: int = 0
    kick: int = -1
    call: int = -1
    enabled: bool = False

    @property
    def ready(self) -> bool:
        return self.enabled and self.kick >= 0 and self.size > 0

    def close(self) -> None:
        self.kick, self.call = _replaced(self.kick), _replaced(self.call)


class Owner(Protocol):
    """Who has the rings run. OSError and ValueError of start() end the session."""

    def start(self, session: Session) -> None: ...
    def stop(self) -> tuple[int, int]:
        """The index at which each ring is to go on."""
        ...

    def set_call(self, ring: int, fd: int) -> None: ...


@dataclass
class _Message:
    request: int
    flags: int
    payload: bytes
    fds: list[int] = field(default_factory=list)

    def unpack(self, shape: struct.Struct) -> tuple[int, ...]:
        if len(self.payload) != shape.size:
            raise ProtocolError(f"request {self.request} has {len(self.payload)} bytes, expected {shape.size}")
        return shape.unpack(self.payload)

    def take(self) -> int:
        """Its only descriptor."""
        if len(self.fds) != 1:
            raise ProtocolError(f"request {self.request} came with {len(self.fds)} descriptors, expected one")
        return self.fds.pop()


class Session:
    """One connection with a master. `offered` are the device's features."""

    def __init__(self, sock: socket.socket, owner: Owner, offered: int, *, sealed: bool) -> None:
        self.socket = sock
        self.features = 0
        self.regions: list[Region] = []
        self.rings = [Ring() for _ in range(RINGS)]
        self.running = False
        self._owner = owner
        self._offered = offered | PROTOCOL_FEATURES
        self._sealed = sealed
        self._acknowledges = False
        self._data = bytearray()
        self._fds: list[int] = []
        sock.setblocking(False)

    def close(self) -> None:
        """Without stop(): the owner has seen to it, or the rings have ended."""
        self.running = False
        _close(self._fds)
        for ring in self.rings:
            ring.close()
        self._forget_memory()
        self.socket.close()

    # -- Reading -----------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Handles what has come. EOFError at the end; OSError (ProtocolError), ValueError: the session is over."""
        while (message := self._next()) is not None:
            try:
                self._handle(message)
            finally:
                _close(message.fds)

    def _next(self) -> _Message | None:
        while True:
            wanted = _HEADER.size
            if len(self._data) >= wanted:
                request, flags, length = _HEADER.unpack_from(self._data)
                if flags & 3 != _VERSION or flags & _REPLY or length > _LONGEST:
                    raise ProtocolError(f"{bytes(self._data[:12])!r} is no header of vhost-user")
                wanted += length
                if len(self._data) == wanted:
                    message = _Message(request, flags, bytes(self._data[_HEADER.size :]), self._fds)
                    self._data, self._fds = bytearray(), []
                    return message
            if not self._receive(wanted - len(self._data)):
                return None

    def _receive(self, size: int) -> bool:
        try:
            data, fds, flags, _ = socket.recv_fds(self.socket, size, _MOST_REGIONS, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return False
        self._fds += fds
        if flags & socket.MSG_CTRUNC or len(self._fds) > _MOST_REGIONS:
            raise ProtocolError("more descriptors than a message has")
        if not data:
            raise EOFError
        self._data += data
        return True

    def _handle(self, message: _Message) -> None:
        handler = _HANDLERS.get(message.request)
        if handler is None:
            raise ProtocolError(f"request {message.request} was not offered")
        answer = handler(self, message)
        if answer is None and message.flags & _NEED_REPLY and self._acknowledges:
            answer = _U64.pack(0)
        if answer is not None:
            self.socket.sendall(_HEADER.pack(message.request, _VERSION | _REPLY, len(answer)) + answer)

    # -- What is agreed ----------------------------------------------------------------------------------------------

    def _get_features(self, message: _Message) -> bytes:
        return _U64.pack(self._offered)

    def _set_features(self, message: _Message) -> None:
        (features,) = message.unpack(_U64)
        if features & ~self._offered:
            raise ProtocolError(f"features {features:#x} were accepted, {self._offered:#x} offered")
        self._stop()
        self.features = features
        if not features & PROTOCOL_FEATURES:
            for ring in self.rings:
                ring.enabled = True
        self._start()

    def _get_protocol_features(self, message: _Message) -> bytes:
        return _U64.pack(_REPLY_ACK)

    def _set_protocol_features(self, message: _Message) -> None:
        (features,) = message.unpack(_U64)
        if features & ~_REPLY_ACK:
            raise ProtocolError(f"features of the protocol {features:#x} were accepted, {_REPLY_ACK:#x} offered")
        self._acknowledges = features != 0

    def _set_owner(self, message: _Message) -> None:
        pass

    def _reset_owner(self, message: _Message) -> None:
        self._stop()
        for ring in self.rings:
            ring.close()
            ring.enabled = False

    # -- Memory ------------------------------------------------------------------------------------------------------

    def _set_memory(self, message: _Message) -> None:
        if len(message.payload) < _TABLE.size:
            raise ProtocolError("a table of memory without its length")
        (count, _) = _TABLE.unpack_from(message.payload)
        if not 0 < count <= _MOST_REGIONS or len(message.payload) < _TABLE.size + count * _REGION.size:
            raise ProtocolError(f"a table of {count} regions in {len(message.payload)} bytes")
        if len(message.fds) != count:
            raise ProtocolError(f"{len(message.fds)} descriptors for {count} regions")
        for fd in message.fds:
            self._check_memory(fd)
        self._stop()
        self._forget_memory()
        for i in range(count):
            guest, size, user, offset = _REGION.unpack_from(message.payload, _TABLE.size + i * _REGION.size)
            self.regions.append(Region(guest, size, user, offset, message.fds[i]))
        message.fds.clear()
        self._start()

    def _check_memory(self, fd: int) -> None:
        """Memory that its owner makes shorter would kill who touches it (SIGBUS)."""
        if not self._sealed:
            return
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        seals = 0
        with suppress(OSError):
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        if not seals & fcntl.F_SEAL_SHRINK:
            raise ProtocolError("the guest's memory could be truncated: expected memory-backend-memfd, or sealed=False")

    def _forget_memory(self) -> None:
        _close([region.fd for region in self.regions])
        self.regions.clear()

    # -- Rings -------------------------------------------------------------------------------------------------------

    def _ring(self, index: int) -> Ring:
        if index >= RINGS:
            raise ProtocolError(f"ring {index}, expected 0 or 1")
        return self.rings[index]

    def _set_size(self, message: _Message) -> None:
        index, size = message.unpack(_STATE)
        self._ring(index).size = size

    def _set_addresses(self, message: _Message) -> None:
        index, _, descriptors, used, available, _ = message.unpack(_ADDRESSES)
        ring = self._ring(index)
        ring.descriptors, ring.used, ring.available = descriptors, used, available

    def _set_base(self, message: _Message) -> None:
        index, base = message.unpack(_STATE)
        self._ring(index).base = base & 0xFFFF

    def _get_base(self, message: _Message) -> bytes:
        index, _ = message.unpack(_STATE)
        ring = self._ring(index)
        self._stop()
        ring.kick = _replaced(ring.kick)
        return _STATE.pack(index, ring.base)

    def _eventfd(self, message: _Message) -> tuple[int, int]:
        """The ring's number, and the descriptor (-1: none)."""
        (value,) = message.unpack(_U64)
        self._ring(value & 0xFF)
        if value & _NO_DESCRIPTOR:
            return value & 0xFF, -1
        fd = message.take()
        # What is anonymous has no type: nothing of a file's, or a socket's, can be meant to block us.
        if stat.S_IFMT(os.fstat(fd).st_mode) != 0:
            os.close(fd)
            raise ProtocolError(f"request {message.request} came with a descriptor that is no eventfd")
        os.set_blocking(fd, False)
        return value & 0xFF, fd

    def _set_kick(self, message: _Message) -> None:
        index, fd = self._eventfd(message)
        if fd < 0:
            raise ProtocolError("a ring that is to be polled was not offered")
        self._stop()
        self.rings[index].kick = _replaced(self.rings[index].kick, fd)
        self._start()

    def _set_call(self, message: _Message) -> None:
        index, fd = self._eventfd(message)
        self.rings[index].call = _replaced(self.rings[index].call, fd)
        if self.running:
            self._owner.set_call(index, fd)

    def _set_error(self, message: _Message) -> None:
        message.unpack(_U64)  # nothing is ever said there

    def _set_enabled(self, message: _Message) -> None:
        index, enabled = message.unpack(_STATE)
        ring = self._ring(index)
        if not enabled:
            self._stop()
        ring.enabled = bool(enabled)
        self._start()

    def _start(self) -> None:
        if not self.running and self.regions and all(ring.ready for ring in self.rings):
            self._owner.start(self)
            self.running = True

    def _stop(self) -> None:
        if self.running:
            self.running = False
            for ring, base in zip(self.rings, self._owner.stop(), strict=True):
                ring.base = base


_HANDLERS: Final[dict[int, Callable[[Session, _Message], bytes | None]]] = {
    1: Session._get_features,
    2: Session._set_features,
    3: Session._set_owner,
    4: Session._reset_owner,
    5: Session._set_memory,
    8: Session._set_size,
    9: Session._set_addresses,
    10: Session._set_base,
    11: Session._get_base,
    12: Session._set_kick,
    13: Session._set_call,
    14: Session._set_error,
    15: Session._get_protocol_features,
    16: Session._set_protocol_features,
    18: Session._set_enabled,
}


def _replaced(old: int, new: int = -1) -> int:
    if old >= 0:
        os.close(old)
    return new


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
