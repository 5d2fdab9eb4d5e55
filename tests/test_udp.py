"""UDP and raw endpoints: two stacks on a wire in virtual time."""

from __future__ import annotations

import errno
import random

import pytest
from conftest import Pair

from lwipy import Event, Option
from lwipy.endpoints.udp import LONGEST_DATAGRAM, LONGEST_DATAGRAM6

FAMILIES = pytest.mark.parametrize(("family", "host"), [(4, "10.0.0.1"), (6, "fd00::1")])


@FAMILIES
@pytest.mark.parametrize("size", [0, 1, 1460, 1461, 1472, 1473, 9000, LONGEST_DATAGRAM6, LONGEST_DATAGRAM])
def test_datagrams_of_every_size_arrive_whole_both_ways(hosts: Pair, family: int, host: str, size: int) -> None:
    assert hosts.time is not None
    if family == 6:
        size = min(size, LONGEST_DATAGRAM6)
    server, client = hosts.a.udp(family), hosts.b.udp(family)
    server.bind(("", 7))
    data = random.Random(size).randbytes(size)
    client.send(data, (host, 7))
    hosts.time.run(lambda: Event.READABLE in server.ready())
    datagram = server.receive()
    assert datagram.data == data
    assert datagram.destination == (host, 7)
    assert datagram.interface is hosts.nic_a
    server.send(datagram.data, datagram.source)
    hosts.time.run(lambda: Event.READABLE in client.ready())
    assert client.receive().data == data


@pytest.mark.parametrize(
    ("family", "host", "most"), [(4, "10.0.0.1", LONGEST_DATAGRAM), (6, "fd00::1", LONGEST_DATAGRAM6)]
)
def test_one_byte_too_many_is_emsgsize(hosts: Pair, family: int, host: str, most: int) -> None:
    with pytest.raises(OSError, match="Message too long") as info:
        hosts.b.udp(family).send(bytes(most + 1), (host, 7))
    assert info.value.errno == errno.EMSGSIZE


