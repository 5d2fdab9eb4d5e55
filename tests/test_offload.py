"""Devices with virtio-net headers: what the stack asks of them, what it believes of them, and what it does not."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vnet_device import (
    CSUM,
    DATA_VALID,
    NEEDS_CSUM,
    NONE,
    TCPV4,
    TCPV6,
    TSO4,
    TSO6,
    UDP,
    Device,
    FakeTap,
    Header,
    joined,
    total,
)

import lwipy

MEGABYTE = 1 << 20
OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KIND = {4: socket.AF_INET, 6: socket.AF_INET6}


class Pair:
    """A stack whose device the test plays, and one beyond the device that knows of real frames only."""

    def __init__(self, offloads: int = CSUM | TSO4 | TSO6, mtu: int = 1500) -> None:
        self.now = 0.0
        self.device = Device()
        self.near, self.far = lwipy.Stack(clock=lambda: self.now), lwipy.Stack(clock=lambda: self.now)
        self.link = FakeTap(self.device.fd, offloads)
        self.nic = self.near.add_interface(self.link, mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        self.peer = self.far.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24", ipv6="fd00::2/64", mtu=mtu)
        self.join = False
        self.loses: Callable[[], bool] = lambda: False

    def close(self) -> None:
        self.near.close()
        self.far.close()
        self.device.close()

    def turn(self) -> bool:
        """Moves what there is; whether there was anything."""
        wait = self.near.poll()
        out = self.device.take()
        for frame in out:
            if not self.loses():
                self.peer.receive(frame)
        other = self.far.poll()
        back = [frame for frame in self.peer.frames() if not self.loses()]
        for frame, header in joined(back) if self.join else [(frame, Header()) for frame in back]:
            self.device.give(frame, header)
        while not self.device.push():
            self.near.poll()
        if not out and not back:
            waits = [w for w in (wait, other) if w is not None]
            self.now += max(min(waits, default=0.0), 0.001)
        return bool(out or back)

    def connect(self, family: int) -> tuple[lwipy.TcpEndpoint, lwipy.TcpEndpoint]:
        listener, client = self.far.tcp(family), self.near.tcp(family)
        listener.bind(("", 80))
        listener.listen()
        client.connect((THEIRS[family], 80))
        while not listener.info.queued:
            self.turn()
        return client, listener.accept()

    def move(self, source: lwipy.TcpEndpoint, sink: lwipy.TcpEndpoint, data: bytes, read: int = 1 << 20) -> None:
        """Every byte, in order."""
        sent, got = 0, bytearray()
        while len(got) < len(data):
            assert self.now < 600
            try:
                while sent < len(data):
                    sent += source.send(data[sent : sent + (1 << 17)])
            except BlockingIOError:
                pass
            self.turn()
            try:
                got += sink.recv(read)
            except BlockingIOError:
                pass
        assert got == data


@pytest.fixture
def pair() -> Iterator[Pair]:
    with closing(Pair()) as pair:
        yield pair


def bytes_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- Out --------------------------------------------------------------------------------------------------------------


@FAMILIES
def test_segments_leave_in_bundles_that_the_device_cuts(pair: Pair, family: int) -> None:
    client, server = pair.connect(family)
    pair.move(client, server, bytes_of(MEGABYTE))
    assert pair.device.cut_into
    assert max(pair.device.cut_into) >= 40
    assert pair.far.statistics.tcp_chkerr == 0
    pair.move(server, client, bytes_of(MEGABYTE))
    assert pair.near.statistics.tcp_chkerr == 0


@pytest.mark.parametrize(
    ("offloads", "family", "bundles"),
    [(0, 4, False), (CSUM, 4, False), (CSUM, 6, False), (CSUM | TSO4, 4, True), (CSUM | TSO4, 6, False)],
)
def test_only_what_was_agreed_is_asked(offloads: int, family: int, bundles: bool) -> None:
    with closing(Pair(offloads)) as pair:
        client, server = pair.connect(family)
        pair.move(client, server, bytes_of(MEGABYTE // 4))
        assert bool(pair.device.cut_into) == bundles
        assert pair.far.statistics.tcp_chkerr == 0


@FAMILIES
@pytest.mark.parametrize("mtu", [1280, 576, 9000])
def test_the_pieces_are_as_long_as_the_peer_can_take(family: int, mtu: int) -> None:
    if family == 6 and mtu < 1280:
        mtu = 1400
    with closing(Pair(mtu=mtu)) as pair:
        client, server = pair.connect(family)
        pair.move(client, server, bytes_of(MEGABYTE // 4))
        assert pair.peer.counters.rx_malformed == 0
        assert client.info.mss <= min(mtu, 1500) - (40 if family == 4 else 60)


def test_a_peer_with_a_small_window_gets_no_more_than_it_has_room_for(pair: Pair) -> None:
    client, server = pair.connect(4)
    data, got = bytes_of(MEGABYTE // 4), bytearray()
    sent = 0
    while len(got) < len(data):
        try:
            sent += client.send(data[sent:])
        except BlockingIOError:
            pass
        pair.turn()
        try:
            got += server.recv(3000)
        except BlockingIOError:
            pass
    assert got == data
    assert pair.far.statistics.guard_tcp_window == 0


@FAMILIES
@pytest.mark.parametrize("seed", range(4))
def test_every_byte_arrives_though_frames_are_lost(pair: Pair, family: int, seed: int) -> None:
    client, server = pair.connect(family)
    chance = random.Random(seed)
    pair.loses = lambda: chance.random() < 0.02
    pair.join = family == 4
    pair.move(client, server, bytes_of(MEGABYTE, seed))
    pair.move(server, client, bytes_of(MEGABYTE // 2, seed))


def test_the_end_comes_once_and_last(pair: Pair) -> None:
    client, server = pair.connect(4)
    data = bytes_of(200_000)
    client.send(data)
    client.shutdown(write=True)
    got = bytearray()
    while True:
        pair.turn()
        try:
            part = server.recv(1 << 20)
        except BlockingIOError:
            continue
        if not part:
            break
        got += part
    assert got == data
    assert max(pair.device.cut_into) > 1


def test_a_device_that_takes_nothing_for_a_while_costs_nothing(pair: Pair) -> None:
    """The socket pair holds little: what it refuses waits in the link's queue, whole."""
    client, server = pair.connect(4)
    data = bytes_of(MEGABYTE)
    sent = client.send(data[: 1 << 18])
    for _ in range(20):
        pair.near.poll()
    got = bytearray()
    while len(got) < sent:
        pair.turn()
        try:
            got += server.recv(1 << 20)
        except BlockingIOError:
            pass
    assert got == data[:sent]


