"""Virtio-net headers that lie: each costs its frame, is counted, and does no harm."""

from __future__ import annotations

import random
import socket
import struct
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vnet_device import (
    NEEDS_CSUM,
    NONE,
    TCPV4,
    TCPV6,
    UDP,
    Header,
    OffloadPair,
    bytes_of,
    total,
    udp_frame,
)

MEGABYTE = 1 << 20


def tcp_frame(size: int, flags: int = 0x10, version: int = 4) -> bytes:
    tcp = struct.pack("!HHIIBBHHH", 1000, 80, 1, 1, 0x50, flags, 1000, 0, 0) + bytes(size)
    if version == 4:
        addresses = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
        ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, (20 + len(tcp)) & 0xFFFF, 1, 0, 64, 6, 0) + addresses)
        struct.pack_into("!H", ip, 10, ~total(bytes(ip)) & 0xFFFF)
        return bytes.fromhex("020000000001020000000002 0800") + bytes(ip) + tcp
    addresses = socket.inet_pton(socket.AF_INET6, "fd00::2") + socket.inet_pton(socket.AF_INET6, "fd00::1")
    ip6 = struct.pack("!IHBB", 0x60000000, len(tcp) & 0xFFFF, 6, 64) + addresses
    return bytes.fromhex("020000000001020000000002 86dd") + ip6 + tcp


GOOD4 = Header(NEEDS_CSUM, TCPV4, 54, 1460, 34, 16)
GOOD6 = Header(NEEDS_CSUM, TCPV6, 74, 1440, 54, 16)


@pytest.mark.parametrize(
    ("header", "frame"),
    [
        pytest.param(Header(NEEDS_CSUM, NONE, 0, 0, 65535, 65535), udp_frame(b"x"), id="sum beyond the frame"),
        pytest.param(Header(NEEDS_CSUM, NONE, 0, 0, 41, 1), udp_frame(b""), id="sum over the frame's end"),
        pytest.param(Header(0x80), udp_frame(b"x"), id="unknown flag"),
        pytest.param(GOOD4._replace(gso_type=UDP), tcp_frame(3000), id="UDP is to be cut"),
        pytest.param(GOOD4._replace(gso_type=TCPV4 | 0x80), tcp_frame(3000), id="ECN"),
        pytest.param(GOOD4._replace(gso_type=77), tcp_frame(3000), id="unknown type"),
        pytest.param(GOOD4._replace(gso_size=0), tcp_frame(3000), id="pieces of nothing"),
        pytest.param(GOOD4._replace(flags=0), tcp_frame(3000), id="long, with a sum"),
        pytest.param(GOOD4._replace(csum_start=35), tcp_frame(3000), id="sum from elsewhere"),
        pytest.param(GOOD4._replace(csum_offset=6), tcp_frame(3000), id="sum elsewhere"),
        pytest.param(GOOD4, tcp_frame(3000, version=6), id="IPv6, called IPv4"),
        pytest.param(GOOD6, tcp_frame(3000), id="IPv4, called IPv6"),
        pytest.param(GOOD4, tcp_frame(0), id="long without payload"),
        pytest.param(GOOD4, tcp_frame(3000, flags=0x02), id="SYN"),
        pytest.param(GOOD4, tcp_frame(3000, flags=0x14), id="RST"),
        pytest.param(GOOD4, tcp_frame(3000, flags=0x30), id="urgent"),
        pytest.param(GOOD4, tcp_frame(3000)[:-1], id="shorter than IP says"),
        pytest.param(GOOD4, tcp_frame(3000)[:40], id="headers cut off"),
        pytest.param(GOOD4, b"", id="no frame"),
        pytest.param(GOOD4, udp_frame(bytes(2000)), id="UDP, called TCP"),
    ],
)
def test_a_header_that_lies_costs_its_frame_and_is_counted(offload: OffloadPair, header: Header, frame: bytes) -> None:
    before = offload.nic.counters.rx_offload
    offload.device.give(frame, header)
    offload.near.poll()
    assert offload.nic.counters.rx_offload == before + 1
    assert offload.nic.link_up


def test_less_than_a_header_is_counted(offload: OffloadPair) -> None:
    offload.device.wire.send(b"\0" * 9)
    offload.near.poll()
    assert offload.nic.counters.rx_offload == 1


@pytest.mark.parametrize("size", [65535 - 40 + 1, 66000, 100_000])
def test_what_is_longer_than_ip_allows_is_dropped(offload: OffloadPair, size: int) -> None:
    offload.device.give(tcp_frame(size), GOOD4)
    offload.near.poll()
    counters = offload.nic.counters
    assert counters.rx_offload + counters.rx_malformed == 1


@given(
    header=st.builds(
        Header,
        st.one_of(st.sampled_from([0, 1, 2, 3]), st.integers(0, 255)),
        st.one_of(st.sampled_from([0, 1, 4]), st.integers(0, 255)),
        st.integers(0, 65535),
        st.integers(0, 65535),
        st.one_of(st.sampled_from([34, 54]), st.integers(0, 65535)),
        st.one_of(st.sampled_from([6, 16]), st.integers(0, 65535)),
    ),
    frame=st.one_of(
        st.binary(max_size=200),
        st.builds(tcp_frame, st.integers(0, 70_000), st.integers(0, 255), st.sampled_from([4, 6])),
        st.builds(udp_frame, st.binary(max_size=1472)),
    ),
    cut=st.integers(0, 100),
    spoil=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_no_header_and_no_frame_does_harm(header: Header, frame: bytes, cut: int, spoil: list[tuple[int, int]]) -> None:
    data = bytearray(frame[: len(frame) - cut] if cut else frame)
    for at, value in spoil:
        if at < len(data):
            data[at] = value
    with closing(OffloadPair()) as offload:
        listener = offload.near.tcp()
        listener.bind(("", 80))
        listener.listen()
        before = offload.near.statistics.memory_used
        for _ in range(3):
            offload.device.give(bytes(data), header)
            offload.near.poll()
        assert offload.nic.counters.rx_frames >= 2 or len(data) == 0
        assert offload.near.statistics.memory_used - before < 400_000


def test_headers_that_lie_in_mid_connection_do_not_disturb_it(offload: OffloadPair) -> None:
    client, server = offload.connect(4)
    chance = random.Random(7)
    give = offload.device.give

    def lying(frame: bytes, header: Header = Header()) -> None:  # noqa: B008
        if chance.random() < 0.1:
            header = header._replace(gso_type=chance.choice([0, 1, 3, 4, 99]), csum_start=chance.randrange(65536))
        give(frame, header)

    offload.device.give = lying  # type: ignore[method-assign]
    offload.join = True
    offload.move(server, client, bytes_of(MEGABYTE // 2))
