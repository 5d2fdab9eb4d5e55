"""Options and ancillary data: what the kernel's sockets have, by the same names and with the same errors."""

from __future__ import annotations

import errno
import socket
import struct
from typing import cast

import pytest
from conftest import Pair
from scapy.all import IP, Ether, IPv6

import lwipy
from lwipy.blocking import Socket

IP_PKTINFO = 8  # the socket module has no name for it before 3.14
GROUP, GROUP6 = "224.5.6.7", "ff02::4567"


@pytest.fixture
def alone() -> lwipy.Stack:
    """A stack whose frames the test takes."""
    time = [1000.0]
    stack = lwipy.Stack(clock=lambda: time[0])
    stack.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64", name="eth0")
    stack.poll()
    return stack


def messages(stack: lwipy.Stack) -> list[tuple[int, str]]:
    """Type and group of each IGMP and MLD message that the stack has sent since it was last asked."""
    found = []
    for frame in stack.interfaces["eth0"].frames():
        packet = Ether(frame)
        if IP in packet and packet[IP].proto == socket.IPPROTO_IGMP:
            payload = bytes(packet[IP].payload)
            found.append((payload[0], socket.inet_ntoa(payload[4:8])))
        elif IPv6 in packet and packet[IPv6].nh == socket.IPPROTO_HOPOPTS:
            payload = bytes(packet[IPv6])[48:]
            found.append((payload[0], socket.inet_ntop(socket.AF_INET6, payload[8:24])))
    return [(kind, group) for kind, group in found if group in (GROUP, GROUP6)]


def member4(group: str = GROUP, local: str = "0.0.0.0") -> bytes:
    return socket.inet_aton(group) + socket.inet_aton(local)


def member6(index: int) -> bytes:
    return socket.inet_pton(socket.AF_INET6, GROUP6) + struct.pack("=I", index)


# -- Groups ------------------------------------------------------------------------------------------------------------


def test_memberships_end_with_the_socket(alone: lwipy.Stack) -> None:
    with alone.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member4())
        assert messages(alone) == [(0x16, GROUP)]
    assert messages(alone) == [(0x17, GROUP)]
    with alone.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member6(alone.interfaces["eth0"].number))
        assert messages(alone) == [(131, GROUP6)]
    assert messages(alone) == [(132, GROUP6)]


def test_a_group_is_left_when_its_last_member_leaves(alone: lwipy.Stack) -> None:
    with alone.socket(type=socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member4(local="10.0.0.1"))
        with alone.socket(type=socket.SOCK_DGRAM) as other:
            other.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member4())
        assert (0x17, GROUP) not in messages(alone)
        one.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, member4())
        assert messages(alone) == [(0x17, GROUP)]


def test_joining_twice_and_leaving_twice_are_errors(alone: lwipy.Stack) -> None:
    with alone.socket(type=socket.SOCK_DGRAM) as sock:
        for option, number in (
            (socket.IP_ADD_MEMBERSHIP, 0),
            (socket.IP_ADD_MEMBERSHIP, errno.EADDRINUSE),
            (socket.IP_DROP_MEMBERSHIP, 0),
            (socket.IP_DROP_MEMBERSHIP, errno.EADDRNOTAVAIL),
        ):
            if number == 0:
                sock.setsockopt(socket.IPPROTO_IP, option, member4())
                continue
            with pytest.raises(OSError) as info:  # noqa: PT011 (its errno is looked at)
                sock.setsockopt(socket.IPPROTO_IP, option, member4())
            assert info.value.errno == number


def test_an_interface_that_goes_takes_its_memberships(alone: lwipy.Stack) -> None:
    with alone.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member4())
        alone.interfaces["eth0"].remove()
        alone.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", name="eth0")
        with pytest.raises(OSError, match="Cannot assign"):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, member4())


def test_the_way_out_of_multicast_can_be_chosen(alone: lwipy.Stack) -> None:
    second = alone.add_interface(ipv4="10.9.0.1/24", name="eth1")
    with alone.socket(type=socket.SOCK_DGRAM) as sock:
        for value in (socket.inet_aton("10.9.0.1"), struct.pack("=4s4si", bytes(4), bytes(4), second.number)):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(4))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, value)
            assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, 4) == socket.inet_aton("10.9.0.1")
            sock.sendto(b"out", (GROUP, 9))
            assert any(IP in Ether(frame) and Ether(frame)[IP].dst == GROUP for frame in second.frames())
        with pytest.raises(OSError, match=r"10\.7\.7\.7"):
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.7.7.7"))


