"""lwipy.services.dhcp.responder: RFC 2131 section 4.3, with messages written and read by scapy."""

import logging
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from lwipy.services.dhcp.leases import OFFER_TIME, QUARANTINE_TIME
from lwipy.services.dhcp.responder import Reply, Responder
from lwipy.services.dhcp.settings import Settings

SERVER = "10.0.0.1"
SUBNET = IPv4Network("10.0.0.0/24")
EVERYBODY = ("255.255.255.255", 68)


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


TYPES: dict[Any, str] = {2: "offer", 5: "ack", 6: "nak"}


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


class TestDiscover:
    def test_is_answered_with_an_offer(self) -> None:
        server = responder()
        offer = Client(server).says("discover")
        assert (offer.type, offer.address, offer.packet.xid) == ("offer", "10.0.0.10", 0xABCD)
        assert offer.options["server_id"] == SERVER
        assert offer.options["lease_time"] == 3600
        assert (offer.options["renewal_time"], offer.options["rebinding_time"]) == (1800, 3150)
        assert offer.options["subnet_mask"] == "255.255.255.0"
        assert server.counters == {"discover": 1, "offer": 1}

    def test_an_offer_is_no_lease(self) -> None:
        server = responder()
        offer = Client(server).says("discover")
        assert offer.lease is None
        assert server.table.living(0) == []

    def test_the_client_may_wish_for_an_address(self) -> None:
        assert Client(responder()).says("discover", ("requested_addr", "10.0.0.12")).address == "10.0.0.12"

    def test_the_client_may_wish_for_a_shorter_lease(self) -> None:
        client = Client(responder())
        assert client.says("discover", ("lease_time", 600)).options["lease_time"] == 600
        assert client.says("discover", ("lease_time", 86400)).options["lease_time"] == 3600
        assert client.says("discover", ("lease_time", 0)).options["lease_time"] == 60

    def test_with_no_address_left_there_is_silence_and_one_line_in_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = responder(pool=("10.0.0.10", "10.0.0.10"))
        Client(server, 1).takes()
        with caplog.at_level(logging.WARNING):
            assert all(Client(server, n).sends("discover") is None for n in range(2, 9))
        assert server.counters["dropped_exhausted"] == 7
        assert ["02:00:00:00:00:02" in record.message for record in caplog.records] == [True]

    def test_a_flood_of_discovers_takes_no_lease_away(self) -> None:
        server = responder()
        client = Client(server)
        address = client.takes()
        for n in range(100):
            Client(server, n + 8).sends("discover", ("requested_addr", address), now=n)
        assert client.renews(address, now=100).type == "ack"


class TestParameters:
    ALL = ("router", "name_server", "domain", "interface-mtu", "broadcast_address")

    def test_all_are_told_to_a_client_that_asks_for_none(self) -> None:
        options = Client(responder()).says("discover").options
        assert options["router"] == "10.0.0.254"
        assert options["name_server"] == ["10.0.0.1", "10.0.0.53"]
        assert options["domain"] == b"lwipy"
        assert options["interface-mtu"] == 1400
        assert options["broadcast_address"] == "10.0.0.255"

    def test_only_those_asked_for_in_the_order_asked(self) -> None:
        options = Client(responder()).says("discover", ("param_req_list", [26, 250, 6, 3, 6, 66])).options
        assert [name for name in options if name in self.ALL] == ["interface-mtu", "name_server", "router"]

    def test_the_subnet_mask_stands_before_the_router(self) -> None:
        names = list(Client(responder()).says("discover", ("param_req_list", [3, 1])).options)
        assert names.index("subnet_mask") < names.index("router")

    def test_what_is_not_configured_is_not_told(self) -> None:
        options = Client(responder(router=None, dns=None, domain=None)).says("discover").options
        assert not {"router", "name_server", "domain", "hostname"} & options.keys()

    def test_the_server_itself_is_router_and_name_server_when_told_so(self) -> None:
        options = Client(responder(router="self", dns="self")).says("discover").options
        assert options["router"] == options["name_server"] == SERVER

    def test_the_client_identifier_and_the_relays_information_come_back(self) -> None:  # RFC 6842, RFC 3046
        info = b"\x01\x04port"
        reply = Client(responder()).says("discover", ("client_id", b"\x00me"), ("relay_agent_information", info))
        assert b"\x3d\x03\x00me\x52\x06" + info + b"\xff" in reply.reply.data

    def test_a_reply_fits_what_the_client_takes(self, caplog: pytest.LogCaptureFixture) -> None:
        servers = [f"10.0.0.{n}" for n in range(100, 180)]
        server = responder(dns=servers)
        few = Client(server).says("discover")
        assert len(few.reply.data) <= 548
        assert "name_server" not in few.options
        assert "domain" in few.options
        assert server.counters["options_omitted"] == 1
        assert "[6]" in caplog.text
        many = Client(server).says("discover", ("max_dhcp_size", 1400))
        wire = b"".join(IPv4Address(address).packed for address in servers)
        assert b"\x06\xff" + wire[:255] + b"\x06\x41" + wire[255:] in many.reply.data, "RFC 3396"
        assert len(many.reply.data) <= 1400 - 28

    def test_replies_have_bootps_minimum_size(self) -> None:
        assert len(Client(responder()).says("discover", ("param_req_list", [])).reply.data) == 300


