"""A guest in QEMU without KVM: its virtio-net through lwipy, libslirp (`-nic user`) and passt.

All guests run the same image and stand idle but for the one that moves bytes; each round asks every one of them once,
so what else the machine does falls on all alike. The guest's dd reads from, or writes to, its socket; at the other end
a blocking socket of Python's, the kernel's for libslirp and passt, the stack's for lwipy. The time is the server's,
from accept() to the end of the stream. Address and MTU come to the guest by DHCP: libslirp's leaves 1500, passt's and
lwipy's say which, and both are measured with 1500 and with 65520.

lwipy comes in three ways. "vhost-user" has the guest's own virtio rings: the guest neither cuts nor sums up, and no
frame takes a system call. "stream" is `-netdev stream` on a unix socket; QEMU offers the guest no offloads there, so
that the guest's own sums and copies are most of the time, with lwipy as with passt. Neither needs privileges, which
"TAP" does: `-netdev tap` in a bridge with the stack's TAP, where both have virtio headers.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lwipy
from benchmarks.clock import now
from benchmarks.figures import Case, MissingError, Sample
from benchmarks.namespace import Namespace, ip
from lwipy.links import QemuStream, Tap, VhostUser
from lwipy.links.base import Link
from lwipy.services.dhcp import DhcpServer
from lwipy.stages import Pacing

BLOCK: Final = bytes(1 << 20)
LARGE: Final = 65520
GUEST: Final = "10.0.2.15"
HOST: Final = "10.0.2.2"
#: Without KVM QEMU does `rep movsb` byte by byte; without ERMS the guest copies by eight, two to three times as fast.
CPU: Final = ("-cpu", "max,-erms")
SCRIPT: Final = """
lease
echo "@@ standing, MTU $(cat /sys/class/net/eth0/mtu)"
while read -r way port blocks; do
    case $way in
    up) nc 10.0.2.2 "$port" -e dd if=/dev/zero bs=256k count="$blocks" 2>/dev/null ;;
    down) nc 10.0.2.2 "$port" -e dd of=/dev/null bs=256k 2>/dev/null ;;
    end) break ;;
    esac
done
"""


def guests() -> Any:
    """The tests' guests; MissingError where there is no checkout or no QEMU."""
    tests = Path(__file__).resolve().parents[1] / "tests"
    if not (tests / "guests").is_dir():
        raise MissingError("guests need a checkout: tests/guests/ has their images")
    sys.path.insert(0, str(tests))
    try:
        import guests as found
    finally:
        sys.path.remove(str(tests))
    if lack := found.missing("qemu"):
        raise MissingError(lack)
    return found


@dataclass
class Line:
    """A guest, and the socket at the other end of its network."""

    name: str
    mtu: int
    guest: Any
    listener: socket.socket
    port: int

    def move(self, way: str, megabytes: int) -> float:
        """Seconds that so many bytes took."""
        self.guest.send(f"{way} {self.port} {megabytes * 4}\n")
        try:
            sock, _ = self.listener.accept()
        except TimeoutError:
            raise RuntimeError(f"{self.name}: the guest did not connect:\n{self.guest.console[-500:]}") from None
        sock.settimeout(60)
        started = now()
        with sock:
            if way == "down":
                for _ in range(megabytes):
                    sock.sendall(BLOCK)
                sock.shutdown(socket.SHUT_WR)
            buffer, got = bytearray(1 << 20), 0
            while part := sock.recv_into(buffer):
                got += part
            if way == "up" and got != megabytes << 20:
                raise RuntimeError(f"{self.name}: {got} of {megabytes << 20} bytes came")
        return now() - started


