"""Many connections on one stack: what they take, what they cost at rest, and what happens when memory ends."""

from __future__ import annotations

import random

import pytest
from conftest import Pair
from test_demux import Crowd, accept_all

from lwipy import TcpEndpoint, TcpState
from lwipy.testing import VirtualTime

COUNT = 12_000


def state(end: TcpEndpoint) -> str:
    return end.info.state.name


def test_twelve_thousand_connections(hosts: Pair) -> None:
    assert hosts.time is not None
    before = hosts.a.statistics.memory_used + hosts.b.statistics.memory_used
    crowd = Crowd(hosts, COUNT, (4,))
    hosts.time.run(limit=150)
    used = hosts.a.statistics.memory_used + hosts.b.statistics.memory_used - before
    assert used / (2 * COUNT) <= 700, "bytes for an idle end"
    assert hosts.a.poll() is None, "a tick is due though all rest"
    assert hosts.b.poll() is None
    draw = random.Random(1)
    for server, client in draw.sample(crowd.ends, 500):
        client.send(client.address[1].to_bytes(2, "big"))
        hosts.b.poll()
        hosts.a.poll()
        assert server.recv(10) == client.address[1].to_bytes(2, "big")
    for pair in crowd.ends:
        for end in pair:
            end.close()
    hosts.time.run(limit=10)
    assert hosts.a.statistics.endpoints == 3
    assert hosts.b.statistics.endpoints == 0


def test_connections_in_time_wait_are_bounded(virtual: VirtualTime) -> None:
    hosts = Pair.of(virtual.stack(seed=1), virtual.stack(seed=2), virtual)
    listener = hosts.a.tcp()
    listener.bind(("", 80))
    listener.listen(1000)
    for _ in range(90):
        clients = [hosts.b.tcp() for _ in range(200)]
        for client in clients:
            client.connect(("10.0.0.1", 80))
        virtual.run(lambda: listener.info.queued == 200)
        for client in clients:
            client.close()
        virtual.settle()
        for server in accept_all(listener):
            server.close()
        virtual.settle()
    statistics = hosts.b.statistics
    assert statistics.time_wait_shed > 0
    assert statistics.memory_used < 16_384 * 700
    virtual.run(limit=5)
    assert hosts.b.statistics.memory_used < 1 << 20


# -- Without memory ----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(virtual: VirtualTime) -> Pair:
    """a has a megabyte."""
    return Pair.of(virtual.stack(seed=1, memory=1 << 20), virtual.stack(seed=2), virtual)


def test_without_memory_sends_wait_and_no_connection_is_lost(small: Pair) -> None:
    assert small.time is not None
    crowd = Crowd(small, 30, (4,))
    small.nic_b.link_up = False
    sent = [0] * len(crowd.ends)
    woken: set[int] = set()
    for number, (server, _) in enumerate(crowd.ends):
        server.on_event = lambda event, number=number: woken.add(number)
        try:
            while True:
                sent[number] += server.send(bytes(10_000))
        except BlockingIOError:
            pass
    statistics = small.a.statistics
    assert statistics.memory_waits > 0
    assert statistics.memory_used < statistics.memory_limit
    assert sent[-1] == 0, "the last of them had no memory left at all"
    with pytest.raises(OSError, match=r"memory|buffer"):
        small.a.tcp()
    assert small.a.statistics.memory_refused > 0
    small.time.run(limit=1.0)
    assert all(server.info.state is TcpState.ESTABLISHED for server, _ in crowd.ends)
    small.nic_b.link_up = True
    woken.clear()
    arrived = [0] * len(crowd.ends)
    for _ in range(600):
        small.time.run(limit=0.1)
        for number, (_, client) in enumerate(crowd.ends):
            try:
                while part := client.recv(1 << 20):
                    arrived[number] += len(part)
            except BlockingIOError:
                pass
    assert arrived == sent
    assert len(crowd.ends) - 1 in woken, "who had nothing in flight was not told that there is memory"
    server, client = crowd.ends[-1]
    assert server.send(b"at last") == 7
    small.time.run(limit=0.5)
    assert client.recv(100) == b"at last"


def test_new_connections_are_refused_before_the_old_ones_suffer(small: Pair) -> None:
    assert small.time is not None
    crowd = Crowd(small, 10, (4,))
    small.nic_b.link_up = False
    for server, _ in crowd.ends:
        try:
            while True:
                server.send(bytes(10_000))
        except BlockingIOError:
            pass
    small.nic_b.link_up = True
    client = small.b.tcp()
    client.connect(("10.0.0.1", 80))
    small.b.poll()
    small.a.poll()
    small.b.poll()
    assert state(client) == "SYN_SENT"
    for _ in range(100):
        small.time.run(limit=0.2)
        for _, other in crowd.ends:
            try:
                while other.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
    assert state(client) == "ESTABLISHED", "once there is memory again its SYN is answered"
