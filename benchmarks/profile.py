"""``python -m benchmarks profile``: where the time of a frame goes, in nanoseconds by stage.

Method: the in-process pair of ``pair`` moves bytes for some seconds, with a build of the extension that has line
tables (same code, same optimisation, LTO) while ``perf`` samples the program counter on the processor's clock. Every
sample belongs to the source file of its line, inlined functions to their own (addr2line), and every file to a stage;
a stage's share of the samples, times the processor's time for a frame, is its time. memcpy and its like are libc's and
named so, for libc does not say who called. Nothing is added to the code that runs; what a sample hits is uncertain by
a few instructions, so read small shares as small.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
BUILD: Final = ROOT / ".cache" / "profile"

#: Stages by pattern of a source file's path, the first that fits.
STAGES: Final = [
    ("link", r"csrc/(link|wire|blocks|fifo|steer|poller|loop|stage|pace|impair|capture|batch|dgram)"),
    ("guard", r"csrc/guard"),
    ("checksums", r"csrc/checksum|inet_chksum"),
    ("memory", r"csrc/arena|core/(pbuf|mem|memp)\b"),
    ("queue", r"csrc/(rxqueue|tcp_bytes|endpoints|events|merge)"),
    ("tcp", r"core/tcp|csrc/(tcp|ack|recovery|congestion|cubic|reno|rack|output|demux|timers|flight)"),
    ("ethernet, ip", r"core/(ipv4|ipv6|ip|netif)|netif/ethernet|csrc/(netif|addresses|core)|core/udp"),
    ("border", r"dispatch\.c|_lwip\.c|csrc/(instance|python)"),
]
WORKLOAD: Final = """
import sys, threading
from benchmarks.pair import Pair, transfer
pair = Pair.connect(int(sys.argv[1]), sys.argv[2] == "on", False)
transfer(pair, 64 << 20)
stopped = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stopped.set()), daemon=True).start()
print("warm", flush=True)
frames = seconds = 0.0
while not stopped.is_set():
    result = transfer(pair, 64 << 20)
    frames += result.frames; seconds += result.frames * result.nanoseconds_per_frame / 1e9
print(seconds / frames * 1e9, flush=True)
pair.close()
"""


def check() -> None:
    for tool, package in (("perf", "linux-perf"), ("addr2line", "binutils"), ("readelf", "binutils"), ("cc", "gcc")):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (Debian: {package})")


def build() -> Path:
    """The extension with line tables, and the Python files around it."""
    command = [sys.executable, "-W", "ignore", "-c", "import setuptools; setuptools.setup()", "-q", "build"]
    command += ["--build-base", str(BUILD), "--build-temp", str(BUILD / "temp"), "--build-lib", str(BUILD / "lib")]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "LWIPY_PROFILE": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"the profile build failed:\n{done.stderr[-2000:]}")
    return next((BUILD / "lib" / "lwipy").glob("_lwip*.so"))


def record(mtu: int, checksums: bool, seconds: float) -> tuple[float, Path]:
    """Nanoseconds of processor time for a frame, and perf's file."""
    data = BUILD / "perf.data"
    path = os.pathsep.join((str(BUILD / "lib"), str(ROOT)))
    command = [sys.executable, "-c", WORKLOAD, str(mtu), "on" if checksums else "off"]
    environment = {**os.environ, "PYTHONPATH": path}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, cwd=BUILD, stdin=pipe, stdout=pipe, text=True) as workload:
        assert workload.stdin is not None
        assert workload.stdout is not None
        if workload.stdout.readline().strip() != "warm":
            raise SystemExit("the workload did not start")
        perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-o", str(data), "-p", str(workload.pid)]
        done = subprocess.run([*perf, "--", "sleep", str(seconds)], capture_output=True, text=True, check=False)
        workload.stdin.close()
        nanoseconds = float(workload.stdout.readline())
    if done.returncode != 0:
        raise SystemExit(f"perf failed:\n{done.stderr[-2000:]}")
    return nanoseconds, data


def samples(data: Path) -> tuple[collections.Counter[str], collections.Counter[int]]:
    """Samples by library; and those in copies of the core by their offset in its file."""
    command = ["perf", "script", "-i", str(data), "--show-mmap-events", "-F", "ip,dso"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    maps: list[tuple[int, int, int]] = []
    libraries: collections.Counter[str] = collections.Counter()
    offsets: collections.Counter[int] = collections.Counter()
    for line in text.splitlines():
        found = re.search(r"MMAP2.*\[0x([0-9a-f]+)\(0x([0-9a-f]+)\) @ (\w+) .*r-xp (.*)", line)
        if found:
            if "lwipy-core" in found[4] or "_lwip" in found[4]:
                start, size = int(found[1], 16), int(found[2], 16)
                maps.append((start, start + size, int(found[3], 0)))
            continue
        at = re.match(r"\s*([0-9a-f]+) \((.*)\)$", line)
        if not at:
            continue
        address = int(at[1], 16)
        inside = next((address - start + offset for start, end, offset in maps if start <= address < end), None)
        if inside is not None:
            offsets[inside] += 1
        else:
            libraries[at[2]] += 1
    return libraries, offsets


def shift(library: Path) -> int:
    """What is added to an offset in the file for the address that addr2line knows."""
    text = subprocess.run(["readelf", "-lW", str(library)], capture_output=True, text=True, check=True).stdout
    found = re.search(r"LOAD\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+\S+\s+\S+\s+\S+\s+R E", text)
    return int(found[2], 16) - int(found[1], 16) if found else 0


def stage_of(path: str) -> str:
    return next((name for name, pattern in STAGES if re.search(pattern, path)), "other C")


def by_stage(library: Path, data: Path) -> collections.Counter[str]:
    libraries, offsets = samples(data)
    stages: collections.Counter[str] = collections.Counter()
    for name, count in libraries.items():
        stages[_of_library(name)] += count
    move, order = shift(library), list(offsets)
    asked = "\n".join(hex(offset + move) for offset in order)
    command = ["addr2line", "-e", str(library)]
    lines = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout.splitlines()
    for offset, line in zip(order, lines, strict=True):
        stages[stage_of(line)] += offsets[offset]
    return stages


def _of_library(name: str) -> str:
    if "kernel" in name or name.startswith("["):
        return "kernel"
    if "libc" in name:
        return "copies (libc)"
    return "Python" if "python" in name.lower() or "cffi" in name else "other"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mtu", type=int, default=1500, help="of both interfaces (default 1500)")
    parser.add_argument("--no-checksums", action="store_true", help="neither make nor check sums")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long (default 3)")
    options = parser.parse_args()
    check()
    started = time.monotonic()
    library = build()
    print(f"built in {time.monotonic() - started:.0f} s", file=sys.stderr)
    frame, data = record(options.mtu, not options.no_checksums, options.seconds)
    stages = by_stage(library, data)
    total = sum(stages.values())
    print(f"MTU {options.mtu}, {frame:.0f} ns of processor time for a frame, both stacks and Python; {total} samples\n")
    print("| stage | ns per frame | share |\n|---|---|---|")
    for name, count in stages.most_common():
        print(f"| {name} | {count / total * frame:.0f} | {count / total:.0%} |")


if __name__ == "__main__":
    main()
