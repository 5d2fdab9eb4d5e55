"""Captures: what crosses an interface, in a file that Wireshark, tcpdump and scapy read."""

from __future__ import annotations

import errno
import gc
import logging
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from links import eventually
from pairs import MAC_A, MAC_B, VirtualPair, threaded_pair
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import rdpcap

import lwipy
from lwipy import Pacing, StackError
from lwipy._native import lib
from lwipy.links import Impair, Pcap
from lwipy.stages import Capture, CaptureCounters


@pytest.fixture
def pair() -> Iterator[VirtualPair]:
    pair = VirtualPair()
    yield pair
    pair.close()


def records(path: Path) -> list[tuple[int, int, bytes]]:
    """Stamp (nanoseconds), original length and bytes of each record, by the format's own rules."""
    raw = path.read_bytes()
    assert struct.unpack_from("=IHHII", raw) == (0xA1B23C4D, 2, 4, 0, 0)
    at, found = 24, []
    while at < len(raw):
        seconds, nanoseconds, captured, length = struct.unpack_from("=IIII", raw, at)
        found.append((seconds * 10**9 + nanoseconds, length, raw[at + 16 : at + 16 + captured]))
        at += 16 + captured
    assert at == len(raw)
    return found


def crossed(nic: lwipy.Interface) -> int:
    """Frames that have crossed an interface, in both directions."""
    return nic.counters.rx_frames + nic.counters.tx_frames


def test_a_conversation_is_recorded_in_both_directions(pair: VirtualPair, tmp_path: Path) -> None:
    path = tmp_path / "talk.pcap"
    before = crossed(pair.nic_a)
    with pair.nic_a.capture(path) as capture:
        client, server = pair.connect()
        assert pair.transfer(b"hello" * 1000, client, server) == b"hello" * 1000
        assert capture.counters.frames == crossed(pair.nic_a) - before
    assert len(records(path)) == capture.counters.frames
    packets = [packet for packet in rdpcap(str(path)) if TCP in packet]
    assert path.stat().st_size == capture.counters.bytes
    assert [packet[TCP].flags for packet in packets[:3]] == ["S", "SA", "A"]
    assert {packet[Ether].src for packet in packets} == {MAC_A, MAC_B}
    # By sequence number: time leaps here, and a tail may be sent twice.
    sent = {packet[TCP].seq: bytes(packet[TCP].payload) for packet in packets if packet[IP].src == "10.0.0.1"}
    assert b"".join(payload for _, payload in sorted(sent.items())) == b"hello" * 1000


def test_stamps_follow_the_stacks_clock_from_the_start_that_is_given(pair: VirtualPair, tmp_path: Path) -> None:
    path = tmp_path / "times.pcap"
    pair.step()
    began = pair.now
    udp = pair.a.udp()
    with pair.nic_a.capture(path, start=1_700_000_000.25):
        for _ in range(3):
            udp.send(b"tick", ("10.0.0.2", 9))
            pair.time.now += 1.5
            pair.a.poll()
    stamps = [stamp - 1_700_000_000_250_000_000 for stamp, _, data in records(path) if data.endswith(b"tick")]
    assert stamps == pytest.approx([0, 1_500_000_000, 3_000_000_000], abs=2000)
    assert pair.now == pytest.approx(began + 4.5)


def test_the_same_run_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        bad = Impair(None, seed=4, loss=0.05, delay=0.01)
        pair = VirtualPair(Pcap(bad, tmp_path / name, start=0), seed=9)
        client, server = pair.connect()
        pair.transfer(bytes(200_000), client, server)
        pair.close()
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_stamps_are_the_wall_clocks_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "now.pcap"
    before = time.time_ns()
    with threaded_pair() as pair, pair.nic_a.capture(path):
        pair.a.udp().send(b"now", ("10.0.0.2", 9))
        after = time.time_ns()
    (stamp, _, _), *_ = records(path)
    second = 10**9  # far more than the clocks of two processors are apart
    assert before - second <= stamp <= after + second


def test_ip_interfaces_write_raw_ip(tmp_path: Path) -> None:
    path = tmp_path / "raw.pcap"
    stack = lwipy.Stack()
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    with nic.capture(path):
        stack.udp().send(b"hi", ("10.0.0.2", 9))
    (packet,) = rdpcap(str(path))
    assert isinstance(packet, IP)
    assert bytes(packet[UDP].payload) == b"hi"
    stack.close()


def test_a_snaplen_cuts_what_is_kept_and_tells_the_length(tmp_path: Path) -> None:
    path = tmp_path / "short.pcap"
    stack = lwipy.Stack()
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    with nic.capture(path, snaplen=40):
        stack.udp().send(bytes(1000), ("10.0.0.2", 9))
    ((_, length, data),) = records(path)
    assert (length, len(data)) == (1028, 40)
    stack.close()


