"""lwipy.services.dhcp.responder: RFC 2131 section 4.3, with messages written and read by scapy."""

from __future__ import annotations

import logging
from ipaddress import IPv4Address
from typing import Any

import pytest
from dhcp_client import EVERYBODY, SERVER, Client, responder

from lwipy.services.dhcp.leases import OFFER_TIME, QUARANTINE_TIME


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
