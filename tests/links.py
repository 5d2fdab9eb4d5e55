"""What the tests of links share: a megabyte each way with its sum, waiting, and a peer that speaks by hand."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import lwipy

#: lwIP counts the bytes of a frame in 16 bits, with its header.
LONGEST = 65535 - 14


MEGABYTE = 1 << 20
BROADCAST = b"\xff" * 6
GUEST = bytes.fromhex("020000000063")


class Stream(Protocol):
    """A connected socket, lwipy's or the kernel's."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def shutdown(self, how: int, /) -> None: ...


def eventually(what: Callable[[], object], seconds: float = 20) -> None:
    """Returns when `what()` is true; it has `seconds` for that, which only a hang uses up."""
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.005)


def wakeups() -> int:
    """How often the threads that drive stacks have slept so far, by the kernel's count."""
    total = 0
    for thread in threading.enumerate():
        if thread.name == "lwipy":
            status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
            total += int(status.partition("voluntary_ctxt_switches:")[2].split()[0])
    return total


def received(stream: Stream) -> str:
    """The sum of all that comes until the end."""
    digest = hashlib.sha256()
    while data := stream.recv(1 << 18):
        digest.update(data)
    return digest.hexdigest()


def sent(stream: Stream, size: int) -> str:
    """Sends `size` random bytes and an end; their sum."""
    data = os.urandom(size)
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)
    return hashlib.sha256(data).hexdigest()


def exchange(here: Stream, there: Stream, size: int = MEGABYTE) -> None:
    """`size` bytes each way at the same time; both sums must be right."""
    with ThreadPoolExecutor(3) as pool:
        ours, theirs, back = pool.submit(sent, here, size), pool.submit(received, there), pool.submit(sent, there, size)
        assert received(here) == back.result(60)
        assert theirs.result(60) == ours.result(60)


def arp_request(asked: str, mac: bytes = GUEST, source: str = "10.0.0.99") -> bytes:
    """A broadcast question for `asked`, padded to the least frame of Ethernet."""
    body = struct.pack(
        "!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, socket.inet_aton(source), bytes(6), socket.inet_aton(asked)
    )
    return (BROADCAST + mac + b"\x08\x06" + body).ljust(60, b"\0")


def is_arp_reply(frame: bytes, of: str = "10.0.0.1") -> bool:
    return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == socket.inet_aton(of)


def is_udp(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\x00" and frame[23] == 17


class Peer:
    """An emulator's end of a stream, by hand: each frame behind its length."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(20)

    @classmethod
    def connect(cls, address: str | tuple[str, int]) -> Peer:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.connect(address)
        return cls(sock)

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(struct.pack("!I", len(frame)) + frame for frame in frames))

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def receive(self) -> bytes:
        """The next frame; EOFError at the end."""
        return self._exactly(struct.unpack("!I", self._exactly(4))[0])

    def arp(self, asked: str = "10.0.0.1") -> None:
        """Asks and waits for the answer: the link works both ways."""
        self.send(arp_request(asked))
        while not is_arp_reply(self.receive(), asked):
            pass

    def at_end(self) -> bool:
        """Reads until the stack closes."""
        try:
            while True:
                self.receive()
        except (EOFError, ConnectionResetError):
            return True

    def close(self) -> None:
        self.socket.close()


_ports = itertools.count(10_000 + os.getpid() * 101 % 20_000)


def free_udp_port() -> int:
    """Each once, and below those that the kernel gives away by itself: nobody else has it before the test does."""
    for port in _ports:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def driver_of(stack: lwipy.Stack) -> threading.Thread:
    """The thread that drives it."""
    thread = stack._driver._thread  # type: ignore[attr-defined]
    assert isinstance(thread, threading.Thread)
    return thread
