"""A master of vhost-user with a guest's memory and rings, played by the test as VIRTIO 1.2 and the protocol have it.

Guest addresses begin at GUEST, the master's own at USER. The memory has two rings at its beginning and a buffer for
each descriptor behind them.
"""

from __future__ import annotations

import array
import fcntl
import mmap
import os
import socket
import struct
import threading
from collections.abc import Callable

from vnet_device import Device, Header

GUEST, USER = 0x1000_0000, 0x7F00_0000_0000
SIZE = 64  # descriptors of a ring
ROOM = 2048  # bytes of a buffer
DESCRIPTORS, AVAILABLE, USED = 0, 0x1000, 0x2000  # in a ring's part
PART = 0x3000
BUFFERS = 2 * PART
MEMORY = BUFFERS + 2 * SIZE * ROOM
TO_GUEST, FROM_GUEST = 0, 1
NEXT, WRITE, INDIRECT = 1, 2, 4

CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6 = 1 << 0, 1 << 1, 1 << 7, 1 << 8
HOST_TSO4, HOST_TSO6, MRG_RXBUF, EVENT_IDX = 1 << 11, 1 << 12, 1 << 15, 1 << 29
PROTOCOL_FEATURES, VERSION_1 = 1 << 30, 1 << 32
OFFLOADS = CSUM | GUEST_CSUM | GUEST_TSO4 | GUEST_TSO6 | HOST_TSO4 | HOST_TSO6
ALL = OFFLOADS | MRG_RXBUF | EVENT_IDX | PROTOCOL_FEATURES | VERSION_1

(GET_FEATURES, SET_FEATURES, SET_OWNER, RESET_OWNER, SET_MEM_TABLE) = range(1, 6)
(SET_NUM, SET_ADDR, SET_BASE, GET_BASE, SET_KICK, SET_CALL, SET_ERR) = range(8, 15)
GET_PROTOCOL, SET_PROTOCOL, SET_ENABLE = 15, 16, 18


