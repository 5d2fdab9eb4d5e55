"""``python -m benchmarks goodput``: what arrives over a bad line, the kernel's TCP sending and lwipy's, side by side.

A line of 100 Mbit/s with a queue of 200 packets, for several round trips, losses and reordering (delay_line.py). The
receiver is always the kernel's TCP in a network namespace, with its default settings; the sender is the kernel's in
another (over a TAP device), or lwipy from Python (over a stream of frames). The figure is Mbit/s of payload that the
receiving program has read within the given seconds from the connection on, slow start included. Each run has a seed,
which decides about each frame that carries data; kernel and lwipy take turns and have the same seeds. A frame that is
reordered arrives late by one to eight frames' times. Losses make figures spread widely: medians of five seeds or more
mean something, single runs do not. Needs root. Buffers grow by themselves on both sides.

Everything runs on one core, for the clocks of two need not agree, and ahead of all other programs there. Cells may be
measured at the same time (--parallel), as long as the core is not the limit: `late` in the JSON says by how many
microseconds the line was behind its time, on average and at most. A busy core counts against lwipy, a program that has
to be woken for each millisecond of a pace; the kernel's TCP runs in interrupts. So BBR's cells want --parallel 1, or 2
where the round trip is long. With --json FILE --add, runs are added to those that are in FILE already, and the table is
of all. FILE is written after each cell: what was measured before a run is broken off is not lost.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO

from benchmarks.compiled import library
from benchmarks.delay_line import urgent

Counts = dict[str, int]

BEHIND = 8  # frames' times, at most, by which a reordered frame is late
ROOT = Path(__file__).resolve().parent.parent
BLOCK = bytes(1 << 16)
SINK = """
import os, socket, sys, time
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
server = socket.create_server(("10.9.0.2", 5000))
print("ready", flush=True)
sock, _ = server.accept()
end, got = time.monotonic() + float(sys.argv[1]), 0
sock.settimeout(0.05)
buffer = bytearray(1 << 20)
while time.monotonic() < end:
    try:
        got += sock.recv_into(buffer) or sys.exit("the sender has ended")
    except TimeoutError:
        continue
print(got, flush=True)
"""
SOURCE = """
import os, socket, sys
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
sock = socket.socket()
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, sys.argv[1].encode())
sock.connect(("10.9.0.2", 5000))
block = bytes(1 << 16)
while True:
    sock.sendall(block)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def namespace() -> Iterator[str]:
    name = f"line-{uuid.uuid4().hex[:8]}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "delete", name)


@contextmanager
def program(*command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def program_in(name: str, script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    line = stream.readline()
    if not line:
        raise OSError("a program of the benchmark has ended")
    return line.strip()


def goodput(who: str, controller: str, settings: dict[str, float], seconds: float) -> tuple[float, list[Counts]]:
    """Mbit/s of one run, and what the line has counted there and back; `who` sends: "kernel" or "lwipy"."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        paths = [f"{folder}/line"] if who == "lwipy" else []
        line = stack.enter_context(program("-m", "benchmarks.delay_line", json.dumps(settings), *paths))
        second, first = line_of(line.stdout), line_of(line.stdout)
        there = stack.enter_context(namespace())
        take(there, second, "10.9.0.2/24")
        if who == "kernel":
            here = stack.enter_context(namespace())
            take(here, first, "10.9.0.1/24")
        sink = stack.enter_context(program_in(there, SINK, str(seconds)))
        line_of(sink.stdout)
        if who == "kernel":
            stack.enter_context(program_in(here, SOURCE, controller))
        else:
            stack.enter_context(program("-m", "benchmarks.goodput", "--source", controller, *paths))
        got = int(line_of(sink.stdout))
        counts, _ = line.communicate()
        return got * 8 / seconds / 1e6, json.loads(counts)


def take(name: str, device: str, address: str) -> None:
    """The device goes into the namespace, with room for any burst: the queue that drops is the line's."""
    ip("link", "set", device, "netns", name, "txqueuelen", "10000")
    ip("-n", name, "link", "set", device, "addrgenmode", "none")
    ip("-n", name, "address", "add", address, "dev", device)
    ip("-n", name, "link", "set", device, "up")


def source(controller: str, path: str) -> None:
    """lwipy sends until it is killed."""
    import lwipy
    from lwipy.links import QemuStream

    urgent(10)
    with lwipy.Stack() as stack:
        stack.add_interface(QemuStream(path, listen=False), ipv4="10.9.0.1/24")
        with stack.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, controller.encode())
            sock.connect(("10.9.0.2", 5000))
            with suppress(ConnectionError):
                while True:
                    sock.sendall(BLOCK)


@dataclass(frozen=True)
class Cell:
    """One controller over one line: seconds, and probabilities."""

    controller: str
    rtt: float
    loss: float
    reorder: float

    @property
    def impairment(self) -> str:
        return f"{self.reorder * 100:g} % late" if self.reorder else f"{self.loss * 100:g} % lost"

    def settings(self, options: argparse.Namespace, seed: int) -> dict[str, float]:
        return {
            "rtt": self.rtt, "loss": self.loss, "reorder": self.reorder, "behind": BEHIND, "rate": options.rate * 1e6,
            "queue": options.queue, "seed": seed,
        }  # fmt: skip


@dataclass
class Figures:
    """Mbit/s of each seed, for both."""

    kernel: dict[str, float] = field(default_factory=dict)
    lwipy: dict[str, float] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)  # microseconds: the line's lateness, on average and at most

    @property
    def ratio(self) -> float:
        kernel = statistics.median(self.kernel.values())
        return statistics.median(self.lwipy.values()) / kernel if kernel else 0.0

    def be_late(self, mean: float, most: float) -> None:
        self.late = [max(a, b) for a, b in zip(self.late or [0, 0], (mean, most), strict=True)]

    def add(self, more: Figures) -> None:
        self.kernel.update(more.kernel)
        self.lwipy.update(more.lwipy)
        self.be_late(*more.late)

    @property
    def complete(self) -> bool:
        return bool(self.kernel and self.lwipy)

    def told(self) -> str:
        return f"{self.ratio:.2f} ({spread(self.lwipy)} / {spread(self.kernel)})"


