"""Windows and sequence numbers of peers that mean harm."""

from __future__ import annotations

import random

import pytest
from attacker import ACK, Peer, Target, quick_segment, serve

from lwipy import Event, TcpState

# -- Windows ------------------------------------------------------------------------------------------------


def test_a_window_closed_for_ever_is_given_up(target: Target) -> None:
    """When nobody answers the probes; as long as someone does, it is a slow reader (RFC 9293 3.8.6.1)."""
    listener = serve(target)
    peer = Peer(target).connect(window=0)
    server = listener.accept()
    events: list[Event] = []
    server.on_event = events.append
    server.send(b"never read")
    target.time.run(lambda: any(Event.FAILED in event for event in events), limit=3000)
    with pytest.raises(TimeoutError):
        server.recv(1)
    assert peer.answers()
    server.close()
    target.assert_unharmed()


def test_a_slow_reader_is_waited_for(target: Target) -> None:
    listener = serve(target)
    peer = Peer(target).connect(window=0)
    server = listener.accept()
    server.send(b"patience")
    for _ in range(40):
        target.time.run(limit=30)
        peer.send("A", window=0)
    peer.send("A", window=100)
    target.time.run(limit=1)
    assert peer.received().endswith(b"patience")
    server.abort()
    target.assert_unharmed()


@pytest.mark.parametrize("window", [1, 2, 3, 7, 63])
def test_windows_smaller_than_a_segment(target: Target, window: int) -> None:
    listener = serve(target)
    peer = Peer(target).connect(window=window)
    server = listener.accept()
    content = bytes(range(100))
    server.send(content)
    server.shutdown(write=True)
    received = b""
    for _ in range(2000):
        target.time.run(limit=0.2)
        segments = peer.answers()
        assert all(len(segment.payload) <= window for segment in segments)
        for segment in segments:
            data = bytes(segment.payload)
            if segment.seq == peer.ack:
                received += data
                peer.ack += len(data)
                if "F" in segment.flags:
                    assert received == content
                    server.abort()
                    target.assert_unharmed()
                    return
        target.inject(peer.segment("A", window=window))
    pytest.fail(f"only {len(received)} bytes came")


def test_a_window_taken_back(target: Target) -> None:
    listener = serve(target)
    peer = Peer(target).connect(window=20_000)
    server = listener.accept()
    server.send(bytes(40_000))
    peer.send("A", window=10)
    peer.send("A", window=0)
    target.time.run(limit=30)
    peer.send("A", window=65535)
    target.time.run(limit=30)
    assert server.info.state is TcpState.ESTABLISHED
    server.abort()
    target.assert_unharmed()


def test_a_window_that_cuts_the_last_segment_in_flight(target: Target) -> None:
    """Taken back to less than that segment, which is cut then, and acknowledged piece by piece."""
    listener = serve(target)
    peer = Peer(target).connect(window=20_000, options=[("MSS", 1460)])
    server = listener.accept()
    content = random.Random(3).randbytes(40_000)
    begin = peer.ack

    def acknowledge(amount: int, window: int) -> None:
        peer.ack = begin + amount
        target.inject(peer.segment("A", window=window))

    server.send(content[:7300])
    acknowledge(5840, window=768)
    server.send(content[7300:20_000])
    target.time.run(limit=20)
    assert max(segment.seq - begin + len(segment.payload) for segment in peer.answers()[-2:]) == 6608
    for _ in range(3):
        acknowledge(6608, window=692)
    for at in range(20_000, 40_000, 500):
        server.send(content[at : at + 500])
    got = bytearray(content[:6608])
    for _ in range(60):
        for segment in sorted(peer.answers(), key=lambda segment: segment.seq):
            if segment.seq == begin + len(got):
                got += bytes(segment.payload)
        acknowledge(len(got), window=20_000)
        target.time.run(limit=0.5)
        if server.info.unsent == 0 and len(got) == 40_000:
            break
    assert got == content
    server.abort()
    target.assert_unharmed()


