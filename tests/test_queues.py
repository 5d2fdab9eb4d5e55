"""A group with a link for each stack: wherever a frame arrives, it reaches the stack that has its flow, no other."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from group_lab import FAMILIES, Lab, ask_datagrams, exchange, family_of
from links import arp_request, eventually, is_arp_reply
from queue_lab import WAYS, queued, spread

import lwipy
from lwipy import FastPath
from lwipy.blocking import ping
from lwipy.links import Impair, QemuDgram


@pytest.fixture(params=[FastPath(0), FastPath.LANES, ~FastPath(0)], ids=["on", "off", "plain"])
def without(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FastPath:
    chosen: FastPath = request.param
    monkeypatch.setattr(lwipy.Stack, "default_without", chosen)
    return chosen


@pytest.fixture(params=WAYS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    with queued(3, request.param, tmp_path) as lab:
        yield lab


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with queued(3, "chance", tmp_path) as lab:
        yield lab


# -- Flows -----------------------------------------------------------------------------------------------------------


@FAMILIES
def test_connections_inwards_reach_every_stack_and_stay_there(lab: Lab, ours: str, theirs: str) -> None:
    with lab.group.create_server((ours, 80), family=family_of(ours)) as listener, ExitStack() as open_ones:
        used: set[int] = set()
        while used != {0, 1, 2}:
            client = open_ones.enter_context(lab.peer.create_connection((ours, 80), timeout=30))
            server = open_ones.enter_context(listener.accept()[0])
            used.add(lab.stack_of(server))
            exchange(server, client)
    assert lab.nic.steering.full == 0
    assert lab.group.statistics.tcp_chkerr == lab.nic.counters.rx_offload == 0


@FAMILIES
def test_no_stack_resets_what_is_anothers(ours: str, theirs: str) -> None:
    dice = random.Random(3)
    with lwipy.StackGroup(3) as group, lwipy.Stack() as peer, ExitStack() as open_ones:
        nic = group.add_interface([None] * 3, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        single = peer.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64")
        resets = spread(nic, single, lambda: dice.randrange(3))
        listener = open_ones.enter_context(group.create_server((ours, 80), family=family_of(ours)))
        for _ in range(24):
            client = open_ones.enter_context(peer.create_connection((ours, 80), timeout=30))
            server = open_ones.enter_context(listener.accept()[0])
            for number in range(10):
                client.sendall(bytes([number]) * 3000)
                server.sendall(server.recv(3000, socket.MSG_WAITALL))
                assert client.recv(3000, socket.MSG_WAITALL) == bytes([number]) * 3000
        assert resets == []
        with pytest.raises(ConnectionRefusedError):
            peer.create_connection((ours, 81), timeout=30)
        assert resets
        steering = nic.steering
        assert (steering.full, steering.tcp_fragments) == (0, 0)


@FAMILIES
def test_connections_outwards_take_turns_and_their_answers_find_them(lab: Lab, ours: str, theirs: str) -> None:
    with lab.peer.create_server((theirs, 80), family=family_of(ours)) as listener, ExitStack() as open_ones:
        stacks = []
        for _ in range(6):
            client = open_ones.enter_context(lab.group.create_connection((theirs, 80), timeout=30))
            server = open_ones.enter_context(listener.accept()[0])
            stacks.append(lab.stack_of(client))
            exchange(client, server)
    assert sorted(stacks) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("way", WAYS)
def test_every_byte_arrives_on_bad_lines_with_and_without_the_fast_path(
    way: str, without: FastPath, tmp_path: Path
) -> None:
    with queued(2, way, tmp_path) as lab, lab.group.create_server(("10.0.0.1", 80)) as listener:
        for number, queue in enumerate(lab.nic.queues):
            queue.impair(loss=0.01, duplicate=0.02, reorder=0.05, seed=number + 1)
        for _ in range(2):
            with lab.peer.create_connection(("10.0.0.1", 80), timeout=60) as there, listener.accept()[0] as here:
                here.settimeout(60)
                exchange(here, there)


@FAMILIES
@pytest.mark.parametrize("size", [1, 1400, 9000])
def test_datagrams_come_to_one_socket_and_go_back_from_it(lab: Lab, ours: str, theirs: str, size: int) -> None:
    ask_datagrams(lab, ours, size, 12)
    assert (lab.nic.steering.fragments > 0) is (size > 1500)
    assert lab.nic.steering.pinned == 0


def test_a_flow_that_a_stack_began_by_itself_is_known_at_every_queue(lab: Lab) -> None:
    with lab.peer.socket(type=socket.SOCK_DGRAM) as server:
        server.settimeout(30)
        server.bind(("10.0.0.2", 53))
        for number in range(24):
            with closing(lwipy.Stack.udp(lab.group.stacks[number % 3])) as client:
                client.send(bytes([number]), ("10.0.0.2", 53))
                data, address = server.recvfrom(100)
                for _ in range(4):
                    server.sendto(data, address)
                for _ in range(4):
                    eventually(lambda client=client: bool(client.ready() & lwipy.Event.READABLE))  # type: ignore[misc]
                    assert client.receive().data == bytes([number])
    assert lab.nic.steering.pinned > 0


def test_pings_find_back_and_neighbours_are_known(lab: Lab) -> None:
    for host, stack in (("10.0.0.1", lab.peer), ("fd00::1", lab.peer), ("10.0.0.2", lab.group), ("fd00::2", lab.group)):
        assert ping(stack, host, timeout=30) >= 0
    steering = lab.nic.steering
    assert steering.to_all > 0
    assert steering.suppressed > 0


# -- The interface and its queues ------------------------------------------------------------------------------------


def test_what_is_set_is_set_at_every_queue_and_counters_are_the_sums(three: Lab) -> None:
    nic = three.nic
    nic.mtu = 1280
    nic.mac = "02:00:00:00:00:77"
    nic.add_ipv6("fd01::1/64")
    assert [(queue.mtu, queue.mac, queue.ipv4, queue.ipv6) for queue in nic.queues] == [
        (1280, "02:00:00:00:00:77", nic.ipv4, nic.ipv6)
    ] * 3
    assert [queue.stack for queue in nic.queues] == list(three.group.stacks)
    assert ping(three.peer, "10.0.0.1", timeout=30) >= 0
    assert nic.counters.rx_frames == sum(queue.counters.rx_frames for queue in nic.queues) > 0
    nic.link_up = False
    assert not any(queue.link_up for queue in nic.queues)
    nic.queues[1].link_up = True
    assert nic.link_up


def test_a_queue_without_a_wire_stops_its_own_stack_only() -> None:
    dice, wired = random.Random(5), [0, 1, 2]
    with lwipy.StackGroup(3) as group, lwipy.Stack() as peer, ExitStack() as open_ones:
        nic = group.add_interface([None] * 3, ipv4="10.0.0.1/24")
        spread(nic, peer.add_interface(ipv4="10.0.0.2/24"), lambda: dice.choice(wired))
        listener = open_ones.enter_context(group.create_server(("10.0.0.1", 80)))
        ends: dict[int, tuple[Any, Any]] = {}
        while len(ends) < 3:
            client = open_ones.enter_context(peer.create_connection(("10.0.0.1", 80), timeout=30))
            server = open_ones.enter_context(listener.accept()[0])
            ends[group.stacks.index(server._endpoint.stack)] = (server, client)
        wired.remove(1)
        nic.queues[1].link_up = False
        for number in (0, 2):
            exchange(*ends[number])
        server, client = ends[1]
        client.sendall(b"later")
        eventually(lambda: nic.queues[1].counters.rx_down > 0)
        wired.append(1)
        nic.queues[1].link_up = True
        server.settimeout(60)
        assert server.recv(10) == b"later"


def test_the_first_stack_with_a_wire_answers_for_all() -> None:
    with closing(lwipy.StackGroup(3)) as group:
        nic = group.add_interface([None] * 3, ipv4="10.0.0.1/24")
        for down, first in (([], 0), ([0], 1), ([0, 1], 2), ([1], 0)):
            for number, queue in enumerate(nic.queues):
                queue.link_up = number not in down
            for queue in nic.queues:
                group.poll()
                queue.frames()
            for asked in (2, first):
                if asked not in down:
                    nic.queues[asked].receive(arp_request("10.0.0.1"))
                    for _ in range(3):
                        group.poll()
                    answers = [[is_arp_reply(frame) for frame in queue.frames()].count(True) for queue in nic.queues]
                    assert answers == [int(number == first) for number in range(3)]


def test_frames_and_stages_are_at_the_queues(three: Lab, tmp_path: Path) -> None:
    nic = three.nic
    for forbidden in (
        lambda: nic.receive(bytes(60)),
        lambda: nic.receive_many([bytes(60)]),
        nic.frames,
        lambda: nic.frames_into(bytearray(2000), bytearray(8)),
        lambda: nic.impair(loss=0.1),
        lambda: nic.capture(tmp_path / "group.pcap"),
        lambda: setattr(nic, "pacing", lwipy.Pacing(burst=4, interval=0.001)),
        lambda: lwipy.wire(nic, three.peer.add_interface()),
    ):
        with pytest.raises(OSError, match="queue for each stack") as caught:
            forbidden()
        assert caught.value.errno == errno.EOPNOTSUPP
    captures = [queue.capture(tmp_path / f"{number}.pcap") for number, queue in enumerate(nic.queues)]
    assert ping(three.peer, "10.0.0.1", timeout=30) >= 0
    assert sum(capture.counters.frames for capture in captures) > 0


def test_a_link_may_be_wrapped(tmp_path: Path) -> None:
    ends = [(str(tmp_path / f"a{i}"), str(tmp_path / f"b{i}")) for i in range(2)]
    with lwipy.StackGroup(2) as group, lwipy.StackGroup(2) as peer:
        group.add_interface([Impair(QemuDgram(a, b), loss=0.02) for a, b in ends], ipv4="10.0.0.1/24")
        peer.add_interface([QemuDgram(b, a) for a, b in ends], ipv4="10.0.0.2/24")
        with group.create_server(("10.0.0.1", 80)) as listener:
            with peer.create_connection(("10.0.0.1", 80), timeout=60) as there, listener.accept()[0] as here:
                here.settimeout(60)
                exchange(here, there)


def test_wrong_links_are_named(tmp_path: Path) -> None:
    with closing(lwipy.StackGroup(2)) as group:
        with pytest.raises(ValueError, match="3 links for 2 stacks"):
            group.add_interface([None] * 3)
        with pytest.raises(TypeError, match="nonsense"):
            group.add_interface([None, "nonsense"])  # type: ignore[list-item]
        link = QemuDgram(str(tmp_path / "used"))
        group.add_interface([link, None])
        with pytest.raises(OSError, match="attached") as caught:
            group.add_interface([None, link])
        assert caught.value.errno == errno.EBUSY
        assert len(group.interfaces) == 1
        assert all(len(stack._interfaces) == 1 for stack in (*group.stacks, group._front))


def test_an_interface_can_go_and_another_come(three: Lab) -> None:
    three.nic.remove()
    nic = three.group.add_interface([None] * 3, ipv4="10.1.0.1/24", layer=3)
    for number, queue in enumerate(nic.queues):
        lwipy.wire(queue, three.peer.add_interface(ipv4=f"10.1.0.{number + 2}/24", layer=3))
    assert ping(three.group, "10.1.0.2", timeout=30) >= 0
    nic.remove()
    assert three.group.interfaces == {}
    assert all(stack._interfaces == {} for stack in three.group.stacks)


# -- The end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_stacks_may_be_closed_in_any_order_while_frames_arrive(order: tuple[int, ...], tmp_path: Path) -> None:
    with queued(3, "wires", tmp_path) as lab, ExitStack() as open_ones:
        listener = open_ones.enter_context(lab.group.create_server(("10.0.0.1", 80)))
        for _ in range(6):
            client = open_ones.enter_context(lab.peer.create_connection(("10.0.0.1", 80), timeout=30))
            open_ones.enter_context(listener.accept()[0])
            client.setblocking(False)
            client.send(bytes(100_000))
        for number in order:
            lab.group.stacks[number].close()
        lab.group.close()
        assert all(stack.closed for stack in lab.group.stacks)


@pytest.mark.parametrize("seed", range(4))
def test_hostile_frames_at_any_queue_harm_no_stack(seed: int) -> None:
    dice = random.Random(seed)
    with closing(lwipy.StackGroup(3)) as group:
        nic = group.add_interface([None] * 3, mac=b"\2\0\0\0\0\x0a", ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        heads = [b"\x08\0\x45", b"\x86\xdd\x60", b"\x08\x06\0", b"\x81\0\0\1\x08\0\x45"]
        for _ in range(2000):
            frame = bytearray(b"\2\0\0\0\0\x0a\2\0\0\0\0\x0b" + dice.choice(heads) + dice.randbytes(dice.randrange(90)))
            if len(frame) > 24 and dice.random() < 0.8:
                frame[23] = dice.choice([1, 2, 6, 17, 58])
            dice.choice(nic.queues).receive(frame[: dice.randrange(len(frame) + 1)])
        for _ in range(3):
            group.poll()
        steering, counters = nic.steering, nic.counters
        shared = steering.flows + steering.fragments + steering.to_all + steering.to_first + steering.tcp_fragments
        assert steering.full == 0
        assert 0 < shared + counters.rx_other <= counters.rx_frames == 2000
        for queue in nic.queues:
            queue.frames()
            queue.receive(arp_request("10.0.0.1"))
            for _ in range(3):
                group.poll()
            assert [is_arp_reply(frame) for other in nic.queues for frame in other.frames()].count(True) == 1
