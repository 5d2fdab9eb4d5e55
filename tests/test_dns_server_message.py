"""lwipy.services.dns.message against dnspython and scapy, and against bytes that nobody meant."""

import struct
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRROPT

from lwipy.services.dns.message import EDNS_SIZE, Query, Rcode, Record, Type, Unanswerable, decode, encode


def query(name: str = "guest.lwipy", kind: str = "A", **changes: Any) -> bytes:
    """What dnspython makes of a question."""
    return dns.message.make_query(name, kind, **changes).to_wire()


def header(flags: int = 0, questions: int = 1, answers: int = 0, authority: int = 0, additional: int = 0) -> bytes:
    return struct.pack("!6H", 0x1234, flags, questions, answers, authority, additional)


QUESTION = b"\x05guest\x05lwipy\0\0\x01\0\x01"
RECORD = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + b"1234"
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def refused(data: bytes) -> Unanswerable:
    with pytest.raises(Unanswerable) as caught:
        decode(data)
    return caught.value


class TestDecode:
    def test_reads_what_dnspython_wrote(self) -> None:
        packet = dns.message.make_query("Guest.LWIPY", "AAAA", id=77)
        question = decode(packet.to_wire())
        assert (question.id, question.name, question.type, question.rclass) == (
            77,
            (b"Guest", b"LWIPY"),
            28,
            1,
        )
        assert question.edns is None
        assert question.limit == 512

    def test_reads_what_scapy_wrote(self) -> None:
        packet = DNS(id=9, rd=1, qd=[DNSQR(qname="host.lwipy", qtype="PTR")], ar=[DNSRROPT(rclass=4096)])
        question = decode(bytes(packet))
        assert (question.id, question.name, question.type) == (9, (b"host", b"lwipy"), Type.PTR)
        assert question.edns is not None
        assert question.edns.size == 4096

    def test_the_root_is_a_name_without_labels(self) -> None:
        assert decode(query(".", "NS")).name == ()

    @pytest.mark.parametrize(("size", "limit"), [(0, 512), (511, 512), (600, 600), (1232, 1232), (65535, EDNS_SIZE)])
    def test_edns_says_how_much_the_client_takes(self, size: int, limit: int) -> None:
        data = header(additional=1) + QUESTION + b"\0\0\x29" + size.to_bytes(2, "big") + bytes(6)
        assert decode(data).limit == limit

    def test_edns_options_and_other_records_are_stepped_over(self) -> None:
        cookie = b"\0\0\x29\x10\0\0\x03\x80\0\0\x0c\0\x0a\0\x08cookie!!"
        question = decode(header(answers=1, authority=1, additional=3) + QUESTION + RECORD * 3 + cookie + RECORD)
        assert question.edns == (4096, 3, True)

    @pytest.mark.parametrize("size", range(12))
    def test_less_than_a_header_is_dropped(self, size: int) -> None:
        error = refused(query()[:size])
        assert (str(error), error.response) == ("truncated", None)

    def test_a_response_is_dropped(self) -> None:
        error = refused(dns.message.make_response(dns.message.from_wire(query())).to_wire())
        assert (str(error), error.response) == ("response", None)

    @pytest.mark.parametrize("opcode", range(1, 16))
    def test_other_opcodes_are_not_implemented(self, opcode: int) -> None:
        error = refused(header(flags=opcode << 11 | 0x0100))
        assert error.response is not None
        response = dns.message.from_wire(error.response)
        assert (str(error), response.rcode(), response.id) == ("opcode", dns.rcode.NOTIMP, 0x1234)
        assert response.opcode() == opcode
        assert response.flags & (dns.flags.QR | dns.flags.RD) == dns.flags.QR | dns.flags.RD

    @pytest.mark.parametrize(
        ("reason", "data"),
        [
            ("question_count", header(questions=0)),
            ("question_count", header(questions=2) + QUESTION * 2),
            ("question_truncated", header() + QUESTION[:-1]),
            ("name_truncated", header()),
            ("name_truncated", header() + QUESTION[:8]),
            ("name", header() + b"\x40" + b"x" * 64 + b"\0\0\x01\0\x01"),
            ("name", header() + b"\x80x\0\0\x01\0\x01"),
            ("name", header() + b"\x3f" + (b"x" * 63 + b"\x3f") * 4 + b"\0\0\x01\0\x01"),
            ("name_pointer", header() + b"\xc0\x0c\0\x01\0\x01"),
            ("name_pointer", header() + b"\x01a\xc0\x0c\0\x01\0\x01"),
            ("name_pointer", header() + b"\xc0\x40\0\x01\0\x01"),
            ("name_pointer", header() + b"\xc0"),
            ("name_truncated", header(additional=1) + QUESTION),
            ("record_truncated", header(additional=1) + QUESTION + OPT[:-1]),
            ("record_truncated", header(additional=1) + QUESTION + OPT[:-1] + b"\x01"),
            ("name_truncated", header(additional=0xFFFF) + QUESTION + OPT[:1] + b"\0\1" + OPT[3:]),
            ("trailing_bytes", header() + QUESTION + b"!"),
            ("opt", header(additional=2) + QUESTION + OPT * 2),
            ("opt", header(answers=1) + QUESTION + OPT),
            ("opt", header(additional=1) + QUESTION + b"\x01x" + OPT),
            ("opt", header(additional=1) + QUESTION + b"\xc0\x0c" + OPT[1:]),
        ],
    )
    def test_malformed_questions_are_said_to_be(self, reason: str, data: bytes) -> None:
        error = refused(data)
        assert str(error) == reason
        assert error.response is not None
        response = dns.message.from_wire(error.response)
        assert (response.rcode(), response.id) == (dns.rcode.FORMERR, 0x1234)
        assert response.flags & dns.flags.QR

    def test_the_longest_name_is_read(self) -> None:
        wire = b"\x3f" + b"x" * 63 + b"\x3f" + b"y" * 63 + b"\x3f" + b"z" * 63 + b"\x3d" + b"w" * 61 + b"\0"
        assert len(wire) == 255
        assert len(decode(header() + wire + b"\0\x01\0\x01").name) == 4

    @settings(deadline=None)
    @given(st.binary(max_size=600))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            decode(data)
        except Unanswerable:
            pass

    parts = st.sampled_from([OPT, RECORD, RECORD[:2] + b"\0\x0c" + RECORD[4:10] + b"\0\x02\xc0\x0c"])

    @settings(deadline=None)
    @given(
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 2),
        st.sampled_from([QUESTION, b"\0\0\x02\0\x01"]) | st.binary(max_size=40),
        st.lists(parts, max_size=4).map(b"".join) | st.binary(max_size=40),
    )
    def test_what_is_read_is_what_dnspython_reads(
        self, answers: int, authority: int, additional: int, name: bytes, rest: bytes
    ) -> None:
        data = header(0, 1, answers, authority, additional) + name + rest
        try:
            question = decode(data)
        except Unanswerable:
            return
        theirs = dns.message.from_wire(data, continue_on_error=True).question[0]
        assert theirs.name == dns.name.Name([*question.name, b""])
        assert (theirs.rdtype, theirs.rdclass) == (question.type, question.rclass)

    @settings(deadline=None)
    @given(st.lists(st.binary(min_size=1, max_size=63), max_size=4).filter(lambda n: sum(map(len, n)) < 240))
    def test_any_labels_come_through(self, labels: list[bytes]) -> None:
        data = dns.message.make_query(dns.name.Name([*labels, b""]), "A").to_wire()
        assert decode(data).name == tuple(labels)