def test_a_connected_endpoint_hears_its_peer_only(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client, stranger = hosts.a.udp(), hosts.b.udp(), hosts.b.udp()
    server.bind(("", 7))
    client.bind(("", 1000))
    server.connect(("10.0.0.2", 1000))
    stranger.send(b"stranger", ("10.0.0.1", 7))
    client.send(b"friend", ("10.0.0.1", 7))
    hosts.time.run(limit=0.1)
    assert server.receive().data == b"friend"
    with pytest.raises(BlockingIOError):
        server.receive()
    server.send(b"back")
    hosts.time.run(limit=0.1)
    assert client.receive().data == b"back"


def test_sending_nowhere_needs_an_address(hosts: Pair) -> None:
    with pytest.raises(OSError, match="not connected") as info:
        hosts.a.udp().send(b"x")
    assert info.value.errno == errno.EDESTADDRREQ


def test_broadcast_needs_leave(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(), hosts.b.udp()
    server.bind(("", 7))
    with pytest.raises(PermissionError):
        client.send(b"x", ("10.0.0.255", 7))
    client.broadcast = True
    client.send(b"x", ("10.0.0.255", 7))
    client.send(b"y", ("255.255.255.255", 7), interface=hosts.nic_b)
    hosts.time.run(limit=0.1)
    assert [server.receive().destination[0] for _ in range(2)] == ["10.0.0.255", "255.255.255.255"]


def test_a_full_queue_drops_and_counts(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(), hosts.b.udp()
    server.bind(("", 7))
    server.set_option(Option.RCVBUF, 10_000)
    for _ in range(20):
        client.send(bytes(1000), ("10.0.0.1", 7))
    hosts.time.run(limit=0.1)
    dropped = hosts.a.statistics.udp_queue_full
    assert dropped > 0
    received = 0
    while Event.READABLE in server.ready():
        server.receive()
        received += 1
    assert received + dropped == 20


def test_a_datagram_is_cut_where_the_buffer_ends(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(), hosts.b.udp()
    server.bind(("", 7))
    client.send(b"0123456789", ("10.0.0.1", 7))
    hosts.time.run(limit=0.1)
    assert server.receive(4, peek=True).data == b"0123"
    cut = server.receive(4)
    assert cut.data == b"0123"
    assert cut.truncated


def test_the_source_address_can_be_chosen(hosts: Pair) -> None:
    assert hosts.time is not None
    hosts.nic_b.add_ipv6("fd00::22/64")
    server, client = hosts.a.udp(6), hosts.b.udp(6)
    server.bind(("", 7))
    client.send(b"x", ("fd00::1", 7), source="fd00::22")
    hosts.time.run(limit=0.1)
    assert server.receive().source[0] == "fd00::22"


def test_link_local_addresses_carry_their_interface(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = hosts.a.udp(6), hosts.b.udp(6)
    server.bind(("", 7))
    link_local = str(hosts.nic_a.ipv6[0].ip)
    client.send(b"x", (f"{link_local}%b0", 7))
    hosts.time.run(limit=5)
    source = server.receive().source[0]
    assert source.startswith("fe80::")
    assert source.endswith(f"%{hosts.nic_a.number}")


@pytest.mark.parametrize(("family", "group"), [(4, "239.1.2.3"), (6, "ff02::1234")])
def test_groups_are_heard_by_those_who_joined(hosts: Pair, family: int, group: str) -> None:
    assert hosts.time is not None
    member, client = hosts.a.udp(family), hosts.b.udp(family)
    member.bind(("", 7))
    client.send(b"before", (group, 7), interface=hosts.nic_b)
    hosts.time.run(limit=0.1)
    member.join(group, hosts.nic_a)
    hosts.time.run(limit=1)
    client.send(b"after", (group, 7), interface=hosts.nic_b)
    hosts.time.run(limit=0.1)
    assert member.receive().data == b"after"
    member.leave(group, hosts.nic_a)
    with pytest.raises(OSError, match=r"assign|not available") as info:
        member.leave(group, hosts.nic_a)
    assert info.value.errno == errno.EADDRNOTAVAIL


def test_two_may_share_a_port_only_if_both_agree(hosts: Pair) -> None:
    first, second, third = hosts.a.udp(), hosts.a.udp(), hosts.a.udp()
    first.bind(("", 7), reuse=True)
    with pytest.raises(OSError, match=":7") as info:
        second.bind(("", 7))
    assert info.value.errno == errno.EADDRINUSE
    third.bind(("", 7), reuse=True)


@pytest.mark.parametrize(("family", "group"), [(4, "239.1.2.3"), (6, "ff02::1234"), (4, "10.0.0.255")])
@pytest.mark.parametrize("size", [1, 100, 1400, 9000, 60_000])
def test_what_is_for_several_reaches_all_who_share_a_port(hosts: Pair, family: int, group: str, size: int) -> None:
    """Each has a copy of its own, whatever its size. udp_input() with SO_REUSE_RXTOALL."""
    assert hosts.time is not None
    members, client = [hosts.a.udp(family) for _ in range(3)], hosts.b.udp(family)
    for member in members:
        member.bind(("", 7), reuse=True)
        member.broadcast = True
        if not group.endswith("255"):
            member.join(group, hosts.nic_a)
    client.broadcast = True
    hosts.time.run(limit=1)
    data = random.Random(size).randbytes(size)
    client.send(data, (group, 7), interface=hosts.nic_b)
    hosts.time.run(limit=0.1)
    assert [member.receive().data for member in members] == [data] * 3


def test_raw_endpoints_see_what_the_stack_answers(hosts: Pair) -> None:
    """An ICMP echo by hand: the reply comes with its IPv4 header, as on the kernel's raw sockets."""
    assert hosts.time is not None
    raw = hosts.b.raw(1)
    echo = bytes.fromhex("0800 f7fd 0001 0001")
    raw.send(echo, ("10.0.0.1", 0))
    hosts.time.run(lambda: Event.READABLE in raw.ready(), limit=1)
    packet = raw.receive().data
    assert packet[0] == 0x45
    assert packet[20] == 0
    assert packet[24:28] == echo[4:]
