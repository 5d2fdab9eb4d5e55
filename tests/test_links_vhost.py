"""VhostUser, with a test in QEMU's place: a guest's rings, and what it may say in them."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import vhost_master as vm
from links import arp_request, is_arp_reply
from vhost_master import FROM_GUEST, GUEST, INDIRECT, NEXT, ROOM, SIZE, TO_GUEST, WRITE, Master
from vhost_pair import VhostPair
from vnet_device import Header, bytes_of, total

import lwipy
from lwipy.links import VhostUser

MEGABYTE = 1 << 20


@pytest.fixture
def pair(path: str) -> Iterator[VhostPair]:
    with closing(VhostPair(path)) as pair:
        yield pair


# -- Frames -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("join", [False, True], ids=["cut", "long"])
@pytest.mark.parametrize("without", [0, vm.EVENT_IDX, vm.OFFLOADS, vm.PROTOCOL_FEATURES])
def test_a_megabyte_each_way(path: str, without: int, join: bool) -> None:
    with closing(VhostPair(path, vm.ALL & ~without)) as pair:
        pair.join = join and without != vm.OFFLOADS
        for family in (4, 6):
            client, server = pair.connect(family)
            pair.move(client, server, bytes_of(MEGABYTE))
            assert bool(pair.device.cut_into) == (without != vm.OFFLOADS)
            pair.move(server, client, bytes_of(MEGABYTE, 2))
        counters = pair.nic.counters
        assert counters.rx_offload == counters.rx_malformed == counters.tx_error == counters.tx_full == 0
        assert pair.far.statistics.tcp_chkerr == pair.near.statistics.tcp_chkerr == 0


def test_a_legacy_guest_has_shorter_headers(path: str) -> None:
    features = vm.CSUM | vm.GUEST_CSUM
    with closing(VhostPair(path, features)) as pair:
        assert pair.device.header == 10
        client, server = pair.connect(4)
        pair.move(client, server, bytes_of(MEGABYTE // 4))
        pair.move(server, client, bytes_of(MEGABYTE // 4))


def test_every_byte_arrives_though_frames_are_lost(pair: VhostPair) -> None:
    chance = random.Random(5)
    client, server = pair.connect(4)
    pair.join = True
    pair.loses = lambda: chance.random() < 0.01
    pair.move(client, server, bytes_of(MEGABYTE))
    pair.move(server, client, bytes_of(MEGABYTE, 2))


def test_a_capture_sees_real_frames_of_a_guest_that_does_not_cut(pair: VhostPair, tmp_path: Path) -> None:
    client, server = pair.connect(4)
    pair.join = True
    with pair.nic.capture(tmp_path / "frames.pcap"):
        pair.move(server, client, bytes_of(MEGABYTE))
        pair.move(client, server, bytes_of(MEGABYTE, 2))
    assert pair.near.statistics.tcp_chkerr == 0
    data, at, seen = (tmp_path / "frames.pcap").read_bytes(), 24, 0
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        frame = data[at + 16 : at + 16 + length]
        assert length <= 1514
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            (size,) = struct.unpack_from("!H", frame, 16)
            assert total(frame[14:34]) == 0xFFFF
            assert total(frame[26:34] + struct.pack("!HH", 6, size - 20) + frame[34 : 14 + size]) == 0xFFFF
            seen += 1
        at += 16 + length
    assert seen > MEGABYTE // 1460


def test_frames_wait_for_a_guest_without_buffers(path: str) -> None:
    with closing(VhostPair(path, buffers=0)) as pair:
        pair.device.give(arp_request("10.0.0.1"))
        pair.near.poll()
        assert pair.device.used(TO_GUEST) == []
        assert pair.device.kicked[TO_GUEST] == 0
        for number in range(8):
            pair.device.offer(number)
        assert pair.device.kicked[TO_GUEST] == 1
        pair.near.poll()
        assert any(is_arp_reply(frame) for frame in pair.device.take())


def test_a_frame_that_no_buffer_of_the_guest_can_have_is_counted(path: str) -> None:
    with closing(VhostPair(path, vm.ALL & ~(vm.MRG_RXBUF | vm.OFFLOADS), buffers=0)) as pair:
        pair.device.descriptor(TO_GUEST, 0, GUEST + pair.device.buffer(TO_GUEST, 0), 20, WRITE)
        pair.device.publish(TO_GUEST, 0)
        pair.device.give(arp_request("10.0.0.1"))
        pair.near.poll()
        assert pair.nic.counters.tx_error > 0
        assert pair.nic.link_up


def test_the_guest_is_told_when_it_wants_to_be(pair: VhostPair) -> None:
    pair.device.take()
    pair.device.called(TO_GUEST)
    pair.device.used(FROM_GUEST)
    pair.device.called(FROM_GUEST)
    pair.arp()
    assert pair.device.called(TO_GUEST)
    assert pair.device.called(FROM_GUEST)
    # Not looked at meanwhile, so the index at which it wants to be told lies behind.
    pair.device.used(TO_GUEST)
    for _ in range(3):
        pair.device.give(arp_request("10.0.0.1"))
        pair.near.poll()
    assert pair.device.called(TO_GUEST)
    pair.device.give(arp_request("10.0.0.1"))
    pair.near.poll()
    assert not pair.device.called(TO_GUEST)


def test_a_guest_that_sends_all_the_time_need_not_kick(pair: VhostPair) -> None:
    pair.arp()
    before = pair.device.kicked[FROM_GUEST]
    for _ in range(20):
        pair.device.give(arp_request("10.0.0.1"))
    assert pair.device.kicked[FROM_GUEST] == before + 1


def test_a_burst_of_many_batches_is_taken_without_another_kick(host: lwipy.Stack, path: str) -> None:
    """In the driver's thread: what a batch leaves is served without being told again."""
    from links import eventually

    nic = host.add_interface(VhostUser(path), ipv4="10.0.0.1/24")
    with closing(Master(path, lambda: None)) as master:
        master.start()
        for _ in range(500):
            master.waiting.append(bytes(12) + arp_request("10.0.0.1"))
        eventually(lambda: (master.push(), master.take(), nic.counters.rx_frames == 500)[2])


