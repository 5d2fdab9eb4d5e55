"""A device with virtio-net headers, played by the test: what the kernel does behind a TAP, in Python and by the book.

The stack under test has one end of a socket pair as its device. At the other end :class:`Device` checks each frame's
header against the frame, sums up and cuts it as VIRTIO 1.2, 5.1.6 says, and hands real frames on.
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import lwipy
from lwipy._native import check, lib
from lwipy.interface import Interface
from lwipy.links.descriptor import DescriptorLink

NEEDS_CSUM, DATA_VALID = 1, 2
NONE, TCPV4, UDP, TCPV6 = 0, 1, 3, 4
CSUM, TSO4, TSO6, LONG = 1, 2, 4, 8


class Header(NamedTuple):
    """struct virtio_net_hdr."""

    flags: int = 0
    gso_type: int = NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def packed(self) -> bytes:
        return struct.pack("=BBHHHH", *self)


class FakeTap(DescriptorLink):
    """A link over any descriptor that has a virtio-net header before each frame."""

    layer = 2

    def __init__(self, fd: int, offloads: int) -> None:
        super().__init__()
        self._fd, self._offloads = fd, offloads
        self.lost: list[OSError | None] = []

    def attach(self, interface: Interface) -> None:
        super().attach(interface)
        self._open(lib.LWIPY_LINK_VNET, self._fd)
        check(self._core, lib.lwipy_link_set_offload(self._core, interface.number, self._offloads))

    def _on_lost(self, reason: OSError | None) -> None:
        self.lost.append(reason)


def total(data: bytes) -> int:
    """RFC 1071's sum, folded."""
    if len(data) % 2:
        data += b"\0"
    value = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return int(value)


class Device:
    """The other end, on Ethernet."""

    def __init__(self) -> None:
        ours, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.wire.setblocking(False)
        self.fd = ours.detach()
        self.waiting: list[bytes] = []  # what the socket pair has no room for yet
        self.cut_into: list[int] = []  # of each frame that was to be cut: into how many
        self.lengths: list[int] = []  # and how long its packet was

    def close(self) -> None:
        self.wire.close()

    def give(self, frame: bytes, header: Header = Header()) -> None:  # noqa: B008
        self.waiting.append(header.packed() + frame)
        self.push()

    def push(self) -> bool:
        """Whether nothing waits any more."""
        while self.waiting:
            try:
                self.wire.send(self.waiting[0])
            except BlockingIOError:
                return False
            del self.waiting[0]
        return True

    def take(self) -> list[bytes]:
        """The real frames that the stack's frames have become since the last call."""
        found: list[bytes] = []
        while True:
            try:
                message = self.wire.recv(1 << 18)
            except BlockingIOError:
                return found
            if not message:
                return found
            found += self.real(Header(*struct.unpack("=BBHHHH", message[:10])), message[10:])

    def real(self, header: Header, frame: bytes) -> list[bytes]:
        assert header.flags in (0, NEEDS_CSUM)
        if header.gso_type == NONE:
            return [self._summed(header, frame) if header.flags else frame]
        assert header.flags == NEEDS_CSUM
        pieces = self._cut(header, frame)
        self.cut_into.append(len(pieces))
        assert len(pieces) > 1, "nothing to cut"
        return pieces

    def _summed(self, header: Header, frame: bytes) -> bytes:
        start, at = header.csum_start, header.csum_start + header.csum_offset
        assert at + 2 <= len(frame)
        value = ~total(frame[start:]) & 0xFFFF
        return frame[:at] + struct.pack("!H", value) + frame[at + 2 :]

    def _cut(self, header: Header, frame: bytes) -> list[bytes]:
        ip, tcp = 14, header.csum_start
        version = frame[ip] >> 4
        assert header.gso_type == {4: TCPV4, 6: TCPV6}[version]
        assert header.csum_offset == 16
        assert header.gso_size >= 1
        length = struct.unpack_from("!H", frame, ip + (2 if version == 4 else 4))[0] + (40 if version == 6 else 0)
        self.lengths.append(len(frame) - ip)
        expected = len(frame) - ip if version == 6 or len(frame) - ip <= 0xFFFF else 0
        assert length == expected, "the IP header's length is not the frame's"
        if version == 4:
            assert total(frame[ip : ip + 20]) == 0xFFFF, "IPv4's checksum"
        payload = tcp + (frame[tcp + 12] >> 4) * 4
        assert payload <= header.hdr_len <= len(frame), "a hint, but not beyond the frame"
        # The sum of the pseudo header covers the whole; each piece gets its own.
        addresses = frame[ip + 12 : ip + 20] if version == 4 else frame[ip + 8 : ip + 40]
        assert frame[tcp + 16 : tcp + 18] == struct.pack(
            "!H", total(addresses + struct.pack("!HI", 6, len(frame) - tcp))
        )
        (seq,) = struct.unpack_from("!I", frame, tcp + 4)
        pieces: list[bytes] = []
        for at in range(payload, len(frame), header.gso_size):
            data = frame[at : at + header.gso_size]
            last = at + header.gso_size >= len(frame)
            head = bytearray(frame[:payload])
            struct.pack_into("!I", head, tcp + 4, (seq + at - payload) & 0xFFFFFFFF)
            if not last:
                head[tcp + 13] &= ~0x09  # FIN and PSH
            size = payload - ip + len(data)
            if version == 4:
                struct.pack_into("!H", head, ip + 2, size)
                (number,) = struct.unpack_from("!H", frame, ip + 4)
                struct.pack_into("!H", head, ip + 4, (number + len(pieces)) & 0xFFFF)
                struct.pack_into("!H", head, ip + 10, 0)
                struct.pack_into("!H", head, ip + 10, ~total(bytes(head[ip : ip + 20])) & 0xFFFF)
            else:
                struct.pack_into("!H", head, ip + 4, size - 40)
            pseudo = addresses + struct.pack("!HH", 6, payload - tcp + len(data))
            struct.pack_into("!H", head, tcp + 16, 0)
            struct.pack_into("!H", head, tcp + 16, ~total(pseudo + bytes(head[tcp:]) + data) & 0xFFFF)
            pieces.append(bytes(head) + data)
        return pieces


