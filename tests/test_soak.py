"""A short soak: connections through http.server and aiohttp leave nothing behind in the process or the stacks."""

from __future__ import annotations

import pytest
from rich.progress import Progress

from benchmarks import soak

CONNECTIONS = 1000


@pytest.mark.parametrize("library", soak.LIBRARIES)
def test_short_connections_leave_nothing_behind(library: str) -> None:
    with Progress(disable=True) as progress:
        outcome = soak.LIBRARIES[library](CONNECTIONS, progress)
    assert len(outcome.ours) == soak.ROUNDS
    assert outcome.late.descriptors <= outcome.early.descriptors
    assert outcome.late.endpoints <= outcome.early.endpoints
    assert outcome.late.arena < outcome.early.arena + 50 * CONNECTIONS  # bytes: less than any pcb has
    assert outcome.late.process < outcome.early.process + 10e6
