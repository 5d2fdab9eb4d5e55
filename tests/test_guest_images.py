"""Guests as they are, before any stack of ours is met: their peer is QEMU's own user network.

There 10.0.2.2 is the host's loopback, where an HTTP server of the standard library answers.
"""

from __future__ import annotations

import hashlib
import http.server
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from guests import GuestError, QemuGuest, Report, V86Guest, missing, need
from guests.scripts import ECHO_SIZES, listener, main_job
from guests.slirp import SlirpRelay

FILE = random.Random(2).randbytes(300_000)


@dataclass
class Folder:
    """An HTTP server on the host's loopback, and what it has been sent by method and path."""

    port: int
    received: dict[str, bytes] = field(default_factory=dict)


@pytest.fixture
def folder() -> Iterator[Folder]:
    """Serves FILE at every path, and keeps what is uploaded."""
    received: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def keep(self) -> None:
            received[f"{self.command} {self.path}"] = self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(201, b"taken\n")

        def do_GET(self) -> None:
            self.answer(200, FILE)

        do_PUT = do_POST = keep  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield Folder(server.server_port, received)
        server.shutdown()
        serving.join()


@pytest.fixture
def unused_port() -> int:
    """A TCP port of the host's loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def all_went_well(report: Report, folder: Folder) -> None:
    """The lease was taken, every ping came back, every byte arrived, and the guest read every reply."""
    assert report.failed() == []
    assert "bound ip=10.0.2.15/24 router=10.0.2.2" in report["lease"].output
    assert [report[f"echo-{size}"].packets() for size in ECHO_SIZES] == [(5, 5)] * len(ECHO_SIZES)
    assert report["download-sum"].output.startswith(hashlib.sha256(FILE).hexdigest())
    assert report["download"].seconds > 0
    sent = report["noise-sum"].output.split()[0]
    for step, request in (
        ("post", "POST /up-post.bin"),
        ("put", "PUT /up-put.bin"),
        ("half-close", "PUT /up-half-close.bin"),
    ):
        assert hashlib.sha256(folder.received[request]).hexdigest() == sent
        assert report[step].output.endswith("taken\n")


@pytest.mark.guest
def test_a_guest_in_qemu_does_all_that_tests_ask_of_it(folder: Folder, unused_port: int) -> None:
    need("qemu")
    script = (
        main_job(f"10.0.2.2:{folder.port}", file="file.bin", upload_bytes=300_000)
        + "step renew renew\n"
        + listener(7000)
        + "step release release\n"
        + "read answer; echo the answer is $answer; exit 7\n"
    )
    netdev = f"user,hostfwd=tcp:127.0.0.1:{unused_port}-:7000"
    with QemuGuest(script, netdev=netdev, mac="52:54:00:00:00:07") as guest:
        guest.expect("52:54:00:00:00:07", timeout=120)
        guest.expect("^@@ listening 7000$", timeout=120)
        with socket.create_connection(("127.0.0.1", unused_port), timeout=30) as connection:
            connection.sendall(FILE[:10_000])
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == FILE[:10_000]
        guest.expect("^@@ end release 0", timeout=60)
        guest.send("forty-two\n")
        guest.expect("^the answer is forty-two$", timeout=60)
        report = guest.wait(60)
    all_went_well(report, folder)
    assert report.code == 7
    assert report["renew"].output.startswith("renew ip=10.0.2.15/24")
    assert report["release"].output.startswith("deconfig")


@pytest.mark.guest
def test_a_guest_in_v86_does_the_same_behind_a_websocket(folder: Folder) -> None:
    need("qemu")
    need("v86")
    script = main_job(f"10.0.2.2:{folder.port}", file="file.bin", upload_bytes=100_000)
    with SlirpRelay() as relay, V86Guest(script, relay=relay.url, nic="virtio", mac="02:00:00:00:00:86") as guest:
        guest.expect("02:00:00:00:00:86", timeout=120)
        report = guest.wait(180)
    all_went_well(report, folder)


def test_what_the_emulator_says_when_it_does_not_start_is_in_the_error() -> None:
    need("qemu")
    with QemuGuest("true", netdev="nonsense") as guest, pytest.raises(GuestError, match="nonsense"):
        guest.wait(60)


def test_a_guest_that_is_too_slow_is_told_from_one_that_has_ended() -> None:
    need("qemu")
    with QemuGuest("true", netdev="user") as guest, pytest.raises(GuestError, match=r"no 'never said' within 0.1 s"):
        guest.expect("never said", timeout=0.1)


def test_a_line_that_the_guests_terminal_would_cut_is_refused() -> None:
    need("qemu")
    with pytest.raises(ValueError, match="a line of 5005 characters, expected 4000 at most"):
        QemuGuest("echo " + "x" * 5000, netdev="user")


def test_what_is_missing_is_named_and_skips_a_test_but_fails_it_in_ci(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing("v86") == "guests in v86 need node, npm, apt-get, dpkg-deb, taskset, not found on this machine"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="guests in qemu need qemu-system-x86_64, "):
        need("qemu")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="guests in qemu need qemu-system-x86_64, "):
        need("qemu")