class Lines:
    """All guests of a measurement, started at once. A peer that is missing is in `missing` with the reason."""

    def __init__(self, nic: str = "virtio-net-pci") -> None:
        self._made = guests()
        self._nic = nic
        self._ended = ExitStack()
        self._folder = Path(self._ended.enter_context(tempfile.TemporaryDirectory()))
        self._kernel = self._kernels_side()
        self.lines: list[Line] = []
        self.missing: dict[str, str] = {}

    def close(self) -> None:
        for line in self.lines:
            line.guest.send("end\n")
        self._ended.close()

    def _boot(
        self, name: str, netdev: str, mtu: int, listener: socket.socket, extra: tuple[str, ...] = (), nic: str = ""
    ) -> None:
        listener.settimeout(30)
        guest = self._made.QemuGuest(SCRIPT, netdev=netdev, nic=self._nic + nic, extra=CPU + extra)
        self._ended.enter_context(guest)
        # One boots at a time: a kernel that gets no processor time gives up.
        guest.expect(f"^@@ standing, MTU {mtu}$", timeout=120)
        self.lines.append(Line(name, mtu, guest, listener, listener.getsockname()[1]))

    @staticmethod
    def _may_make_devices() -> bool:
        return os.geteuid() == 0 and shutil.which("ip") is not None

    def _kernels_side(self) -> Callable[[], AbstractContextManager[None]]:
        """What libslirp, passt and their servers are made in."""
        if not self._may_make_devices():
            return nullcontext
        namespace = Namespace()
        self._ended.callback(namespace.close)
        return namespace.entered

    def _server(self) -> socket.socket:
        return self._ended.enter_context(socket.create_server(("127.0.0.1", 0)))

    def _host(self, link: Link, mtu: int, pacing: Pacing | None = None) -> Any:
        """A stack at the other end of the guest's cable, and what listens on it."""
        stack = self._ended.enter_context(lwipy.Stack())
        nic = stack.add_interface(link, ipv4=f"{HOST}/24", mtu=mtu)
        nic.pacing = pacing
        self._ended.callback(DhcpServer(nic).close)
        return self._ended.enter_context(stack.create_server((HOST, 7000)))

    def lwipy(self, mtu: int, pacing: Pacing | None = None, name: str = "lwipy, stream") -> None:
        path = self._folder / f"lwipy{len(self.lines)}"
        listener = self._host(QemuStream(path), mtu, pacing)
        self._boot(name, f"stream,server=off,addr.type=unix,addr.path={path}", mtu, listener)

    def lwipy_vhost(self, mtu: int) -> None:
        path = self._folder / f"vhost{len(self.lines)}"
        listener = self._host(VhostUser(path), mtu)
        shared = ("-object", "memory-backend-memfd,id=ram0,size=192M,share=on", "-machine", "memory-backend=ram0")
        chardev = ("-chardev", f"socket,id=lwipy,path={path}")
        self._boot("lwipy, vhost-user", "vhost-user,chardev=lwipy", mtu, listener, (*shared, *chardev), ",vectors=0")

    def lwipy_tap(self, mtu: int) -> None:
        if not self._may_make_devices():
            self.missing["lwipy, TAP"] = "a TAP needs root and ip (iproute2)"
            return
        namespace = Namespace()
        self._ended.callback(namespace.close)
        with namespace.entered():
            tap = Tap("ours")
            ip("link", "add", "bridge", "mtu", str(mtu), "type", "bridge")
            ip("tuntap", "add", "dev", "guest", "mode", "tap", "vnet_hdr")
            for device in (tap.name, "guest"):
                ip("link", "set", device, "mtu", str(mtu), "master", "bridge", "up")
            ip("link", "set", "bridge", "up")
            listener = self._host(tap, mtu)
            self._boot("lwipy, TAP", "tap,ifname=guest,script=no,downscript=no", mtu, listener)

    def libslirp(self) -> None:
        with self._kernel():
            self._boot("libslirp", "user", 1500, self._server())

    def passt(self, mtu: int) -> None:
        if shutil.which("passt") is None:
            self.missing["passt"] = "passt is not installed (Debian: passt)"
            return
        path = self._folder / f"passt{mtu}"
        command = ["passt", "-f", "-q", "-4", "-s", str(path), "-a", GUEST, "-n", "255.255.255.0", "-g", HOST]
        command += ["-m", str(mtu)]
        if os.geteuid() == 0:
            command += ["--runas", "0"]  # nobody could not make the socket in our folder
        with self._kernel():
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            server = self._server()
        self._ended.callback(process.wait)
        self._ended.callback(process.kill)
        for _ in range(100):
            if path.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        if not path.exists():
            assert process.stderr is not None
            process.kill()
            self.missing["passt"] = f"passt does not run here: {process.stderr.read().strip()[-200:]}"
            return
        self._boot("passt", f"stream,server=off,addr.type=unix,addr.path={path}", mtu, server)


class Runs:
    """A case whose guests are booted by its first round and stay for the others."""

    def __init__(self, nic: str, build: Callable[[Lines], None], ways: dict[str, int], *, seconds: bool) -> None:
        self._nic, self._build, self._ways, self._seconds = nic, build, ways, seconds
        self._lines: Lines | None = None

    def __call__(self) -> Iterator[Sample]:
        if self._lines is None:
            self._lines = Lines(self._nic)
            self._build(self._lines)
            for line in self._lines.lines:  # the first transfer opens windows, and loads the programs
                for way in self._ways:
                    line.move(way, 1)
        for way, megabytes in self._ways.items():
            for line in self._lines.lines:
                seconds = line.move(way, megabytes)
                value = seconds if self._seconds else megabytes * (1 << 20) * 8 / seconds / 1e9
                kind = f"{way}, MTU {line.mtu}"
                yield Sample(f"{line.name}, {kind}", value, kind=kind)
            for name, reason in self._lines.missing.items():
                yield Sample(f"{name}, {way}", None, reason)

    def close(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()


def _virtio(lines: Lines) -> None:
    for mtu in (1500, LARGE):
        lines.lwipy_tap(mtu)
        lines.lwipy_vhost(mtu)
        lines.lwipy(mtu)
        lines.passt(mtu)
    lines.libslirp()


def _ne2k(lines: Lines) -> None:
    lines.lwipy(1500, Pacing(burst=4, interval=0.001), "lwipy, stream, 4 frames a ms")
    lines.libslirp()


PEERS: Final = ("libslirp", "passt")
CASES = [
    Case("qemu", "QEMU guest without KVM, virtio-net", "Gbit/s",
         Runs("virtio-net-pci", _virtio, {"up": 48, "down": 48}, seconds=False), reference=PEERS, drawn=True),
    Case("ne2k", "QEMU guest without KVM, ne2k_pci, 1 MiB to the guest", "s",
         Runs("ne2k_pci", _ne2k, {"down": 1}, seconds=True), higher_is_better=False, reference=PEERS),
]  # fmt: skip
