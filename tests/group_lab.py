"""A group of stacks and a peer on one wire: what the tests of groups begin with."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from kernel_peer import Namespace

import lwipy

COUNTS = pytest.mark.parametrize("count", [1, 2, 3, 4])
FAMILIES = pytest.mark.parametrize(("ours", "theirs"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
MAC, PEER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
#: Of the kernel: sixteen at a time.
CLIENTS = """
import threading
host, family = sys.argv[1], int(sys.argv[2])
def client(number):
    with socket.socket(family) as sock:
        sock.settimeout(120); sock.connect((host, 80))
        sock.sendall(bytes([number]) * 300_000); sock.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while part := sock.recv(1 << 16): digest.update(part)
        answers[number] = digest.hexdigest()
answers = {}
threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
say(*(answers.get(n, "none") for n in range(16)))
"""
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


def ask_datagrams(lab: Lab, ours: str, size: int, clients: int) -> None:
    """A socket of the group's is asked by as many of the peer's, and answers each from where it was asked."""
    with ExitStack() as open_ones:
        server = open_ones.enter_context(lab.group.socket(family_of(ours), socket.SOCK_DGRAM))
        server.settimeout(30)
        server.bind((ours, 53))
        for number in range(clients):
            client = open_ones.enter_context(lab.peer.socket(family_of(ours), socket.SOCK_DGRAM))
            client.settimeout(30)
            question = bytes([number]) * size
            client.sendto(question, (ours, 53))
            data, address = server.recvfrom(10_000)
            assert data == question
            server.sendto(data[::-1] + b"!", address)
            answer, source = client.recvfrom(10_000)
            assert answer == question[::-1] + b"!"
            assert source[:2] == (ours, 53)


def exchange(here: socket.socket, there: socket.socket) -> None:
    """A long way and back, at the same time."""
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(send_all, end) for end in (here, there)]
        assert [receive_all(end) for end in (here, there)] == [DATA, DATA]
        for each in sent:
            each.result()


def echo_to_clients(group: lwipy.StackGroup, kernel: Namespace, ours: str) -> None:
    """Sixteen of the kernel's at a time get back all that they send."""

    def echo(sock: socket.socket) -> None:
        with sock:
            sock.sendall(receive_all(sock))

    family = family_of(ours)
    with group.create_server((ours, 80), family=family) as listener, ThreadPoolExecutor(16) as pool:
        program = kernel.run(CLIENTS, ours, int(family))
        served = [pool.submit(echo, listener.accept()[0]) for _ in range(16)]
        assert program.hear().split() == [hashlib.sha256(bytes([n]) * 300_000).hexdigest() for n in range(16)]
        for each in served:
            each.result()