def test_what_waits_reaches_the_file_within_a_tenth_of_a_second(pair: VirtualPair, tmp_path: Path) -> None:
    path = tmp_path / "lazy.pcap"
    with pair.nic_a.capture(path) as capture:
        size = path.stat().st_size
        pair.a.udp().send(b"soon", ("10.0.0.2", 9))
        assert path.stat().st_size == size
        deadline = pair.a.poll()
        assert deadline is not None
        assert deadline <= 0.1
        pair.time.now += 0.11
        pair.a.poll()
        assert records(path)[-1][2].endswith(b"soon")
        pair.a.udp().send(b"now", ("10.0.0.2", 9))
        capture.flush()
        assert records(path)[-1][2].endswith(b"now")


def test_large_amounts_are_written_as_they_come(pair: VirtualPair, tmp_path: Path) -> None:
    path = tmp_path / "large.pcap"
    with pair.nic_a.capture(path) as capture:
        client, server = pair.connect()
        pair.transfer(bytes(3_000_000), client, server)
        assert path.stat().st_size >= capture.counters.bytes > 2_900_000
    assert sum(length for _, length, _ in records(path)) > 3_000_000


def test_closing_the_stack_or_removing_the_interface_completes_the_file(tmp_path: Path) -> None:
    ends: dict[str, Callable[[lwipy.Interface], None]] = {
        "closed": lambda nic: nic.stack.close(),
        "removed": lambda nic: nic.remove(),
    }
    for name, end in ends.items():
        path = tmp_path / name
        stack = lwipy.Stack()
        nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
        capture = nic.capture(path)
        stack.udp().send(b"last", ("10.0.0.2", 9))
        end(nic)
        assert [data[28:] for _, _, data in records(path)] == [b"last"]
        assert capture.counters == CaptureCounters(frames=1, bytes=path.stat().st_size)
        capture.stop()
        stack.close()


def test_a_stack_that_is_forgotten_completes_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "forgotten.pcap"
    stack = lwipy.Stack()
    stack.add_interface(Pcap(None, path), layer=3, ipv4="10.0.0.1/24")
    stack.udp().send(b"last", ("10.0.0.2", 9))
    del stack
    gc.collect()
    assert [data[28:] for _, _, data in records(path)] == [b"last"]


def test_descriptors_and_files_stay_the_callers(tmp_path: Path) -> None:
    stack = lwipy.Stack()
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    with (tmp_path / "mine.pcap").open("wb") as file:
        first, second = nic.capture(file), nic.capture(os.dup(file.fileno()))
        first.stop()
        second.stop()
        file.write(b"still open")
    assert (tmp_path / "mine.pcap").read_bytes().endswith(b"still open")
    os.close(second.target)  # type: ignore[arg-type]
    stack.close()


def test_several_captures_see_the_stacks_side_and_the_wires() -> None:
    now = 0.0
    stack = lwipy.Stack(lambda: now)
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        wire = nic.capture(nowhere)
        nic.impair(loss=1, seed=1)
        near = nic.capture(nowhere, at="stack")
        stack.udp().send(b"lost", ("10.0.0.2", 9))
        nic.receive(bytes(20))
        assert (near.counters.frames, wire.counters.frames) == (1, 1)
        nic.impair(loss=0)
        stack.udp().send(b"passes", ("10.0.0.2", 9))
        assert (near.counters.frames, wire.counters.frames) == (2, 2)
        stack.close()


def test_wrappers_record_their_place_in_the_nesting(tmp_path: Path) -> None:
    stack = lwipy.Stack()
    outer = Pcap(Impair(Pcap(None, tmp_path / "wire"), duplicate=1, seed=1), tmp_path / "stack")
    stack.add_interface(outer, layer=3, ipv4="10.0.0.1/24")
    stack.udp().send(b"x", ("10.0.0.2", 9))
    stack.close()
    assert (len(records(tmp_path / "stack")), len(records(tmp_path / "wire"))) == (1, 2)


