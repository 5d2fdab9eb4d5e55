"""TCP from someone who obeys no rule. What lwIP must not see at all is in test_guard_tcp.py, and noise in
test_hostile_tcp_random.py."""

from __future__ import annotations

import random

import pytest
from attacker import ATTACKER, FLAGS, TCP, Packet, Peer, Raw, Target, ip, serve
from scapy.layers.inet6 import IPv6ExtHdrFragment

from lwipy import TcpEndpoint, TcpState


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