# -- Values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "name", "value", "error"),
    [
        (socket.IPPROTO_IP, socket.IP_TTL, 0, OSError),
        (socket.IPPROTO_IP, socket.IP_TTL, 256, OSError),
        (socket.IPPROTO_IP, socket.IP_TOS, 256, OSError),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 0, OSError),
        (socket.SOL_SOCKET, socket.SO_LINGER, 1, OSError),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1 << 40, OverflowError),
        (socket.SOL_SOCKET, 9999, 1, OSError),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, "on", TypeError),
    ],
)
def test_values_that_cannot_be(
    alone: lwipy.Stack, level: int, name: int, value: object, error: type[Exception]
) -> None:
    with alone.socket() as sock, pytest.raises(error):
        sock.setsockopt(level, name, cast("int", value))


def test_minus_one_is_the_default(alone: lwipy.Stack) -> None:
    with alone.socket(type=socket.SOCK_DGRAM) as sock:
        for name, default in ((socket.IP_TTL, 64), (socket.IP_MULTICAST_TTL, 1)):
            sock.setsockopt(socket.IPPROTO_IP, name, 7)
            sock.setsockopt(socket.IPPROTO_IP, name, -1)
            assert sock.getsockopt(socket.IPPROTO_IP, name) == default


def test_a_socket_tells_what_it_is(alone: lwipy.Stack) -> None:
    with alone.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP) as sock:
        assert (sock.family, sock.type, sock.proto) == (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET6
        assert isinstance(sock, socket.socket)
        assert isinstance(sock, Socket)
    with pytest.raises(OSError, match="Protocol not supported"):
        alone.socket(socket.AF_INET, socket.SOCK_STREAM, 132)
    with pytest.raises(OSError, match="Address family not supported"):
        alone.socket(socket.AF_UNIX)


# -- Ancillary data ----------------------------------------------------------------------------------------------------


def test_only_what_was_asked_for_comes_with_a_datagram(threads: Pair) -> None:
    with threads.a.socket(type=socket.SOCK_DGRAM) as server, threads.b.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("", 7))
        server.settimeout(30)
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
        client.sendto(b"plain", ("10.0.0.1", 7))
        assert server.recvmsg(100, 500)[:3] == (b"plain", [], 0)
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        server.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
        client.sendto(b"more", ("10.0.0.1", 7))
        data, ancillary, flags, address = server.recvmsg(100, 500)
        assert (data, flags, address[0]) == (b"more", 0, "10.0.0.2")
        host = socket.inet_aton("10.0.0.1")
        assert ancillary == [
            (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=i4s4s", threads.nic_a.number, host, host)),
            (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 9)),
        ]


def test_ancillary_data_that_does_not_fit_is_flagged(threads: Pair) -> None:
    with threads.a.socket(type=socket.SOCK_DGRAM) as server, threads.b.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("10.0.0.1", 7))
        server.settimeout(30)
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        client.sendto(b"longer than asked", ("10.0.0.1", 7))
        data, ancillary, flags, _ = server.recvmsg(6, socket.CMSG_LEN(4))
        assert data == b"longer"
        assert flags == socket.MSG_TRUNC | socket.MSG_CTRUNC
        assert [len(payload) for _, _, payload in ancillary] == [4]


def test_a_datagram_may_leave_its_own_way(threads: Pair) -> None:
    threads.b.interfaces["b0"].add_ipv6("fd00::22/64")
    with (
        threads.a.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        threads.b.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("fd00::1", 7))
        server.settimeout(30)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        source = socket.inet_pton(socket.AF_INET6, "fd00::22") + struct.pack("=i", 0)
        client.sendmsg(
            [b"own ", b"way"],
            [
                (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source),
                (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("=i", 3)),
                (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("=i", 8)),
            ],
            0,
            ("fd00::1", 7),
        )
        data, ancillary, _, address = server.recvmsg(100, 500)
        assert (data, address[0]) == (b"own way", "fd00::22")
        assert {kind: struct.unpack("=i", payload)[0] for _, kind, payload in ancillary} == {
            socket.IPV6_HOPLIMIT: 3,
            socket.IPV6_TCLASS: 8,
        }
        client.sendto(b"as ever", ("fd00::1", 7))
        ancillary = server.recvmsg(100, 500)[1]
        assert struct.unpack("=i", ancillary[0][2])[0] != 3
        with pytest.raises(OSError, match="Invalid argument"):
            client.sendmsg([b"?"], [(socket.IPPROTO_IPV6, 9999, b"")], 0, ("fd00::1", 7))


def test_a_connected_datagram_socket_knows_where_it_sends_from(threads: Pair) -> None:
    with threads.b.socket(type=socket.SOCK_DGRAM) as client:
        client.connect(("10.0.0.1", 7))
        assert client.getsockname()[0] == "10.0.0.2"
        assert client.getsockname()[1] != 0
        assert client.getpeername() == ("10.0.0.1", 7)