class TestSelecting:
    def test_the_offered_address_is_leased(self) -> None:
        server = responder()
        client = Client(server)
        offer = client.says("discover")
        ack = client.selects(offer.address, ("hostname", b"guest"), now=5.0)
        assert (ack.type, ack.address) == ("ack", offer.address)
        assert ack.options["lease_time"] == 3600
        assert ack.options["server_id"] == SERVER
        assert ack.options["hostname"] == b"guest"
        assert ack.lease == (offer.address, client.mac_text, "guest", 3605.0)
        assert server.table.living(5.0) == [ack.lease]

    def test_another_server_was_chosen_so_the_offer_is_free_again(self) -> None:
        server = responder(pool=("10.0.0.10", "10.0.0.10"))
        client = Client(server)
        client.sends("discover")
        assert client.sends("request", ("server_id", "10.0.0.2"), ("requested_addr", "10.0.0.77")) is None
        assert server.counters["dropped_other_server"] == 1
        assert Client(server, 8).says("discover").address == "10.0.0.10"

    def test_choosing_another_server_does_not_end_a_lease(self) -> None:
        server = responder()
        client = Client(server)
        address = client.takes()
        client.sends("request", ("server_id", "10.0.0.2"), ("requested_addr", "10.0.0.77"))
        assert [lease.address for lease in server.table.living(0)] == [address]

    def test_a_slow_client_still_gets_the_address_if_nobody_took_it(self) -> None:
        client = Client(responder())
        address = client.says("discover", now=0).address
        assert client.selects(address, now=OFFER_TIME * 5).type == "ack"

    def test_anothers_address_is_refused(self) -> None:
        server = responder()
        address = Client(server, 1).takes()
        nak = Client(server, 2).selects(address)
        assert nak.type == "nak"
        assert nak.address == "0.0.0.0"
        assert "lease_time" not in nak.options
        assert nak.options["server_id"] == SERVER
        assert nak.options["error_message"] == b"10.0.0.10 is not yours"
        assert server.counters["nak"] == 1

    @pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.254", "10.0.0.53", "10.0.0.99", "10.0.0.0", "8.8.8.8"])
    def test_an_address_that_is_not_ours_to_give_is_refused(self, address: str) -> None:
        assert Client(responder()).selects(address).type == "nak"

    def test_another_address_than_the_one_offered_is_refused(self) -> None:
        client = Client(responder())
        client.sends("discover")
        assert client.selects("10.0.0.12").type == "nak"

    def test_a_request_that_names_no_address_is_dropped(self) -> None:
        server = responder()
        assert Client(server).sends("request") is None
        assert server.counters["dropped_no_address"] == 1


class TestInitReboot:
    def test_a_client_that_remembers_its_address_keeps_it(self) -> None:
        client = Client(responder())
        address = client.takes()
        ack = client.says("request", ("requested_addr", address), now=100)
        assert (ack.type, ack.address, ack.lease) == ("ack", address, None)

    def test_even_when_its_lease_has_ended_and_nobody_took_the_address(self) -> None:
        client = Client(responder())
        address = client.takes()
        assert client.says("request", ("requested_addr", address), now=9999).type == "ack"

    def test_a_wrong_memory_is_refused(self) -> None:
        client = Client(responder())
        client.takes()
        assert client.says("request", ("requested_addr", "10.0.0.12")).type == "nak"

    def test_an_address_of_another_subnet_is_refused(self) -> None:
        nak = Client(responder()).says("request", ("requested_addr", "192.168.7.7"))
        assert nak.type == "nak"
        assert nak.destination == EVERYBODY

    def test_silence_to_an_unknown_client_of_our_subnet(self) -> None:
        server = responder()
        assert Client(server).sends("request", ("requested_addr", "10.0.0.12")) is None
        assert server.counters["dropped_unknown_client"] == 1


class TestRenewing:
    def test_keeps_the_address_for_another_lease_time(self) -> None:
        server = responder()
        client = Client(server)
        address = client.takes(("hostname", b"guest"))
        ack = client.renews(address, now=1800)
        assert (ack.type, ack.address, ack.packet.ciaddr) == ("ack", address, address)
        assert ack.lease is None, "not newly given"
        assert server.table.living(1800) == [(address, client.mac_text, "guest", 5400.0)]

    def test_a_lease_that_has_ended_is_newly_given(self) -> None:
        client = Client(responder())
        address = client.takes()
        assert client.renews(address, now=4000).lease == (address, client.mac_text, None, 7600.0)

    def test_a_server_that_has_forgotten_everything_renews_too(self) -> None:
        ack = Client(responder()).renews("10.0.0.11")
        assert (ack.type, ack.address) == ("ack", "10.0.0.11")

    def test_anothers_address_is_refused(self) -> None:
        server = responder()
        address = Client(server, 1).takes()
        assert Client(server, 2).renews(address).type == "nak"

    @pytest.mark.parametrize("address", ["10.0.0.99", "10.0.0.1", "8.8.8.8"])
    def test_an_address_that_is_not_ours_to_give_is_refused_to_everybody(self, address: str) -> None:
        nak = Client(responder()).renews(address)
        assert nak.type == "nak"
        assert nak.destination == EVERYBODY


