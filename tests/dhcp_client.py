"""A DHCP client's hand on the wire, by scapy: what the tests of the responder begin with."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP

from lwipy.services.dhcp.responder import Reply, Responder
from lwipy.services.dhcp.settings import Settings

SERVER = "10.0.0.1"
SUBNET = IPv4Network("10.0.0.0/24")
EVERYBODY = ("255.255.255.255", 68)
TYPES: dict[Any, str] = {2: "offer", 5: "ack", 6: "nak"}


def responder(**changes: Any) -> Responder:
    given: dict[str, Any] = {
        "pool": ("10.0.0.10", "10.0.0.12"),
        "router": "10.0.0.254",
        "dns": ["self", "10.0.0.53"],
        "domain": "lwipy",
        "mtu": 1400,
        "lease_time": 3600.0,
        "static": None,
    }
    return Responder(Settings.check(IPv4Interface("10.0.0.1/24"), **{**given, **changes}))


class Answer:
    """A reply as scapy reads it, and where it goes."""

    def __init__(self, reply: Reply) -> None:
        self.reply, self.packet = reply, BOOTP(reply.data)
        self.destination, self.neighbour, self.lease = reply.destination, reply.neighbour, reply.lease
        self.options: dict[str, Any] = {
            o[0]: o[1] if len(o) == 2 else list(o[1:]) for o in self.packet[DHCP].options if o[0] != "e"
        }
        self.type = TYPES[self.options["message-type"]]
        self.address: str = self.packet.yiaddr


class Client:
    """One guest's hand on the wire: says things to a responder and reads the answer with scapy."""

    def __init__(self, server: Responder, number: int = 7, **fields: Any) -> None:
        self.server, self.fields = server, fields
        self.mac = bytes([2, 0, 0, 0, 0, number])
        self.mac_text = self.mac.hex(":")

    def sends(
        self, kind: str, *options: object, to: str | None = None, now: float = 0.0, **fields: Any
    ) -> Answer | None:
        packet = BOOTP(op=1, chaddr=self.mac, xid=0xABCD, **{**self.fields, **fields})
        data = bytes(packet / DHCP(options=[("message-type", kind), *options, "end"]))
        reply = self.server.receive(data, broadcast=to is None, now=now)
        return None if reply is None else Answer(reply)

    def says(self, kind: str, *options: object, **fields: Any) -> Answer:
        """Send a message that is answered."""
        answer = self.sends(kind, *options, **fields)
        assert answer is not None
        return answer

    def selects(self, address: str, *options: object, now: float = 0.0, **fields: Any) -> Answer:
        """REQUEST in SELECTING state."""
        return self.says("request", ("server_id", SERVER), ("requested_addr", address), *options, now=now, **fields)

    def takes(self, *options: object, now: float = 0.0) -> str:
        """The whole exchange; the address that comes of it."""
        offer = self.says("discover", *options, now=now)
        ack = self.selects(offer.address, *options, now=now)
        assert ack.type == "ack"
        return ack.address

    def renews(
        self, address: str, *options: object, now: float = 0.0, to: str | None = SERVER, **fields: Any
    ) -> Answer:
        return self.says("request", *options, ciaddr=address, to=to, now=now, **fields)
