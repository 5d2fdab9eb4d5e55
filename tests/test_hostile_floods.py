"""Floods of segments, and peers that are gone."""

from __future__ import annotations

import pytest
from attacker import FLAGS, SYN, TARGET, TCP, Peer, Target, ip, quick_segment, serve

from lwipy import Event, Option


def test_a_syn_flood_is_bounded_and_disturbs_nobody(target: Target) -> None:
    listener = serve(target)
    client = target.friend.tcp()
    client.connect((TARGET[4], 80))
    target.time.run(lambda: listener.info.queued)
    server = listener.accept()
    target.nic.checksums = target.friend_nic.checksums = False
    for round_ in range(10):
        ports = range(1024 + round_ * 2000, 3024 + round_ * 2000)
        target.nic.receive_many(quick_segment(4, (port, 80), port, 0, SYN) for port in ports)
        target.out.clear()
        client.send(b"still here")
        target.time.run(limit=0.1)
        assert server.recv(100) == b"still here"
    target.nic.checksums = target.friend_nic.checksums = True
    assert target.statistics().memory_used < 1 << 20
    client.close()
    server.close()
    target.time.run(limit=60)  # half-open connections are given up
    target.assert_unharmed()


def test_connections_nobody_accepts_are_bounded(target: Target) -> None:
    listener = target.stack.tcp()
    listener.bind((TARGET[4], 80))
    listener.listen(10)
    peers = [Peer(target, own_port=50_000 + n) for n in range(400)]
    answers = {peer: peer.send("S", ack=0) for peer in peers}
    for peer, answer in answers.items():
        if answer:
            peer.send("A", b"x" * 100, seq=peer.seq + 1, ack=answer[0].seq + 1)
    assert listener.info.queued <= 10 + 255
    assert Peer(target, own_port=60_000).send("S", ack=0) == []
    assert target.statistics().syn_backlog > 0
    listener.close()
    target.assert_unharmed(kept=10_000)  # the table of handles has grown


def test_connections_that_end_before_they_are_accepted(target: Target) -> None:
    """By a reset, by a FIN, with data and without."""
    listener = serve(target)
    for n, (flags, data) in enumerate([("R", b""), ("FA", b""), ("FA", b"data"), ("A", b"data"), ("A", b"")]):
        peer = Peer(target, own_port=50_000 + n).connect()
        peer.send(flags, data)
        if flags == "A" and data:
            peer.send("R", seq=peer.seq + len(data))
    events: list[list[Event]] = []
    for _ in range(5):
        server = listener.accept()
        seen: list[Event] = []
        server.on_event = seen.append
        target.stack.poll()
        events.append(seen)
        reads = []
        try:
            while data := server.recv(100):
                reads.append(data)
            reads.append(b"end")
        except ConnectionResetError:
            reads.append(b"reset")
        except BlockingIOError:
            reads.append(b"open")
        expected = [[b"reset"], [b"end"], [b"data", b"end"], [b"data", b"reset"], [b"open"]][len(events) - 1]
        assert reads == expected
        server.abort()
    # What happened before the accept is said after it.
    assert [any(Event.READABLE in event for event in seen) for seen in events] == [True, True, True, True, False]
    target.assert_unharmed()


def test_a_peer_that_is_gone_costs_until_it_is_given_up(target: Target) -> None:
    listener = serve(target)
    servers = []
    for n in range(50):
        Peer(target, own_port=50_000 + n).connect()
        server = listener.accept()
        server.send(bytes(200_000))
        servers.append(server)
    held = target.statistics().memory_used
    for server in servers[:25]:
        server.close()
    target.time.run(limit=2000)
    assert target.statistics().memory_used < held // 10
    for server in servers[25:]:
        with pytest.raises(TimeoutError):
            server.recv(1)
        server.close()
    target.assert_unharmed()


def test_keepalive_finds_a_peer_that_is_gone(target: Target) -> None:
    listener = serve(target)
    Peer(target).connect()
    server = listener.accept()
    for option, value in ((Option.KEEPALIVE, 1), (Option.KEEPIDLE, 10), (Option.KEEPINTVL, 5), (Option.KEEPCNT, 3)):
        server.set_option(option, value)
    seen: list[Event] = []
    server.on_event = seen.append
    took = target.time.run(lambda: any(Event.FAILED in event for event in seen), limit=100)
    assert 20 <= took <= 30
    server.close()
    target.assert_unharmed()


def test_closed_ports_answer_with_a_reset_and_remember_nothing(target: Target) -> None:
    before = target.statistics().memory_used
    for flags in FLAGS:
        (*answers,) = Peer(target, 9999).send(flags, b"x")
        assert len(answers) == ("R" not in flags)
    assert target.statistics().memory_used == before
    target.assert_unharmed()


def test_a_packet_to_itself(target: Target) -> None:
    """The land attack: a SYN whose source is its destination."""
    listener = serve(target)
    target.inject(ip(4, src=TARGET[4]) / TCP(sport=80, dport=80, flags="S"))
    target.time.run(limit=5)
    assert target.statistics().tcp_rx == target.statistics().tcp_rx
    assert listener.info.queued == 0
    target.assert_unharmed()
