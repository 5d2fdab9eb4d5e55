"""DHCP and DNS servers that obey no rule, against lwIP's DHCP client and its resolver."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from attacker import (
    ATTACKER_MAC,
    TARGET_MAC,
    UDP,
    Ether,
    Packet,
    Raw,
    Target,
    VirtualTime,
    ip,
)
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR

from lwipy import Interface
from lwipy.endpoints import Lookup

CHADDR = bytes.fromhex(TARGET_MAC.replace(":", ""))
SERVER = "10.0.0.66"


# -- DHCP ---------------------------------------------------------------------------------------------


class Client:
    """An interface that asks for a lease, and what its server says by hand."""

    def __init__(self, time: VirtualTime, hostname: str = "") -> None:
        self.time = time
        self.stack = time.stack(seed=1)
        self.nic: Interface = self.stack.add_interface(mac=TARGET_MAC)
        self.nic.start_dhcp(hostname)

    def asked(self) -> BOOTP:
        """The client's last message."""
        found = [Ether(frame) for frame in self.nic.frames()]
        while not (messages := [packet for packet in found if DHCP in packet]):
            self.time.run(limit=1)
            found = [Ether(frame) for frame in self.nic.frames()]
        return messages[-1][BOOTP]

    def say(self, kind: str, *options: object, **fields: object) -> None:
        message = {"op": 2, "yiaddr": "10.0.0.77", "chaddr": CHADDR, "xid": self.xid, **fields}
        chosen = [("message-type", kind), *options, "end"]
        self.tell(BOOTP(**message) / DHCP(options=chosen))

    def tell(self, body: Packet) -> None:
        packet = ip(4, src=SERVER, dst="255.255.255.255") / UDP(sport=67, dport=68) / body
        self.nic.receive(bytes(Ether(src=ATTACKER_MAC, dst="ff:ff:ff:ff:ff:ff") / packet))

    @property
    def xid(self) -> int:
        if not hasattr(self, "_xid"):
            self._xid = int(self.asked().xid)
        return self._xid

    def lease(self, *options: object, **fields: object) -> None:
        given = [("server_id", SERVER), ("lease_time", 3600), ("subnet_mask", "255.255.255.0"), *options]
        self.say("offer", *given, **fields)
        self.say("ack", *given, **fields)


@pytest.fixture
def client() -> Iterator[Client]:
    with VirtualTime() as time:
        yield Client(time)


def test_an_honest_server_is_heard(client: Client) -> None:
    client.lease(("router", "10.0.0.1"), ("name_server", "10.0.0.1", "10.0.0.2"))
    assert client.nic.has_lease
    assert str(client.nic.ipv4) == "10.0.0.77/24"
    assert list(client.stack.dns_servers) == ["10.0.0.1", "10.0.0.2"]


def test_the_longest_host_name_fits(client: Client) -> None:
    """With lwIP's own room for options it would fail an assertion."""
    with VirtualTime() as time:
        named = Client(time, "h" * 63)
        assert ("hostname", b"h" * 63) in named.asked().payload.options
        named.lease()
        assert named.nic.has_lease
        time.run(limit=4000)  # renewals carry it as well


@pytest.mark.parametrize(
    "wrong", [{"xid": 1}, {"chaddr": b"\2\0\0\0\0\x99"}, {"op": 1}, {"op": 0}], ids=["xid", "chaddr", "request", "op 0"]
)
def test_answers_to_others_are_not_taken(client: Client, wrong: dict[str, object]) -> None:
    client.lease(**wrong)
    assert not client.nic.has_lease
    client.lease()
    assert client.nic.has_lease


@pytest.mark.parametrize("size", [0, 1, 43, 44, 100, 235, 236, 239, 240, 241, 242, 243, 250])
def test_answers_cut_short(client: Client, size: int) -> None:
    whole = bytes(BOOTP(op=2, xid=client.xid, chaddr=CHADDR, yiaddr="10.0.0.77") /
                  DHCP(options=[("message-type", "offer"), ("server_id", SERVER), "end"]))  # fmt: skip
    client.tell(Raw(whole[:size]))
    assert not client.nic.has_lease
    client.lease()
    assert client.nic.has_lease


OPTIONS = [1, 3, 6, 12, 50, 51, 52, 53, 54, 58, 59, 0, 119, 254]


