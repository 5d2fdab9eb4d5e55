"""A line between two kernels' TCP, or the kernel's and lwipy's: so slow, so long, with such a queue, losing so much.

A process of its own, in real time, the same for whoever sends: ``python -m benchmarks.delay_line SETTINGS``, which is
JSON. It makes its TAP devices (or joins a unix datagram socket in the place of the first), says their names, and
passes frames until its standard input ends. Only the direction from the first to the second is slow and loses; the
delay is half a round trip each way.
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


def run(settings: dict[str, float], paths: list[str]) -> None:
    """Two TAP devices, or (with paths, ours and the peer's) a unix datagram socket and one."""
    if paths:
        first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        first.bind(paths[0])
        first.setblocking(False)
        fd_a, name_a = first.fileno(), "-"
        ways_back: Callable[[bytes], object] = lambda frame: first.sendto(frame, paths[1])  # noqa: E731
    else:
        fd_a, name_a = make_tap()
        ways_back = lambda frame: os.write(fd_a, frame)  # noqa: E731
    fd_b, name_b = make_tap()
    there = Way(lambda frame: os.write(fd_b, frame), settings, slow=True)
    back = Way(ways_back, settings, slow=False)
    print(name_a, name_b, flush=True)
    while True:
        dues = [way.travelling[0][0] for way in (there, back) if way.travelling]
        wait = max(0.0, min(dues) - time.monotonic()) if dues else None
        ready, _, _ = select.select([fd_a, fd_b, sys.stdin], [], [], wait)
        if sys.stdin in ready:
            return
        for fd, way in ((fd_a, there), (fd_b, back)):
            if fd in ready:
                try:
                    for _ in range(64):
                        way.take(os.read(fd, LONGEST), time.monotonic())
                except OSError:
                    pass
        now = time.monotonic()
        there.give(now)
        back.give(now)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), sys.argv[2:])
