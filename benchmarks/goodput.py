"""``python -m benchmarks.goodput``: what arrives over a bad line, the kernel's TCP sending and lwipy's, side by side.

A line of 100 Mbit/s with a queue of 200 packets, for several round trips, losses and reordering (delay_line.py). The
receiver is always the kernel's TCP in a network namespace, the sender the kernel's in another, or lwipy from Python.
Mbit/s of payload read by the receiving program within the given seconds from the connection on. Needs root. Buffers
grow by themselves on both sides.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent
BLOCK = bytes(1 << 16)
SINK = """
import socket, sys, time
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
        pass
print(got, flush=True)
"""
SOURCE = """
import socket, sys
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


def goodput(who: str, controller: str, settings: dict[str, float], seconds: float) -> float:
    """Mbit/s of one run; `who` sends: "kernel" or "lwipy"."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        paths = [f"{folder}/line"] if who == "lwipy" else []
        line = stack.enter_context(program("-m", "benchmarks.delay_line", json.dumps(settings), *paths))
        first, second = line_of(line.stdout).split()
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
        return int(line_of(sink.stdout)) * 8 / seconds / 1e6


def take(name: str, device: str, address: str) -> None:
    ip("link", "set", device, "netns", name)
    ip("-n", name, "address", "add", address, "dev", device)
    ip("-n", name, "link", "set", device, "up")


def source(controller: str, path: str) -> None:
    """lwipy sends until it is killed."""
    import lwipy
    from lwipy.links import QemuStream

    with lwipy.Stack() as stack:
        stack.add_interface(QemuStream(path, listen=False), ipv4="10.9.0.1/24")
        with stack.socket() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, controller.encode())
            sock.connect(("10.9.0.2", 5000))
            while True:
                sock.sendall(BLOCK)


def cases(options: argparse.Namespace) -> Iterator[dict[str, float]]:
    for rtt in options.rtt:
        for loss in options.loss:
            yield {"rtt": rtt / 1000, "loss": loss / 100, "reorder": 0.0}
        if options.reorder:
            yield {"rtt": rtt / 1000, "loss": 0.0, "reorder": options.reorder / 100}


def measure(case: dict[str, float], options: argparse.Namespace, controller: str) -> dict[str, Any]:
    results: dict[str, list[float]] = {"kernel": [], "lwipy": []}
    for run in range(options.runs):
        for who, found in results.items():
            settings = {**case, "rate": options.rate * 1e6, "queue": float(options.queue), "seed": float(run)}
            found.append(goodput(who, controller, settings, options.seconds))
    kernel, lwipy = (statistics.median(results[who]) for who in ("kernel", "lwipy"))
    row = {"controller": controller, **case, "kernel": kernel, "lwipy": lwipy, "runs": results}
    print(
        f"{controller:<6} RTT {case['rtt'] * 1000:>4.0f} ms  loss {case['loss'] * 100:>4.1f} %"
        f"  reordered {case['reorder'] * 100:>4.1f} %  kernel {kernel:>6.2f}  lwipy {lwipy:>6.2f} Mbit/s"
        f"  ratio {lwipy / kernel if kernel else 0:>5.2f}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.goodput", description=__doc__)
    parser.add_argument("--controllers", nargs="+", default=["cubic", "bbr"])
    parser.add_argument("--rtt", nargs="+", type=float, default=[1, 20, 100, 300], help="milliseconds")
    parser.add_argument("--loss", nargs="+", type=float, default=[0, 0.1, 1, 3], help="percent")
    parser.add_argument("--reorder", type=float, default=1, help="percent, without loss; 0: not measured")
    parser.add_argument("--rate", type=float, default=100, help="Mbit/s")
    parser.add_argument("--queue", type=int, default=200, help="packets")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1, help="cases at the same time")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--source", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.source:
        source(*options.source)
    started = time.monotonic()
    with ThreadPoolExecutor(options.parallel) as pool:
        wanted = [(case, options, controller) for controller in options.controllers for case in cases(options)]
        rows = list(pool.map(lambda arguments: measure(*arguments), wanted))
    print(f"{time.monotonic() - started:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
