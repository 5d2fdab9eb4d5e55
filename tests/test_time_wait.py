"""TIME_WAIT ends by itself, in whatever phase of lwIP's two timers it began."""

from __future__ import annotations

import pytest
from conftest import Pair


@pytest.mark.parametrize("phase", [0.0, 0.01, 0.05, 0.125])
def test_a_quiet_stack_gives_closed_connections_back(hosts: Pair, phase: float) -> None:
    assert hosts.time is not None
    listener = hosts.a.tcp()
    listener.bind(("10.0.0.1", 80))
    listener.listen()
    before: list[int] = []
    for _ in range(3):
        hosts.time.run(limit=20)
        hosts.time.now += phase
        before.append(hosts.a.statistics.memory_used)
        clients = [hosts.b.tcp() for _ in range(20)]
        for client in clients:
            client.connect(("10.0.0.1", 80))
            hosts.time.run(limit=0.5)
            listener.accept().close()
            hosts.time.run(limit=0.011)
            client.close()
    hosts.time.run(limit=20)
    before.append(hosts.a.statistics.memory_used)
    assert before[1] == before[2] == before[3]
    listener.close()
