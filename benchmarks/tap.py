"""A stack behind a TAP device against the kernel's own veth: the same programs at both ends, in network namespaces.

The guest is a namespace of the kernel's in either case. The host is a stack whose TAP is in that namespace, or
another namespace at the other end of a veth pair. "Up" is from the guest to the host, "down" the reverse. Both sides
are measured in turn, so that a busy neighbour disturbs both, and compared round by round: a ratio is the median of the
rounds' ratios. Who asks stays on one processor, for its clock; who answers is mostly on another, whose waking costs
more than all else: ``taskset -c 0`` has both on one. Needs root, ``ip`` and ``/dev/net/tun``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.traffic import OURS, THEIRS


class Host(NamedTuple):
    """What the host may be: a network of :mod:`benchmarks.traffic`, and whether its device may cut and sum up."""

    network: str
    offload: bool


HOSTS: Final = {
    "veth": Host("kernel", True),
    "veth-plain": Host("kernel", False),
    "tap": Host("tap", True),
    "plain": Host("plain", False),
}


@dataclass(frozen=True)
class Case:
    """One thing to measure: a host, a direction ("up", "down", "ask"), how many streams, and the host's interface."""

    host: str
    direction: str
    streams: int = 1
    asynchronous: bool = False

    def __str__(self) -> str:
        kind = "asyncio" if self.asynchronous else "blocking"
        return f"{self.host:<10} {self.direction:<4} {self.streams} {kind}"


def lacks() -> list[str]:
    """What is missing for these measurements here."""
    wanted = {
        "root": hasattr(os, "geteuid") and os.geteuid() == 0,
        "ip (iproute2)": shutil.which("ip") is not None,
        "/dev/net/tun": Path("/dev/net/tun").exists(),
    }
    return [name for name, there in wanted.items() if not there]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _offload_off(namespace: str, device: str) -> None:
    words = ["ethtool", "-K", device, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"]
    subprocess.run(["ip", "netns", "exec", namespace, *words], check=True, capture_output=True)


@contextlib.contextmanager
def namespaces(host: str) -> Iterator[tuple[str, str]]:
    """The namespaces that host and guest run in, joined; the same one twice for a TAP, which the host makes itself."""
    name = f"bench-{uuid.uuid4().hex[:6]}"
    made = [f"{name}-guest"] if HOSTS[host].network != "kernel" else [f"{name}-guest", f"{name}-host"]
    try:
        for namespace in made:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        if len(made) == 2:
            _ip("link", "add", "v0", "netns", made[0], "type", "veth", "peer", "name", "v0", "netns", made[1])
            for namespace, address in zip(made, (THEIRS, OURS), strict=True):
                if not HOSTS[host].offload:
                    _offload_off(namespace, "v0")
                _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "v0")
                _ip("-n", namespace, "link", "set", "v0", "up")
        yield made[-1], made[0]
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)


def _start(namespace: str, *words: str) -> subprocess.Popen[str]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", "benchmarks.traffic", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return line


def _expect(process: subprocess.Popen[str], word: str) -> None:
    line = _line(process).strip()
    if line != word:
        raise RuntimeError(f"{process.args!r} said {line!r}, expected {word!r}")


def run(case: Case, seconds: float = 0.5) -> dict[str, float]:
    """One measurement: ``gbit_per_s``, or ``p50`` and ``p99`` in microseconds."""
    host_task, guest_task = {
        "up": ("sink", "source"),
        "down": ("source", "sink"),
        "ask": ("ask", "echo"),
    }[case.direction]
    host_listens = case.direction == "up"
    where = OURS if host_listens else THEIRS
    rest = (where, str(case.streams), str(seconds))
    host_words = (HOSTS[case.host].network, host_task + ("-aio" if case.asynchronous else ""), *rest)
    with namespaces(case.host) as (host, guest), contextlib.ExitStack() as exits:

        def start(namespace: str, *words: str) -> subprocess.Popen[str]:
            process = _start(namespace, *words)
            exits.enter_context(process)
            exits.callback(process.kill)
            return process

        if host_listens:
            reporter = start(host, *host_words)
            _expect(reporter, "ready")
            start(guest, "kernel", guest_task, *rest)
        else:
            listener = start(guest, "kernel", guest_task, *rest)
            _expect(listener, "ready")
            asker = start(host, *host_words)
            reporter = asker if case.direction == "ask" else listener
        result: dict[str, float] = json.loads(_line(reporter))
    if "bytes" in result:
        return {"gbit_per_s": result["bytes"] * 8 / result["seconds"] / 1e9}
    return result