def joined(frames: list[bytes]) -> list[tuple[bytes, Header]]:
    """Consecutive IPv4 segments on Ethernet put together, as the kernel leaves them to who can cut."""
    made: list[tuple[bytes, Header]] = []
    for frame in frames:
        if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6 or frame[46] >> 4 != 5:
            made.append((frame, Header()))
            continue
        size = struct.unpack_from("!H", frame, 16)[0] + 14
        data = frame[54:size]
        before, header = made[-1] if made else (b"", Header())
        room = len(before) + len(data) <= 65000
        follows = (
            data
            and header.flags
            and room
            and before[26:38] == frame[26:38]
            and before[47] & 0x07 == 0
            and frame[47] & 0x06 == 0
        )
        if follows:
            (seq,) = struct.unpack_from("!I", before, 38)
            if struct.unpack_from("!I", frame, 38)[0] == (seq + len(before) - 54) & 0xFFFFFFFF:
                whole = bytearray(before + data)
                whole[47] |= frame[47]
                whole[42:46] = frame[42:46]
                whole[48:50] = frame[48:50]
                made[-1] = (_partial(whole), Header(NEEDS_CSUM, TCPV4, 54, max(header.gso_size, 1), 34, 16))
                continue
        made.append((frame[:size], Header(NEEDS_CSUM, NONE, 0, len(data), 34, 16)) if data else (frame, Header()))
    return [
        (_partial(bytearray(f)), h._replace(gso_size=0)) if h.flags and h.gso_type == NONE else (f, h) for f, h in made
    ]


def _partial(frame: bytearray) -> bytes:
    struct.pack_into("!H", frame, 16, len(frame) - 14)
    struct.pack_into("!H", frame, 24, 0)
    struct.pack_into("!H", frame, 24, ~total(bytes(frame[14:34])) & 0xFFFF)
    struct.pack_into("!H", frame, 50, total(bytes(frame[26:34]) + struct.pack("!HH", 6, len(frame) - 34)))
    return bytes(frame)


OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}


class OffloadPair:
    """A stack whose device the test plays, and one beyond the device that knows of real frames only."""

    def __init__(self, offloads: int = CSUM | TSO4 | TSO6, mtu: int = 1500) -> None:
        self.now = 0.0
        self.near, self.far = lwipy.Stack(clock=lambda: self.now), lwipy.Stack(clock=lambda: self.now)
        self.link: Any
        self.device, self.link = self.plug(offloads)
        self.nic = self.near.add_interface(self.link, mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        self.peer = self.far.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24", ipv6="fd00::2/64", mtu=mtu)
        self.join = False
        self.loses: Callable[[], bool] = lambda: False

    def plug(self, offloads: int) -> tuple[Device, DescriptorLink]:
        """The device, and the near stack's link to it."""
        device = Device()
        return device, FakeTap(device.fd, offloads)

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.device.close()

    def turn(self) -> bool:
        """Moves what there is; whether there was anything."""
        wait = self.near.poll()
        out = self.device.take()
        for frame in out:
            if not self.loses():
                self.peer.receive(frame)
        other = self.far.poll()
        back = [frame for frame in self.peer.frames() if not self.loses()]
        for frame, header in joined(back) if self.join else [(frame, Header()) for frame in back]:
            self.device.give(frame, header)
        while not self.device.push():
            self.near.poll()
        if not out and not back:
            waits = [w for w in (wait, other) if w is not None]
            self.now += max(min(waits, default=0.0), 0.001)
        return bool(out or back)

    def connect(self, family: int) -> tuple[lwipy.TcpEndpoint, lwipy.TcpEndpoint]:
        listener, client = self.far.tcp(family), self.near.tcp(family)
        listener.bind(("", 80))
        listener.listen()
        client.connect((THEIRS[family], 80))
        while not listener.info.queued:
            self.turn()
        return client, listener.accept()

    def move(self, source: lwipy.TcpEndpoint, sink: lwipy.TcpEndpoint, data: bytes, read: int = 1 << 20) -> None:
        """Every byte, in order."""
        sent, got = 0, bytearray()
        while len(got) < len(data):
            assert self.now < 600
            try:
                while sent < len(data):
                    sent += source.send(data[sent : sent + (1 << 17)])
            except BlockingIOError:
                pass
            self.turn()
            try:
                got += sink.recv(read)
            except BlockingIOError:
                pass
        assert got == data


def bytes_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def udp_frame(payload: bytes, port: int = 9, partial: bool = False) -> bytes:
    """To our 10.0.0.1, from the far stack's addresses."""
    length = 8 + len(payload)
    addresses = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
    pseudo = addresses + struct.pack("!HH", 17, length)
    udp = struct.pack("!HHHH", 1000, port, length, 0)
    value = total(pseudo) if partial else ~total(pseudo + udp + payload) & 0xFFFF
    udp = struct.pack("!HHHH", 1000, port, length, value)
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + addresses)
    struct.pack_into("!H", ip, 10, ~total(bytes(ip)) & 0xFFFF)
    return bytes.fromhex("020000000001020000000002 0800") + bytes(ip) + udp + payload
