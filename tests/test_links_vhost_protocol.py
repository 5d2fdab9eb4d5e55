"""vhost-user's control protocol, with a test in QEMU's place: what sets a guest's rings up, and what does not."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import vhost_master as vm
from descriptors import descriptors
from vhost_master import FROM_GUEST, GUEST, TO_GUEST, USER, Master
from vhost_pair import VhostPair, turns

import lwipy
from lwipy.links import VhostUser


@pytest.fixture
def pair(path: str) -> Iterator[VhostPair]:
    with closing(VhostPair(path)) as pair:
        yield pair


# -- Starting and stopping ---------------------------------------------------------------------------------------------


def test_the_driver_stops_and_starts_where_it_was(pair: VhostPair) -> None:
    for _ in range(3):
        pair.arp()
    assert pair.device.stop() == [(pair.device.seen[0]), 3]
    assert not pair.nic.link_up
    assert pair.gone == []
    pair.device.begin(TO_GUEST, base=pair.device.seen[0])
    pair.device.begin(FROM_GUEST, base=3)
    assert pair.nic.link_up
    pair.arp()


def test_a_reboot_starts_from_nothing(pair: VhostPair) -> None:
    pair.arp()
    pair.device.stop()
    pair.device.reset()
    pair.device.start()
    pair.arp()


def test_memory_may_be_told_anew_while_rings_run(pair: VhostPair) -> None:
    pair.arp()
    answer = pair.device.ask(
        vm.SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, GUEST, vm.MEMORY, USER, 0), [pair.device.file], flags=9
    )
    assert answer == bytes(8)
    pair.arp()


def test_a_ring_that_is_disabled_stands(pair: VhostPair) -> None:
    pair.device.say(vm.SET_ENABLE, struct.pack("<II", TO_GUEST, 0))
    assert not pair.nic.link_up
    pair.device.say(vm.SET_ENABLE, struct.pack("<II", TO_GUEST, 1))
    pair.arp()


def test_calls_may_go_elsewhere_or_nowhere(pair: VhostPair) -> None:
    other = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        pair.device.take()
        pair.device.called(TO_GUEST)
        pair.device.u64(vm.SET_CALL, TO_GUEST, [other])
        pair.arp()
        assert os.eventfd_read(other) > 0
        assert not pair.device.called(TO_GUEST)
        pair.device.u64(vm.SET_CALL, TO_GUEST | 1 << 8)
        pair.arp()
        with pytest.raises(BlockingIOError):
            os.eventfd_read(other)
    finally:
        os.close(other)


def test_a_master_that_goes_and_one_that_comes(pair: VhostPair) -> None:
    pair.arp()
    pair.device.close()
    pair.near.poll()
    assert not pair.nic.link_up
    assert pair.gone == [None]
    pair.device = Master(pair.path, pair.near_poll)
    pair.device.start()
    pair.arp()


def test_it_connects_to_a_master_that_listens(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener, closing(lwipy.Stack()) as stack:
        listener.bind(path)
        listener.listen()
        nic = stack.add_interface(VhostUser(path, listen=False), ipv4="10.0.0.1/24")
        with closing(Master.__new__(Master)) as master:
            connected = socket.socket(socket.AF_UNIX)
            connected.close()
            Master.__init__(master, path, turns(stack))
            master.wire.close()
            master.wire, _ = listener.accept()
            stack.poll()
            master.start()
            assert nic.link_up


def test_all_descriptors_and_memory_are_given_back(path: str) -> None:
    before = descriptors()
    for _ in range(3):
        with closing(VhostPair(path)) as pair:
            pair.arp()
            pair.device.stop()
            pair.device.begin(TO_GUEST, base=pair.device.seen[0])
            pair.device.begin(FROM_GUEST, base=1)
    assert descriptors() <= before
    assert "memfd:guest" not in Path("/proc/self/maps").read_text()


def message(request: int, shape: str = "", *values: int) -> Callable[[Master], None]:
    return lambda master: master.say(request, struct.pack("<" + shape, *values))


def with_pipe(request: int) -> Callable[[Master], None]:
    def run(master: Master) -> None:
        ends = os.pipe()
        master.u64(request, 0, list(ends[:1]))
        for end in ends:
            os.close(end)

    return run


def crowd(master: Master) -> None:
    """More descriptors than a message has, in two parts of it."""
    for part in (b"\x03\0\0\0", b"\x01\0\0\0"):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("8i", *[master.file] * 8))
        master.wire.sendmsg([part], [rights])
        master.turn()


NONSENSE: dict[str, Callable[[Master], object]] = {
    "no header": lambda m: m.wire.send(b"GET / HTTP/1.1\r\n\r\n"),
    "a version to come": lambda m: m.say(vm.GET_FEATURES, flags=2),
    "an answer": lambda m: m.say(vm.GET_FEATURES, flags=5),
    "a long payload": lambda m: m.wire.send(struct.pack("<III", vm.SET_OWNER, 1, 1 << 30)),
    "an unknown request": message(99),
    "a log": message(6, "QQ", 0, 0),
    "features not offered": message(vm.SET_FEATURES, "Q", 1 << 34),
    "features of the protocol not offered": message(vm.SET_PROTOCOL, "Q", 1),
    "a short payload": message(vm.SET_FEATURES, "I", 0),
    "a third ring": message(vm.SET_NUM, "II", 2, 64),
    "the farthest ring": message(vm.GET_BASE, "II", 0xFFFFFFFF, 0),
    "a kick without a descriptor": message(vm.SET_KICK, "Q", 0),
    "a ring to be polled": message(vm.SET_KICK, "Q", 1 << 8),
    "a pipe for kicks": with_pipe(vm.SET_KICK),
    "a pipe for calls": with_pipe(vm.SET_CALL),
    "no memory": message(vm.SET_MEM_TABLE, "II", 0, 0),
    "memory without descriptors": message(vm.SET_MEM_TABLE, "IIQQQQ", 1, 0, 0, 4096, 0, 0),
    "more regions than there are": message(vm.SET_MEM_TABLE, "IIQQQQ", 8, 0, 0, 4096, 0, 0),
    "too many regions": message(vm.SET_MEM_TABLE, "II" + "QQQQ" * 9, 9, 0, *[0] * 36),
    "descriptors nobody asked for": crowd,
}


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_a_master_that_makes_no_sense_is_left(path: str, nonsense: str) -> None:
    before = descriptors()
    with closing(VhostPair(path, start=False)) as pair:
        pair.near.poll()
        NONSENSE[nonsense](pair.device)
        assert pair.device.ended()
        assert isinstance(pair.gone[0], OSError)
        pair.device.close()
        pair.device = Master(path, pair.near_poll)
        pair.device.start()
        pair.arp()
    assert descriptors() <= before


SETUPS: dict[str, dict[str, int]] = {
    "a ring of no size": {"size": 0},
    "a size that is no power of two": {"size": 48},
    "a large size": {"size": 65536},
    "a ring outside of the memory": {"at": USER + vm.MEMORY},
    "a ring that ends outside": {"at": USER + vm.MEMORY - vm.PART - 0x1010},
    "an address that wraps": {"at": 2**64 - 2 * vm.PART},
    "descriptors that are not aligned": {"at": USER + 8},
}


@pytest.mark.parametrize("wrong", SETUPS)
def test_rings_that_cannot_be_are_refused(path: str, wrong: str) -> None:
    with closing(VhostPair(path, start=False)) as pair:
        pair.device.greet()
        pair.device.share()
        pair.device.begin(TO_GUEST)
        try:
            pair.device.begin(FROM_GUEST, **SETUPS[wrong])
        except BrokenPipeError:
            pass
        pair.near.poll()
        assert not pair.nic.link_up
        assert (pair.gone == []) == (wrong == "a ring of no size")


@pytest.mark.parametrize(
    "region", [{"size": vm.MEMORY + 1}, {"offset": 4096}, {"size": 2**64 - 1}, {"offset": 2**64 - 4096}, {"size": 0}]
)
def test_memory_beyond_its_file_is_refused(path: str, region: dict[str, int]) -> None:
    with closing(VhostPair(path, start=False)) as pair:
        pair.device.greet()
        pair.device.share(**region)
        pair.device.begin(TO_GUEST)
        try:
            pair.device.begin(FROM_GUEST)
        except BrokenPipeError:
            pass
        assert pair.device.ended()
        assert not pair.nic.link_up


@pytest.mark.parametrize("sealed", [True, False])
def test_memory_that_could_be_truncated_is_taken_only_if_the_user_says_so(path: str, sealed: bool) -> None:
    with closing(lwipy.Stack()) as stack:
        nic = stack.add_interface(VhostUser(path, sealed=sealed), ipv4="10.0.0.1/24")
        with closing(Master(path, turns(stack), seals=fcntl.F_SEAL_SEAL)) as master:
            if sealed:
                with pytest.raises((BrokenPipeError, ConnectionResetError, AssertionError)):
                    master.start()
                assert not nic.link_up
            else:
                master.start()
                assert nic.link_up


def test_memory_that_is_not_sealed_yet_is_sealed(path: str) -> None:
    with closing(lwipy.Stack()) as stack:
        stack.add_interface(VhostUser(path), ipv4="10.0.0.1/24")
        with closing(Master(path, turns(stack), seals=0)) as master:
            master.start()
            with pytest.raises(PermissionError):
                os.ftruncate(master.file, 0)


# -- Words ------------------------------------------------------------------------------------------------------------


def test_what_qemu_is_started_with(path: str) -> None:
    with closing(lwipy.Stack()) as stack:
        link = VhostUser(path)
        stack.add_interface(link, ipv4="10.0.0.1/24")
        words = link.qemu_arguments(memory="192M")
        assert "-netdev vhost-user,id=net0,chardev=" in words
        assert f"path={path}" in words
        assert "memory-backend-memfd,id=ram0,size=192M,share=on" in words
        with pytest.raises(ValueError, match="legacy"):
            link.netdev(legacy=True)


def test_offloads_can_be_left_out(path: str) -> None:
    with closing(lwipy.Stack()) as stack:
        stack.add_interface(VhostUser(path, offload=False), ipv4="10.0.0.1/24")
        with closing(Master(path, turns(stack))) as master:
            master.greet()
            assert master.features & vm.OFFLOADS == 0
