"""The main job with real guests: a gateway, and a PC that nobody prepared for it, in QEMU and in v86.

The guest takes its lease, resolves ``host.lwipy``, pings, downloads 20 MB, uploads 5 MB by POST and by PUT, and answers
a connection from the host; the host pings it back. Then the same with one frame in a hundred lost each way.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from guests import QemuGuest, Report, V86Guest, need
from guests.console import Guest
from guests.scripts import ECHO_SIZES, listener, main_job
from links import eventually

from lwipy.blocking import ping
from lwipy.gateway import Gateway
from lwipy.interface import Interface
from lwipy.links import QemuDgram, QemuStream, VhostUser
from lwipy.links.base import Link
from lwipy.stages import Pacing

pytestmark = pytest.mark.guest

DOWNLOAD = 20_000_000
UPLOAD = 5_000_000


@dataclass
class Folder:
    """What is shared: a file to download, and what the guest will have uploaded."""

    path: Path
    digest: str


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    content = random.Random(20).randbytes(DOWNLOAD)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file.bin").write_bytes(content)
    return Folder(tmp_path / "shared", hashlib.sha256(content).hexdigest())


def talk(guest: Guest, gateway: Gateway) -> None:
    """While the guest listens: the host connects to it, by its name, and pings it."""
    guest.expect("^@@ listening 7000$", timeout=280)
    stack = gateway.stack
    with stack.create_connection(("guest.lwipy", 7000), timeout=30) as connection:
        connection.sendall(b"from the host " * 1000)
        connection.shutdown(1)
        assert connection.makefile("rb").read() == b"from the host " * 1000
    for size in ECHO_SIZES:
        answered = 0
        for _ in range(5):
            try:
                ping(stack, "guest.lwipy", size=size, timeout=2)
                answered += 1
            except TimeoutError:
                pass
        assert answered >= 3, f"{answered} of 5 pings of {size} bytes came back"
    guest.send("enough\n")


def check(report: Report, folder: Folder, *, lossy: bool, upload: int = UPLOAD) -> None:
    if not lossy:
        assert [report[f"echo-{size}"].packets() for size in ECHO_SIZES] == [(5, 5)] * len(ECHO_SIZES)
    failed = [step.name for step in report.failed() if not (lossy and step.name.startswith("echo-"))]
    assert failed == [], report.console[-4000:]
    assert re.search(r"Address.*: 10\.0\.0\.1\b", report["lookup"].output)
    assert report["download-sum"].output.startswith(folder.digest)
    for name in ("up-post.bin", "up-put.bin"):
        content = (folder.path / name).read_bytes()
        assert len(content) == upload
        assert report["noise-sum"].output.startswith(hashlib.sha256(content).hexdigest())
    print(
        f"download {DOWNLOAD / report['download'].seconds / 1e6:.2f} MB/s, "
        f"upload {upload / report['post'].seconds / 1e6:.2f} MB/s"
    )


def script(download: str = "file.bin", upload: int = UPLOAD) -> str:
    job = main_job("10.0.0.1", file=download, upload_bytes=upload, name="host.lwipy")
    return job + listener(7000) + "read answer\n"


def link_for(kind: str, tmp_path: Path) -> tuple[Link, str, list[str]]:
    """A link and what QEMU is to be told of it: a netdev, and more options."""
    path = tmp_path / "guest.sock"
    if kind == "stream":
        return QemuStream(str(path)), f"stream,server=off,addr.type=unix,addr.path={path}", []
    if kind == "vhost":
        memory = ["-object", "memory-backend-memfd,id=ram0,size=192M,share=on", "-machine", "memory-backend=ram0"]
        return VhostUser(path), "vhost-user,chardev=c", [*memory, "-chardev", f"socket,id=c,path={path},reconnect=1"]
    guest = tmp_path / "qemu.sock"
    local, remote = f"local.type=unix,local.path={guest}", f"remote.type=unix,remote.path={path}"
    return QemuDgram(str(path), str(guest)), f"dgram,{local},{remote}", []


@pytest.mark.parametrize("loss", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["stream", "dgram", "vhost"])
def test_a_guest_in_qemu(kind: str, loss: float, folder: Folder, tmp_path: Path) -> None:
    need("qemu")
    link, netdev, extra = link_for(kind, tmp_path)
    nic = "virtio-net-pci" + (",vectors=0" if kind == "vhost" else "")

    def prepare(nic: Interface) -> None:
        if loss:
            nic.impair(loss=loss, seed=7)

    with Gateway(link, folder=folder.path, writable=True, prepare=prepare) as gateway:
        with QemuGuest(script(), netdev=netdev, nic=nic, extra=extra) as guest:
            talk(guest, gateway)
            report = guest.wait(60)
    check(report, folder, lossy=loss > 0)


def test_a_gateway_that_is_started_again_finds_the_rings_of_its_guest(tmp_path: Path) -> None:
    need("qemu")
    link, netdev, extra = link_for("vhost", tmp_path)
    script = "step lease lease box\nstep one echoes 10.0.0.1 1472\nread answer\nstep two echoes 10.0.0.1 1472\n"
    with QemuGuest(script, netdev=netdev, nic="virtio-net-pci,vectors=0", extra=extra) as guest:
        with Gateway(link):
            guest.expect("^@@ end one 0 ", timeout=120)
        with Gateway(link_for("vhost", tmp_path)[0]) as gateway:
            eventually(lambda: gateway.interface.link_up)
            guest.send("\n")
            report = guest.wait(60)
    assert [report[name].packets() for name in ("one", "two")] == [(5, 5)] * 2


@pytest.mark.parametrize(("nic", "floor"), [("ne2k", 2 * 0.18e6), ("virtio", 2 * 0.88e6)])
def test_a_guest_in_v86(nic: str, floor: float, folder: Folder) -> None:
    """Behind the relay, as from a browser. ne2k holds about eight frames and needs its bursts paced."""
    need("v86")
    upload = 1_000_000
    from lwipy.links import WebSocketRelay

    relay = WebSocketRelay("127.0.0.1", 0)

    def prepare(interface: Interface) -> None:
        if nic == "ne2k":
            interface.pacing = Pacing(burst=4, interval=0.001)

    (folder.path / "small.bin").write_bytes((folder.path / "file.bin").read_bytes())
    with Gateway(relay, folder=folder.path, writable=True, prepare=prepare) as gateway:
        host, port = relay.address
        with V86Guest(script(upload=upload), relay=f"ws://{host}:{port}/", nic=nic) as guest:  # type: ignore[arg-type]
            talk(guest, gateway)
            report = guest.wait(120)
    check(report, folder, lossy=True, upload=upload)
    print(f"{nic}: {DOWNLOAD / report['download'].seconds / 1e6:.2f} MB/s, hoped for {floor / 1e6:.2f}")


def test_the_command_as_a_user_runs_it(folder: Folder, tmp_path: Path) -> None:
    """``python -m lwipy share``: says how to start QEMU, tells what moves, writes a capture, ends on Ctrl-C."""
    need("qemu")
    path, capture = tmp_path / "guest.sock", tmp_path / "guest.pcap"
    command = [
        *(sys.executable, "-u", "-m", "lwipy", "share", str(folder.path), "--qemu", str(path)),
        *("--writable", "--pcap", str(capture)),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "200"}
    ) as share:
        assert share.stdout is not None
        try:
            line = share.stdout.readline()
            assert "start QEMU with: -netdev stream" in line
            job = main_job("10.0.0.1", file="file.bin", upload_bytes=1_000_000, name="host.lwipy")
            with QemuGuest(job, netdev=f"stream,server=off,addr.type=unix,addr.path={path}") as guest:
                report = guest.wait(250)
        finally:
            share.send_signal(signal.SIGINT)
            said = share.stdout.read()
        assert share.wait(10) == 0, said
    check(report, folder, lossy=False, upload=1_000_000)
    assert "guest 10.0.0." in said
    assert "/file.bin: 20000000 bytes" in said
    assert capture.stat().st_size > DOWNLOAD
    assert not path.exists()
