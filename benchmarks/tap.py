"""A stack behind a TAP device against the kernel's own veth: the same programs at both ends, in network namespaces.

The guest is a namespace of the kernel's in either case. The host is a stack whose TAP is in that namespace, or
another namespace at the other end of a veth pair. "Up" is from the guest to the host, "down" the reverse. Both sides
are measured in turn, so that a busy neighbour disturbs both. Needs root, ``ip`` and ``/dev/net/tun``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.traffic import OURS, THEIRS

#: What the host may be: the network of :mod:`benchmarks.traffic`, and whether a veth pair leaves work to its end.
HOSTS: Final = {"veth": ("kernel", True), "veth-plain": ("kernel", False), "tap": ("tap", True), "plain": ("plain", True)}


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
    made = [f"{name}-guest"] if HOSTS[host][0] != "kernel" else [f"{name}-guest", f"{name}-host"]
    try:
        for namespace in made:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        if len(made) == 2:
            _ip("link", "add", "v0", "netns", made[0], "type", "veth", "peer", "name", "v0", "netns", made[1])
            for namespace, address in zip(made, (THEIRS, OURS), strict=True):
                if not HOSTS[host][1]:
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


def run(case: Case, seconds: float = 0.5) -> dict[str, float]:
    """One measurement: ``gbit_per_s``, or ``p50`` and ``p99`` in microseconds."""
    host_task, guest_task = {"up": ("sink", "source"), "down": ("source", "sink"), "ask": ("ask", "echo")}[case.direction]
    suffix = "-aio" if case.asynchronous else ""
    # The guest is blocking in either case, but where the kernel is measured against itself by asyncio too.
    with namespaces(case.host) as (host, guest):
        rest = (str(case.streams), str(seconds))
        hosts = (HOSTS[case.host][0], host_task + suffix, OURS if case.direction == "up" else THEIRS, *rest)
        guests = ("kernel", guest_task, OURS if case.direction == "up" else THEIRS, *rest)
        host_listens = case.direction == "up"
        with contextlib.ExitStack() as exits:
            processes = {}
            for is_host in (host_listens, not host_listens):
                if case.host not in ("veth", "veth-plain") and not is_host and not host_listens:
                    pass
                process = _start(host if is_host else guest, *(hosts if is_host else guests))
                exits.callback(process.wait)
                exits.callback(process.kill)
                processes[is_host] = process
                if is_host is host_listens:
                    assert _line(process) == "ready\n"
            reporter = processes[True] if case.direction in ("up", "ask") else processes[False]
            result: dict[str, Any] = json.loads(_line(reporter))
            for process in processes.values():
                process.wait()
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


def median(found: dict[Case, dict[str, list[float]]], case: Case, name: str) -> float:
    return statistics.median(found[case][name])
