"""Someone on the wire who obeys no rule: a target in virtual time, and what it takes to talk to it by hand.

The target is 10.0.0.1 and fd00::1. The attacker is 10.0.0.66 and fd00::66, whom the target knows by a static neighbour
entry. A friend, 10.0.0.2 and fd00::2, is an ordinary stack on the same wire: what it can still do is the measure of
every attack.
"""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, IPv6, in6_chksum
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from tcp_world import exchange

import lwipy
from lwipy import Statistics, TcpEndpoint, TcpState
from lwipy.testing import VirtualTime

TARGET_MAC, ATTACKER_MAC, FRIEND_MAC = "02:00:00:00:00:01", "02:00:00:00:00:66", "02:00:00:00:00:02"
TARGET = {4: "10.0.0.1", 6: "fd00::1"}
ATTACKER = {4: "10.0.0.66", 6: "fd00::66"}
FRIEND = {4: "10.0.0.2", 6: "fd00::2"}

#: The longest that a timer of the stack runs: after it, whatever an attack left behind must be gone.
SETTLED = 150.0

LINK_LOCAL = "fe80::66"

SYN, ACK = 2, 16
FLAGS = [f"{'F' * (n & 1)}{'S' * (n >> 1 & 1)}{'R' * (n >> 2 & 1)}{'P' * (n >> 3 & 1)}{'A' * (n >> 4 & 1)}"
         f"{'U' * (n >> 5 & 1)}" for n in range(64)]  # fmt: skip

ETHERNET = bytes.fromhex((TARGET_MAC + ATTACKER_MAC).replace(":", ""))


class Target:
    """The stack under attack, and the wire."""

    def __init__(self, time: VirtualTime, *, mtu: int = 1500, **stack: int) -> None:
        self.time = time
        self.out: list[bytes] = []
        self.listeners: list[TcpEndpoint] = []
        self.friend = time.stack(seed=2)
        self.friend_nic = self.friend.add_interface(
            mac=FRIEND_MAC, ipv4="10.0.0.2/24", ipv6="fd00::2/64", mtu=mtu, name="friend"
        )
        self.stack = time.stack(seed=1, **stack)
        self.nic = self.stack.add_interface(
            mac=TARGET_MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64", mtu=mtu, name="target"
        )
        for address in ATTACKER.values():
            self.nic.add_neighbour(address, ATTACKER_MAC)
        self.nic.on_frame = self._transmit
        self.friend_nic.on_frame = self.nic.receive
        self.talk()
        self.baseline = self.rest()

    def _transmit(self, frame: bytes) -> None:
        self.out.append(frame)
        self.friend_nic.receive(frame)

    # -- What the attacker does and sees -----------------------------------------------------------

    def inject(self, *packets: Packet | bytes) -> None:
        """Frames as they are; IP packets in an Ethernet header from the attacker."""
        self.nic.receive_many([framed(packet) for packet in packets])

    def answers(self, layer: type[Packet]) -> list[Packet]:
        """What the target has sent since the last call, as far as it has this layer."""
        found = [Ether(frame) for frame in self.out]
        self.out.clear()
        return [packet for packet in found if layer in packet]

    def statistics(self) -> Statistics:
        return self.stack.statistics

    # -- Whether it has harmed ---------------------------------------------------------------------

    def rest(self) -> int:
        """Lets all timers run out; bytes of memory then in use."""
        self.time.run(limit=SETTLED)
        self.out.clear()
        return self.stack.statistics.memory_used

    def talk(self, family: int = 4, amount: int = 20_000, port: int = 7) -> None:
        """An ordinary connection from the friend, `amount` bytes there and back, closed by both."""
        listener = self.stack.tcp(family)
        listener.bind((TARGET[family], port))
        listener.listen()
        client = self.friend.tcp(family)
        client.connect((TARGET[family], port))
        self.time.run(lambda: client.info.state is TcpState.ESTABLISHED and listener.info.queued)
        server = listener.accept()
        content = random.Random(amount).randbytes(amount)
        assert exchange(self.time, client, server, content, 300.0) == content
        assert exchange(self.time, server, client, content, 300.0) == content
        for end in (client, server, listener):
            end.close()

    def assert_unharmed(self, kept: int = 0) -> None:
        """It talks to its friend over both families, and has given back all memory but `kept` bytes."""
        while self.listeners:
            self.listeners.pop().close()
        self.talk(4)
        self.talk(6)
        used = self.rest()
        assert used <= self.baseline + kept, f"{used - self.baseline} bytes were not given back"
        assert self.stack.statistics.endpoints == 0


def framed(packet: Packet | bytes) -> bytes:
    if isinstance(packet, Packet) and not isinstance(packet, Ether):
        packet = Ether(src=ATTACKER_MAC, dst=TARGET_MAC) / packet
    return bytes(packet)


def ip(family: int, **fields: object) -> Packet:
    """The header of a packet from the attacker to the target."""
    layer = {4: IP, 6: IPv6}[family]
    return layer(**{"src": ATTACKER[family], "dst": TARGET[family], **fields})


