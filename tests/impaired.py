"""A stack whose network is bad: what the tests of impairments begin with."""

from __future__ import annotations

from typing import Any

import lwipy
from lwipy.links import Impair
from lwipy.stages import ImpairmentCounters


class Bench:
    """A stack with one IP interface whose network is bad; datagrams tell which number they are."""

    def __init__(self, **impairments: Any) -> None:
        self.now = 0.0
        self.stack = lwipy.Stack(lambda: self.now)
        self.impair = Impair(None, **{"seed": 7, **impairments})
        self.nic = self.stack.add_interface(self.impair, layer=3, ipv4="10.0.0.1/24")
        self.udp = self.stack.udp()
        self.udp.bind(("10.0.0.1", 9))
        self.peer = lwipy.Stack(lambda: self.now)
        self.peer_nic = self.peer.add_interface(layer=3, ipv4="10.0.0.2/24")
        self.peer_udp = self.peer.udp()

    def send(self, *numbers: int, size: int = 4) -> None:
        for number in numbers:
            self.udp.send(number.to_bytes(size, "big"), ("10.0.0.2", 9))

    def sent(self) -> list[int]:
        """The numbers of the datagrams that have come out to the wire."""
        return [int.from_bytes(packet[28:], "big") for packet in self.nic.frames()]

    def come(self, *numbers: int) -> None:
        for number in numbers:
            self.peer_udp.send(number.to_bytes(4, "big"), ("10.0.0.1", 9))
        self.nic.receive_many(self.peer_nic.frames())

    def received(self) -> list[int]:
        found = []
        while True:
            try:
                found.append(int.from_bytes(self.udp.receive().data, "big"))
            except BlockingIOError:
                return found

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.stack.poll()

    def close(self) -> None:
        self.stack.close()
        self.peer.close()

    @property
    def outgoing(self) -> ImpairmentCounters:
        return self.impair.stage.outgoing_counters

    @property
    def incoming(self) -> ImpairmentCounters:
        return self.impair.stage.incoming_counters
