"""The commands: what they print is true, what they are told wrong is one line on stderr, and they leave nothing."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lwipy.cli import main


def lines_of(process: subprocess.Popen[str], text: str) -> str:
    """The first line that has `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


@pytest.mark.parametrize("way", ["--qemu", "--qemu-dgram", "--qemu-vhost"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_share_says_how_to_start_the_guest_and_ends_in_order(tmp_path: Path, way: str, ending: signal.Signals) -> None:
    path = tmp_path / "guest.sock"
    command = [sys.executable, "-m", "lwipy", "share", str(tmp_path), way, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"COLUMNS": "500"}) as process:
        try:
            arguments = shlex.split(lines_of(process, "start QEMU with:").partition("with: ")[2])
            lines_of(process, "http://host.lwipy/")
            process.send_signal(ending)
            lines_of(process, "ended:")
            assert process.wait(30) == 0
        finally:
            process.kill()
    said = dict(zip(arguments[::2], arguments[1::2], strict=True))
    netdev, device = said["-netdev"], said["-device"]
    assert str(path) in said.get("-chardev", netdev)
    assert f"netdev={netdev.split('id=')[1].split(',')[0]}" in device.split(",")
    assert not path.exists()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (["--mtu", "10"], "MTU 10"),
        (["--ipv4", "nonsense"], "'nonsense'"),
        (["--port", "99999"], "99999"),
        (["--pcap", "/nonexistent/x.pcap"], "/nonexistent"),
        (["--domain", "a" * 80], "a" * 80),
    ],
)
def test_what_is_told_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], text: str) -> None:
    path = tmp_path / "guest.sock"
    assert main(["share", str(tmp_path), "--qemu", str(path), *wrong]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith("lwipy: ")
    assert text in complaint
    assert complaint.count("\n") == 1
    assert not path.exists()


@pytest.mark.parametrize("where", ["nowhere", "127.0.0.1:99999", "127.0.0.1:"])
def test_a_relay_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str) -> None:
    assert main(["share", str(tmp_path), "--websocket", where]) == 1
    assert capsys.readouterr().err.startswith("lwipy: ")


def test_a_folder_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["share", str(tmp_path / "none"), "--qemu", str(tmp_path / "guest.sock")]) == 1
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["rich", "aiohttp", "websockets"])
def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, module: str) -> None:
    program = f"import sys; sys.modules[{module!r}] = None; import lwipy.cli; sys.exit(lwipy.cli.main())"
    way = ["--websocket", "127.0.0.1:0"] if module == "websockets" else ["--qemu", str(tmp_path / "guest.sock")]
    command = [sys.executable, "-c", program, "share", str(tmp_path), *way]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert module in ended.stderr
    assert "pip install" in ended.stderr
    assert "Traceback" not in ended.stderr
