"""TCP from someone who obeys no rule. What lwIP must not see at all is in test_guard.py, and noise in
test_hostile_tcp_random.py."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from attacker import ATTACKER, TARGET, TCP, Packet, Peer, Raw, Target, VirtualTime, ip, quick_segment, serve
from scapy.layers.inet6 import IPv6ExtHdrFragment

from lwipy import Event, Option, TcpEndpoint, TcpState

FLAGS = [f"{'F' * (n & 1)}{'S' * (n >> 1 & 1)}{'R' * (n >> 2 & 1)}{'P' * (n >> 3 & 1)}{'A' * (n >> 4 & 1)}"
         f"{'U' * (n >> 5 & 1)}" for n in range(64)]  # fmt: skip


SYN, ACK = 2, 16


@pytest.fixture
def target() -> Iterator[Target]:
    with VirtualTime() as time:
        yield Target(time)


class States:
    """A connection of the target in each state of RFC 9293 3.3.2, and the attacker's end of it."""

    def __init__(self, target: Target, port: int) -> None:
        self.target = target
        self.peer = Peer(target, own_port=port)
        self.end: TcpEndpoint | None = None

    def listen(self) -> None:
        pass

    def syn_rcvd(self) -> None:
        (answer,) = self.peer.send("S", ack=0)
        self.peer.seq, self.peer.ack = self.peer.seq + 1, answer.seq + 1

    def established(self) -> None:
        self.peer.connect()
        self.end = self.target.accept()  # type: ignore[attr-defined]

    def syn_sent(self) -> None:
        self.target.answers(TCP)
        self.end = self.target.stack.tcp()
        self.end.connect((ATTACKER[4], 5000))
        (syn,) = self.target.answers(TCP)
        self.peer = Peer(self.target, syn[TCP].sport, own_port=5000)
        self.peer.ack = syn[TCP].seq + 1

    def fin_wait_1(self) -> None:
        self.established()
        assert self.end is not None
        self.end.shutdown(write=True)

    def fin_wait_2(self) -> None:
        self.fin_wait_1()
        self.peer.ack += 1
        self.peer.send("A")

    def close_wait(self) -> None:
        self.established()
        self.peer.send("FA")
        self.peer.seq += 1

    def closing(self) -> None:
        self.fin_wait_1()
        self.peer.send("FA")
        self.peer.seq += 1

    def last_ack(self) -> None:
        self.close_wait()
        assert self.end is not None
        self.end.shutdown(write=True)

    def time_wait(self) -> None:
        self.fin_wait_2()
        self.peer.send("FA")
        self.peer.seq += 1


@pytest.mark.parametrize("state", [name for name in vars(States) if not name.startswith("_")])
def test_every_combination_of_flags_in_every_state(target: Target, state: str) -> None:
    listener = serve(target)
    target.accept = listener.accept  # type: ignore[attr-defined]
    port = 41000
    for flags in FLAGS:
        for data, shift in ((b"", 0), (b"data", -1), (b"data", 1)):
            port += 1
            states = States(target, port)
            getattr(states, state)()
            states.peer.send(flags, data, seq=states.peer.seq + shift)
            states.peer.send(flags, data, ack=states.peer.ack + shift)
            if states.end is not None:
                assert states.end.info.state in TcpState
                states.end.abort()
            while True:
                try:
                    listener.accept().abort()
                except BlockingIOError:
                    break
    target.assert_unharmed()


# -- Options ---------------------------------------------------------------------------------------------


def test_every_kind_of_option_with_every_length(target: Target) -> None:
    listener = serve(target)
    peer = Peer(target).connect()
    server = listener.accept()
    for kind in (*range(9), 14, 19, 30, 34, 69, 128, 254, 255):
        for length in range(41):
            options = (bytes([kind, length]) + bytes(40))[: max(2, min(40, length))]
            options += b"\1" * (-len(options) % 4)
            for flags in (2, 16):
                segment = TCP(sport=peer.own_port if flags == 16 else 50000 + length, dport=80, flags=flags,
                              seq=peer.seq, ack=peer.ack, dataofs=5 + len(options) // 4)  # fmt: skip
                target.inject(ip(4) / segment / Raw(options))
    target.out.clear()
    peer.send("A", b"still here")
    assert server.recv(100) == b"still here"
    server.abort()
    target.assert_unharmed()


@pytest.mark.parametrize("offset", range(16))
def test_header_lengths_that_lie(target: Target, offset: int) -> None:
    serve(target)
    for size in (0, 1, 3, 4, 8, 39, 40, 41):
        target.inject(ip(4) / TCP(sport=42000 + size, dport=80, flags="S", dataofs=offset) / Raw(b"\1" * size))
    assert all(answer[TCP].flags == "SA" for answer in target.answers(TCP))
    target.assert_unharmed()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("split", [8, 16, 24, 32, 40, 48, 56])
def test_options_split_by_fragments(target: Target, family: int, split: int) -> None:
    """They lie in two buffers then, or in three, which lwIP does not read; the header itself must be in one."""
    serve(target, family)
    options = [("MSS", 1000), ("SAckOK", b""), ("WScale", 3), ("NOP", None), ("Timestamp", (1, 2)), ("NOP", None)]
    segment = TCP(sport=40000, dport=80, flags="S", seq=5, options=options + [("NOP", None)] * 11)
    whole = bytes(ip(family) / segment)[{4: 20, 6: 40}[family] :]
    parts: list[Packet] = []
    for at in range(0, len(whole), split):
        more, part = at + split < len(whole), Raw(whole[at : at + split])
        if family == 4:
            parts.append(ip(4, id=9, proto=6, frag=at // 8, flags="MF" if more else "") / part)
        else:
            parts.append(ip(6) / IPv6ExtHdrFragment(offset=at // 8, m=int(more), nh=6, id=9) / part)
    target.inject(*parts)
    answers = [packet[TCP] for packet in target.answers(TCP)]
    if split >= 32:
        assert [str(answer.flags) for answer in answers] == ["SA"]
        assert dict(answers[0].options)["WScale"] == 7
    else:
        assert answers == []
    target.assert_unharmed()


@pytest.mark.parametrize("mss", [0, 1, 63, 64, 65, 536, 1460, 1461, 65535])
def test_any_mss(target: Target, mss: int) -> None:
    listener = serve(target)
    peer = Peer(target).connect(options=[("MSS", mss)])
    server = listener.accept()
    assert 64 <= server.info.mss <= 1460
    content = random.Random(mss).randbytes(20_000)
    assert server.send(content) == len(content)
    received = b""
    for _ in range(2000):
        data = peer.received()
        received += data
        peer.ack += len(data)
        target.inject(peer.segment("A"))
        if len(received) == len(content):
            break
    assert received == content
    server.abort()
    target.assert_unharmed()


@pytest.mark.parametrize("scale", [0, 1, 7, 14, 15, 255])
def test_any_window_scale(target: Target, scale: int) -> None:
    listener = serve(target)
    Peer(target).connect(options=[("WScale", scale)], window=65535)
    server = listener.accept()
    assert server.info.send_window in (65535 << min(scale, 14), 65535)
    server.abort()
    target.assert_unharmed()


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


# -- Floods --------------------------------------------------------------------------------------------------------


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
