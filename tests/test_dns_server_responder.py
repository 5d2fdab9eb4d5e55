"""lwipy.services.dns.responder: questions by dnspython, answers read by dnspython."""

from collections.abc import Callable
from ipaddress import ip_interface
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lwipy.services.dns.message import Rcode
from lwipy.services.dns.responder import Fallback, Responder
from lwipy.services.dns.zone import Zone

OWN = [ip_interface("10.0.0.1/24"), ip_interface("fd00::1/64")]
MANY = [f"10.2.{n // 200}.{n % 200 + 1}" for n in range(300)]


def responder(fallback: Fallback | None = None) -> Responder:
    return Responder(Zone("lwipy", lambda: OWN, {"files": ["10.0.0.5"], "many": MANY}), fallback)


def receive(server: Responder, data: bytes) -> list[bytes]:
    sent: list[bytes] = []
    server.receive(data, sent.append)
    return sent


def ask(server: Responder, name: str, kind: str = "A", rdclass: str = "IN", **changes: Any) -> dns.message.Message:
    """The response to a question, which must be one."""
    query = dns.message.make_query(name, kind, rdclass, **changes)
    (data,) = receive(server, query.to_wire())
    response = dns.message.from_wire(data)
    assert query.is_response(response)
    assert response.question == query.question
    return response


def data(response: dns.message.Message) -> list[str]:
    return [item.to_text() for answers in response.answer for item in answers]


class TestOwnNames:
    def test_are_answered_with_authority(self) -> None:
        server = responder()
        response = ask(server, "host.lwipy")
        assert (response.rcode(), data(response)) == (dns.rcode.NOERROR, ["10.0.0.1"])
        assert response.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD
        assert data(ask(server, "files.lwipy")) == ["10.0.0.5"]
        assert data(ask(server, "host", "AAAA")) == ["fd00::1"]
        assert data(ask(server, "1.0.0.10.in-addr.arpa", "PTR")) == ["host.lwipy."]
        assert data(ask(server, "lwipy", "NS")) == ["host.lwipy."]
        assert data(ask(server, "lwipy", "SOA")) == ["host.lwipy. hostmaster.lwipy. 1 3600 600 86400 5"]
        assert server.counters == {"query": 6, "noerror": 6}

    def test_keep_the_letters_they_were_asked_with(self) -> None:
        query = dns.message.make_query("hOsT.LwIpY", "A")
        (sent,) = receive(responder(), query.to_wire())
        assert b"\x04hOsT\x05LwIpY\0" in sent
        assert dns.message.from_wire(sent).answer[0].name.to_text() == "hOsT.LwIpY."

    def test_without_records_of_the_type_it_says_so(self) -> None:
        response = ask(responder(), "files.lwipy", "AAAA")
        assert (response.rcode(), response.answer) == (dns.rcode.NOERROR, [])
        assert response.authority[0].rdtype == dns.rdatatype.SOA

    def test_that_do_not_exist_are_denied(self) -> None:
        server = responder()
        response = ask(server, "nobody.lwipy")
        assert (response.rcode(), response.answer) == (dns.rcode.NXDOMAIN, [])
        assert response.authority[0].to_text() == "lwipy. 5 IN SOA host.lwipy. hostmaster.lwipy. 1 3600 600 86400 5"
        assert server.counters["nxdomain"] == 1

    def test_a_long_answer_is_truncated_to_what_the_client_takes(self) -> None:
        for changes, limit in (({}, 512), ({"use_edns": 0, "payload": 1000}, 1000)):
            query = dns.message.make_query("many.lwipy", "A", **changes)  # type: ignore[arg-type]
            (sent,) = receive(responder(), query.to_wire())
            assert limit - 16 < len(sent) <= limit
            assert dns.message.from_wire(sent).flags & dns.flags.TC


class TestRefused:
    @pytest.mark.parametrize("name", ["example.org", "8.8.8.8.in-addr.arpa", "."])
    def test_names_that_are_not_ours(self, name: str) -> None:
        response = ask(responder(), name)
        assert response.rcode() == dns.rcode.REFUSED
        assert not response.flags & (dns.flags.AA | dns.flags.RA)

    @pytest.mark.parametrize("kind", ["ANY", "AXFR", "IXFR", "MAILB", "TKEY"])
    def test_questions_for_everything(self, kind: str) -> None:  # RFC 8482
        response = ask(responder(), "host.lwipy", kind)
        assert (response.rcode(), response.answer) == (dns.rcode.REFUSED, [])

    @pytest.mark.parametrize("rdclass", ["CH", "HS", "ANY", "NONE"])
    def test_other_classes(self, rdclass: str) -> None:
        server = responder()
        assert ask(server, "host.lwipy", "A", rdclass).rcode() == dns.rcode.REFUSED
        assert server.counters["refused"] == 1

    def test_a_later_edns(self) -> None:
        server = responder()
        response = ask(server, "host.lwipy", use_edns=1)
        assert (response.rcode(), response.edns, response.answer) == (dns.rcode.BADVERS, 0, [])
        assert server.counters["badvers"] == 1


