"""TCP that lwIP 2.2.1 must not see (csrc/guard.c, csrc/tcp_hooks.c): each weakness, failing without the guard."""

from __future__ import annotations

import pytest
from attacker import (
    ATTACKER,
    TCP,
    Packet,
    Peer,
    Raw,
    Target,
    ip,
    serve,
)


def with_options(options: bytes, flags: int = 2, **fields: object) -> Packet:
    """A segment whose options are these very bytes, filled up with zeros to a multiple of four."""
    options += bytes(-len(options) % 4)
    packet = ip(4) / TCP(sport=40000, dport=80, flags=flags, dataofs=5 + len(options) // 4, **fields) / Raw(options)
    return packet


@pytest.mark.parametrize(
    "options",
    [b"\1\1\1\2", b"\2\4\5", b"\1\2\4\5", b"\1\1\3\3", b"\1\1\1\4", b"\1\1\1\xfe", b"\2\0\0\0", b"\2\3\0\0",
     b"\2\5\0\0\0", b"\3\2\0\0", b"\3\4\1\1", b"\4\3\1\0", b"\xfe\0\0\0", b"\xfe\1\0\0", b"\xfe\x29" + bytes(38),
     b"\x08\x09" + bytes(8)],
)  # fmt: skip
def test_tcp_options_are_whole_and_of_their_size(target: Target, options: bytes) -> None:
    """lwIP reads the length, and what it promises, beyond the end of the options."""
    listener = serve(target)
    if options in (b"\2\4\5", b"\3\4\1\1"):
        options = options.ljust(4, b"\1")[:3] + b"\2" if options == b"\3\4\1\1" else options[:3]
    packet = with_options(options)
    if len(options) % 4:
        packet[TCP].dataofs = 5 + len(options) // 4
        packet = ip(4) / TCP(sport=40000, dport=80, flags="S", dataofs=6) / Raw(b"\1" * (4 - len(options)) + options)
    target.inject(packet)
    assert target.answers(TCP) == []
    assert target.statistics().guard_tcp_options == 1
    listener.close()
    target.assert_unharmed()


@pytest.mark.parametrize(
    "options", [b"", b"\0", b"\1\1\1\1", b"\2\4\5\xb4", b"\3\3\7\1\4\2", b"\xfd\4\0\0", b"\0\2\0\0"]
)
def test_sound_tcp_options_pass(target: Target, options: bytes) -> None:
    serve(target)
    target.inject(with_options(options))
    (answer,) = target.answers(TCP)
    assert answer[TCP].flags == "SA"


@pytest.mark.parametrize("options", [b"\2\4\0\1", b"\3\3\x0e\1", b"\4\2\1\1"], ids=["mss", "scale", "sack"])
def test_options_of_the_handshake_come_with_it_only(target: Target, options: bytes) -> None:
    """In mid connection lwIP takes a new MSS; its sender then asserts."""
    listener = serve(target)
    peer = Peer(target).connect(options=[("MSS", 1460)])
    server = listener.accept()
    mss = server.info.mss
    server.send(bytes(1000))
    target.inject(with_options(options, 16, seq=peer.seq, ack=peer.ack))
    assert server.info.mss == mss
    server.send(bytes(1000))
    assert target.statistics().guard_tcp_options == 1


def test_an_answer_to_another_syn_sets_nothing(target: Target) -> None:
    """lwIP reads the options of a SYN|ACK before it looks whether it answers our SYN."""
    client = target.stack.tcp()
    client.connect((ATTACKER[4], 5000))
    (syn,) = target.answers(TCP)
    wrong = TCP(sport=5000, dport=syn[TCP].sport, flags="SA", seq=1, ack=syn[TCP].seq + 2, options=[("WScale", 14)])
    target.inject(ip(4) / wrong)
    answers = [packet[TCP] for packet in target.answers(TCP)]
    assert [str(answer.flags) for answer in answers] == ["RA", "S"]
    right = TCP(sport=5000, dport=syn[TCP].sport, flags="SA", seq=1, ack=syn[TCP].seq + 1, window=1000)
    target.inject(ip(4) / right)
    target.inject(ip(4) / TCP(sport=5000, dport=syn[TCP].sport, flags="A", seq=2, ack=syn[TCP].seq + 1, window=1000))
    assert client.info.send_window == 1000
    client.abort()
    target.assert_unharmed()


def test_a_syn_that_meets_ours_sets_nothing(target: Target) -> None:
    client = target.stack.tcp()
    client.connect((ATTACKER[4], 5000))
    (syn,) = target.answers(TCP)
    target.inject(ip(4) / TCP(sport=5000, dport=syn[TCP].sport, flags="S", seq=1, options=[("WScale", 14)]))
    assert target.statistics().guard_tcp_flags == 1
    client.abort()
    target.assert_unharmed()


def test_a_second_answer_in_the_handshake_sets_nothing(target: Target) -> None:
    serve(target)
    peer = Peer(target)
    (answer,) = peer.send("S", ack=0)
    assert peer.send("SA", seq=peer.seq, ack=answer.seq + 1, options=[("WScale", 14), ("MSS", 1)]) == []
    peer.seq, peer.ack = peer.seq + 1, answer.seq + 1
    peer.send("A")


@pytest.mark.parametrize("flags", ["", "F", "P", "U", "FPU", "SF", "SFA"])
def test_flags_that_say_nothing_or_contradict_themselves(target: Target, flags: str) -> None:
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    peer.send(flags, b"data")
    with pytest.raises(BlockingIOError):
        server.recv(100)
    assert target.statistics().guard_tcp_flags == 1
    server.abort()


def test_data_out_of_order_stays_within_the_window(target: Target) -> None:
    """lwIP queues it untrimmed, and asserts when the gap has been filled and it does not fit."""
    listener = serve(target, rcvbuf=4096)
    peer = Peer(target).connect()
    server = listener.accept()
    (answer,) = peer.send("A", bytes(1460), seq=peer.seq + 4000)
    assert (answer.flags, answer.ack) == ("A", peer.seq)
    for at in range(0, 4000, 1000):
        peer.send("A", b"y" * 1000, seq=peer.seq + at)
    assert server.recv(10_000) == b"y" * 4000
    assert target.statistics().guard_tcp_window == 1
    server.abort()


def test_data_beyond_the_end_of_the_stream_is_not_taken(target: Target) -> None:
    """lwIP gives the FIN to whatever covers it, which then is a byte longer than the window."""
    listener = serve(target, rcvbuf=4096)
    peer = Peer(target).connect()
    server = listener.accept()
    peer.send("FA", seq=peer.seq + 3500)
    for at in range(0, 3000, 1000):
        peer.send("A", b"y" * 1000, seq=peer.seq + at)
    peer.send("A", b"z" * 1096, seq=peer.seq + 3000)
    peer.send("A", b"y" * 500, seq=peer.seq + 3000)
    assert server.recv(10_000) == b"y" * 3500
    assert server.recv(10_000) == b""
    server.abort()


@pytest.mark.parametrize("first", [0, 1])
def test_a_window_closed_from_the_start_and_then_small(target: Target, first: int) -> None:
    """lwIP makes segments of the full size while it knows of no window, and asserts that it would do so again."""
    listener = serve(target)
    peer = Peer(target).connect(window=first)
    server = listener.accept()
    assert server.send(b"a" * 1000) == 1000
    peer.send("A", window=100)
    assert server.send(b"b" * 1000) == 1000
    received = b""
    for _ in range(300):
        target.time.run(limit=0.5)
        data = peer.received()
        peer.ack += len(data)
        received += data
        peer.send("A", window=100)
    assert received == b"a" * 1000 + b"b" * 1000
    server.abort()


def test_the_byte_of_a_window_probe_may_be_the_last_there_was(target: Target) -> None:
    """lwIP asserts that something is left to probe with."""
    listener = serve(target)
    peer = Peer(target).connect(window=0)
    server = listener.accept()
    server.send(b"a")
    target.time.run(limit=1)
    assert peer.received() == b"a"
    peer.send("A", window=0, ack=peer.ack + 1)
    target.time.run(limit=1)
    server.send(b"b")
    target.time.run(limit=1)
    assert peer.received() == b"b"
    server.abort()
    target.assert_unharmed()


def test_a_retransmission_timeout_does_not_grow_for_ever(target: Target) -> None:
    """What was sent to a peer that is gone is given up, and its memory with it."""
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    server.send(bytes(1000))
    target.time.run(limit=40)  # a round trip of 40 seconds
    peer.send("A", ack=peer.ack + 1000)
    peer.ack += 1000
    server.send(bytes(100_000))
    server.close()
    target.time.run(limit=1800)
    target.assert_unharmed()
