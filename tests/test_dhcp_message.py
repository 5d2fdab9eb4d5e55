"""lwipy.services.dhcp.message against scapy's own codec, and against bytes that nobody meant."""

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP

from lwipy.services.dhcp.message import Malformed, Message, Option, Type, decode, encode

MAC = bytes.fromhex("020000000007")
COOKIE = b"\x63\x82\x53\x63"


def client_message(*options: object, **fields: Any) -> bytes:
    """What scapy makes of a client's message."""
    return bytes(BOOTP(op=1, chaddr=MAC, xid=0x1234, **fields) / DHCP(options=[*options, "end"]))


def raw(options: bytes, *, sname: bytes = b"", file: bytes = b"", **fields: Any) -> bytes:
    """A message with hand-made option fields."""
    header = bytearray(bytes(BOOTP(op=1, chaddr=MAC, xid=1, sname=sname, file=file, **fields))[:236])
    return bytes(header) + COOKIE + options


def reason(data: bytes) -> str:
    with pytest.raises(Malformed) as caught:
        decode(data)
    return str(caught.value)


def reason_or_none(data: bytes) -> str | None:
    try:
        decode(data)
    except Malformed as error:
        return str(error)
    return None


class TestDecode:
    def test_reads_what_scapy_wrote(self) -> None:
        message = decode(
            client_message(
                ("message-type", "request"),
                ("requested_addr", "10.0.0.9"),
                ("server_id", "10.0.0.1"),
                ("hostname", b"guest"),
                ("param_req_list", [1, 3, 26]),
                flags="B",
                ciaddr="10.0.0.5",
                giaddr="10.0.0.3",
            )
        )
        assert message.type == Type.REQUEST
        assert (message.xid, message.chaddr, message.mac) == (0x1234, MAC, "02:00:00:00:00:07")
        assert message.broadcast
        assert not message.reply
        assert (message.ciaddr, message.giaddr) == (IPv4Address("10.0.0.5"), IPv4Address("10.0.0.3"))
        assert message.address(Option.REQUESTED_ADDRESS) == IPv4Address("10.0.0.9")
        assert message.address(Option.SERVER) == IPv4Address("10.0.0.1")
        assert message.address(Option.ROUTER) is None
        assert message.options[Option.HOST_NAME] == b"guest"
        assert message.options[Option.PARAMETERS] == bytes([1, 3, 26])

    def test_a_client_is_known_by_its_identifier_or_else_by_its_mac(self) -> None:
        assert decode(client_message(("message-type", 1))).client == b"\x01" + MAC
        assert decode(client_message(("message-type", 1), ("client_id", b"\x00me"))).client == b"\x00me"

    def test_pads_between_options_and_a_missing_end_are_fine(self) -> None:
        assert decode(raw(b"\0\0\x35\x01\x03\0\x0c\x01x\0")).options == {53: b"\x03", 12: b"x"}
        assert decode(raw(b"\x35\x01\x03\x0c\x01x")).options == {53: b"\x03", 12: b"x"}

    def test_nothing_is_read_behind_end(self) -> None:
        assert decode(raw(b"\x35\x01\x03\xff\x0c\x01x")).options == {53: b"\x03"}

    def test_parts_of_a_long_option_are_joined(self) -> None:  # RFC 3396
        data = raw(b"\x35\x01\x01" + b"\x37\xff" + b"a" * 255 + b"\x0c\x01x" + b"\x37\x02bc" + b"\xff")
        assert decode(data).options == {53: b"\x01", 55: b"a" * 255 + b"bc", 12: b"x"}

    @pytest.mark.parametrize(
        ("overload", "hostname"),
        [(0, b"options-"), (1, b"options-file-"), (2, b"options-sname-"), (3, b"options-file-sname-")],
    )
    def test_overloaded_fields_are_read_after_the_options_file_first(self, overload: int, hostname: bytes) -> None:
        data = raw(
            b"\x35\x01\x01\x34\x01" + bytes([overload]) + b"\x0c\x08options-\xff",
            file=b"\x0c\x05file-\xff",
            sname=b"\x0c\x06sname-\xff",
        )
        assert decode(data).options[Option.HOST_NAME] == hostname

    def test_an_overload_in_an_overloaded_field_means_nothing(self) -> None:
        data = raw(b"\x35\x01\x01\x34\x01\x01\xff", file=b"\xff", sname=b"\x0c\x01x\xff")
        assert Option.HOST_NAME not in decode(data).options

    @pytest.mark.parametrize("size", range(0, 240, 7))
    def test_truncated(self, size: int) -> None:
        assert reason(client_message(("message-type", 1))[:size]) == "truncated"

    def test_every_message_cut_short_is_read_or_refused(self) -> None:
        whole = client_message(("message-type", 1), ("hostname", b"guest"), ("requested_addr", "10.0.0.9"))
        for size in range(243, len(whole)):
            assert reason_or_none(whole[:size]) in {"option_truncated", None}

    def test_a_reply_is_not_a_request(self) -> None:
        assert reason(bytes(BOOTP(op=2, chaddr=MAC) / DHCP(options=[("message-type", 2), "end"]))) == "not_a_request"

    def test_no_cookie(self) -> None:
        assert reason(bytes(300).replace(b"\0", b"\x01", 1)) == "no_cookie"

    @pytest.mark.parametrize(
        "fields",
        [
            {"htype": 6},
            {"hlen": 0},
            {"hlen": 16},
            {"hlen": 255},
            {"chaddr": bytes(6)},
            {"chaddr": b"\x03" * 6},
        ],
        ids=str,
    )
    def test_hardware_addresses_other_than_one_ethernet_hosts(self, fields: dict[str, Any]) -> None:
        packet = BOOTP(**{"op": 1, "chaddr": MAC, **fields}) / DHCP(options=[("message-type", 1), "end"])
        assert reason(bytes(packet)) == "hardware_address"

    def test_plain_bootp_has_no_type(self) -> None:
        assert reason(client_message(("hostname", b"old"))) == "no_type"

    @pytest.mark.parametrize("options", [b"\x0c", b"\x0c\x05ab", b"\x35\x01\x01\x0c\xff" + b"x" * 254], ids=repr)
    def test_an_option_running_out_of_its_field(self, options: bytes) -> None:
        assert reason(raw(options)) == "option_truncated"

    def test_an_option_running_out_of_an_overloaded_field(self) -> None:
        assert reason(raw(b"\x35\x01\x01\x34\x01\x02\xff", sname=b"\x0c\x40")) == "option_truncated"

    @pytest.mark.parametrize("code", [50, 51, 52, 54, 57])
    @pytest.mark.parametrize("size", [0, 3, 5])
    def test_fixed_size_options_of_another_size(self, code: int, size: int) -> None:
        assert reason(raw(bytes([code, size]) + bytes(size) + b"\x35\x01\x01\xff")) == "option_size"

    def test_an_empty_type(self) -> None:
        assert reason(raw(b"\x35\x00\xff")) == "option_size"

    def test_a_type_given_twice_is_one_of_two_bytes(self) -> None:
        assert reason(raw(b"\x35\x01\x01\x35\x01\x01\xff")) == "option_size"

    def test_a_client_identifier_too_long_to_keep(self) -> None:
        assert reason(raw(b"\x35\x01\x01" + (b"\x3d\xff" + bytes(255)) * 2)) == "option_size"

    @settings(deadline=None)
    @given(st.binary(max_size=700))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            decode(data)
        except Malformed:
            pass

    @settings(deadline=None)
    @given(st.binary(max_size=400), st.binary(max_size=64), st.binary(max_size=128))
    def test_any_options_are_read_or_refused(self, options: bytes, sname: bytes, file: bytes) -> None:
        try:
            decode(raw(b"\x35\x01\x01\x34\x01\x03" + options, sname=sname, file=file))
        except Malformed:
            pass


