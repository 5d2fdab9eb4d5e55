"""TCP endpoints of two hosts on a wire in virtual time: what their tests begin with."""

from __future__ import annotations

import pytest
from conftest import Pair

from lwipy import Event, TcpEndpoint, TcpState
from lwipy.testing import VirtualTime

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


def _take(end: TcpEndpoint, arrived: bytearray) -> bool:
    """Reads what is there; whether the stream is over."""
    try:
        while part := end.recv(65536):
            arrived.extend(part)
        return True
    except BlockingIOError:
        return False


def read_all(hosts: Pair, end: TcpEndpoint, limit: float = 60.0) -> bytes:
    """Everything up to the end of the stream."""
    assert hosts.time is not None
    arrived = bytearray()
    hosts.time.run(lambda: _take(end, arrived), limit)
    return bytes(arrived)


def exchange(time: VirtualTime, source: TcpEndpoint, sink: TcpEndpoint, content: bytes, limit: float = 60.0) -> bytes:
    """Sends `content` and the end of the stream while the other side reads; what arrived until that end."""
    arrived = bytearray()
    left = memoryview(content)
    ended = False

    def step() -> bool:
        nonlocal left, ended
        try:
            while left:
                left = left[source.send(left) :]
            if not ended:
                ended = True
                source.shutdown(write=True)
        except BlockingIOError:
            pass
        return _take(sink, arrived)

    time.run(step, limit)
    return bytes(arrived)


def transfer(hosts: Pair, source: TcpEndpoint, sink: TcpEndpoint, content: bytes) -> bytes:
    """exchange() between two hosts in virtual time."""
    assert hosts.time is not None
    return exchange(hosts.time, source, sink, content)