class TestUnanswerable:
    def test_a_response_gets_none(self) -> None:
        server = responder()
        response = dns.message.make_response(dns.message.make_query("host.lwipy", "A")).to_wire()
        assert receive(server, response) == []
        assert receive(server, b"") == []
        assert server.counters == {"dropped_response": 1, "dropped_truncated": 1}

    def test_two_questions_are_malformed(self) -> None:
        query = dns.message.make_query("host.lwipy", "A", id=7)
        query.question.append(dns.rrset.RRset(dns.name.from_text("files.lwipy."), dns.rdataclass.IN, dns.rdatatype.A))
        (sent,) = receive(responder(), query.to_wire())
        assert dns.message.from_wire(sent).rcode() == dns.rcode.FORMERR

    def test_an_update_is_not_implemented(self) -> None:
        query = dns.message.make_query("host.lwipy", "A")
        query.set_opcode(dns.opcode.UPDATE)
        (sent,) = receive(responder(), query.to_wire())
        assert dns.message.from_wire(sent).rcode() == dns.rcode.NOTIMP

    @settings(deadline=None)
    @given(st.binary(max_size=300) | st.binary(max_size=80).map(lambda b: b"\1\2\0\0\0\1\0\0\0\0\0\0\4host" + b))
    def test_any_bytes_get_one_response_or_none(self, packet: bytes) -> None:
        server = responder(lambda query, reply: reply(query[:2] + b"\x80" + query[3:]))
        for sent in receive(server, packet):
            assert sent[:2] == packet[:2]
            assert sent[2] & 0x80
            dns.message.from_wire(sent, continue_on_error=True)
        assert sum(server.counters.values()) >= 1


class TestFallback:
    """Questions of names that are not ours go to whoever can answer them."""

    def resolver(self, query: bytes, reply: Callable[[bytes], None]) -> None:
        asked = dns.message.from_wire(query)
        response = dns.message.make_response(asked)
        response.answer.append(dns.rrset.from_text(asked.question[0].name, 300, "IN", "A", "93.184.216.34"))
        reply(response.to_wire())

    def test_is_asked_and_its_response_passed_on(self) -> None:
        server = responder(self.resolver)
        assert data(ask(server, "example.org")) == ["93.184.216.34"]
        assert server.counters == {"query": 1, "forwarded": 1}

    def test_is_not_asked_for_names_of_ours(self) -> None:
        server = responder(self.resolver)
        response = ask(server, "host.lwipy")
        assert data(response) == ["10.0.0.1"]
        assert response.flags & dns.flags.RA
        assert ask(server, "nobody.lwipy").rcode() == dns.rcode.NXDOMAIN
        assert ask(server, "nobody").rcode() == dns.rcode.NXDOMAIN
        assert "forwarded" not in server.counters

    def test_may_answer_later_and_once(self) -> None:
        waiting: list[tuple[bytes, Callable[[bytes], None]]] = []
        server = responder(lambda query, reply: waiting.append((query, reply)))
        sent: list[bytes] = []
        server.receive(dns.message.make_query("example.org", "A").to_wire(), sent.append)
        assert sent == []
        self.resolver(*waiting[0])
        self.resolver(*waiting[0])
        assert len(sent) == 1

    def test_what_is_too_long_for_the_client_is_truncated(self) -> None:
        response = ask(responder(lambda query, reply: reply(query[:2] + b"\x80" + bytes(600))), "example.org")
        assert response.flags & dns.flags.TC
        assert response.rcode() == dns.rcode.NOERROR

    @pytest.mark.parametrize("bad", [b"", b"\x80" * 12, "query"])
    def test_a_response_that_is_none_becomes_a_failure(self, bad: Any) -> None:
        server = responder(lambda query, reply: reply(query if bad == "query" else bad))
        assert ask(server, "example.org").rcode() == dns.rcode.SERVFAIL
        assert server.counters["servfail"] == 1

    def test_a_resolver_out_of_reach_is_a_failure_for_the_client_alone(self) -> None:
        def unreachable(query: bytes, reply: Callable[[bytes], None]) -> None:
            raise OSError("no route")

        server = responder(unreachable)
        assert ask(server, "example.org").rcode() == dns.rcode.SERVFAIL
        assert server.counters[Rcode.SERVFAIL.name.lower()] == 1

    def test_a_fault_in_it_comes_through_and_the_client_hears_too(self) -> None:
        server = responder(lambda query, reply: 1 // 0)
        sent: list[bytes] = []
        with pytest.raises(ZeroDivisionError):
            server.receive(dns.message.make_query("example.org", "A").to_wire(), sent.append)
        assert dns.message.from_wire(sent[0]).rcode() == dns.rcode.SERVFAIL
