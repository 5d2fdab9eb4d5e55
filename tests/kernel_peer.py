"""The kernel's own TCP as the peer: a network namespace with one end of a TAP in it, and programs that run there.

Programs are small Python scripts, started by ``ip netns exec``; they talk to the test over their standard input and
output, a line at a time. The namespace, its device and its programs end with the ``with`` block.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

import lwipy
from lwipy.blocking import ping

T = TypeVar("T")

PRELUDE = """
import hashlib, socket, sys, time
def say(*words): sys.stdout.write(' '.join(map(str, words)) + chr(10)); sys.stdout.flush()  # one write
def stream(size, block):
    while size > 0:
        part = block[:size]; size -= len(part); yield part
BLOCK = bytes(i * 7 % 251 for i in range(1 << 20))
"""


def need() -> None:
    """Skips the test, or fails it in CI, where namespaces and TAP devices cannot be made."""
    lack = [
        name
        for name, there in (
            ("root", hasattr(os, "geteuid") and os.geteuid() == 0),
            ("ip (iproute2)", shutil.which("ip") is not None),
            ("/dev/net/tun", Path("/dev/net/tun").exists()),
        )
        if not there
    ]
    if lack:
        text = f"the kernel as a peer needs {', '.join(lack)}"
        pytest.fail(text, pytrace=False) if os.environ.get("CI") else pytest.skip(text)


class Program:
    """A script that runs in the namespace."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def hear(self) -> str:
        """The next line it says; what went wrong if there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"the program has ended: {self._process.stderr.read()}")
        return line.rstrip("\n")

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Namespace:
    """A network namespace of the kernel's."""

    def __init__(self) -> None:
        self.name = f"lwipy-{uuid.uuid4().hex[:8]}"
        self._programs: list[Program] = []

    def ip(self, *words: str) -> None:
        """Runs `ip` inside it."""
        _ip("-n", self.name, *words)

    def tc(self, *words: str) -> None:
        """Runs `tc` inside it. Skips the test, or fails it in CI, where there is none."""
        if shutil.which("tc") is None:
            pytest.fail("no tc") if os.environ.get("CI") else pytest.skip("shaping needs tc (iproute2)")
        done = subprocess.run(["tc", "-n", self.name, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def ethtool(self, device: str, **features: bool) -> None:
        """Switches offloads of a device inside it: tx, rx, sg, tso, gso, gro."""
        commands = {"rx": 0x15, "tx": 0x17, "sg": 0x19, "tso": 0x1F, "gso": 0x24, "gro": 0x2C}

        def switch() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                for name, on in features.items():
                    value = ctypes.create_string_buffer(struct.pack("=II", commands[name], on))
                    request = struct.pack("16sQ16x", device.encode(), ctypes.addressof(value))
                    fcntl.ioctl(any_socket, 0x8946, request)  # SIOCETHTOOL

        self.inside(switch)

    def take(self, device: str, *addresses: str) -> None:
        """Moves a device in and gives it addresses."""
        _ip("link", "set", device, "netns", self.name)
        self.set_up(device, *addresses)

    def set_up(self, device: str, *addresses: str) -> None:
        """Gives a device that is inside its addresses."""
        for address in addresses:
            self.ip("address", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        self.ip("link", "set", device, "up")

    def run(self, script: str, *arguments: str | int) -> Program:
        command = ["ip", "netns", "exec", self.name, sys.executable, "-u", "-c", PRELUDE + script]
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        program = Program(process)
        self._programs.append(program)
        return program

    def inside(self, function: Callable[[], T]) -> T:
        """Has a thread that has entered the namespace call it. Sockets and devices made so stay in there."""

        def enter() -> T:
            with Path(f"/run/netns/{self.name}").open() as entry:
                _checked(_libc.setns(entry.fileno(), _CLONE_NEWNET))
            return function()

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> Any:
        """A socket of the kernel's, for the test's own use."""
        made = self.inside(lambda: socket.socket(family, kind, protocol))
        made.settimeout(30)
        return made

    def close(self) -> None:
        for program in self._programs:
            program.end()
        _ip("netns", "delete", self.name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


# The kernel has one queue of 1000 packets for what all its devices bring to a core, and drops what has no room there:
# on a busy machine other tests' traffic costs datagrams of ours. Who uses datagrams sends them again, here too.


def datagram(send: Callable[[], object], sock: Any, wanted: Callable[[bytes], bool]) -> bytes:
    """Sends until what is `wanted` arrives at the socket."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        send()
        sock.settimeout(2)
        with contextlib.suppress(TimeoutError):
            while not wanted(data := sock.recv(65535)):
                pass
            return bytes(data)
    raise AssertionError("no datagram arrives")


def pings(stack: lwipy.Stack, host: str, size: int = 56) -> bool:
    """Whether the kernel answers."""
    for _ in range(30):
        with contextlib.suppress(TimeoutError):
            return ping(stack, host, size=size, timeout=2) >= 0
    return False


_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def without_privileges(function: Callable[[], Any]) -> Any:
    """Has a thread without any capability call it (capabilities are a thread's)."""

    def bare() -> Any:
        header = (0x20080522).to_bytes(4, sys.byteorder) + bytes(4)
        _checked(_libc.capset(header, bytes(24)))
        return function()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(bare).result()


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    made = Namespace()
    _ip("netns", "add", made.name)
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        made.close()