@pytest.mark.parametrize("kind", OPTIONS)
def test_options_of_any_length(client: Client, kind: int) -> None:
    for length in [*range(10), 15, 16, 17, 63, 64, 128, 254, 255]:
        for content in (length, max(0, length - 1), 0, 1):
            body = bytes(BOOTP(op=2, xid=client.xid, chaddr=CHADDR, yiaddr="10.0.0.77")) + b"\x63\x82\x53\x63"
            for message in (2, 5, 6):
                client.tell(Raw(body + bytes([53, 1, message, kind, length]) + bytes(content)))
                client.tell(Raw(body + bytes([kind, length]) + bytes(content) + bytes([53, 1, message, 255])))
    client.time.run(limit=100)
    if not client.nic.has_lease:
        del client._xid
        client.lease()
    assert client.nic.has_lease


@pytest.mark.parametrize("overload", [0, 1, 2, 3, 4, 255])
def test_overloaded_fields(client: Client, overload: int) -> None:
    """File and server name may hold options too: here they never end, contradict, or overload again."""
    for filling in (b"\x34\x01\x03" * 50, b"\x00" * 200, b"\xff" * 200, b"\x06\xff" + bytes(200), b"\x35\x01\x05" * 60):
        message = BOOTP(op=2, xid=client.xid, chaddr=CHADDR, file=filling[:128], sname=filling[:64])
        client.tell(message / DHCP(options=[("message-type", "offer"), (52, bytes([overload])), "end"]))
    client.time.run(limit=100)
    del client._xid
    client.lease()
    assert client.nic.has_lease


@pytest.mark.parametrize("times", [(0, 0, 0), (1, 1, 1), (0xFFFFFFFF,) * 3, (10, 0xFFFFFFFF, 1), (0xFFFFFFFE, 1, 2)])
def test_leases_of_any_length(client: Client, times: tuple[int, int, int]) -> None:
    lease, renew, rebind = times
    given = [("lease_time", lease), ("renewal_time", renew), ("rebinding_time", rebind), ("server_id", SERVER)]
    client.say("offer", *given)
    client.say("ack", *given)
    client.time.run(limit=300)
    assert len(client.nic.frames()) < 500


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", "10.0.0.255", "10.0.0.0"])
@pytest.mark.parametrize("mask", ["0.0.0.0", "255.255.255.255", "255.0.255.0", "255.255.255.0"])
def test_absurd_addresses(client: Client, address: str, mask: str) -> None:
    given = [("server_id", SERVER), ("lease_time", 60), ("subnet_mask", mask), ("router", "255.255.255.255"),
             ("name_server", "0.0.0.0")]  # fmt: skip
    client.say("offer", *given, yiaddr=address)
    client.say("ack", *given, yiaddr=address)
    client.time.run(limit=200)
    try:
        client.stack.udp().send(b"x", ("10.9.9.9", 9))
    except OSError:
        pass
    client.nic.stop_dhcp()
    client.nic.ipv4 = "10.0.0.1/24"
    client.nic.start_dhcp()
    client.nic.remove()


def test_refusals_for_ever(client: Client) -> None:
    for _ in range(50):
        client.say("offer", ("server_id", SERVER))
        client.say("nak", ("server_id", SERVER))
        client.time.run(limit=12)
        del client._xid
    assert not client.nic.has_lease
    client.lease()
    assert client.nic.has_lease


def test_an_interface_goes_in_the_middle_of_it(client: Client) -> None:
    client.say("offer", ("server_id", SERVER))
    client.nic.remove()
    client.time.run(limit=100)
    assert client.stack.interfaces == {}


# -- DNS -------------------------------------------------------------------------------------------------


class Question:
    """A name being looked up, and the query as the server saw it."""

    def __init__(self, target: Target, name: str = "example.org", family: int = 4) -> None:
        self.target = target
        self.found: list[list[str]] = []
        target.stack.dns_servers = [SERVER]
        target.out.clear()
        self.lookup = Lookup(target.stack, name, [family], self.found.append)
        packets = [packet for packet in target.answers(UDP) if packet[UDP].dport == 53]
        self.port, self.query = packets[0][UDP].sport, packets[0][DNS]

    def tell(self, body: bytes | Packet, *, source: str = SERVER, port: int = 53) -> None:
        packet = ip(4, src=source) / UDP(sport=port, dport=self.port)
        self.target.inject(packet / (Raw(body) if isinstance(body, bytes) else body))

    def header(self, answers: int = 1, flags: int = 0x8180, questions: int = 1) -> bytes:
        return struct.pack("!6H", self.query.id, flags, questions, answers, 0, 0)

    def asked(self) -> bytes:
        return bytes(self.query)[12:]


