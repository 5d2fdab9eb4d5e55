"""``python -m benchmarks``: measures, side by side with peers, and prints a table.

Each round asks every side once, in turn; a figure is the median of the rounds, with the lowest and the highest. A peer
that is not on this machine is named with what to install.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.clock import now
from benchmarks.figures import Case, MissingError, Result, Sample, measure

#: Modules with cases, and what they measure; `--help` shows it.
MODULES: Final = {
    "pair": "two stacks in one process and thread, MTU 1500 to 65000",
    "frames": "small frames through Python, by buffer and by list",
    "group": "a StackGroup of two beside one of one",
    "queues": "the same with a link for each stack",
    "peers": "a TCP stream behind a TAP: lwipy beside the kernel's veth, slirp4netns and PyTCP",
    "qemu": "a QEMU guest: lwipy beside libslirp and passt (qemu), and with an old NIC (ne2k)",
    "http": "aiohttp on lwipy beside aiohttp on the kernel",
}
#: Programs with options of their own: `python -m benchmarks NAME --help`.
PROGRAMS: Final = ("connections", "echo", "goodput", "links", "profile", "scale", "soak", "tap")


def cases(names: list[str]) -> list[Case]:
    """The cases of those names, or all. ValueError for an unknown one."""
    found = [case for module in MODULES for case in importlib.import_module(f"benchmarks.{module}").CASES]
    known = {case.name: case for case in found}
    groups = {module: list(importlib.import_module(f"benchmarks.{module}").CASES) for module in MODULES}
    chosen: list[Case] = []
    for name in names or list(MODULES):
        if name in groups:
            chosen += groups[name]
        elif name in known:
            chosen.append(known[name])
        else:
            expected = ", ".join([*MODULES, *known, *PROGRAMS])
            raise ValueError(f"{name!r} is not a benchmark: expected some of {expected}")
    return list(dict.fromkeys(chosen))


class Progress:
    """What is being measured: on a terminal one line that is written over, elsewhere one for each round."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._terminal = sys.stderr.isatty()
        self._started = now()

    def tell(self, case: Case, sample: Sample) -> None:
        if self._terminal:
            value = "missing" if sample.value is None else f"{sample.value:.4g} {case.unit}"
            width = 24
            filled = "#" * min(width, width * self._done // max(self._total, 1))
            self._write(f"\r\x1b[K[{filled:<{width}}] {case.name}: {sample.name}  {value}")

    def next(self, case: Case, done: int, rounds: int) -> None:
        self._done += 1
        if not self._terminal:
            self._write(f"{case.name}: round {done} of {rounds}, {now() - self._started:.0f} s\n")

    def end(self) -> None:
        took = f"{now() - self._started:.0f} s in all\n"
        self._write(f"\r\x1b[K{took}" if self._terminal else took)

    @staticmethod
    def _write(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)


def run(chosen: list[Case], rounds: int) -> list[Result]:
    results = []
    progress = Progress(len(chosen) * rounds)
    for case in chosen:
        try:
            results.append(
                measure(
                    case,
                    rounds,
                    lambda sample, case=case: progress.tell(case, sample),  # type: ignore[misc]
                    lambda done, case=case: progress.next(case, done, rounds),  # type: ignore[misc]
                )
            )
        finally:
            close = getattr(case.run, "close", None)
            if close is not None:
                close()
    progress.end()
    return results


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in PROGRAMS:
        program = importlib.import_module(f"benchmarks.{sys.argv[1]}")
        sys.argv = [f"python -m benchmarks {sys.argv[1]}", *sys.argv[2:]]
        program.main()
        return
    listing = "\n".join(f"  {name:<8} {text}" for name, text in MODULES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listing}\n\nprograms with options of their own: {', '.join(PROGRAMS)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (default 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there (.png, .svg); needs lwipy[bench]")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    try:
        chosen = cases(options.names)
    except ValueError as error:
        parser.error(str(error))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is ended all the same
    results = run(chosen, options.rounds)
    print(report.markdown(results))
    if options.json is not None:
        options.json.write_text(report.as_json(results))
    if options.plot is not None:
        try:
            report.plot(results, options.plot)
        except MissingError as missing:
            parser.exit(1, f"{missing}\n")


def _output_is_cut() -> bool:
    """Whether nobody reads the output any more, as behind ``head``."""
    if not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poller.poll(0))


if __name__ == "__main__":
    try:
        try:
            main()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _output_is_cut():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
