"""A guest's serial console, seen from a test: orders in, everything it says out.

Theory of operation.  An emulator is a child process whose standard input and output are the guest's first serial
port.  A thread collects the output; `expect` and `wait` block the calling thread alone, so a guest runs beside a
driver thread or an event loop in the same process (there, call them through `asyncio.to_thread`).  Init says
"@@ ready", takes the orders (`steps.sh` and then the test's script) until "@@ go", runs them, says "@@ done CODE"
and powers off.  In the script `step NAME COMMAND...` frames a command's output by "@@ begin NAME" and
"@@ end NAME CODE SECONDS", which `wait` gives back as a `Report`.

Invariants:
1. The orders go out once, when the guest has said that it is ready.
2. `expect` finds each piece of output at most once: it goes on behind the last match. It looks at whole lines only,
   since the end of what has come so far is not the end of a line.
3. Leaving the `with` block ends the emulator, whatever state it is in, by its own process handle.
4. Whatever goes wrong is told with the last lines of the console.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from .clock import keep_steady

_STEPS = Path(__file__).with_name("steps.sh").read_text()
_STEP = re.compile(
    r"^@@ begin (?P<name>\S+)\n(?P<output>.*?)\n?^@@ end (?P=name) (?P<code>\d+) (?P<seconds>[\d.]+)$",
    re.MULTILINE | re.DOTALL,
)
_DONE = re.compile(r"^@@ done (\d+)$", re.MULTILINE)
# A line longer than the guest's terminal takes would be cut without a word.
_LONGEST_LINE = 4000


class GuestError(Exception):
    """The guest did not do what was expected of it; the text ends with the last lines of its console."""


@dataclass(frozen=True)
class Step:
    """One step of the script: what it printed, its exit code, and the seconds it took by the guest's own clock."""

    name: str
    output: str
    code: int
    seconds: float

    def packets(self) -> tuple[int, int]:
        """Of a step that pings: packets sent, and answers that came back."""
        found = re.search(r"(\d+) packets transmitted, (\d+) packets received", self.output)
        if not found:
            raise GuestError(f"step {self.name} has no summary of a ping: {self.output!r}")
        return int(found[1]), int(found[2])


@dataclass(frozen=True)
class Report(Mapping[str, Step]):
    """The steps by name in the order they ran, the exit code of the whole script, and all the console said."""

    steps: dict[str, Step]
    code: int
    console: str = field(repr=False)

    def __getitem__(self, name: str) -> Step:
        return self.steps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def failed(self) -> list[Step]:
        """The steps that ended with another exit code than 0."""
        return [step for step in self.steps.values() if step.code]


class Guest:
    """An emulator started by `command`, whose guest is to run `script`; use it in a `with` statement."""

    def __init__(self, command: Sequence[str], script: str) -> None:
        self._command = [*keep_steady(), *command]
        self._orders = _orders(script)
        self._text = ""
        self._whole = 0
        self._position = 0
        self._ended = False
        self._heard = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._listener = threading.Thread(target=self._listen, name="guest console", daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        process.kill()
        process.wait()
        self._listener.join()
        for pipe in (process.stdin, process.stdout):
            assert pipe
            try:
                pipe.close()
            except BrokenPipeError:
                pass

    @property
    def console(self) -> str:
        """All the guest has said so far."""
        return self._text

    @property
    def pid(self) -> int:
        """The emulator's process id."""
        return self._running().pid

    def send(self, text: str) -> None:
        """Types `text` on the guest's console, which is the running script's standard input."""
        pipe = self._running().stdin
        assert pipe
        try:
            pipe.write(text.encode())
            pipe.flush()
        except BrokenPipeError:
            raise self._error("the emulator has ended, nothing can be sent to it") from None

    def expect(self, pattern: str, timeout: float) -> re.Match[str]:
        """The next match of a regular expression (^ and $ match at lines), waited for `timeout` seconds at most.

        Raises GuestError when the time is over or the emulator ends first.
        """
        sought = re.compile(pattern, re.MULTILINE)
        limit = time.monotonic() + timeout
        with self._heard:
            while not (match := sought.search(self._text, self._position, self._whole)):
                if self._ended:
                    raise self._error(f"the guest ended without {pattern!r}")
                if not self._heard.wait(limit - time.monotonic()) and time.monotonic() >= limit:
                    raise self._error(f"no {pattern!r} within {timeout} s")
            self._position = match.end()
        return match

    def wait(self, timeout: float) -> Report:
        """The report of the whole script, once it has ended and the emulator too.

        Raises GuestError as `expect` does, whatever `expect` has seen before.
        """
        limit = time.monotonic() + timeout
        with self._heard:
            while not (done := _DONE.search(self._text, 0, self._whole)):
                if self._ended:
                    raise self._error("the guest ended before its script did")
                if not self._heard.wait(limit - time.monotonic()) and time.monotonic() >= limit:
                    raise self._error(f"the script has not ended within {timeout} s")
        try:
            self._running().wait(max(limit - time.monotonic(), 10))
        except subprocess.TimeoutExpired:
            raise self._error("the script has ended, the emulator does not") from None
        self._listener.join()
        steps = {
            found["name"]: Step(found["name"], found["output"], int(found["code"]), float(found["seconds"]))
            for found in _STEP.finditer(self._text)
        }
        return Report(steps, int(done[1]), self._text)

    def _running(self) -> subprocess.Popen[bytes]:
        if not self._process:
            raise GuestError("the guest is started by its with statement, which has not been entered")
        return self._process

    def _listen(self) -> None:
        pipe = self._running().stdout
        assert pipe
        ordered = False
        while data := pipe.read1():  # type: ignore[attr-defined]
            with self._heard:
                self._text += data.decode(errors="replace").replace("\r\n", "\n")
                self._whole = self._text.rfind("\n") + 1
                self._heard.notify_all()
            if not ordered and "@@ ready\n" in self._text:
                ordered = True
                self.send(self._orders)
        with self._heard:
            self._ended = True
            self._heard.notify_all()

    def _error(self, what: str) -> GuestError:
        tail = "\n".join(self._text.splitlines()[-30:])
        return GuestError(f"{what}; its console ends with:\n{tail or '(nothing)'}")


def _orders(script: str) -> str:
    for line in script.splitlines():
        if len(line) > _LONGEST_LINE:
            raise ValueError(f"a line of {len(line)} characters, expected {_LONGEST_LINE} at most: {line[:60]!r}...")
    return f"{_STEPS}\n{script}\n@@ go\n"
