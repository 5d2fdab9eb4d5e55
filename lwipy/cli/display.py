"""What `lwipy share` shows: who came, what moved, and progress with speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lwipy.services.dhcp import Lease
from lwipy.services.share import Event, Finished, Started
from lwipy.services.share import Progress as Moved


class Display:
    """Prints lines, and bars for what is moving; the bars vanish when they are done."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[int, TaskID] = {}
        self._started: dict[int, tuple[Started, float]] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """The span in which bars are drawn."""
        with self._progress:
            yield

    def say(self, text: str) -> None:
        """One line, in which nothing is markup: guests choose some of these words."""
        self._console.print(escape(text), soft_wrap=True)

    def lease(self, lease: Lease) -> None:
        name = f" ({lease.hostname})" if lease.hostname else ""
        self.say(f"guest {lease.address} came: {lease.mac}{name}")

    def transfer(self, event: Event) -> None:
        """An observer of the share."""
        match event:
            case Started():
                what = "up  " if event.upload else "down"
                task = self._progress.add_task(f"{what} {escape(event.path)}", total=event.total)
                self._tasks[event.transfer] = task
                self._started[event.transfer] = (event, self._progress.get_time())
            case Moved():
                self._progress.update(self._tasks[event.transfer], completed=event.moved)
            case Finished():
                self._finish(event)

    def _finish(self, event: Finished) -> None:
        self._progress.remove_task(self._tasks.pop(event.transfer))
        started, since = self._started.pop(event.transfer)
        seconds = max(self._progress.get_time() - since, 1e-6)
        arrow = "->" if started.upload else "<-"
        speed = f"{event.moved / seconds / 1e6:.2f} MB/s"
        outcome = "" if event.ok else f", failed: {event.error}"
        self.say(f"{started.peer} {arrow} {started.path}: {event.moved} bytes in {seconds:.2f} s, {speed}{outcome}")