def test_datagrams_keep_their_own_sums(pair: Pair) -> None:
    with closing(pair.near.udp()) as here, closing(pair.far.udp()) as there:
        there.bind(("", 9))
        for size in (0, 1, 1472, 5000):
            here.send(bytes_of(size), ("10.0.0.2", 9))
            for _ in range(6):
                pair.turn()
            assert there.receive().data == bytes_of(size)
    assert pair.far.statistics.udp_chkerr == 0


def test_connections_to_oneself_need_no_device(pair: Pair) -> None:
    listener, client = pair.near.tcp(), pair.near.tcp()
    listener.bind(("", 80))
    listener.listen()
    client.connect(("10.0.0.1", 80))
    for _ in range(10):
        pair.turn()
    server = listener.accept()
    client.send(b"to myself")
    for _ in range(10):
        pair.turn()
    assert server.recv(100) == b"to myself"
    assert pair.near.statistics.tcp_chkerr == 0


def test_a_capture_sees_real_frames(pair: Pair, tmp_path: object) -> None:
    """A stage ends the offload, also of connections that are there, and its end brings it back."""
    client, server = pair.connect(4)
    pair.move(client, server, bytes_of(MEGABYTE // 8))
    before = len(pair.device.cut_into)
    assert before
    capture = pair.nic.capture(f"{tmp_path}/frames.pcap")
    pair.move(client, server, bytes_of(MEGABYTE // 8))
    assert len(pair.device.cut_into) == before
    assert pair.far.statistics.tcp_chkerr == 0
    capture.stop()
    pair.move(client, server, bytes_of(MEGABYTE // 8))
    assert len(pair.device.cut_into) > before


# -- In ---------------------------------------------------------------------------------------------------------------


def test_long_frames_are_one_segment_each(pair: Pair) -> None:
    client, server = pair.connect(4)
    pair.join = True
    data = bytes_of(MEGABYTE)
    before = pair.nic.counters.rx_frames
    pair.move(server, client, data)
    assert pair.nic.counters.rx_frames - before < MEGABYTE // 1460
    assert pair.nic.counters.rx_offload == 0
    assert pair.near.statistics.tcp_chkerr == 0


def test_what_is_read_at_last_gives_all_memory_back(pair: Pair) -> None:
    client, server = pair.connect(4)
    pair.join = True
    pair.move(server, client, bytes_of(MEGABYTE))
    used = pair.near.statistics.memory_used
    for _ in range(3):
        pair.move(server, client, bytes_of(MEGABYTE))
    assert pair.near.statistics.memory_used <= used + 4096


def udp_frame(payload: bytes, port: int = 9, partial: bool = False) -> bytes:
    """To our 10.0.0.1, from the far stack's addresses."""
    length = 8 + len(payload)
    addresses = socket.inet_aton("10.0.0.2") + socket.inet_aton("10.0.0.1")
    pseudo = addresses + struct.pack("!HH", 17, length)
    udp = struct.pack("!HHHH", 1000, port, length, 0)
    value = total(pseudo) if partial else ~total(pseudo + udp + payload) & 0xFFFF
    udp = struct.pack("!HHHH", 1000, port, length, value)
    ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + addresses)
    struct.pack_into("!H", ip, 10, ~total(bytes(ip)) & 0xFFFF)
    return bytes.fromhex("020000000001020000000002 0800") + bytes(ip) + udp + payload


UDP_CSUM = Header(NEEDS_CSUM, NONE, 0, 0, 34, 6)


def test_sums_that_are_not_there_yet_are_not_missed(pair: Pair) -> None:
    with closing(pair.near.udp()) as here:
        here.bind(("", 9))
        pair.device.give(udp_frame(b"partial", partial=True), UDP_CSUM)
        pair.near.poll()
        assert here.receive().data == b"partial"
        pair.device.give(udp_frame(b"partial", partial=True))
        pair.near.poll()
        with pytest.raises(BlockingIOError):
            here.receive()
        assert pair.near.statistics.udp_chkerr == 1
        pair.device.give(udp_frame(b"whatever", partial=True), Header(DATA_VALID))
        pair.near.poll()
        assert here.receive().data == b"whatever"
        # Trust ends with the frame it was given to.
        pair.device.give(udp_frame(b"partial", partial=True))
        pair.near.poll()
        assert pair.near.statistics.udp_chkerr == 2


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
def test_a_header_that_lies_costs_its_frame_and_is_counted(pair: Pair, header: Header, frame: bytes) -> None:
    before = pair.nic.counters.rx_offload
    pair.device.give(frame, header)
    pair.near.poll()
    assert pair.nic.counters.rx_offload == before + 1
    assert pair.nic.link_up


def test_less_than_a_header_is_counted(pair: Pair) -> None:
    pair.device.wire.send(b"\0" * 9)
    pair.near.poll()
    assert pair.nic.counters.rx_offload == 1


@pytest.mark.parametrize("size", [65535 - 40 + 1, 66000, 100_000])
def test_what_is_longer_than_ip_allows_is_dropped(pair: Pair, size: int) -> None:
    pair.device.give(tcp_frame(size), GOOD4)
    pair.near.poll()
    counters = pair.nic.counters
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
    with closing(Pair()) as pair:
        listener = pair.near.tcp()
        listener.bind(("", 80))
        listener.listen()
        before = pair.near.statistics.memory_used
        for _ in range(3):
            pair.device.give(bytes(data), header)
            pair.near.poll()
        assert pair.nic.counters.rx_frames >= 2 or len(data) == 0
        assert pair.near.statistics.memory_used - before < 400_000


def test_headers_that_lie_in_mid_connection_do_not_disturb_it(pair: Pair) -> None:
    client, server = pair.connect(4)
    chance = random.Random(7)
    give = pair.device.give

    def lying(frame: bytes, header: Header = Header()) -> None:  # noqa: B008
        if chance.random() < 0.1:
            header = header._replace(gso_type=chance.choice([0, 1, 3, 4, 99]), csum_start=chance.randrange(65536))
        give(frame, header)

    pair.device.give = lying  # type: ignore[method-assign]
    pair.join = True
    pair.move(server, client, bytes_of(MEGABYTE // 2))


def test_a_device_that_ends_takes_the_link_down_once(pair: Pair) -> None:
    client, _ = pair.connect(4)
    pair.device.wire.close()
    for _ in range(5):
        pair.near.poll()
        pair.now += 1
    assert len(pair.link.lost) == 1
    assert not pair.nic.link_up
    assert client.send(b"into the void") == 13