def spread(values: dict[str, float]) -> str:
    middle, least, most = statistics.median(values.values()), min(values.values()), max(values.values())
    return f"{middle:.1f}" if len(values) == 1 else f"{middle:.1f} [{least:.1f}-{most:.1f}]"


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    for controller in options.controllers:
        for rtt in options.rtt:
            for loss in options.loss:
                yield Cell(controller, rtt / 1000, loss / 100, 0.0)
            if options.reorder:
                yield Cell(controller, rtt / 1000, 0.0, options.reorder / 100)


def measure(cell: Cell, options: argparse.Namespace) -> tuple[Cell, Figures]:
    figures = Figures()
    for seed in options.seeds:
        for who, found in (("kernel", figures.kernel), ("lwipy", figures.lwipy)):
            if who in options.who:
                mbits, counts = goodput(who, cell.controller, cell.settings(options, seed), options.seconds)
                found[str(seed)] = mbits
                passed = sum(count["frames"] for count in counts)
                mean = sum(count["late_sum"] for count in counts) / passed / 1000
                most = max(count["late_most"] for count in counts) / 1000
                figures.be_late(mean, most)
    return cell, figures


def table(measured: dict[Cell, Figures]) -> str:
    """For each controller: a row for each round trip, a column for each loss."""
    lines = []
    for controller in dict.fromkeys(cell.controller for cell in measured):
        mine = {cell: figures for cell, figures in measured.items() if cell.controller == controller}
        columns = list(
            dict.fromkeys(cell.impairment for cell in sorted(mine, key=lambda cell: (cell.reorder, cell.loss)))
        )
        lines += ["", f"{controller}: ratio (lwipy / kernel, Mbit/s: median [least-most])", ""]
        lines += ["| RTT | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        for rtt in sorted({cell.rtt for cell in mine}):
            row = {cell.impairment: figures.told() for cell, figures in mine.items() if cell.rtt == rtt}
            lines.append(f"| {rtt * 1000:g} ms | " + " | ".join(row.get(column, "") for column in columns) + " |")
    return "\n".join(lines)


def read(path: Path) -> dict[Cell, Figures]:
    rows = json.loads(path.read_text())["cells"]
    names = [each.name for each in fields(Cell)]
    return {
        Cell(**{name: row[name] for name in names}): Figures(**{k: v for k, v in row.items() if k not in names})
        for row in rows
    }


def write(path: Path, measured: dict[Cell, Figures], options: argparse.Namespace) -> None:
    about = {name: getattr(options, name) for name in ("rate", "queue", "seconds")}
    rows = [{**asdict(cell), **asdict(figures)} for cell, figures in measured.items()]
    path.write_text(json.dumps({**about, "behind": BEHIND, "cells": rows}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks goodput", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--controllers", nargs="+", default=["cubic", "bbr"], help="of TCP_CONGESTION, on both sides")
    parser.add_argument("--rtt", nargs="+", type=float, default=[1, 20, 100, 300], help="milliseconds")
    parser.add_argument("--loss", nargs="*", type=float, default=[0, 0.1, 1, 3], help="percent")
    parser.add_argument("--reorder", type=float, default=1, help="percent, without loss; 0: not measured")
    parser.add_argument("--rate", type=float, default=100, help="Mbit/s (default 100)")
    parser.add_argument("--queue", type=int, default=200, help="packets (default 200)")
    parser.add_argument("--seconds", type=float, default=10, help="of each run (default 10)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="one run of each side for each")
    parser.add_argument("--who", nargs="+", choices=["kernel", "lwipy"], default=["kernel", "lwipy"])
    parser.add_argument("--parallel", type=int, default=1, help="cells at the same time (default 1)")
    parser.add_argument("--core", type=int, default=0, help="where everything runs (default 0)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--add", action="store_true", help="to the figures that are there already")
    parser.add_argument("--source", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.source:
        source(*options.source)
        return
    library("delay_line.c")
    os.sched_setaffinity(0, {options.core})
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # what makes namespaces waits for the kernel's threads
    measured = read(options.json) if options.add and options.json.exists() else {}
    started = time.monotonic()
    with ThreadPoolExecutor(options.parallel) as pool:
        for done in as_completed([pool.submit(measure, cell, options) for cell in cells(options)]):
            cell, figures = done.result()
            measured.setdefault(cell, Figures()).add(figures)
            if measured[cell].complete:
                print(
                    f"{cell.controller:<6} {cell.rtt * 1000:>4g} ms {cell.impairment:>10}  {measured[cell].told()}",
                    flush=True,
                )
            if options.json is not None:
                write(options.json, measured, options)
    print(table({cell: figures for cell, figures in measured.items() if figures.complete}))
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