class TestRebinding:
    def test_is_like_renewing(self) -> None:
        client = Client(responder())
        address = client.takes()
        ack = client.renews(address, to=None, now=3000)
        assert (ack.type, ack.address, ack.destination) == ("ack", address, (address, 68))

    def test_silence_where_another_server_may_know_more(self) -> None:
        server = responder()
        assert Client(server).sends("request", ciaddr="10.0.0.99") is None
        assert server.counters["dropped_unknown_client"] == 1

    def test_an_address_of_another_subnet_is_refused(self) -> None:
        assert Client(responder()).renews("192.168.7.7", to=None).type == "nak"


class TestDeclineReleaseInform:
    def test_a_declined_address_is_not_given_again_soon(self, caplog: pytest.LogCaptureFixture) -> None:
        server = responder(pool=("10.0.0.10", "10.0.0.10"))
        client = Client(server)
        address = client.takes()
        assert client.sends("decline", ("requested_addr", address), ("server_id", SERVER)) is None
        assert "10.0.0.10 declined" in caplog.text
        assert client.sends("discover", now=QUARANTINE_TIME - 1) is None
        assert client.says("discover", now=QUARANTINE_TIME).address == address

    def test_a_released_address_is_free_and_still_remembered(self) -> None:
        server = responder()
        client = Client(server)
        address = client.takes()
        assert client.sends("release", ("server_id", SERVER), ciaddr=address, to=SERVER) is None
        assert server.table.living(0) == []
        Client(server, 8).takes()
        assert client.takes() == address

    def test_nobody_gives_up_the_address_of_another(self) -> None:
        server = responder()
        address = Client(server, 1).takes()
        thief = Client(server, 2)
        thief.sends("release", ("server_id", SERVER), ciaddr=address, to=SERVER)
        thief.sends("decline", ("server_id", SERVER), ("requested_addr", address))
        thief.sends("decline", ("server_id", SERVER))
        assert server.counters["dropped_not_leased"] == 3
        assert len(server.table.living(0)) == 1

    @pytest.mark.parametrize("kind", ["decline", "release"])
    def test_a_message_to_another_server_is_not_ours(self, kind: Any) -> None:
        server = responder()
        client = Client(server)
        address = client.takes()
        client.sends(kind, ("server_id", "10.0.0.2"), ("requested_addr", address), ciaddr=address)
        assert server.counters["dropped_other_server"] == 1
        assert len(server.table.living(0)) == 1

    def test_inform_is_answered_without_a_lease(self) -> None:
        server = responder()
        ack = Client(server).says("inform", ciaddr="10.0.0.99")
        assert (ack.type, ack.address, ack.destination) == ("ack", "0.0.0.0", ("10.0.0.99", 68))
        assert ack.options["router"] == "10.0.0.254"
        assert not {"lease_time", "renewal_time", "rebinding_time"} & ack.options.keys()
        assert server.table.living(0) == []

    @pytest.mark.parametrize("address", ["0.0.0.0", "8.8.8.8", "10.0.0.255", "10.0.0.0", "10.0.0.1", "255.255.255.255"])
    def test_inform_is_not_answered_to_where_no_guest_can_be(self, address: str) -> None:
        server = responder()
        assert Client(server).sends("inform", ciaddr=address) is None
        assert server.counters["dropped_foreign_address"] == 1


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


class TestStatic:
    def test_a_mac_has_its_address_whatever_identifier_it_sends(self) -> None:
        server = responder(static={"02:00:00:00:00:07": "10.0.0.200"})
        client = Client(server)
        assert client.takes() == "10.0.0.200"
        assert client.takes(("client_id", b"\x00boot-rom")) == "10.0.0.200"
        assert len(server.table.living(0)) == 1

    def test_an_identifier_has_its_address_whatever_mac_it_comes_from(self) -> None:
        server = responder(static={b"\x00me": "10.0.0.200", "02:00:00:00:00:07": "10.0.0.201"})
        assert Client(server, 7).takes(("client_id", b"\x00me")) == "10.0.0.200"
        assert Client(server, 9).takes(("client_id", b"\x00me")) == "10.0.0.200"
        assert Client(server, 7).takes() == "10.0.0.201"

    def test_a_client_with_a_static_address_gets_no_other(self) -> None:
        server = responder(static={"02:00:00:00:00:07": "10.0.0.200"})
        assert Client(server).selects("10.0.0.10").type == "nak"
        assert Client(server, 8).selects("10.0.0.200").type == "nak"


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
