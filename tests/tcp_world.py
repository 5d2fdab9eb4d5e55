"""TCP endpoints of two hosts on a wire in virtual time: what their tests begin with."""

from __future__ import annotations

import pytest
from conftest import Pair

from lwipy import Event, TcpEndpoint, TcpState

ADDRESSES = pytest.mark.parametrize(("family", "host"), [(4, "10.0.0.1"), (6, "fd00::1")])


def listening(hosts: Pair, port: int = 80, family: int = 4, backlog: int = 8) -> TcpEndpoint:
    listener = hosts.a.tcp(family)
    listener.bind(("", port))
    listener.listen(backlog)
    return listener


def connected(hosts: Pair, family: int = 4, host: str = "10.0.0.1") -> tuple[TcpEndpoint, TcpEndpoint]:
    """(server's end, client's end) of a new connection."""
    assert hosts.time is not None
    listener = listening(hosts, family=family)
    client = hosts.b.tcp(family)
    client.connect((host, 80))
    hosts.time.run(lambda: client.info.state is TcpState.ESTABLISHED and Event.READABLE in listener.ready())
    server = listener.accept()
    listener.close()
    return server, client


def read_all(hosts: Pair, end: TcpEndpoint, limit: float = 60.0) -> bytes:
    """Everything up to the end of the stream."""
    assert hosts.time is not None
    data = bytearray()
    over = False

    def read() -> bool:
        nonlocal over
        try:
            while part := end.recv(65536):
                data.extend(part)
            over = True
        except BlockingIOError:
            pass
        return over

    hosts.time.run(read, limit)
    return bytes(data)


def transfer(hosts: Pair, source: TcpEndpoint, target: TcpEndpoint, content: bytes, limit: float = 60.0) -> bytes:
    """Sends `content` and FIN while the other side reads; what arrived."""
    assert hosts.time is not None
    arrived = bytearray()
    sent = 0
    over = False

    def step() -> bool:
        nonlocal sent, over
        try:
            while sent < len(content):
                sent += source.send(content[sent : sent + 65536])
            if sent == len(content):
                sent += 1
                source.shutdown(write=True)
        except BlockingIOError:
            pass
        try:
            while part := target.recv(65536):
                arrived.extend(part)
            over = True
        except BlockingIOError:
            pass
        return over

    hosts.time.run(step, limit)
    return bytes(arrived)
