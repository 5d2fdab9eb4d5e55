"""A group of stacks and a peer on one wire: what the tests of groups begin with."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

import lwipy

COUNTS = pytest.mark.parametrize("count", [1, 2, 3, 4])
FAMILIES = pytest.mark.parametrize(("ours", "theirs"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
MAC, PEER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
DATA = bytes(i * 7 % 251 for i in range(300_000))


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@dataclass
class Lab:
    """A group, 10.0.0.1 and fd00::1, and an ordinary stack, 10.0.0.2 and fd00::2, on one wire."""

    group: lwipy.StackGroup
    peer: lwipy.Stack
    nic: lwipy.GroupInterface

    def stack_of(self, sock: socket.socket) -> int:
        assert isinstance(sock, lwipy.blocking.Socket)
        number: int = self.group.stacks.index(sock._endpoint.stack)
        return number


def lab_of(count: int) -> Iterator[Lab]:
    with lwipy.StackGroup(count) as group, lwipy.Stack() as peer:
        nic = group.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        lwipy.wire(nic, peer.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64"))
        yield Lab(group, peer, nic)


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def send_all(sock: socket.socket) -> None:
    sock.sendall(DATA)
    sock.shutdown(socket.SHUT_WR)


def exchange(here: socket.socket, there: socket.socket) -> None:
    """A long way and back, at the same time."""
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(send_all, end) for end in (here, there)]
        assert [receive_all(end) for end in (here, there)] == [DATA, DATA]
        for each in sent:
            each.result()
