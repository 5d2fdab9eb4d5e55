"""A TCP peer that does anything at any moment, and an application that does so too: the stack neither fails nor leaks.

Segments are drawn around the values that matter (the edges of windows, what was acknowledged, what was not sent), so
that most of them get far into lwIP. Sums are off on this interface: a peer can always get them right.
"""

from __future__ import annotations

import random
import socket
import struct

import pytest
from attacker import ATTACKER, ATTACKER_MAC, ETHERNET, TARGET, TARGET_MAC, quick_segment

import lwipy
from lwipy import Option, TcpEndpoint
from lwipy.testing import VirtualTime

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
ROUNDS = 4000
GIVEN_UP = 1800.0  # twelve retransmissions, at most two minutes apart


class Conversation:
    """One 4-tuple as the attacker knows it, and the application's end of it."""

    def __init__(self, family: int, port: int, own_port: int, draw: random.Random) -> None:
        self.family, self.ports, self.draw = family, (own_port, port), draw
        self.seq = draw.choice([0, 1000, (1 << 32) - 2000, draw.getrandbits(32)])
        self.next, self.edge = self.seq, self.seq + 1  # what the target expects, and the end of its window
        self.theirs, self.acked = 0, 0  # the end of what it has sent, and of what we have acknowledged
        self.scale = 0

    def heard(self, tcp: bytes) -> None:
        """A segment of the target's: a good attacker listens."""
        seq, ack, length, flags, window = struct.unpack("!IIBBH", tcp[4:16])
        size = len(tcp) - (length >> 4) * 4 + (flags & (SYN | FIN) != 0)
        self.theirs = max(self.theirs, seq + size) if self.theirs - seq < 1 << 31 else seq + size
        if flags & ACK:
            self.next, self.edge = ack, ack + (window << (0 if flags & SYN else self.scale))
        if flags & SYN:
            self.theirs, self.acked = seq + 1, seq
            self.scale = 7 if b"\x03\x03\x07" in tcp else 0

    def attack(self) -> bytes:
        draw = self.draw
        seq = draw.choice([self.next] * 6 + [self.edge, self.edge - 1, self.seq, draw.getrandbits(32)] +
                          [self.next + draw.choice([-1500, -1, 1, 2, 100, 1460, 5000, 60000])] * 4)  # fmt: skip
        if draw.random() < 0.2:
            seq = draw.randint(self.next, max(self.next, self.edge))
        ack = draw.choice([self.theirs] * 6 + [self.acked, self.acked + 1, self.theirs + 1, self.theirs - 1,
                          draw.randint(self.acked, max(self.acked, self.theirs)), draw.getrandbits(32)])  # fmt: skip
        flags = draw.choice([ACK] * 10 + [ACK | PSH, ACK | FIN, ACK | FIN, SYN, SYN | ACK, RST, RST | ACK,
                            ACK | URG, draw.getrandbits(6)])  # fmt: skip
        if flags == SYN and draw.random() < 0.8:
            seq = self.seq
        window = draw.choice([65535] * 5 + [0, 0, 1, 2, 64, 100, 500, 512, 1460, 32768, draw.getrandbits(16)])
        room = max(0, min(1460, self.edge - seq)) if draw.random() < 0.3 else 0
        size = draw.choice([0, 0, 0, 1, 2, 100, 536, 1460, 1460, room])
        self.acked = max(self.acked, ack) if ack <= self.theirs else self.acked
        return quick_segment(self.family, self.ports, seq, ack, flags, window, self.options(flags), bytes(size))

    def somewhere(self) -> int:
        """A place in what the target has sent, on a segment's edge more often than not."""
        outstanding = max(0, self.theirs - self.acked)
        step = self.draw.choice([1, 536, 1440, 1460])
        return (self.acked + self.draw.randrange(outstanding // step + 2) * step) % (1 << 32)

    def options(self, flags: int) -> bytes:
        draw = self.draw
        chance = draw.random()
        if flags & SYN and chance < 0.8:
            parts = [b"\x02\x04" + struct.pack("!H", draw.choice([1460, 536, 0, 1, 64, 65535])), b"\x04\x02\x01\x01",
                     b"\x03\x03" + bytes([draw.choice([0, 2, 7, 14, 15, 255])]) + b"\x01"]  # fmt: skip
            return b"".join(draw.sample(parts, draw.randint(0, 3)))
        if flags & ACK and chance < 0.3:
            blocks = b"".join(struct.pack("!I", self.somewhere()) for _ in range(draw.choice([2, 4, 6, 8])))
            return b"\1\1\5" + bytes([2 + len(blocks)]) + blocks
        return draw.randbytes(draw.randint(1, 40)) if chance > 0.95 else b""


class Application:
    """The target's own program, just as erratic. What it may raise is what the documentation says."""

    def __init__(self, stack: lwipy.Stack, draw: random.Random) -> None:
        self.stack, self.draw = stack, draw
        self.listeners: list[TcpEndpoint] = []
        self.ends: list[TcpEndpoint] = []
        self.clients = 0

    def listen(self, family: int) -> None:
        listener = self.stack.tcp(family)
        listener.set_option(Option.RCVBUF, self.draw.choice([2048, 4096, 65535, 100_000, 262144]))
        listener.bind((TARGET[family], 80))
        listener.listen(self.draw.choice([1, 8, 128]))
        self.listeners.append(listener)

    def step(self) -> None:
        draw = self.draw
        try:
            if not self.ends or draw.random() < 0.15:
                self.ends.append(draw.choice(self.listeners).accept())
                return
            end = draw.choice(self.ends)
            action = draw.choice(["recv"] * 6 + ["send"] * 6 + ["shut", "read", "close", "abort", "option", "linger"])
            if action == "recv":
                end.recv(draw.choice([1, 100, 5000, 1 << 20]))
            elif action == "send":
                end.send(bytes(draw.choice([1, 2, 100, 1000, 1460, 5000, 300_000])))
            elif action == "shut":
                end.shutdown(write=True)
            elif action == "read":
                end.shutdown(read=True)
            elif action == "linger":
                end.linger()
            elif action == "option":
                choices = [
                    (Option.RCVBUF, [2048, 5000, 400_000]),
                    (Option.NODELAY, [0, 1]),
                    (Option.SNDBUF, [2048, 400_000]),
                    (Option.KEEPALIVE, [0, 1]),
                ]
                option, values = draw.choice(choices)
                draw.choice([end, *self.listeners]).set_option(option, draw.choice(values))
            else:
                self.ends.remove(end)
                end.close() if action == "close" else end.abort()
        except BlockingIOError:
            pass
        except lwipy.StackError:
            raise
        except OSError:
            pass  # the connection's own end; which one is not the question here

    def connect(self, family: int, port: int) -> None:
        client = self.stack.tcp(family)
        client.set_option(Option.RCVBUF, self.draw.choice([2048, 65535, 262144]))
        client.connect((ATTACKER[family], port))
        self.ends.append(client)

    def finish(self) -> None:
        for end in [*self.ends, *self.listeners]:
            end.abort()
        self.ends.clear()
        self.listeners.clear()


def quiet(time: VirtualTime, stack: lwipy.Stack) -> int:
    time.run(limit=GIVEN_UP)
    return stack.statistics.memory_used


def shrink(nic: lwipy.Interface, family: int, draw: random.Random) -> None:
    """The way gets narrower, or wider again: the interface's own, or one further on, of which a router tells."""
    if family == 4 or draw.random() < 0.5:
        nic.mtu = draw.choice([1500, 1500, 1280, 9000] + [576, 100] * (family == 4))
        return
    target, attacker = (socket.inet_pton(socket.AF_INET6, end[6]) for end in (TARGET, ATTACKER))
    quoted = struct.pack("!IHBB", 6 << 28, 0, 59, 64) + target + attacker
    message = struct.pack("!BBHI", 2, 0, 0, draw.choice([1280, 1281, 1400, 1500])) + quoted
    header = struct.pack("!IHBB", 6 << 28, len(message), 58, 64) + attacker + target
    nic.receive(ETHERNET + b"\x86\xdd" + header + message)


def storm(seed: int, rounds: int = ROUNDS) -> None:
    draw = random.Random(seed)
    family = draw.choice([4, 6])
    with VirtualTime() as time:
        stack = time.stack(seed=seed + 1)
        nic = stack.add_interface(mac=TARGET_MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64", checksums=False)
        nic.add_neighbour(ATTACKER[family], ATTACKER_MAC)
        talks = {port: Conversation(family, 80, port, draw) for port in range(40000, 40000 + draw.choice([1, 2, 6]))}
        before = quiet(time, stack)
        application = Application(stack, draw)
        application.listen(family)
        offset = 34 if family == 4 else 54
        for _ in range(rounds):
            chance = draw.random()
            if chance < 0.6:
                nic.receive(draw.choice(list(talks.values())).attack())
            elif chance < 0.9:
                application.step()
            elif chance < 0.91:
                shrink(nic, family, draw)
            elif chance < 0.99:
                time.run(limit=draw.choice([0.001, 0.03, 0.2, 1.0, 3.0]))
            else:
                application.connect(family, 50000)
            for frame in nic.frames():
                if len(frame) >= offset + 20 and frame[offset - 11 if family == 4 else 20] == 6:
                    tcp = frame[offset : 14 + struct.unpack("!H", frame[16:18])[0]] if family == 4 else frame[offset:]
                    source, destination = struct.unpack("!HH", tcp[:4])
                    if destination == 50000 and source not in talks:
                        talks[source] = Conversation(family, source, 50000, draw)
                    talk = talks.get(destination if destination != 50000 else source)
                    if talk is not None:
                        talk.heard(tcp)
        application.finish()
        assert quiet(time, stack) - before <= 6000, "memory was not given back"  # the table of handles may have grown
        assert stack.statistics.endpoints == 0


@pytest.mark.parametrize("seed", range(24))
def test_nothing_a_peer_or_an_application_does_breaks_the_stack(seed: int) -> None:
    storm(seed)