def compare(cases: list[Case], runs: int = 5, seconds: float = 0.5) -> dict[Case, dict[str, list[float]]]:
    """`runs` of each case, in turn."""
    found: dict[Case, dict[str, list[float]]] = {case: {} for case in cases}
    for _ in range(runs):
        for case in cases:
            for name, value in run(case, seconds).items():
                found[case].setdefault(name, []).append(value)
    return found


#: What is asked: one case against another, the figure, the least or greatest ratio.
ASKED: Final = [
    (Case("tap", "up"), Case("veth", "up"), "gbit_per_s", 0.9),
    (Case("tap", "down"), Case("veth", "down"), "gbit_per_s", 0.9),
    (Case("tap", "up", 8), Case("tap", "up"), "gbit_per_s", 1.0),
    (Case("tap", "down", 8), Case("tap", "down"), "gbit_per_s", 1.0),
    (Case("tap", "up", 8), Case("veth", "up", 8), "gbit_per_s", 0.9),
    (Case("tap", "down", 8), Case("veth", "down", 8), "gbit_per_s", 0.9),
    (Case("tap", "up", 1, True), Case("veth", "up"), "gbit_per_s", 0.6),
    (Case("tap", "down", 1, True), Case("veth", "down"), "gbit_per_s", 0.6),
    (Case("plain", "up"), Case("veth-plain", "up"), "gbit_per_s", 0.8),
    (Case("plain", "down"), Case("veth-plain", "down"), "gbit_per_s", 0.4),
    (Case("tap", "ask"), Case("veth", "ask"), "p50", 1.5),
    (Case("tap", "ask"), Case("veth", "ask"), "p99", 2.0),
    (Case("tap", "ask", 1, True), Case("veth", "ask", 1, True), "p50", 1.5),
    (Case("tap", "ask", 1, True), Case("veth", "ask", 1, True), "p99", 2.0),
]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks tap", description=__doc__)
    parser.add_argument("--rounds", "--runs", dest="runs", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a transfer runs (default 0.5 s)")
    parser.add_argument("--only", default="", help="only what has this in its name, as 'up' or 'asyncio'")
    options = parser.parse_args(words)
    if lack := lacks():
        parser.exit(1, f"this needs {', '.join(lack)}\n")
    asked = [row for row in ASKED if options.only in f"{row[0]} {row[1]}"]
    cases = list(dict.fromkeys(case for row in asked for case in row[:2]))
    found = compare(cases, options.runs, options.seconds)
    for case in cases:
        for name, values in found[case].items():
            low, high = min(values), max(values)
            print(f"{case!s:<30} {name:<10} {statistics.median(values):>8.2f}  ({low:.2f} to {high:.2f})")
    for ours, theirs, name, asked_ratio in asked:
        rounds = zip(found[ours][name], found[theirs][name], strict=True)
        ratios = [mine / base for mine, base in rounds if base]  # without: a clock that stood still
        ratio = statistics.median(ratios) if ratios else math.nan
        sign = "at least" if name == "gbit_per_s" else "at most"
        print(f"{ours!s:<30} / {theirs!s:<30} {name:<10} {ratio:>6.2f}  asked: {sign} {asked_ratio}")


if __name__ == "__main__":
    main()
