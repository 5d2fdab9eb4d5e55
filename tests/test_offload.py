"""Devices with virtio-net headers: what the stack asks of them, what it believes of them, and what it does not."""

from __future__ import annotations

import random
import socket
from contextlib import closing

import pytest
from vnet_device import (
    CSUM,
    DATA_VALID,
    NEEDS_CSUM,
    NONE,
    TSO4,
    Header,
    OffloadPair,
    bytes_of,
    udp_frame,
)

MEGABYTE = 1 << 20
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
KIND = {4: socket.AF_INET, 6: socket.AF_INET6}


# -- Out --------------------------------------------------------------------------------------------------------------


@FAMILIES
def test_segments_leave_in_bundles_that_the_device_cuts(offload: OffloadPair, family: int) -> None:
    client, server = offload.connect(family)
    offload.move(client, server, bytes_of(MEGABYTE))
    assert offload.device.cut_into
    assert max(offload.device.cut_into) >= 40
    assert offload.far.statistics.tcp_chkerr == 0
    offload.move(server, client, bytes_of(MEGABYTE))
    assert offload.near.statistics.tcp_chkerr == 0


@pytest.mark.parametrize(
    ("offloads", "family", "bundles"),
    [(0, 4, False), (CSUM, 4, False), (CSUM, 6, False), (CSUM | TSO4, 4, True), (CSUM | TSO4, 6, False)],
)
def test_only_what_was_agreed_is_asked(offloads: int, family: int, bundles: bool) -> None:
    with closing(OffloadPair(offloads)) as offload:
        client, server = offload.connect(family)
        offload.move(client, server, bytes_of(MEGABYTE // 4))
        assert bool(offload.device.cut_into) == bundles
        assert offload.far.statistics.tcp_chkerr == 0


@FAMILIES
@pytest.mark.parametrize("mtu", [1280, 576, 9000])
def test_the_pieces_are_as_long_as_the_peer_can_take(family: int, mtu: int) -> None:
    if family == 6 and mtu < 1280:
        mtu = 1400
    with closing(OffloadPair(mtu=mtu)) as offload:
        client, server = offload.connect(family)
        offload.move(client, server, bytes_of(MEGABYTE // 4))
        assert offload.peer.counters.rx_malformed == 0
        assert client.info.mss <= min(mtu, 1500) - (40 if family == 4 else 60)


def test_a_peer_with_a_small_window_gets_no_more_than_it_has_room_for(offload: OffloadPair) -> None:
    client, server = offload.connect(4)
    data, got = bytes_of(MEGABYTE // 4), bytearray()
    sent = 0
    while len(got) < len(data):
        try:
            sent += client.send(data[sent:])
        except BlockingIOError:
            pass
        offload.turn()
        try:
            got += server.recv(3000)
        except BlockingIOError:
            pass
    assert got == data
    assert offload.far.statistics.guard_tcp_window == 0


@FAMILIES
@pytest.mark.parametrize("seed", range(4))
def test_every_byte_arrives_though_frames_are_lost(offload: OffloadPair, family: int, seed: int) -> None:
    client, server = offload.connect(family)
    chance = random.Random(seed)
    offload.loses = lambda: chance.random() < 0.02
    offload.join = family == 4
    offload.move(client, server, bytes_of(MEGABYTE, seed))
    offload.move(server, client, bytes_of(MEGABYTE // 2, seed))


def test_the_end_comes_once_and_last(offload: OffloadPair) -> None:
    client, server = offload.connect(4)
    data = bytes_of(200_000)
    client.send(data)
    client.shutdown(write=True)
    got = bytearray()
    while True:
        offload.turn()
        try:
            part = server.recv(1 << 20)
        except BlockingIOError:
            continue
        if not part:
            break
        got += part
    assert got == data
    assert max(offload.device.cut_into) > 1


def test_a_device_that_takes_nothing_for_a_while_costs_nothing(offload: OffloadPair) -> None:
    """The socket offload holds little: what it refuses waits in the link's queue, whole."""
    client, server = offload.connect(4)
    data = bytes_of(MEGABYTE)
    sent = client.send(data[: 1 << 18])
    for _ in range(20):
        offload.near.poll()
    got = bytearray()
    while len(got) < sent:
        offload.turn()
        try:
            got += server.recv(1 << 20)
        except BlockingIOError:
            pass
    assert got == data[:sent]


def test_datagrams_keep_their_own_sums(offload: OffloadPair) -> None:
    with closing(offload.near.udp()) as here, closing(offload.far.udp()) as there:
        there.bind(("", 9))
        for size in (0, 1, 1472, 5000):
            here.send(bytes_of(size), ("10.0.0.2", 9))
            for _ in range(6):
                offload.turn()
            assert there.receive().data == bytes_of(size)
    assert offload.far.statistics.udp_chkerr == 0


def test_connections_to_oneself_need_no_device(offload: OffloadPair) -> None:
    listener, client = offload.near.tcp(), offload.near.tcp()
    listener.bind(("", 80))
    listener.listen()
    client.connect(("10.0.0.1", 80))
    for _ in range(10):
        offload.turn()
    server = listener.accept()
    client.send(b"to myself")
    for _ in range(10):
        offload.turn()
    assert server.recv(100) == b"to myself"
    assert offload.near.statistics.tcp_chkerr == 0


def test_a_capture_sees_real_frames(offload: OffloadPair, tmp_path: object) -> None:
    """A stage ends the offload, also of connections that are there, and its end brings it back."""
    client, server = offload.connect(4)
    offload.move(client, server, bytes_of(MEGABYTE // 8))
    before = len(offload.device.cut_into)
    assert before
    capture = offload.nic.capture(f"{tmp_path}/frames.pcap")
    offload.move(client, server, bytes_of(MEGABYTE // 8))
    assert len(offload.device.cut_into) == before
    assert offload.far.statistics.tcp_chkerr == 0
    capture.stop()
    offload.move(client, server, bytes_of(MEGABYTE // 8))
    assert len(offload.device.cut_into) > before


# -- In ---------------------------------------------------------------------------------------------------------------


def test_long_frames_are_one_segment_each(offload: OffloadPair) -> None:
    client, server = offload.connect(4)
    offload.join = True
    data = bytes_of(MEGABYTE)
    before = offload.nic.counters.rx_frames
    offload.move(server, client, data)
    assert offload.nic.counters.rx_frames - before < MEGABYTE // 1460
    assert offload.nic.counters.rx_offload == 0
    assert offload.near.statistics.tcp_chkerr == 0


def test_what_is_read_at_last_gives_all_memory_back(offload: OffloadPair) -> None:
    client, server = offload.connect(4)
    offload.join = True
    offload.move(server, client, bytes_of(MEGABYTE))
    used = offload.near.statistics.memory_used
    for _ in range(3):
        offload.move(server, client, bytes_of(MEGABYTE))
    assert offload.near.statistics.memory_used <= used + 4096


@pytest.mark.parametrize("whole", [True, False])
def test_the_window_grows_for_a_kernel_that_leaves_segments_whole(offload: OffloadPair, whole: bool) -> None:
    """However near: it and we sleep in turn, and what is on its way has to last while one of us does."""

    def pass_on() -> bool:
        offload.now += 0.000_005
        return False

    offload.loses = pass_on  # the way is short, but there is one
    client, server = offload.connect(4)
    offload.join = whole
    for _ in range(6):
        offload.move(server, client, bytes_of(200_000))
    assert client.info.receive_buffer == (MEGABYTE if whole else MEGABYTE // 4)


UDP_CSUM = Header(NEEDS_CSUM, NONE, 0, 0, 34, 6)


def test_sums_that_are_not_there_yet_are_not_missed(offload: OffloadPair) -> None:
    with closing(offload.near.udp()) as here:
        here.bind(("", 9))
        offload.device.give(udp_frame(b"partial", partial=True), UDP_CSUM)
        offload.near.poll()
        assert here.receive().data == b"partial"
        offload.device.give(udp_frame(b"partial", partial=True))
        offload.near.poll()
        with pytest.raises(BlockingIOError):
            here.receive()
        assert offload.near.statistics.udp_chkerr == 1
        offload.device.give(udp_frame(b"whatever", partial=True), Header(DATA_VALID))
        offload.near.poll()
        assert here.receive().data == b"whatever"
        # Trust ends with the frame it was given to.
        offload.device.give(udp_frame(b"partial", partial=True))
        offload.near.poll()
        assert offload.near.statistics.udp_chkerr == 2


def test_a_device_that_ends_takes_the_link_down_once(offload: OffloadPair) -> None:
    client, _ = offload.connect(4)
    offload.device.wire.close()
    for _ in range(5):
        offload.near.poll()
        offload.now += 1
    assert len(offload.link.lost) == 1
    assert not offload.nic.link_up
    assert client.send(b"into the void") == 13