class TestEncode:
    OFFER = Message(
        type=Type.OFFER,
        xid=0x1234,
        chaddr=MAC,
        reply=True,
        broadcast=True,
        yiaddr=IPv4Address("10.0.0.9"),
        giaddr=IPv4Address("10.0.0.3"),
        options={Option.SERVER: IPv4Address("10.0.0.1").packed, Option.DOMAIN: b"lwipy"},
    )

    def test_scapy_reads_it(self) -> None:
        data, omitted = encode(self.OFFER)
        packet = BOOTP(data)
        assert omitted == []
        assert (packet.op, packet.xid, packet.htype, packet.hlen) == (2, 0x1234, 1, 6)
        assert packet.chaddr[:6] == MAC
        assert packet.flags == "B"
        assert (packet.yiaddr, packet.giaddr, packet.ciaddr) == ("10.0.0.9", "10.0.0.3", "0.0.0.0")
        assert packet[DHCP].options[:4] == [
            ("message-type", 2),
            ("server_id", "10.0.0.1"),
            ("domain", b"lwipy"),
            "end",
        ]

    def test_has_bootps_minimum_size(self) -> None:
        assert len(encode(self.OFFER)[0]) == 300

    def test_a_long_value_goes_out_in_parts(self) -> None:  # RFC 3396
        message = Message(type=1, xid=1, chaddr=MAC, options={Option.DOMAIN: bytes(range(256)) * 2})
        data, omitted = encode(message, limit=1000)
        assert omitted == []
        assert decode(data).options[Option.DOMAIN] == bytes(range(256)) * 2

    def test_what_does_not_fit_is_left_out_and_said(self) -> None:
        options: dict[int, bytes] = {Option.ROUTER: b"1234", Option.DNS: bytes(248), Option.DOMAIN: b"lwipy"}
        data, omitted = encode(Message(type=1, xid=1, chaddr=MAC, options=options), limit=400)
        assert omitted == [Option.DNS]
        assert decode(data).options == {53: b"\x01", Option.ROUTER: b"1234", Option.DOMAIN: b"lwipy"}

    @settings(deadline=None)
    @given(
        st.dictionaries(st.sampled_from([1, 3, 6, 12, 15, 43, 55, 82, 200]), st.binary(max_size=600), max_size=5),
        st.integers(300, 1500),
    )
    def test_never_exceeds_the_limit_and_comes_back_whole(self, options: dict[int, bytes], limit: int) -> None:
        data, omitted = encode(Message(type=3, xid=9, chaddr=MAC, options=options), limit)
        assert 300 <= len(data) <= limit
        sent = {code: value for code, value in options.items() if code not in omitted}
        assert decode(data).options == {53: b"\x03"} | sent