def test_data_beyond_the_window_is_not_taken(target: Target) -> None:
    listener = serve(target, rcvbuf=4096)
    peer = Peer(target).connect()
    server = listener.accept()
    for at in range(0, 20_000, 1000):
        peer.send("A", bytes([at // 1000]) * 1000, seq=peer.seq + at)
    assert server.info.queued == 4096
    peer.send("A", b"probe", seq=peer.seq + 4096)
    assert server.info.queued == 4096
    assert server.recv(10_000) == b"\0" * 1000 + b"\1" * 1000 + b"\2" * 1000 + b"\3" * 1000 + b"\4" * 96
    server.abort()
    target.assert_unharmed()


def test_single_bytes_cost_no_more_than_they_hold(target: Target) -> None:
    """In order they are collected, out of order their number is bounded."""
    listener = serve(target)
    peer = Peer(target).connect(options=[("WScale", 7)])
    server = listener.accept()
    before = target.statistics().memory_used
    target.nic.checksums = False

    def byte(at: int) -> bytes:
        return quick_segment(4, (peer.own_port, 80), peer.seq + at, peer.ack, ACK, data=b"x")

    target.nic.receive_many(byte(at) for at in range(5000))
    assert server.info.queued == 5000
    assert target.statistics().memory_used - before < 64 << 10
    target.nic.receive_many(byte(at) for at in range(5001, 15_001, 2))
    assert target.statistics().memory_used - before < 4 << 20
    target.nic.checksums = True
    target.out.clear()
    server.abort()
    target.assert_unharmed()


# -- Sequence numbers -----------------------------------------------------------------------------------------


def test_acknowledgements_of_what_was_never_sent(target: Target) -> None:
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    server.send(b"sent")
    for ahead in (5, 100, 65536, 1 << 20, 1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1):
        peer.send("A", ack=peer.ack + ahead)
    assert server.info.unacked == 4
    peer.send("A", ack=peer.ack + 4)
    assert server.info.unacked == 0
    server.abort()
    target.assert_unharmed()


@pytest.mark.parametrize("before", [1, 700, 1460, 5000, 70_000])
def test_sequence_numbers_wrap_around(target: Target, before: int) -> None:
    """Ours on the way in; theirs on the way out, by the time at which their initial number is near the end."""
    listener = serve(target)
    probe = Peer(target, own_port=44000)
    (answer,) = probe.send("S", ack=0)
    probe.send("R", seq=probe.seq + 1)
    target.time.run(limit=((1 << 32) - before - answer.seq) % (1 << 32) * 4e-6)
    peer = Peer(target, own_port=44000)
    peer.seq = (1 << 32) - before
    (answer,) = peer.send("S", ack=0)
    assert (1 << 32) - answer.seq <= before + 2000
    peer.seq, peer.ack = (peer.seq + 1) % (1 << 32), answer.seq + 1
    peer.send("A")
    server = listener.accept()
    there, back = bytearray(), bytearray()
    content = random.Random(before).randbytes(100_000)
    for at in range(0, len(content), 1000):
        peer.send("A", content[at : at + 1000], seq=peer.seq + at)
        there += server.recv(2000)
    peer.seq += len(content)
    server.send(content)
    for _ in range(400):
        if len(back) == len(content):
            break
        for segment in sorted(peer.answers(), key=lambda s: (s.seq - peer.ack) % (1 << 32)):
            if segment.seq == peer.ack % (1 << 32):
                back += bytes(segment.payload)
                peer.ack += len(segment.payload)
        target.inject(peer.segment("A"))
        target.time.run(limit=0.01)
    assert there == back == content
    server.abort()
    target.assert_unharmed()


def test_a_reset_must_be_exact(target: Target) -> None:
    """RFC 5961 3.2: one in the window is asked for again, one outside is not heard."""
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    for ahead in (1, 100, 60_000):
        (challenge,) = peer.send("R", seq=peer.seq + ahead)
        assert (challenge.flags, challenge.ack) == ("A", peer.seq)
    for outside in (-1, 1 << 20, 1 << 31):
        assert peer.send("R", seq=peer.seq + outside) == []
    peer.send("A", b"still here")
    assert server.recv(100) == b"still here"
    peer.send("R", seq=peer.seq + 10)
    with pytest.raises(ConnectionResetError):
        server.recv(100)


@pytest.mark.parametrize("ahead", [-1000, -1, 0, 1, 1000, 1 << 31])
def test_a_syn_in_mid_connection_is_challenged(target: Target, ahead: int) -> None:
    """RFC 5961 4.2"""
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    (challenge,) = peer.send("S", seq=peer.seq + ahead)
    assert (challenge.flags, challenge.ack) == ("A", peer.seq)
    peer.send("A", b"still here")
    assert server.recv(100) == b"still here"


def test_urgent_data_is_data(target: Target) -> None:
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    for pointer in (0, 1, 4, 5, 65535):
        peer.send("AU", b"data", urgptr=pointer)
        peer.seq += 4
    assert server.recv(100) == b"data" * 5