def test_an_honest_answer_is_taken(target: Target) -> None:
    question = Question(target)
    question.tell(
        DNS(id=question.query.id, qr=1, qd=question.query.qd, an=DNSRR(rrname="example.org", rdata="10.9.9.9"))
    )
    assert question.found == [["10.9.9.9"]]


def test_answers_of_others_are_not_taken(target: Target) -> None:
    """RFC 5452: the server asked, the port asked from, the number and the name must all be right."""
    question = Question(target)
    answer = DNSRR(rrname="example.org", rdata="10.6.6.6")
    right = {"id": question.query.id, "qr": 1, "qd": question.query.qd, "an": answer}
    question.tell(DNS(**right), source="10.0.0.67")
    question.tell(DNS(**{**right, "id": question.query.id ^ 1}))
    question.tell(DNS(**{**right, "qr": 0}))
    question.tell(DNS(**{**right, "qd": DNSQR(qname="example.com")}))
    question.tell(DNS(**{**right, "qd": DNSQR(qname="example.org", qtype="AAAA")}))
    assert question.found == []


BODIES = {
    "a pointer to itself": b"\xc0\x0c",
    "a pointer to the answer": b"\xc0\x1d",
    "a pointer beyond the end": b"\xff\xff",
    "pointers to each other": b"\xc0\x1f\xc0\x1d",
    "a label beyond the end": b"\x3f" + b"a" * 10,
    "reserved label kinds": b"\x40a\x80b",
    "a name that never ends": b"\x01a" * 500,
    "nothing": b"",
    "the root": b"\x00",
    "a label of 63": b"\x3f" + b"a" * 63 + b"\0",
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("answers", [0, 1, 2, 65535])
def test_names_that_make_readers_loop(target: Target, name: str, answers: int) -> None:
    question = Question(target)
    record = struct.pack("!HHIH", 1, 1, 60, 4) + bytes([10, 6, 6, 6])
    question.tell(question.header(answers) + question.asked() + BODIES[name])
    question.tell(question.header(answers) + question.asked() + BODIES[name] + record)
    question.tell(question.header(answers) + BODIES[name] + record)
    question.tell(question.header(answers, questions=2) + question.asked() + BODIES[name] + record)
    target.time.run(limit=60)
    assert question.found in ([[]], [["10.6.6.6"]])
    target.assert_unharmed()


def test_records_of_any_kind_and_length(target: Target) -> None:
    draw = random.Random(8)
    for kind in (1, 28, 5, 41, 0, 65535):
        for length in (0, 3, 4, 5, 15, 16, 17, 400, 65535):
            for content in sorted({length, 0, 4, 16}):
                question = Question(target, f"n{kind}x{length}x{content}.example.org", draw.choice([4, 6]))
                record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, draw.getrandbits(32), length)
                question.tell(question.header(2) + question.asked() + record + bytes(min(content, 1000)))
                question.lookup.cancel()
        target.time.run(limit=60)
    target.assert_unharmed()


@pytest.mark.parametrize("size", [*range(17), 20, 28, 30, 35, 40])
def test_answers_cut_anywhere(target: Target, size: int) -> None:
    question = Question(target)
    whole = (
        question.header() + question.asked() + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes([10, 6, 6, 6])
    )
    question.tell(whole[:size])
    target.time.run(limit=60)
    assert question.found == [[]]
    target.assert_unharmed()


@pytest.mark.parametrize("code", range(16))
def test_every_refusal_is_an_answer(target: Target, code: int) -> None:
    question = Question(target)
    question.tell(question.header(0, 0x8180 | code) + question.asked())
    assert question.found == [[]]


def test_a_server_that_never_answers_is_given_up(target: Target) -> None:
    question = Question(target)
    taken = target.time.run(lambda: question.found)
    assert question.found == [[]]
    assert taken < 30
    target.assert_unharmed()


def test_more_questions_than_there_is_room_for(target: Target) -> None:
    target.stack.dns_servers = [SERVER]
    found: list[list[str]] = []
    asked = 0
    for n in range(100):
        try:
            Lookup(target.stack, f"n{n}.example.org", [4], found.append)
            asked += 1
        except OSError:
            pass
    assert 16 <= asked < 100
    target.time.run(limit=60)
    assert found == [[]] * asked
    target.assert_unharmed()


def test_the_server_is_taken_away_in_the_middle(target: Target) -> None:
    question = Question(target)
    target.stack.dns_servers = []
    target.time.run(limit=30)
    assert question.found == [[]]
    target.assert_unharmed()