# -- Trouble -------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    stack = lwipy.Stack()
    with pytest.raises(FileNotFoundError):
        stack.add_interface(Pcap(None, tmp_path / "no" / "such.pcap"), layer=3, ipv4="10.0.0.1/24")
    nic = stack.add_interface(layer=3, ipv4="10.0.0.1/24")
    with pytest.raises(OSError, match="Bad file descriptor"):
        nic.capture(12345)
    with (tmp_path / "read").open("w+") as file, pytest.raises(OSError, match="Bad file"):
        nic.capture(os.open(file.name, os.O_RDONLY))
    nic.remove()
    with pytest.raises(OSError, match="was removed"):
        nic.capture(tmp_path / "x")
    stack.close()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"snaplen": 0}, "snaplen 0 is out of range: expected 1 to 262144 bytes"),
        ({"at": "cable"}, "a capture at 'cable' is unknown: expected 'wire' or 'stack'"),
        ({"start": -1}, "start -1 is out of range"),
    ],
)
def test_a_bad_value_is_named(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        Capture(tmp_path / "x", **values)
    assert not (tmp_path / "x").exists()


def test_a_full_disk_ends_the_recording_not_the_traffic(
    pair: VirtualPair, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with open("/dev/full", "wb") as full, (tmp_path / "ok").open("wb") as good:  # noqa: PTH123
        with pytest.raises(OSError, match="No space left"):
            pair.nic_a.capture(full)
        # The disk is found full later on: the descriptor turns into /dev/full under the capture.
        capture = pair.nic_a.capture(good)
        for fd in (int(entry.name) for entry in Path("/proc/self/fd").iterdir()):
            try:
                if fd != good.fileno() and os.path.samestat(os.fstat(fd), os.fstat(good.fileno())):
                    os.dup2(full.fileno(), fd)
            except OSError:
                pass  # the descriptor by which the folder was read
    before = crossed(pair.nic_a)
    client, server = pair.connect()
    data = bytes(500_000)
    assert pair.transfer(data, client, server) == data
    assert isinstance(capture.error, OSError)
    assert capture.error.errno == errno.ENOSPC
    assert capture.counters.frames == 0
    assert capture.counters.dropped == crossed(pair.nic_a) - before
    pair.run(1)
    told = [record for record in caplog.records if record.name == "lwipy.capture"]
    assert [record.levelno for record in told] == [logging.WARNING]
    assert "No space left on device" in told[0].getMessage()
    assert pair.nic_a.name in told[0].getMessage()
    capture.stop()


def test_a_pipe_nobody_reads_drops_frames_and_never_waits(pair: VirtualPair, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    capture = pair.nic_a.capture(writer)
    client, server = pair.connect()
    data = bytes(1_000_000)
    assert pair.transfer(data, client, server) == data
    assert capture.counters.dropped > 0
    assert capture.error is None
    os.close(writer)
    capture.stop()
    assert "found no reader" in caplog.text
    os.close(reader)


def test_a_reader_at_a_pipe_gets_whole_records(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    path = tmp_path / "piped.pcap"

    def copy() -> None:
        with os.fdopen(reader, "rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)

    copying = threading.Thread(target=copy)
    copying.start()
    pair = VirtualPair()
    capture = pair.nic_a.capture(writer)
    os.close(writer)
    client, server = pair.connect()
    pair.transfer(bytes(2_000_000), client, server)
    pair.close()
    copying.join()
    assert len(records(path)) == capture.counters.frames
    assert capture.counters.frames + capture.counters.dropped > 2_000_000 / 1460
    assert (capture.counters.bytes, capture.counters.pending) == (path.stat().st_size, 0)


def test_a_reader_that_goes_away_ends_the_recording(pair: VirtualPair) -> None:
    reader, writer = os.pipe()
    capture = pair.nic_a.capture(writer)
    os.close(writer)
    os.close(reader)
    pair.a.udp().send(b"x", ("10.0.0.2", 9))
    pair.run(0.5)
    assert isinstance(capture.error, BrokenPipeError)
    capture.stop()


def test_the_driver_thread_tells_of_it(caplog: pytest.LogCaptureFixture) -> None:
    with threaded_pair() as pair:
        reader, writer = os.pipe()
        pair.nic_a.capture(writer)
        os.close(writer)
        os.close(reader)
        pair.a.udp().send(b"x", ("10.0.0.2", 9))
        eventually(lambda: "Broken pipe" in caplog.text)
        pair.a.udp().send(b"x", ("10.0.0.2", 9))


def test_a_stack_that_fails_leaves_a_complete_file(tmp_path: Path) -> None:
    """The capture of what made it fail is the one that is wanted most."""
    path = tmp_path / "last.pcap"
    stack = lwipy.Stack()
    link = Pcap(Impair(None, delay=1, direction="in", seed=1), path)
    nic = stack.add_interface(link, layer=3, ipv4="10.0.0.1/24")
    nic.pacing = Pacing()
    stack.udp().send(b"last", ("10.0.0.2", 9))
    nic.receive(bytes(20))
    lib.lwipy_fail(stack._core, b"tcp_input: it went wrong")
    with pytest.raises(StackError):
        link.stage.flush()
    stack.close()
    del stack, nic  # the core is freed with the last that refers to it
    gc.collect()
    assert [data[28:] for _, _, data in records(path)] == [b"last"]


@pytest.mark.skipif(shutil.which("tcpdump") is None, reason="the package tcpdump is not installed")
def test_tcpdump_reads_it(pair: VirtualPair, tmp_path: Path) -> None:
    path = tmp_path / "talk.pcap"
    with pair.nic_a.capture(path):
        client, server = pair.connect()
        pair.transfer(b"hello", client, server)
    said = subprocess.run(["tcpdump", "-nn", "-r", path], capture_output=True, text=True, check=True).stdout
    assert "10.0.0.1" in said
    assert len(said.splitlines()) == len(records(path))
