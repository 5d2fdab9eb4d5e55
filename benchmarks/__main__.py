"""``python -m benchmarks``: measures, prints a table, and writes JSON when asked to."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import pair

CASES = [(1500, True), (1500, False), (9000, False), (65_000, False)]


def measure(count: int, megabytes: int) -> list[dict[str, Any]]:
    rows = []
    for mtu, checksums in CASES:
        results = list(pair.runs(mtu, checksums, count, megabytes))
        speeds = sorted(result.gigabits for result in results)
        rows.append(
            {
                "what": "in-process pair, one thread, 64 KB writes, from Python",
                "mtu": mtu,
                "checksums": checksums,
                "gbit_per_s": round(statistics.median(speeds), 2),
                "lowest": round(speeds[0], 2),
                "highest": round(speeds[-1], 2),
                "ns_per_frame": round(statistics.median(result.nanoseconds_per_frame for result in results)),
            }
        )
        row = rows[-1]
        print(
            f"MTU {mtu:>5}  checksums {'on ' if checksums else 'off'}  {row['gbit_per_s']:>6.2f} Gbit/s "
            f"({row['lowest']:.2f} to {row['highest']:.2f})  {row['ns_per_frame']:>6} ns per frame"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each case (default 5)")
    parser.add_argument("--megabytes", type=int, default=512, help="bytes moved in each run (default 512 MB)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    rows = measure(options.runs, options.megabytes)
    if options.json is not None:
        machine = f"{platform.system()} {platform.machine()}, CPython {platform.python_version()}"
        report = {"date": datetime.now(UTC).isoformat(), "machine": machine, "figures": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


main()