def address(name: str, last: int = 1) -> Record:
    return Record(labels(name), Type.A, 30, (bytes([10, 0, 0, last]),))


def labels(name: str) -> tuple[bytes, ...]:
    return tuple(name.encode().split(b"."))


class TestEncode:
    def test_dnspython_reads_it(self) -> None:
        asked = dns.message.make_query("gUeSt.lwipy", "A", id=5)
        data = encode(decode(asked.to_wire()), Rcode.NOERROR, [address("gUeSt.lwipy")], authoritative=True)
        response = dns.message.from_wire(data)
        assert asked.is_response(response)
        assert response.answer[0].to_text() == "gUeSt.lwipy. 30 IN A 10.0.0.1"
        assert response.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
        assert response.edns == -1

    def test_the_question_comes_back_byte_for_byte(self) -> None:
        asked = query("gUeSt.LwIpY")
        assert encode(decode(asked), Rcode.NXDOMAIN)[12 : len(asked)] == asked[12:]

    def test_scapy_reads_it(self) -> None:
        soa = Record(
            labels("lwipy"),
            Type.SOA,
            5,
            (labels("host.lwipy"), labels("x.lwipy"), struct.pack("!5I", *range(5))),
        )
        packet = DNS(encode(decode(query()), Rcode.NXDOMAIN, [], [soa]))
        assert (packet.rcode, packet.ancount, packet.nscount, packet.arcount) == (3, 0, 1, 0)
        assert (packet.ns[0].rrname, packet.ns[0].mname, packet.ns[0].rname) == (
            b"lwipy.",
            b"host.lwipy.",
            b"x.lwipy.",
        )
        assert (packet.ns[0].serial, packet.ns[0].minimum) == (0, 4)

    def test_names_are_compressed(self) -> None:
        records = [
            address("guest.lwipy"),
            Record(labels("guest.lwipy"), Type.PTR, 30, (labels("other.lwipy"),)),
        ]
        data = encode(decode(query()), Rcode.NOERROR, records)
        assert data.count(b"lwipy") == 1
        assert data.count(b"guest") == 1
        assert dns.message.from_wire(data).answer[1].to_text() == "guest.lwipy. 30 IN PTR other.lwipy."

    def test_flags_of_the_query_come_back(self) -> None:
        asked = dns.message.make_query("x.lwipy", "A")
        asked.flags = dns.flags.CD
        response = dns.message.from_wire(encode(decode(asked.to_wire()), Rcode.NOERROR, recursion=True))
        assert response.flags == dns.flags.QR | dns.flags.CD | dns.flags.RA

    def test_edns_is_answered_with_edns(self) -> None:
        asked = query(use_edns=0, payload=4096, want_dnssec=True)
        response = dns.message.from_wire(encode(decode(asked), Rcode.NOERROR))
        assert (response.edns, response.payload) == (0, EDNS_SIZE)
        assert response.ednsflags & dns.flags.DO

    def test_an_extended_code_is_split(self) -> None:
        response = dns.message.from_wire(encode(decode(query(use_edns=1)), Rcode.BADVERS))
        assert (response.rcode(), response.edns) == (dns.rcode.BADVERS, 0)

    @pytest.mark.parametrize("edns", [{}, {"use_edns": 0, "payload": 700}, {"use_edns": 0, "payload": 9000}])
    def test_what_does_not_fit_is_left_out_and_marked(self, edns: dict[str, Any]) -> None:
        question = decode(query(**edns))
        data = encode(question, Rcode.NOERROR, [address("guest.lwipy", last) for last in range(200)])
        response = dns.message.from_wire(data)
        assert question.limit - 16 < len(data) <= question.limit
        assert response.flags & dns.flags.TC
        assert 20 < len(response.answer[0]) < 200
        assert response.edns == (0 if edns else -1)

    def test_a_response_may_be_nothing_but_truncated(self) -> None:
        response = dns.message.from_wire(encode(decode(query()), Rcode.NOERROR, [address("x")], truncated=True))
        assert response.flags & dns.flags.TC
        assert not response.answer

    names = st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=6).map(tuple)

    @settings(deadline=None)
    @given(names, st.lists(st.tuples(names, names), max_size=12), st.booleans())
    def test_whatever_is_sent_dnspython_reads_the_same(
        self, name: tuple[bytes, ...], pairs: list[tuple[tuple[bytes, ...], tuple[bytes, ...]]], edns: bool
    ) -> None:
        wire = dns.message.make_query(dns.name.Name([*name, b""]), "PTR", use_edns=0 if edns else None).to_wire()
        question: Query = decode(wire)
        data = encode(question, Rcode.NOERROR, [Record(o, Type.PTR, 9, (t,)) for o, t in pairs])
        response = dns.message.from_wire(data)
        got = [(s.name, r.target) for s in response.answer for r in s]
        want = [(dns.name.Name([*o, b""]), dns.name.Name([*t, b""])) for o, t in pairs]
        assert len(data) <= question.limit
        assert set(got) == set(want) or (response.flags & dns.flags.TC and set(got) < set(want))