class Master(Device):
    """Both ends of the guest: its driver and QEMU. `turn` has the back end look at its socket."""

    def __init__(self, path: str, turn: Callable[[], object], *, seals: int = fcntl.F_SEAL_SHRINK) -> None:
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.wire.connect(path)
        self.turn = turn
        self.waiting: list[bytes] = []
        self.cut_into: list[int] = []
        self.lengths: list[int] = []
        self.file = os.memfd_create("guest", os.MFD_ALLOW_SEALING)
        os.ftruncate(self.file, MEMORY)
        fcntl.fcntl(self.file, fcntl.F_ADD_SEALS, seals)
        self.memory = mmap.mmap(self.file, MEMORY)
        # What both sides look at while it changes: struct.pack_into() would write a zero first.
        self.words = memoryview(self.memory).cast("H")
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(4)]
        self.kicks, self.calls = self.eventfds[:2], self.eventfds[2:]
        self.barrier = threading.Lock()
        self.features = 0
        self.kicked = [0, 0]  # how often we did
        self.reset()

    def reset(self) -> None:
        """The driver forgets everything."""
        self.memory[:BUFFERS] = bytes(BUFFERS)
        self.index = [0, 0]  # next available
        self.seen = [0, 0]  # next used
        self.free = list(range(SIZE))  # of the ring from the guest
        self.chain: dict[int, list[int]] = {}

    def close(self) -> None:
        self.wire.close()
        for fd in (self.file, *self.eventfds):
            os.close(fd)
        self.words.release()
        self.memory.close()

    # -- The protocol ------------------------------------------------------------------------------------------------

    def say(self, request: int, payload: bytes = b"", fds: list[int] | None = None, *, flags: int = 1) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.wire.sendmsg([struct.pack("<III", request, flags, len(payload)) + payload], rights)
        self.turn()

    def ask(self, request: int, payload: bytes = b"", fds: list[int] | None = None, *, flags: int = 1) -> bytes:
        """The answer; EOFError when the connection ends instead."""
        self.say(request, payload, fds, flags=flags)
        self.wire.settimeout(30)
        head = self.wire.recv(12, socket.MSG_WAITALL)
        if not head:
            raise EOFError
        answered, flags, size = struct.unpack("<III", head)
        assert (answered, flags) == (request, 5)
        return self.wire.recv(size, socket.MSG_WAITALL)

    def ended(self) -> bool:
        """Whether the back end has closed the connection."""
        self.turn()
        self.wire.settimeout(30)
        try:
            return self.wire.recv(1) == b""
        except ConnectionResetError:
            return True

    def u64(self, request: int, value: int, fds: list[int] | None = None) -> None:
        self.say(request, struct.pack("<Q", value), fds)

    def greet(self, features: int = ALL) -> None:
        (offered,) = struct.unpack("<Q", self.ask(GET_FEATURES))
        self.features = features & offered
        if self.features & PROTOCOL_FEATURES:
            (protocol,) = struct.unpack("<Q", self.ask(GET_PROTOCOL))
            self.u64(SET_PROTOCOL, protocol)
        self.say(SET_OWNER)
        self.u64(SET_FEATURES, self.features)

    def share(self, size: int = MEMORY, offset: int = 0, flags: int = 1) -> None:
        self.say(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, GUEST, size, USER, offset), [self.file], flags=flags)

    def begin(self, ring: int, size: int = SIZE, base: int = 0, at: int = USER) -> None:
        part = at + ring * PART
        self.say(SET_NUM, struct.pack("<II", ring, size))
        self.say(SET_BASE, struct.pack("<II", ring, base))
        addresses = (part + DESCRIPTORS, part + USED, part + AVAILABLE, 0)
        self.say(SET_ADDR, struct.pack("<IIQQQQ", ring, 0, *addresses))
        self.u64(SET_CALL, ring, [self.calls[ring]])
        self.u64(SET_KICK, ring, [self.kicks[ring]])
        if self.features & PROTOCOL_FEATURES:
            self.say(SET_ENABLE, struct.pack("<II", ring, 1))

    def start(self, features: int = ALL, buffers: int = SIZE) -> None:
        """All of it, with so many buffers for frames to the guest."""
        self.greet(features)
        self.share()
        for number in range(buffers):
            self.offer(number)
        self.begin(TO_GUEST)
        self.begin(FROM_GUEST)

    def stop(self) -> list[int]:
        """The rings' indices."""
        return [struct.unpack("<II", self.ask(GET_BASE, struct.pack("<II", ring, 0)))[1] for ring in (0, 1)]

    # -- The driver --------------------------------------------------------------------------------------------------

    @property
    def header(self) -> int:
        return 12 if self.features & (VERSION_1 | MRG_RXBUF) else 10

    def buffer(self, ring: int, number: int) -> int:
        """Where the descriptor's own buffer is, in the memory."""
        return BUFFERS + (ring * SIZE + number) * ROOM

    def descriptor(self, ring: int, number: int, address: int, length: int, flags: int, following: int = 0) -> None:
        struct.pack_into("<QIHH", self.memory, ring * PART + 16 * number, address, length, flags, following)

    def publish(self, ring: int, head: int) -> None:
        at = ring * PART + AVAILABLE
        self.words[at // 2 + 2 + self.index[ring] % SIZE] = head
        before, self.index[ring] = self.index[ring], (self.index[ring] + 1) & 0xFFFF
        self.words[at // 2 + 1] = self.index[ring]
        used = (ring * PART + USED) // 2
        with self.barrier:  # what was written is seen before the other side's wish is read
            event, flags = self.words[used + 2 + 4 * SIZE], self.words[used]
        if event == before if self.features & EVENT_IDX else not flags & 1:
            self.kick(ring)

    def kick(self, ring: int) -> None:
        self.kicked[ring] += 1
        os.eventfd_write(self.kicks[ring], 1)

    def used(self, ring: int) -> list[tuple[int, int]]:
        """What came back since the last call: heads and lengths."""
        at = ring * PART + USED
        index = self.words[at // 2 + 1]
        found = []
        while self.seen[ring] != index:
            found.append(struct.unpack_from("<II", self.memory, at + 4 + 8 * (self.seen[ring] % SIZE)))
            self.seen[ring] = (self.seen[ring] + 1) & 0xFFFF
        # and asks to be told of the next
        self.words[(ring * PART + AVAILABLE) // 2 + 2 + SIZE] = self.seen[ring]
        return found

    def called(self, ring: int) -> bool:
        try:
            return os.eventfd_read(self.calls[ring]) > 0
        except BlockingIOError:
            return False

    def offer(self, number: int) -> None:
        """A buffer for what goes to the guest; before the ring begins, too."""
        self.descriptor(TO_GUEST, number, GUEST + self.buffer(TO_GUEST, number), ROOM, WRITE)
        self.publish(TO_GUEST, number)

    def give(self, frame: bytes, header: Header = Header()) -> None:  # noqa: B008
        self.waiting.append(header.packed() + bytes(self.header - 10) + frame)
        self.push()

    def push(self) -> bool:
        """Whether nothing waits any more."""
        while self.waiting:
            for head, _ in self.used(FROM_GUEST):
                self.free += self.chain.pop(head)
            message = self.waiting[0]
            pieces = [message[at : at + ROOM] for at in range(0, len(message), ROOM)]
            if len(pieces) > len(self.free):
                return False
            numbers = [self.free.pop(0) for _ in pieces]
            for i, (number, piece) in enumerate(zip(numbers, pieces, strict=True)):
                at = self.buffer(FROM_GUEST, number)
                self.memory[at : at + len(piece)] = piece
                last = i == len(pieces) - 1
                following = 0 if last else numbers[i + 1]
                self.descriptor(FROM_GUEST, number, GUEST + at, len(piece), 0 if last else NEXT, following)
            self.chain[numbers[0]] = numbers
            self.publish(FROM_GUEST, numbers[0])
            del self.waiting[0]
        return True

    def take(self) -> list[bytes]:
        found: list[bytes] = []
        heads = self.used(TO_GUEST)
        while heads:
            number, length = heads[0]
            at = self.buffer(TO_GUEST, number)
            message = bytes(self.memory[at : at + length])
            (count,) = struct.unpack_from("<H", message, 10) if self.header == 12 else (1,)
            assert 0 < count <= len(heads)
            assert count == 1 or self.features & MRG_RXBUF
            for number, length in heads[1:count]:
                at = self.buffer(TO_GUEST, number)
                message += self.memory[at : at + length]
            found += self.real(Header(*struct.unpack("=BBHHHH", message[:10])), message[self.header :])
            for number, _ in heads[:count]:
                self.offer(number)
            del heads[:count]
        return found
