"""ICMP's destination unreachable reaches the socket it is about, and nobody else."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import closing

import pytest
from attacker import ATTACKER, Target, ip
from conftest import Pair
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6
from scapy.packet import Packet, Raw

from lwipy import TcpEndpoint, TcpState

FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])
HOSTS = pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"], ids=["ipv4", "ipv6"])
NO_ROUTE = {4: 1, 6: 0}
NO_PORT = {4: 3, 6: 4}


def unreachable(family: int, code: int, quoted: bytes) -> Packet:
    message = ICMP(type=3, code=code) if family == 4 else ICMPv6DestUnreach(code=code)
    return ip(family) / message / Raw(quoted)


def connecting(target: Target, family: int) -> tuple[TcpEndpoint, bytes]:
    """A connect() to the attacker, and the packet of its SYN."""
    endpoint = target.stack.tcp(family)
    endpoint.connect((ATTACKER[family], 80))
    target.stack.poll()
    (syn,) = target.answers(TCP)
    return endpoint, bytes(syn[IPv6 if family == 6 else IP])


def outcome(endpoint: TcpEndpoint) -> int:
    """The errno that its connect() ended with, 0 for success; EINPROGRESS while it goes on."""
    try:
        endpoint.finish_connect()
    except OSError as error:
        return error.errno or -1
    return 0


# -- TCP -----------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize(("codes", "error"), [(NO_ROUTE, errno.EHOSTUNREACH), (NO_PORT, errno.ECONNREFUSED)])
def test_a_connection_attempt_fails_at_once(target: Target, family: int, codes: dict[int, int], error: int) -> None:
    endpoint, syn = connecting(target, family)
    assert outcome(endpoint) == errno.EINPROGRESS
    target.inject(unreachable(family, codes[family], syn))
    assert outcome(endpoint) == error
    assert not target.answers(TCP)
    endpoint.close()
    target.assert_unharmed()


def other_port(syn: bytearray, header: int) -> None:
    syn[header + 1] ^= 1


def other_peer(syn: bytearray, header: int) -> None:
    syn[header - 1] ^= 1


def other_sequence_number(syn: bytearray, header: int) -> None:
    syn[header + 7] ^= 1


def other_protocol(syn: bytearray, header: int) -> None:
    syn[6 if header == 40 else 9] = 132


@FAMILIES
@pytest.mark.parametrize("spoil", [other_port, other_peer, other_sequence_number, other_protocol])
def test_who_has_not_seen_the_syn_is_not_believed(
    target: Target, family: int, spoil: Callable[[bytearray, int], None]
) -> None:
    endpoint, syn = connecting(target, family)
    guessed = bytearray(syn)
    spoil(guessed, 20 if family == 4 else 40)
    target.inject(unreachable(family, NO_PORT[family], bytes(guessed)))
    assert outcome(endpoint) == errno.EINPROGRESS
    endpoint.close()


@FAMILIES
def test_a_damaged_or_cut_message_is_not_believed(target: Target, family: int) -> None:
    endpoint, syn = connecting(target, family)
    whole = bytes(unreachable(family, NO_PORT[family], syn))
    damaged = bytearray(whole)
    damaged[-1] ^= 1
    target.inject(ip(family).__class__(bytes(damaged)))
    for length in range(len(syn)):
        target.inject(unreachable(family, NO_PORT[family], syn[:length]))
        if length < (28 if family == 4 else 48):
            assert outcome(endpoint) == errno.EINPROGRESS, length
    assert outcome(endpoint) == errno.ECONNREFUSED
    endpoint.close()
    target.assert_unharmed()


@FAMILIES
def test_an_established_connection_goes_on(target: Target, family: int) -> None:
    endpoint, syn = connecting(target, family)
    sent = (IPv6 if family == 6 else IP)(syn)[TCP]
    answer = TCP(sport=80, dport=sent.sport, seq=1000, ack=sent.seq + 1, flags="SA")
    target.inject(ip(family) / answer)
    assert outcome(endpoint) == 0
    target.inject(unreachable(family, NO_PORT[family], syn))
    assert endpoint.info.state is TcpState.ESTABLISHED
    endpoint.abort()


# -- UDP -----------------------------------------------------------------------------------------------------------


@HOSTS
def test_a_connected_udp_socket_hears_of_it_once(hosts: Pair, host: str) -> None:
    assert hosts.time is not None
    with closing(hosts.a.udp(6 if ":" in host else 4)) as udp:
        udp.connect((host, 9))
        udp.send(b"anybody?")
        hosts.time.settle()
        with pytest.raises(ConnectionRefusedError):
            udp.receive()
        with pytest.raises(BlockingIOError):
            udp.receive()
        udp.send(b"still nobody?")
        hosts.time.settle()
        with pytest.raises(ConnectionRefusedError):
            udp.send(b"and now?")


def test_an_unconnected_one_does_not(hosts: Pair) -> None:
    assert hosts.time is not None
    with closing(hosts.a.udp(4)) as udp, closing(hosts.a.udp(4)) as other:
        other.connect(("10.0.0.2", 10))
        udp.send(b"anybody?", ("10.0.0.2", 9))
        hosts.time.settle()
        for endpoint in (udp, other):
            with pytest.raises(BlockingIOError):
                endpoint.receive()


def test_a_blocking_socket_raises_it(threads: Pair) -> None:
    with threads.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(20)
        udp.connect(("10.0.0.2", 9))
        udp.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            udp.recv(100)
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_so_error_has_it_too(hosts: Pair) -> None:
    assert hosts.time is not None
    with hosts.a.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("10.0.0.2", 9))
        udp.send(b"anybody?")
        hosts.time.settle()
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
