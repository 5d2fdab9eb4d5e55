"""A line between two kernels' TCP, or the kernel's and lwipy's: so slow, so long, with such a queue, losing so much.

A process of its own, in real time, the same for whoever sends: ``python -m benchmarks.delay_line SETTINGS``, which is
JSON. It makes two TAP devices (or listens at a path for a stream of frames, each behind its length, in the place of the
first), says their names, and passes frames until its standard input ends. Only the direction from the first to the
second is slow and loses; the delay is half a round trip each way.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable

TUNSETIFF = 0x400454CA
TAP_WITHOUT_INFO = 0x1002
LONGEST = 2048


class Way:
    """One direction. What is written waits for the line, then travels; `due` says when the first arrives."""

    def __init__(self, put: Callable[[bytes], object], settings: dict[str, float], *, slow: bool) -> None:
        self.put = put
        self.delay = settings["rtt"] / 2
        self.rate = settings["rate"] if slow else 0
        self.loss = settings["loss"] if slow else 0
        self.reorder = settings["reorder"] if slow else 0
        self.queue = int(settings["queue"])
        self.random = random.Random(settings["seed"])
        self.busy = 0.0
        self.waiting: deque[float] = deque()  # when the line will have sent what waits for it
        self.travelling: deque[tuple[float, bytes]] = deque()
        self.aside: bytes | None = None

    def take(self, frame: bytes, now: float) -> None:
        if self.loss and self.random.random() < self.loss:
            return
        if self.reorder and self.aside is None and self.random.random() < self.reorder:
            self.aside = frame  # one later frame overtakes it
            return
        self._depart(frame, now)
        if self.aside is not None:
            frame, self.aside = self.aside, None
            self._depart(frame, now)

    def _depart(self, frame: bytes, now: float) -> None:
        sent = now
        if self.rate:
            while self.waiting and self.waiting[0] <= now:
                self.waiting.popleft()
            if len(self.waiting) >= self.queue:
                return
            self.busy = sent = max(self.busy, now) + len(frame) * 8 / self.rate
            self.waiting.append(sent)
        self.travelling.append((sent + self.delay, frame))

    def give(self, now: float) -> None:
        while self.travelling and self.travelling[0][0] <= now:
            frame = self.travelling.popleft()[1]
            try:
                self.put(frame)
            except OSError:
                pass  # the other end is not there yet, or any more


def make_tap() -> tuple[int, str]:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    answer = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"line%d", TAP_WITHOUT_INFO))
    return fd, answer[:16].rstrip(b"\0").decode()


class Tap:
    """A TAP device of this process."""

    def __init__(self) -> None:
        self.fd, self.name = make_tap()

    def read(self) -> bytes:
        return os.read(self.fd, LONGEST)

    def write(self, frame: bytes) -> None:
        os.write(self.fd, frame)


class Stream:
    """Frames behind their lengths, as QEMU's stream netdev has them, from whoever connects first."""

    name = "-"

    def __init__(self, path: str) -> None:
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen()
        self.socket: socket.socket | None = None
        self.buffer = bytearray()

    @property
    def fd(self) -> int:
        return (self.socket or self.server).fileno()

    def read(self) -> bytes:
        if self.socket is None:
            self.socket, _ = self.server.accept()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
            self.socket.setblocking(False)
        while len(self.buffer) < 4 or len(self.buffer) < 4 + int.from_bytes(self.buffer[:4], "big"):
            self.buffer += self.socket.recv(1 << 16)
        end = 4 + int.from_bytes(self.buffer[:4], "big")
        frame = bytes(self.buffer[4:end])
        del self.buffer[:end]
        return frame

    def write(self, frame: bytes) -> None:
        if self.socket is not None:
            self.socket.send(len(frame).to_bytes(4, "big") + frame)


def run(settings: dict[str, float], path: str | None = None) -> None:
    """Two TAP devices, or (with a path) a stream and one."""
    a: Tap | Stream = Tap() if path is None else Stream(path)
    b = Tap()
    there, back = Way(b.write, settings, slow=True), Way(a.write, settings, slow=False)
    print(a.name, b.name, flush=True)
    while True:
        dues = [way.travelling[0][0] for way in (there, back) if way.travelling]
        wait = max(0.0, min(dues) - time.monotonic()) if dues else None
        if isinstance(a, Stream) and a.buffer[4:]:
            wait = min(wait or 0.0, 0.001) if wait is not None else 0.001
        ready, _, _ = select.select([a.fd, b.fd, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            return
        for end, way in ((a, there), (b, back)):
            if end.fd in ready or (isinstance(end, Stream) and end.buffer):
                try:
                    for _ in range(64):
                        way.take(end.read(), time.monotonic())
                except OSError:
                    pass
        now = time.monotonic()
        there.give(now)
        back.give(now)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), *sys.argv[2:])