def quick_segment(
    family: int, ports: tuple[int, int], seq: int, ack: int, flags: int, window: int = 65535, options: bytes = b"",
    data: bytes = b"",
) -> bytes:  # fmt: skip
    """A frame with a TCP segment from the attacker to the target, sums zero: scapy is too slow for thousands."""
    seq, ack = seq % (1 << 32), ack % (1 << 32)
    length = min(15, 5 + (len(options) + 3) // 4)
    options = options[:40].ljust((length - 5) * 4, b"\0")
    tcp = struct.pack("!HHIIBBHHH", *ports, seq, ack, length << 4, flags, window, 0, 0) + options + data
    if family == 4:
        source, target = socket.inet_aton(ATTACKER[4]), socket.inet_aton(TARGET[4])
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + source + target
        return ETHERNET + b"\x08\x00" + header + tcp
    source, target = (socket.inet_pton(socket.AF_INET6, side[6]) for side in (ATTACKER, TARGET))
    return ETHERNET + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + source + target + tcp


class Peer:
    """The attacker's end of a TCP connection to the target, segment by segment."""

    def __init__(self, target: Target, port: int = 80, *, family: int = 4, own_port: int = 40000) -> None:
        self.target, self.port, self.own_port, self.family = target, port, own_port, family
        self.seq = 1000  # the next byte of ours
        self.ack = 0  # the next byte of theirs

    def segment(self, flags: str | int, data: bytes = b"", **fields: object) -> Packet:
        header = {"seq": self.seq, "ack": self.ack, "window": 65535, **fields}
        header["seq"] = int(header["seq"]) % (1 << 32)  # type: ignore[call-overload]
        header["ack"] = int(header["ack"]) % (1 << 32)  # type: ignore[call-overload]
        packet = ip(self.family) / TCP(sport=self.own_port, dport=self.port, flags=flags, **header)
        return packet / Raw(data) if data else packet

    def send(self, flags: str | int = "A", data: bytes = b"", **fields: object) -> list[Packet]:
        """One segment at our own place in the stream, unless told otherwise; the answers to it."""
        self.target.answers(TCP)
        self.target.inject(self.segment(flags, data, **fields))
        return self.answers()

    def answers(self) -> list[Packet]:
        return [packet[TCP] for packet in self.target.answers(TCP) if packet[TCP].dport == self.own_port]

    def connect(self, **fields: Any) -> Peer:
        """The handshake, as anyone does it."""
        (answer,) = self.send("S", ack=0, **fields)
        assert answer.flags == "SA"
        self.seq += 1
        self.ack = (answer.seq + 1) % (1 << 32)
        fields.pop("options", None)
        self.send("A", **fields)
        return self

    def received(self) -> bytes:
        """The bytes the target has sent since the last call, in order; they are not acknowledged."""
        chunks = {p.seq: bytes(p.payload) for p in self.answers()}
        return b"".join(chunks[seq] for seq in sorted(chunks))


def serve(target: Target, family: int = 4, port: int = 80, **options: int) -> TcpEndpoint:
    """A listener of the target; options by their names in lower case."""
    listener = target.stack.tcp(family)
    for name, value in options.items():
        listener.set_option(lwipy.Option[name.upper()], value)
    listener.bind((TARGET[family], port))
    listener.listen()
    target.listeners.append(listener)
    return listener


def icmp6(packet: Packet, body: bytes) -> Packet:
    """An ICMPv6 message of any content, its sum right."""
    body = body[:2] + b"\0\0" + body[4:]
    body = body[:2] + struct.pack("!H", in6_chksum(58, packet, body)) + body[4:]
    packet.nh = 58
    return packet / Raw(body)


def addresses(target: Target) -> set[str]:
    return {str(address.ip) for address in target.nic.ipv6}


def advertisement(**prefix: object) -> Packet:
    options = ICMPv6NDOptSrcLLAddr(lladdr=ATTACKER_MAC) / ICMPv6NDOptPrefixInfo(prefixlen=64, A=1, L=1, **prefix)
    return IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255) / ICMPv6ND_RA(routerlifetime=1800) / options


def listening(target: Target, family: int = 4, port: int = 7) -> lwipy.UdpEndpoint:
    udp = target.stack.udp(family)
    udp.bind((TARGET[family], port))
    return udp


def heard(udp: lwipy.UdpEndpoint) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(udp.receive().data)
    except BlockingIOError:
        return found


__all__ = [
    "ACK",
    "ATTACKER",
    "ATTACKER_MAC",
    "FLAGS",
    "FRIEND",
    "FRIEND_MAC",
    "ICMP",
    "IP",
    "LINK_LOCAL",
    "SETTLED",
    "SYN",
    "TARGET",
    "TARGET_MAC",
    "TCP",
    "UDP",
    "Ether",
    "IPv6",
    "Packet",
    "Peer",
    "Raw",
    "Target",
    "VirtualTime",
    "addresses",
    "advertisement",
    "framed",
    "heard",
    "icmp6",
    "ip",
    "listening",
    "quick_segment",
    "serve",
]  # fmt: skip