# -- A guest that lies ------------------------------------------------------------------------------------------------


def from_guest(master: Master, *descriptors: tuple[int, int, int, int]) -> None:
    for number, (address, length, flags, following) in enumerate(descriptors):
        master.descriptor(FROM_GUEST, number, address, length, flags, following)
    master.publish(FROM_GUEST, 0)


def jumps(master: Master, ring: int) -> None:
    struct.pack_into("<H", master.memory, ring * vm.PART + vm.AVAILABLE + 2, master.index[ring] + SIZE + 1 & 0xFFFF)


INSIDE = GUEST + vm.BUFFERS
LIES: dict[str, Callable[[Master], None]] = {
    "an address below the memory": lambda m: from_guest(m, (0, 100, 0, 0)),
    "an address above it": lambda m: from_guest(m, (GUEST + vm.MEMORY, 100, 0, 0)),
    "an end above it": lambda m: from_guest(m, (GUEST + vm.MEMORY - 10, 100, 0, 0)),
    "an address that wraps": lambda m: from_guest(m, (2**64 - 4, 100, 0, 0)),
    "the longest length": lambda m: from_guest(m, (INSIDE, 2**32 - 1, 0, 0)),
    "a chain to itself": lambda m: from_guest(m, (INSIDE, 1, NEXT, 0)),
    "a chain in a circle": lambda m: from_guest(m, (INSIDE, 0, NEXT, 1), (INSIDE, 0, NEXT, 0)),
    "a next beyond the ring": lambda m: from_guest(m, (INSIDE, 10, NEXT, SIZE)),
    "the farthest next": lambda m: from_guest(m, (INSIDE, 10, NEXT, 0xFFFF)),
    "a head beyond the ring": lambda m: m.publish(FROM_GUEST, SIZE),
    "the farthest head": lambda m: m.publish(FROM_GUEST, 0xFFFF),
    "an indirect table": lambda m: from_guest(m, (INSIDE, 16, INDIRECT, 0)),
    "a buffer to write to": lambda m: from_guest(m, (INSIDE, 100, WRITE, 0)),
    "an index that jumps": lambda m: jumps(m, FROM_GUEST),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_ring_that_lies_ends_the_link(pair: VhostPair, lie: str, caplog: pytest.LogCaptureFixture) -> None:
    LIES[lie](pair.device)
    pair.device.kick(FROM_GUEST)
    for _ in range(3):
        pair.near.poll()
    assert not pair.nic.link_up
    (reason,) = pair.gone
    assert isinstance(reason, OSError)
    assert reason.errno == errno.EBADMSG
    assert "cannot be trusted" in caplog.text
    assert pair.device.ended()


TO_GUEST_LIES: dict[str, Callable[[Master], None]] = {
    "a buffer that is not in memory": lambda m: m.descriptor(TO_GUEST, 0, 0, ROOM, WRITE),
    "a buffer that ends outside": lambda m: m.descriptor(TO_GUEST, 0, GUEST + vm.MEMORY - 8, ROOM, WRITE),
    "a buffer to read": lambda m: m.descriptor(TO_GUEST, 0, INSIDE, ROOM, 0),
    "a chain in a circle": lambda m: m.descriptor(TO_GUEST, 0, INSIDE, 1, WRITE | NEXT, 0),
    "an index that jumps": lambda m: jumps(m, TO_GUEST),
}


@pytest.mark.parametrize("lie", TO_GUEST_LIES)
def test_so_does_one_for_frames_to_the_guest(path: str, lie: str) -> None:
    with closing(VhostPair(path, buffers=0)) as pair:
        pair.device.offer(0)
        TO_GUEST_LIES[lie](pair.device)
        pair.device.give(arp_request("10.0.0.1"))
        for _ in range(3):
            pair.near.poll()
        assert not pair.nic.link_up
        assert pair.gone[0] is not None
        assert pair.gone[0].errno == errno.EBADMSG


@pytest.mark.parametrize("size", [0, 1, 11, 12, 12 + 70000])
def test_a_buffer_that_is_no_frame_is_counted(pair: VhostPair, size: int) -> None:
    pieces = [(INSIDE + i * ROOM, min(ROOM, size - i * ROOM)) for i in range(max(-(-size // ROOM), 1))]
    chain = [(at, length, NEXT, i + 1) for i, (at, length) in enumerate(pieces)]
    chain[-1] = (*chain[-1][:2], 0, 0)
    from_guest(pair.device, *chain)
    pair.near.poll()
    assert pair.nic.counters.rx_offload == 1
    assert pair.device.used(FROM_GUEST) == [(0, 0)]
    pair.device.free = list(range(40, SIZE))
    pair.arp()


@pytest.mark.parametrize(
    "header",
    [Header(4), Header(1, 0, 0, 0, 65535, 65535), Header(0, 1, 0, 1000), Header(1, 1, 54, 0, 34, 16), Header(1, 3)],
)
def test_a_header_that_lies_costs_its_frame(pair: VhostPair, header: Header) -> None:
    pair.device.give(arp_request("10.0.0.1"), header)
    pair.near.poll()
    assert pair.nic.counters.rx_offload == 1
    pair.arp()


def test_noise_in_the_rings_harms_nobody(path: str) -> None:
    for seed in range(60):
        noise = random.Random(seed)
        with closing(VhostPair(path)) as pair:
            for ring in (TO_GUEST, FROM_GUEST):
                for number in range(SIZE):
                    at = noise.choice([INSIDE, GUEST, GUEST + vm.MEMORY - 50, noise.getrandbits(64)])
                    length = noise.choice([0, 1, 60, 3000, noise.getrandbits(32)])
                    flags = noise.choice([0, 0, NEXT, WRITE, WRITE | NEXT, noise.getrandbits(16)])
                    pair.device.descriptor(ring, number, at, length, flags, noise.randrange(SIZE + 2))
                for _ in range(noise.randrange(SIZE)):
                    pair.device.publish(ring, noise.randrange(SIZE))
            for _ in range(3):
                pair.near.poll()
