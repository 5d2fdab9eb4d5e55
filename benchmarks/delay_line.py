"""A line between two kernels' TCP, or the kernel's and lwipy's: so slow, so long, with such a queue, losing so much.

A process of its own, in real time, the same for whoever sends: ``python -m benchmarks.delay_line SETTINGS``, which is
JSON. It makes two TAP devices (or listens at a path for a stream of frames, each behind its length, in the place of the
first), says their names, and passes frames until its standard input ends; then it says what it has counted. The frames
are passed by delay_line.c, to some ten microseconds; the direction from the first to the second is slow and loses, the
delay is half a round trip each way.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys

from benchmarks.compiled import library

TUNSETIFF = 0x400454CA
TAP_WITHOUT_INFO = 0x1002


class Settings(ctypes.Structure):
    _fields_ = (
        ("delay", ctypes.c_int64),
        ("rate", ctypes.c_double),
        ("loss", ctypes.c_double),
        ("reorder", ctypes.c_double),
        ("queue", ctypes.c_int64),
        ("behind", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
    )


class Counts(ctypes.Structure):
    """Frames: passed on, lost, dropped by a full queue, overtaken, not taken by the other end; nanoseconds too late."""

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in ("frames", "lost", "full", "overtaken", "undelivered", "late_sum", "late_most")
    )

    def told(self) -> dict[str, int]:
        return {field[0]: getattr(self, field[0]) for field in self._fields_}


def make_tap() -> tuple[int, str]:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    answer = fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"line%d", TAP_WITHOUT_INFO))
    return fd, answer[:16].rstrip(b"\0").decode()


def accept(path: str) -> socket.socket:
    """Whoever connects first."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("-", flush=True)
        stream, _ = server.accept()
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    stream.setblocking(False)
    return stream


def urgent(priority: int) -> None:
    """Ahead of everything else on this core: a run is not to stop for another one's beginning."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def run(settings: dict[str, float], path: str | None = None) -> None:
    """Two TAP devices, or (with a path) a stream and one."""
    line = ctypes.CDLL(str(library("delay_line.c"))).delay_line
    second, name = make_tap()
    print(name, flush=True)
    if path is None:
        first, name = make_tap()
        print(name, flush=True)
    else:
        stream = accept(path)
        first = stream.fileno()
    given = Settings(
        int(settings["rtt"] / 2 * 1e9), settings["rate"], settings["loss"], settings["reorder"],
        int(settings["queue"]), int(settings["behind"]), int(settings["seed"]),
    )  # fmt: skip
    counts = (Counts * 2)()
    urgent(20)
    if line(first, path is not None, second, sys.stdin.fileno(), ctypes.byref(given), counts) != 0:
        raise MemoryError(f"a queue of {given.queue} frames")
    print(json.dumps([count.told() for count in counts]), flush=True)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]), *sys.argv[2:])
