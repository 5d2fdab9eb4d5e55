"""TCP listeners: their queue, their ports and their addresses."""

from __future__ import annotations

import errno

import pytest
from conftest import Pair
from tcp_world import listening

from lwipy import TcpState


def test_a_listener_takes_both_families_at_once(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = listening(hosts, family=0)
    clients = [hosts.b.tcp(4), hosts.b.tcp(6)]
    clients[0].connect(("10.0.0.1", 80))
    clients[1].connect(("fd00::1", 80))
    hosts.time.run(lambda: listener.info.queued == 2)
    assert {listener.accept().peer, listener.accept().peer} == {c.address for c in clients}


def test_a_full_accept_queue_drops_syns_and_the_peer_tries_again(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = listening(hosts, backlog=2)
    clients = [hosts.b.tcp() for _ in range(4)]
    for client in clients:
        client.connect(("10.0.0.1", 80))
    hosts.time.run(limit=5)
    early = [client for client in clients if client.info.state is TcpState.ESTABLISHED]
    assert len(early) >= 2
    accepted = 0

    def accept() -> bool:
        nonlocal accepted
        try:
            listener.accept()
            accepted += 1
        except BlockingIOError:
            pass
        return accepted == 4

    hosts.time.run(accept, limit=120)
    assert all(client.info.state is TcpState.ESTABLISHED for client in clients)


def test_backlog_overflow_is_counted(hosts: Pair) -> None:
    assert hosts.time is not None
    listening(hosts, backlog=1)
    for _ in range(3):
        hosts.b.tcp().connect(("10.0.0.1", 80))
        hosts.time.run(limit=0.2)
    assert hosts.a.statistics.syn_backlog >= 1


def test_two_hundred_connections_at_once(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = listening(hosts, backlog=256)
    clients = [hosts.b.tcp() for _ in range(200)]
    for client in clients:
        client.connect(("10.0.0.1", 80))
    hosts.time.run(lambda: listener.info.queued == 200)
    for number, client in enumerate(clients):
        client.send(b"%d from %d" % (number, client.address[1]))
    hosts.time.run(limit=1)
    for _ in clients:
        server = listener.accept()
        assert server.peer is not None
        assert server.recv(100).endswith(b" from %d" % server.peer[1])


def test_a_port_in_use_is_refused_and_reuse_after_close_works(hosts: Pair) -> None:
    listener = listening(hosts)
    with pytest.raises(OSError, match=":80") as info:
        hosts.a.tcp().bind(("", 80))
    assert info.value.errno == errno.EADDRINUSE
    listener.close()
    listening(hosts)


def test_port_zero_gives_a_free_port(hosts: Pair) -> None:
    ports = set()
    for _ in range(20):
        end = hosts.a.tcp()
        end.bind(("", 0))
        ports.add(end.address[1])
    assert len(ports) == 20
    assert all(port >= 49152 for port in ports)


def test_an_address_that_is_not_ours_cannot_be_bound(hosts: Pair) -> None:
    with pytest.raises(OSError, match=r"10\.0\.0\.99") as info:
        hosts.a.tcp().bind(("10.0.0.99", 0))
    assert info.value.errno == errno.EADDRNOTAVAIL


def test_listening_with_a_closed_endpoint_is_ebadf(hosts: Pair) -> None:
    end = hosts.a.tcp()
    end.close()
    end.close()
    with pytest.raises(OSError, match="Bad file descriptor") as info:
        end.listen()
    assert info.value.errno == errno.EBADF
