"""TCP flows whose client side is a loop in C (segments.c), which feeds a stack as a link would: no Python takes part.

Of each flow in turns a segment of so many bytes with its checksum, made from one frame that lies in the cache, all
flows' in a batch, as a link reads them; and their acknowledgements are read, which say how many more may be sent. What
arrives is acknowledged and thrown away (the sockets have shut down reading). Each batch has one segment of a flow, so
nothing is merged: this is the most work that segments of that size are.
"""

from __future__ import annotations

import functools
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final

import cffi

import lwipy
from benchmarks.compiled import address_of, library
from lwipy._native import ffi

FLOWS: Final = 64
AHEAD: Final = 256 << 10  # bytes that are on their way at most
MAC, PEER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
OURS, THEIRS = socket.inet_aton("10.0.0.1"), socket.inet_aton("10.0.0.2")


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


class Flow:
    """A connection whose client side is this program."""

    def __init__(self, port: int) -> None:
        self.port, self.sequence, self.acknowledged = port, 1000, 0

    def segment(self, flags: int, data: bytes = b"", sum_of_data: int = 0) -> bytes:
        words = (self.port, 80, self.sequence & 0xFFFFFFFF, self.acknowledged, 0x50, flags, 65535)
        header = struct.pack("!HHIIBBH", *words)
        whole = _sum(THEIRS + OURS + struct.pack("!HH", 6, 20 + len(data)) + header) + sum_of_data
        while whole >> 16:
            whole = (whole & 0xFFFF) + (whole >> 16)
        header += struct.pack("!HH", ~whole & 0xFFFF, 0)
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + THEIRS + OURS
        ip = ip[:10] + struct.pack("!H", ~_sum(ip) & 0xFFFF) + ip[12:]
        self.sequence += len(data) + (flags & 2 > 0)
        return MAC + PEER + b"\x08\0" + ip + header + data


def establish(nic: lwipy.Interface, flow: Flow) -> None:
    nic.receive(flow.segment(2))
    while True:
        for frame in nic.frames():
            if len(frame) > 47 and frame[47] & 0x12 == 0x12:
                flow.acknowledged = int.from_bytes(frame[38:42], "big") + 1
                nic.receive(flow.segment(16))
                return
        time.sleep(0.001)


_DECLARATIONS: Final = """
    struct account { uint32_t first_port, ports, *acknowledged; uint64_t ahead; uint8_t gap[64]; uint64_t sent;
                     uint8_t gap_after_sent[64]; uint64_t heard; };
    struct peer { void *core; int nic; uint32_t flows, length, data; uint8_t *frames; uint32_t *offsets;
                  struct account *account; void *receive, *take, *poll; };
    struct slice { uint32_t ready, over; double seconds; };
    double send_rounds(const struct peer *peer, uint64_t rounds);
    uint64_t send_slice(const struct peer *peer, struct slice *slice, uint32_t threads, double seconds);
"""
_FUNCTIONS: Final = {
    "receive": "lwipy_netif_receive_batch", "take": "lwipy_netif_take_batch", "poll": "lwipy_poll"
}  # fmt: skip


@functools.cache
def _program() -> tuple[Any, Any]:
    program = cffi.FFI()
    program.cdef(_DECLARATIONS)
    return program, program.dlopen(str(library("segments.c")))


class Slice:
    """A while in which `threads` work together; the first one's clock counts, and only that one gives `seconds`."""

    def __init__(self, threads: int) -> None:
        self._ffi, self._lib = _program()
        self._threads = threads
        self._slice = self._ffi.new("struct slice *")
        self._segments: list[int] = []

    def join(self, sender: Sender | None, seconds: float = 0.0) -> None:
        """Sends, or waits for the end."""
        peer = sender._peer if sender is not None else self._ffi.NULL
        count: int = self._lib.send_slice(peer, self._slice, self._threads, seconds)
        self._segments.append(count)

    @property
    def rate(self) -> float:
        """Segments in a second, of all threads."""
        rate: float = sum(self._segments) / self._slice.seconds
        return rate


class Account:
    """What of some flows is on its way, by whomever it was sent."""

    def __init__(self, flows: Sequence[Flow], ahead: int = AHEAD) -> None:
        ports = [flow.port for flow in flows]
        self._acknowledged = array("I", bytes(4 * (max(ports) - min(ports) + 1)))
        for flow in flows:
            self._acknowledged[flow.port - min(ports)] = flow.sequence
        program, _ = _program()
        self._account = program.new("struct account *")
        self._account.first_port, self._account.ports = min(ports), len(self._acknowledged)
        self._account.acknowledged = program.from_buffer("uint32_t[]", self._acknowledged)
        self._account.ahead = ahead


class Sender:
    """Sends to an interface, a segment of so many bytes of each flow at a time."""

    def __init__(self, nic: lwipy.Interface, flows: Sequence[Flow], size: int, account: Account | None = None) -> None:
        self._ffi, self._lib = _program()
        self._account = account or Account(flows)
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        frames = [flow.segment(24, data, _sum(data)) for flow in flows]
        length = len(frames[0])
        self._frames = self._ffi.from_buffer("uint8_t[]", bytearray().join(frames))
        self._offsets = self._ffi.from_buffer("uint32_t[]", array("I", range(0, (len(flows) + 1) * length, length)))
        self._peer = peer = self._ffi.new("struct peer *")
        peer.core = self._ffi.cast("void *", int(ffi.cast("uintptr_t", nic.stack._core)))
        peer.nic, peer.flows, peer.length, peer.data = nic.number, len(flows), length, size
        peer.frames, peer.offsets, peer.account = self._frames, self._offsets, self._account._account
        for name, function in _FUNCTIONS.items():
            setattr(peer, name, self._ffi.cast("void *", address_of(function)))

    def rounds(self, count: int) -> float:
        """Sends so many segments of each flow. The seconds that it took; RuntimeError if nobody acknowledged them."""
        seconds: float = self._lib.send_rounds(self._peer, count)
        if seconds < 0:
            raise RuntimeError("segments were not acknowledged")
        return seconds
