"""What a DHCP responder says to messages that no client sends, and where it sends its answers."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from dhcp_client import EVERYBODY, SERVER, SUBNET, Client, responder
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP


class TestBadInput:
    @pytest.mark.parametrize("kind", [0, 2, 5, 6, 9, 13, 255])
    def test_messages_that_no_client_sends(self, kind: Any) -> None:
        server = responder()
        data = bytes(BOOTP(op=1, chaddr=b"\2\0\0\0\0\7")) + b"\x63\x82\x53\x63\x35\x01" + bytes([kind]) + b"\xff"
        assert server.receive(data, broadcast=True, now=0) is None
        assert server.counters == {"dropped_unexpected_type": 1}

    def test_what_cannot_be_read_is_counted_by_reason(self) -> None:
        server = responder()
        assert server.receive(b"", broadcast=True, now=0) is None
        assert server.receive(bytes(300), broadcast=True, now=0) is None
        assert server.counters == {"dropped_truncated": 1, "dropped_not_a_request": 1}

    @settings(deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 10),
                st.sampled_from(["0.0.0.0", "10.0.0.10", "10.0.0.11", "10.0.0.1", "9.9.9.9", "255.255.255.255"]),
                st.sampled_from(["0.0.0.0", "10.0.0.3", "10.0.0.1", "7.7.7.7"]),
                st.dictionaries(
                    st.sampled_from([12, 50, 51, 54, 55, 57, 61, 82]),
                    st.binary(max_size=8) | st.sampled_from([b"\x0a\0\0\x0a", b"\x0a\0\0\x01", b"\x0a\0\0\x0b"]),
                ),
                st.integers(0, 5),
                st.booleans(),
            ),
            max_size=20,
        )
    )
    def test_any_conversation_is_answered_within_the_subnet_or_not_at_all(self, messages: list[Any]) -> None:
        server = responder()
        for time, (kind, ciaddr, giaddr, options, mac, broadcast) in enumerate(messages):
            packet = bytes(BOOTP(op=1, chaddr=bytes([2, 0, 0, 0, 0, mac]), ciaddr=ciaddr, giaddr=giaddr))
            encoded = b"".join(bytes([code, len(value)]) + value for code, value in options.items())
            data = packet + b"\x63\x82\x53\x63\x35\x01" + bytes([kind]) + encoded + b"\xff"
            reply = server.receive(data, broadcast=broadcast, now=time * 7)
            if reply is None:
                continue
            host, port = reply.destination
            assert host == "255.255.255.255" or (IPv4Address(host) in SUBNET and host != SERVER)
            assert port == (67 if host == "10.0.0.3" and giaddr == host else 68)
            assert 300 <= len(reply.data) <= 1400 - 28
            assert BOOTP(reply.data).xid == BOOTP(data).xid
        assert len({lease.address for lease in server.table.living(0)}) <= 3

    @settings(deadline=None)
    @given(st.binary(max_size=600))
    def test_any_bytes_give_no_reply_or_a_counted_one(self, data: bytes) -> None:
        server = responder()
        server.receive(data, broadcast=True, now=0)
        assert sum(server.counters.values()) >= 1


class TestDestination:
    """RFC 2131 section 4.1."""

    def test_to_the_new_address_with_the_clients_mac(self) -> None:
        offer = Client(responder()).says("discover")
        assert (offer.destination, offer.neighbour) == (("10.0.0.10", 68), "02:00:00:00:00:07")

    def test_to_everybody_for_a_client_that_sets_the_broadcast_flag(self) -> None:
        offer = Client(responder(), flags="B").says("discover")
        assert (offer.destination, offer.neighbour) == (EVERYBODY, None)
        assert offer.packet.flags == "B"

    def test_to_the_address_the_client_has(self) -> None:
        client = Client(responder(), flags="B")
        address = client.takes()
        renewed = client.renews(address)
        assert (renewed.destination, renewed.neighbour) == ((address, 68), None)

    def test_to_the_relay_it_came_through(self) -> None:
        client = Client(responder(), giaddr="10.0.0.3")
        offer = client.says("discover", to=SERVER)
        assert (offer.destination, offer.neighbour) == (("10.0.0.3", 67), None)
        assert offer.packet.giaddr == "10.0.0.3"
        address = client.takes()
        assert client.renews(address).destination == ("10.0.0.3", 67)
        nak = client.renews("192.168.7.7")
        assert (nak.type, nak.destination, nak.packet.flags) == ("nak", ("10.0.0.3", 67), "B")

    def test_a_relay_of_a_subnet_we_do_not_have_is_dropped(self) -> None:
        server = responder()
        assert Client(server).sends("discover", giaddr="10.9.9.9") is None
        assert server.counters["dropped_foreign_relay"] == 1

    def test_a_forged_address_in_discover_is_not_written_to(self) -> None:
        assert Client(responder()).says("discover", ciaddr="8.8.8.8").destination == ("10.0.0.10", 68)
