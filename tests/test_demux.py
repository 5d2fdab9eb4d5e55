"""The demultiplexer: each connection in its own bucket, whatever comes, whoever goes (csrc/demux.c).

The same is asked of stacks without it; sanitized builds look after every tick whether all are where they belong.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from itertools import islice

import pytest
from conftest import Pair
from scapy.layers.inet import IP, TCP, fragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import lwipy
from lwipy import Event, Option, TcpEndpoint, TcpState
from lwipy.testing import VirtualTime

HOST = {4: "10.0.0.1", 6: "fd00::1"}


@pytest.fixture(params=["demux", "one list"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "one list":
        monkeypatch.setattr(lwipy.Stack, "default_without", lwipy.FastPath.DEMUX)
    return str(request.param)


@pytest.fixture
def hosts(way: str, virtual: VirtualTime) -> Pair:
    return Pair.of(virtual.stack(seed=1), virtual.stack(seed=2), virtual)


class Crowd:
    """Many connections from b to a, of both families and to several ports: pairs of (server, client)."""

    def __init__(self, hosts: Pair, count: int, families: tuple[int, ...] = (4, 6)) -> None:
        self.hosts = hosts
        self.listeners = [self.listen(family, port) for family in families for port in (80, 81, 82)]
        clients = [self.connect(self.listeners[n % len(self.listeners)]) for n in range(count)]
        self.run(lambda: sum(listener.info.queued for listener in self.listeners) == count)
        accepted = [server for listener in self.listeners for server in accept_all(listener)]
        ends: dict[object, TcpEndpoint] = {(client.address, client.peer): client for client in clients}
        self.ends = [(server, ends[server.peer, server.address]) for server in accepted]

    def listen(self, family: int, port: int) -> TcpEndpoint:
        listener = self.hosts.a.tcp(family)
        listener.bind((HOST[family], port))
        listener.listen(10_000)
        return listener

    def connect(self, listener: TcpEndpoint) -> TcpEndpoint:
        client = self.hosts.b.tcp(listener.family)
        client.connect(listener.address)
        self.hosts.b.poll()
        self.hosts.a.poll()
        return client

    def run(self, until: Callable[[], object] | None = None, limit: float = 60.0) -> None:
        assert self.hosts.time is not None
        self.hosts.time.run(until, limit)


def accept_all(listener: TcpEndpoint) -> Iterator[TcpEndpoint]:
    try:
        while True:
            yield listener.accept()
    except BlockingIOError:
        return


def used(hosts: Pair) -> int:
    return hosts.a.statistics.memory_used


# -- Every segment finds its connection --------------------------------------------------------------------------------


def test_every_connection_hears_its_own_peer_and_no_other(hosts: Pair) -> None:
    crowd, draw = Crowd(hosts, 1500), random.Random(1)
    for round_ in range(2):
        draw.shuffle(crowd.ends)
        for number, (server, client) in enumerate(crowd.ends):
            client.send(b"%d up %d" % (round_, number))
            server.send(b"%d down %d" % (round_, number))
        crowd.run(limit=1.0)
        for number, (server, client) in enumerate(crowd.ends):
            assert server.recv(100) == b"%d up %d" % (round_, number)
            assert client.recv(100) == b"%d down %d" % (round_, number)


def test_those_who_go_give_their_memory_back_and_the_others_stay(hosts: Pair) -> None:
    crowd, draw = Crowd(hosts, 1200), random.Random(2)
    draw.shuffle(crowd.ends)
    for number, (server, client) in enumerate(crowd.ends[100:]):
        for end in [(server, client), (client, server)][number % 2]:
            if number % 3:
                end.close()
            else:
                end.abort()
    crowd.run(limit=10.0)
    full = used(hosts)
    for number, (server, client) in enumerate(crowd.ends[:100]):
        client.send(b"%d" % number)
        hosts.b.poll()
        hosts.a.poll()
        assert server.recv(100) == b"%d" % number
        server.abort()
    crowd.run(limit=10.0)
    for listener in crowd.listeners:
        listener.close()
    assert hosts.a.statistics.endpoints == 0
    assert used(hosts) < full
    assert used(hosts) < 120_000  # no bucket is left of those that were for a thousand


def test_connections_come_and_go_for_long(hosts: Pair) -> None:
    """Each at its own time, so that buckets are joined and parted with connections in every state in them."""
    listener, draw = Crowd(hosts, 0, (4,)).listeners[0], random.Random(3)
    live: list[tuple[TcpEndpoint, TcpEndpoint]] = []
    for round_ in range(60):
        clients = {}
        for _ in range(draw.choice([0, 5, 60])):
            client = hosts.b.tcp()
            client.connect(listener.address)
            clients[client.address] = client
        assert hosts.time is not None
        hosts.time.run(limit=draw.choice([0.001, 0.03, 0.5]))
        live += [(server, clients[server.peer]) for server in accept_all(listener) if server.peer in clients]
        draw.shuffle(live)
        for _, client in islice(live, 50):
            client.send(b"%d" % round_)
        hosts.time.run(limit=0.1)
        for server, _ in islice(live, 50):
            assert server.recv(10) == b"%d" % round_
        for _ in range(draw.choice([0, 10, 80])):
            if live:
                for end in live.pop():
                    draw.choice([end.close, end.abort])()


def test_segments_in_fragments_and_to_oneself(hosts: Pair) -> None:
    """What is not known before the packet is whole, or comes by no interface at all."""
    assert hosts.time is not None
    crowd = Crowd(hosts, 300, (4,))
    hosts.nic_b.checksums = False
    hosts.b.close()
    server = crowd.ends[17][0]
    assert server.peer is not None
    probe = IP(src="10.0.0.2", dst="10.0.0.1") / TCP(sport=server.peer[1], dport=server.address[1], flags="R", seq=0)
    for piece in fragment(probe / Raw(bytes(2000)), 800):
        hosts.nic_a.receive(bytes(Ether(dst=hosts.nic_a.mac, src=hosts.nic_b.mac) / piece))
    assert server.info.state is TcpState.ESTABLISHED  # its number was wrong
    listener, client = hosts.a.tcp(), hosts.a.tcp()
    listener.bind(("127.0.0.1", 7))
    listener.listen()
    client.connect(("127.0.0.1", 7))
    hosts.time.run(lambda: listener.info.queued)
    client.send(b"to myself")
    hosts.time.run(limit=0.1)
    assert listener.accept().recv(100) == b"to myself"


# -- Timers ------------------------------------------------------------------------------------------------------------


def test_what_was_lost_is_sent_again_in_every_bucket(hosts: Pair) -> None:
    crowd = Crowd(hosts, 600)
    crowd.run(limit=2.0)
    hosts.nic_b.link_up = False
    for number, (_, client) in enumerate(crowd.ends):
        client.send(b"%d" % number)
    crowd.run(limit=1.0)
    hosts.nic_b.link_up = True
    crowd.run(limit=10.0)
    assert all(server.recv(10) == b"%d" % number for number, (server, _) in enumerate(crowd.ends))


def test_connections_at_rest_have_no_timers(hosts: Pair) -> None:
    Crowd(hosts, 600)
    assert hosts.time is not None
    hosts.time.run(limit=150)
    assert hosts.a.poll() is None
    assert hosts.b.poll() is None


def test_each_keepalive_comes_at_its_own_time(hosts: Pair) -> None:
    crowd, died = Crowd(hosts, 60), {}
    for number, (server, _) in enumerate(crowd.ends):
        for option, value in (Option.KEEPIDLE, 100 + number * 7), (Option.KEEPINTVL, 5), (Option.KEEPCNT, 2):
            server.set_option(option, value)
        server.set_option(Option.KEEPALIVE, 1)

        def on_event(event: Event, number: int = number) -> None:
            assert hosts.time is not None
            if event & Event.FAILED:
                died[number] = hosts.time.now

        server.on_event = on_event
    assert hosts.time is not None
    started = hosts.time.now
    hosts.nic_b.link_up = False
    hosts.time.run(limit=1000.0)
    assert len(died) == 60
    for number, when in died.items():
        assert 100 + number * 7 + 10 - 1 <= when - started <= 100 + number * 7 + 10 + 1


def test_connections_that_nobody_answers_are_given_up(hosts: Pair) -> None:
    hosts.nic_a.link_up = False
    hosts.nic_b.add_neighbour("10.0.0.1", hosts.nic_a.mac)
    clients = [hosts.b.tcp() for _ in range(300)]
    for client in clients:
        client.connect(("10.0.0.1", 80))
    assert hosts.time is not None
    hosts.time.run(limit=200.0)
    for client in clients:
        with pytest.raises(TimeoutError):
            client.finish_connect()


# -- What looks through all connections --------------------------------------------------------------------------------


def test_an_address_that_goes_takes_all_its_connections_along(hosts: Pair) -> None:
    crowd = Crowd(hosts, 600)
    hosts.nic_a.ipv4 = "10.0.0.9/24"
    crowd.run(limit=0.1)
    for server, _ in crowd.ends:
        expected = TcpState.CLOSED if server.family == 4 else TcpState.ESTABLISHED
        assert server.info.state is expected


def test_an_interface_that_goes_takes_all_its_connections_along(hosts: Pair) -> None:
    crowd = Crowd(hosts, 600)
    hosts.nic_a.remove()
    crowd.run(limit=0.1)
    assert all(server.info.state is TcpState.CLOSED for server, _ in crowd.ends)


def test_a_port_in_use_by_any_connection_is_refused(hosts: Pair) -> None:
    crowd = Crowd(hosts, 300, (4,))
    for _, client in crowd.ends[::30]:
        with pytest.raises(OSError, match=str(client.address[1])) as info:
            hosts.b.tcp().bind(client.address)
        assert info.value.errno == errno.EADDRINUSE
    ports = {client.address[1] for _, client in crowd.ends}
    for _ in range(300):
        end = hosts.b.tcp()
        end.bind(("", 0))
        assert end.address[1] not in ports
        ports.add(end.address[1])


def test_a_port_is_free_when_its_last_connection_is_gone(hosts: Pair) -> None:
    crowd = Crowd(hosts, 40, (4,))
    port = crowd.listeners[0].address[1]
    mine = [server for server, _ in crowd.ends if server.address[1] == port]
    others = [server for server, _ in crowd.ends if server.address[1] != port]
    for listener in crowd.listeners:
        listener.close()
    for end in [*others, *mine[1:]]:
        end.abort()
    for _ in range(2):
        with pytest.raises(OSError, match=str(port)):
            hosts.a.tcp().bind(("", port))
    mine[0].abort()
    again = hosts.a.tcp()
    again.bind(("", port))
    with pytest.raises(OSError, match=str(port)):
        hosts.a.tcp().bind(("", port))
    for listener_port in (81, 82, 1000):
        hosts.a.tcp().bind(("", listener_port))


def test_a_4_tuple_is_used_once(hosts: Pair) -> None:
    crowd = Crowd(hosts, 100, (4,))
    tuples = {(client.address, client.peer) for _, client in crowd.ends}
    assert len(tuples) == 100
    first, second = hosts.b.tcp(), hosts.b.tcp()
    for end in first, second:
        end.bind(("10.0.0.2", 5000), reuse=True)
    first.connect(("10.0.0.1", 80))
    with pytest.raises(OSError, match=r"10\.0\.0\.1:80") as info:
        second.connect(("10.0.0.1", 80))
    assert info.value.errno == errno.EADDRINUSE
    second.connect(("10.0.0.1", 81))
    crowd.run(limit=1.0)
    assert first.info.state is second.info.state is TcpState.ESTABLISHED


def test_a_connect_that_fails_leaves_the_endpoint_as_it_was(hosts: Pair) -> None:
    end = hosts.b.tcp()
    for _ in range(3):
        with pytest.raises(OSError, match=r"192\.0\.2\.1"):
            end.connect(("192.0.2.1", 80))
    end.bind(("", 5000))
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        end.connect(("192.0.2.1", 80))
    crowd = Crowd(hosts, 0, (4,))
    end.connect(("10.0.0.1", 80))
    crowd.run(lambda: crowd.listeners[0].info.queued)
    assert crowd.listeners[0].accept().peer == ("10.0.0.2", 5000)


def test_a_listener_that_goes_takes_its_half_open_connections_along(hosts: Pair) -> None:
    crowd = Crowd(hosts, 0, (4,))
    other, listener = crowd.listeners[:2]
    clients = [hosts.b.tcp() for _ in range(200)]
    for number, client in enumerate(clients):
        client.connect([other, listener][number % 2].address)
    hosts.b.poll()
    hosts.a.poll()  # they are answered, and not confirmed yet
    listener.close()
    crowd.run(limit=5.0)
    assert other.info.queued == 100
    for client in clients[1::2]:
        with pytest.raises(ConnectionError):
            client.finish_connect()
