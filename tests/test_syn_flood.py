"""A flood of SYNs from everywhere: the half-open connections are bounded, and who means it still connects.

The target is 10.0.0.1 towards a friend and 198.51.100.1 towards the world, whose side the test plays: it sends SYNs
from sources that do not exist and takes what the target answers to them.
"""

from __future__ import annotations

import random
import socket
import struct

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

import lwipy
from lwipy import TcpEndpoint, TcpState
from lwipy.testing import VirtualTime

MAC, GATEWAY_MAC = "02:00:00:00:01:01", "02:00:00:00:01:fe"
TARGET = {4: "198.51.100.1", 6: "2001:db8::1"}
PEER = {4: "203.0.113.7", 6: "2001:db8::7"}
HALF_OPEN = 1024
ETHERNET = bytes.fromhex((MAC + GATEWAY_MAC).replace(":", "")) + b"\x08\x00"
OPTIONS = [("MSS", 1460), ("NOP", None), ("WScale", 7), ("NOP", None), ("NOP", None), ("SAckOK", b"")]


class Town:
    """The target, its friend on a wire, and the world."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.target, self.friend = time.stack(seed=1), time.stack(seed=2)
        home = self.target.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        lwipy.wire(home, self.friend.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64"))
        self.world = self.target.add_interface(
            mac=MAC, ipv4="198.51.100.1/24", ipv6="2001:db8::1/64", gateway="198.51.100.254", checksums=False
        )
        self.world.add_neighbour("198.51.100.254", GATEWAY_MAC)
        self.world.add_neighbour(PEER[6], GATEWAY_MAC)
        self.listener = self.target.tcp(0)
        self.listener.bind(("", 80))
        self.listener.listen(100)

    def flood(self, count: int, draw: random.Random) -> None:
        """SYNs from sources that were never heard of, in frames made by hand: scapy would take a minute."""
        target = socket.inet_aton(TARGET[4])
        frames = [
            ETHERNET
            + struct.pack("!BBHHHBBHI4s", 0x45, 0, 40, 1, 0, 64, 6, 0, draw.randrange(1 << 28) + (1 << 29), target)
            + struct.pack("!HHIIBBHHH", draw.randrange(1024, 65536), 80, draw.getrandbits(32), 0, 0x50, 2, 65535, 0, 0)
            for _ in range(count)
        ]
        self.world.receive_many(frames)
        self.time.settle()
        self.world.frames()

    def fill(self) -> None:
        """So many half-open connections that no other is remembered."""
        self.flood(2 * HALF_OPEN, random.Random(1))

    def ask(self, segment: Packet, family: int = 4, source: str | None = None) -> list[Packet]:
        """One segment from the world, and the answers to it."""
        header = IP(src=source or PEER[4], dst=TARGET[4]) if family == 4 else IPv6(src=PEER[6], dst=TARGET[6])
        self.world.frames()
        self.world.receive(bytes(Ether(src=GATEWAY_MAC, dst=MAC) / header / segment))
        self.time.settle()
        answers = [Ether(frame) for frame in self.world.frames()]
        return [packet[TCP] for packet in answers if TCP in packet and packet[TCP].dport == segment[TCP].sport]

    def accepted(self) -> TcpEndpoint | None:
        try:
            return self.listener.accept()
        except BlockingIOError:
            return None

    def connect(self, source: lwipy.Stack) -> tuple[TcpEndpoint, TcpEndpoint]:
        client = source.tcp()
        client.connect(("10.0.0.1", 80))
        self.time.run(lambda: self.listener.info.queued)
        return client, self.listener.accept()


@pytest.fixture
def town(virtual: VirtualTime) -> Town:
    return Town(virtual)


def syn(port: int = 5000, seq: int = 1000, **fields: object) -> Packet:
    return TCP(sport=port, dport=80, flags="S", seq=seq, window=65535, **{"options": OPTIONS, **fields})


def ack(answer: Packet, data: bytes = b"", seq: int = 1001, number: int = 1, **fields: object) -> Packet:
    segment = TCP(
        sport=answer.dport, dport=80, flags="A", seq=seq, ack=(answer.seq + number) % (1 << 32), window=500, **fields
    )
    return segment / Raw(data) if data else segment


# -- The flood ---------------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_syns_disturb_nobody(town: Town) -> None:
    """A transfer runs through it, new clients connect, and memory is that of the bounded table."""
    draw = random.Random(2)
    client, server = town.connect(town.friend)
    content, arrived = draw.randbytes(2_000_000), bytearray()
    friends: list[tuple[TcpEndpoint, TcpEndpoint]] = []
    left = memoryview(content)
    for _ in range(100):
        town.flood(1000, draw)
        try:
            while left:
                left = left[client.send(left) :]
        except BlockingIOError:
            pass
        town.time.settle()
        try:
            while part := server.recv(65536):
                arrived += part
        except BlockingIOError:
            pass
        if len(friends) < 50:
            friends.append(town.connect(town.friend))
    town.time.run(limit=0.2)
    arrived += b"" if len(arrived) == len(content) else server.recv(1 << 20)
    assert arrived == content
    statistics = town.target.statistics
    assert statistics.syn_cookies_sent > 100_000 - 10 * HALF_OPEN
    assert statistics.syn_cookies_good >= 49
    assert statistics.memory_used < 2 << 20
    assert town.time.now < 1010, "nobody waited for a second try"
    for number, (there, here) in enumerate(friends):
        there.send(b"%d" % number)
        town.time.settle()
        assert here.recv(10) == b"%d" % number


def test_after_the_flood_all_is_given_back(town: Town) -> None:
    client, server = town.connect(town.friend)
    client.close()
    server.close()
    town.time.run(limit=150)
    before = town.target.statistics.memory_used
    town.flood(20_000, random.Random(3))
    assert town.target.statistics.memory_used < before + HALF_OPEN * 1024
    town.time.run(limit=150)
    assert town.target.statistics.memory_used <= before
    sent = town.target.statistics.syn_cookies_sent
    town.connect(town.friend)
    assert town.target.statistics.syn_cookies_sent == sent


# -- Cookies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
def test_a_connection_by_a_cookie_is_like_any_other(town: Town, family: int) -> None:
    town.fill()
    (answer,) = town.ask(syn(), family)
    assert answer.flags == "SA"
    assert answer.ack == 1001
    options = dict(answer.options)
    assert options["MSS"] == (1460 if family == 4 else 1440)
    assert "WScale" in options
    assert "SAckOK" in options
    assert town.accepted() is None
    town.ask(ack(answer), family)
    server = town.accepted()
    assert server is not None
    assert town.target.statistics.syn_cookies_good == 1
    assert server.info.state is TcpState.ESTABLISHED
    assert server.info.send_window == 500 << 7
    assert server.info.mss == 1440
    town.ask(ack(answer, b"hello"), family)
    assert server.recv(100) == b"hello"
    server.send(b"and back")
    town.time.settle()
    assert any(b"and back" in frame for frame in town.world.frames())


def test_the_echo_may_come_with_data(town: Town) -> None:
    """The bare acknowledgement was lost."""
    town.fill()
    (answer,) = town.ask(syn())
    town.ask(ack(answer, b"at once"))
    server = town.accepted()
    assert server is not None
    assert server.recv(100) == b"at once"


def test_a_peer_without_options_gets_what_it_can_have(town: Town) -> None:
    town.fill()
    (answer,) = town.ask(syn(options=[]))
    assert [name for name, _ in answer.options] == ["MSS"]
    town.ask(ack(answer))
    server = town.accepted()
    assert server is not None
    assert server.info.mss <= 536
    assert server.info.send_window == 500


@pytest.mark.parametrize("change", ["ack", "seq", "port", "source"])
def test_an_echo_that_is_not_exact_is_refused(town: Town, change: str) -> None:
    town.fill()
    (answer,) = town.ask(syn())
    source = None
    if change == "ack":
        segment = ack(answer, number=1 + (1 << 12))
    elif change == "seq":
        segment = ack(answer, seq=1002)
    elif change == "port":
        answer.dport = 5001
        segment = ack(answer)
    else:
        segment, source = ack(answer), "203.0.113.8"
    (refusal,) = town.ask(segment, source=source)
    assert "R" in refusal.flags
    assert town.accepted() is None
    assert town.target.statistics.syn_cookies_good == 0


def test_a_cookie_does_not_keep(town: Town) -> None:
    town.fill()
    (answer,) = town.ask(syn())
    town.time.run(limit=31)
    (late,) = town.ask(syn(port=5001))  # more cookies are made all the time
    assert "S" in late.flags
    town.time.run(limit=34)
    (refusal,) = town.ask(ack(answer))
    assert "R" in refusal.flags
    assert town.accepted() is None


def test_nobody_guesses_a_cookie(town: Town) -> None:
    town.fill()
    town.ask(syn())
    draw = random.Random(4)
    target, source = socket.inet_aton(TARGET[4]), socket.inet_aton(PEER[4])
    header = ETHERNET + struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, 6, 0) + source + target
    for _ in range(50):
        town.world.receive_many(
            header + struct.pack("!HHIIBBHHH", 5000, 80, 1001, draw.getrandbits(32), 0x50, 16, 512, 0, 0)
            for _ in range(1000)
        )
        town.world.frames()
    assert town.target.statistics.syn_cookies_good <= 1


def test_without_a_flood_no_echo_is_believed(town: Town) -> None:
    """Even one that would be right: the secret is the same, but none was given out."""
    other = VirtualTime()
    with other:
        twin = Town(other)
        twin.fill()
        (answer,) = twin.ask(syn())
    (refusal,) = town.ask(ack(answer))
    assert "R" in refusal.flags
    assert town.accepted() is None


def test_a_full_accept_queue_takes_no_cookie_either(town: Town) -> None:
    town.fill()
    answers = [town.ask(syn(port=6000 + n))[0] for n in range(300)]
    for answer in answers:
        town.ask(ack(answer))
    assert 100 <= town.listener.info.queued <= 100 + 255
    assert town.ask(syn(port=7000)) == []
