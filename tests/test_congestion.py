"""Congestion control and loss recovery: two stacks, a bad network between them, in virtual time."""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Pair as Hosts
from pairs import VirtualPair

from lwipy import Event, Option, RecoveryPhase, TcpEndpoint
from lwipy.links import Impair

CONTROLLERS = ["cubic", "reno", "bbr", "lwip"]
OURS = [name for name in CONTROLLERS if name != "lwip"]
DATA = random.Random(7).randbytes(1_500_000)


@contextmanager
def pair(seed: int = 1, **settings: Any) -> Iterator[tuple[VirtualPair, Impair]]:
    link = Impair(seed=seed, **settings)
    made = VirtualPair(link, seed=seed)
    try:
        yield made, link
    finally:
        made.close()


def connect(network: VirtualPair, controller: str = "cubic") -> tuple[TcpEndpoint, TcpEndpoint]:
    client, server = network.connect()
    client.congestion = server.congestion = controller
    return client, server


def receive(network: VirtualPair, end: TcpEndpoint, size: int, limit: float = 100.0) -> bytes:
    """Lets time pass until so many bytes have come."""
    arrived = bytearray()

    def enough() -> bool:
        try:
            while len(arrived) < size:
                arrived.extend(end.recv(size - len(arrived)))
        except BlockingIOError:
            pass
        return len(arrived) >= size

    network.time.run(enough, limit)
    return bytes(arrived)


# -- Every byte, whatever happens ------------------------------------------------------------------


@pytest.mark.parametrize("controller", CONTROLLERS)
@pytest.mark.parametrize(
    "settings",
    [
        {"loss": 0.03, "delay": 0.01},
        {"reorder": 0.1, "delay": 0.005},
        {"duplicate": 0.2, "corrupt": 0.02, "delay": 0.002},
        {"loss": 0.05, "reorder": 0.1, "duplicate": 0.05, "corrupt": 0.02, "delay": 0.003, "jitter": 0.002},
        {"rate": 20e6, "queue": 20, "delay": 0.02, "loss": 0.005},
    ],
    ids=["loss", "reorder", "duplicate", "everything", "line"],
)
def test_every_byte_arrives_in_order(controller: str, settings: dict[str, Any]) -> None:
    with pair(seed=3, **settings) as (network, _):
        client, server = connect(network, controller)
        assert network.transfer(DATA, client, server) == DATA
        assert network.transfer(DATA[:200_000], server, client) == DATA[:200_000]


def test_the_same_seed_gives_the_same_run() -> None:
    ends = []
    for _ in range(2):
        with pair(seed=5, loss=0.02, delay=0.01, rate=50e6, queue=50) as (network, _link):
            client, server = connect(network)
            network.transfer(DATA, client, server)
            ends.append((network.now, client.info.retransmitted_segments))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("controller", OURS)
def test_an_abandoned_connection_recovers_too(controller: str) -> None:
    """The application closes at once; what is queued is lost in part, and sent again without waiting for a timeout."""
    with pair(seed=2, delay=0.05) as (network, link):
        client, server = connect(network, controller)
        client.set_option(Option.SNDBUF, 1 << 20)
        link.set("out", loss=0.02)
        assert client.send(DATA[:400_000]) == 400_000
        started = network.now
        client.close()
        assert receive(network, server, 400_000) == DATA[:400_000]
        assert link.stage.outgoing_counters.lost > 2
        assert network.now - started < 3


# -- The tail --------------------------------------------------------------------------------------


@pytest.mark.parametrize("round_trip", [0.001, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("size", [1, 20_000])
def test_a_lost_last_segment_is_there_within_two_round_trips_and_20_ms(round_trip: float, size: int) -> None:
    with pair(delay=round_trip / 2) as (network, link):
        client, server = connect(network)
        for _ in range(3):
            client.send(b"x" * 3000)
            assert receive(network, server, 3000)
            network.run(1)
        client.set_option(Option.NODELAY, 1)
        if size > 1460:
            client.send(bytes(size))
            network.time.settle()
        link.set("out", loss=1.0)
        client.send(b"!")
        started = network.now
        network.time.settle()
        link.set("out", loss=0.0)
        assert receive(network, server, size + 1 if size > 1460 else 1).endswith(b"!")
        assert network.now - started <= 2 * round_trip + 0.020
        assert client.info.timeouts == 0


def test_a_needless_probe_teaches_how_long_the_peer_waits() -> None:
    """The peer's delayed ACK outlasts the first probe; the window stays, and further probes wait longer."""
    with pair(delay=0.0005) as (network, _):
        client, server = connect(network)
        for _ in range(30):
            client.send(b"x")
            assert receive(network, server, 1) == b"x"
            network.run(0.3)
        info = client.info
        assert info.timeouts == 0
        assert 3 <= info.needless_probes <= info.tail_probes <= 8
        assert info.congestion_window >= 10 * 1460


# -- Timeouts --------------------------------------------------------------------------------------


def test_a_timeout_that_was_for_nothing_is_undone() -> None:
    """The way becomes two seconds longer at once: everything is late, nothing is lost."""
    with pair(delay=0.02) as (network, link):
        client, server = connect(network)
        client.send(DATA[:100_000])
        assert receive(network, server, 100_000)
        before = client.info.congestion_window
        client.send(DATA[:30_000])
        network.time.settle()
        link.set("in", delay=2.0)
        assert receive(network, server, 30_000) == DATA[:30_000]
        network.run(5)
        info = client.info
        assert info.unacked == 0
        assert info.phase is RecoveryPhase.OPEN
        assert info.congestion_window >= before


def test_silence_doubles_the_timeout_and_ends_the_connection() -> None:
    with pair(delay=0.001) as (network, link):
        client, server = connect(network)
        client.send(b"x" * 100)
        assert receive(network, server, 100)
        link.set("out", loss=1.0)
        client.send(b"nobody hears this")
        started, sent = network.now, link.stage.outgoing_counters.frames
        failed: list[Event] = []
        client.on_event = failed.append
        network.time.run(lambda: any(Event.FAILED in event for event in failed), 1000)
        assert isinstance(client.take_error(), TimeoutError)
        assert 60 < network.now - started < 900
        assert link.stage.outgoing_counters.frames - sent < 20


def test_an_idle_connection_wakes_nobody() -> None:
    with pair(delay=0.001) as (network, _):
        client, server = connect(network)
        client.send(DATA[:100_000])
        assert receive(network, server, 100_000)
        network.run(200)
        assert network.a._deadline() is None
        assert network.b._deadline() is None


# -- What is told ----------------------------------------------------------------------------------


def test_the_round_trip_is_known_to_the_microsecond_from_the_handshake_on() -> None:
    with pair(delay=0.0123) as (network, _):
        client, server = connect(network)
        client.send(b"x")
        assert client.info.round_trip_time == pytest.approx(0.0246, abs=0.0002)
        assert receive(network, server, 1)
        network.run(0.5)
        assert client.info.least_round_trip_time == pytest.approx(0.0246, abs=0.0002)


def test_losses_are_counted() -> None:
    with pair(seed=4, delay=0.01) as (network, link):
        client, server = connect(network)
        link.set("out", loss=0.02)
        network.transfer(DATA, client, server)
        lost = link.stage.outgoing_counters.lost
        info = client.info
        assert info.congestion == "cubic"
        assert lost > 10
        assert lost <= info.retransmitted_segments <= lost * 2 + 10


def test_reordering_is_noticed_and_costs_little() -> None:
    with pair(seed=4, delay=0.02) as (network, link):
        client, server = connect(network)
        link.set("out", reorder=0.05)
        network.transfer(DATA, client, server)
        info = client.info
        assert info.reordering
        assert info.retransmitted_segments < link.stage.outgoing_counters.reordered / 2


# -- The choice ------------------------------------------------------------------------------------


def test_accepted_connections_inherit_the_listeners_choice(hosts: Hosts) -> None:
    assert hosts.time is not None
    listener, client = hosts.a.tcp(), hosts.b.tcp()
    listener.congestion = "reno"
    listener.set_option(Option.QUICKACK, 1)
    listener.bind(("", 80))
    listener.listen()
    client.connect(("10.0.0.1", 80))
    hosts.time.run(lambda: listener.info.queued)
    server = listener.accept()
    assert server.congestion == "reno"
    assert server.get_option(Option.QUICKACK) == 1
    assert client.congestion == "cubic"


def test_the_choice_may_change_in_mid_connection_but_for_lwips_own() -> None:
    with pair(seed=3, loss=0.02, delay=0.005) as (network, _):
        client, server = connect(network)
        client.send(DATA[:50_000])
        for name in OURS * 2:
            client.congestion = name
            assert client.info.congestion == name
            client.send(DATA[:1000])
        with pytest.raises(OSError, match="lwip") as info:
            client.congestion = "lwip"
        assert info.value.errno == errno.EISCONN
        assert len(receive(network, server, 50_000)) == 50_000


def test_sockets_choose_as_on_linux(hosts: Hosts) -> None:
    option = getattr(socket, "TCP_CONGESTION", 13)
    with hosts.a.socket() as sock:
        assert bytes(sock.getsockopt(socket.IPPROTO_TCP, option, 16)).rstrip(b"\0") == b"cubic"
        for name in (b"reno", b"lwip", b"cubic\0"):
            sock.setsockopt(socket.IPPROTO_TCP, option, name)
            assert bytes(sock.getsockopt(socket.IPPROTO_TCP, option, 16)).rstrip(b"\0") == name.rstrip(b"\0")
        for wrong in (b"vegas", b"", b"cubi", b"\xff"):
            with pytest.raises(FileNotFoundError):
                sock.setsockopt(socket.IPPROTO_TCP, option, wrong)
        with pytest.raises(OSError, match="name") as info:
            sock.setsockopt(socket.IPPROTO_TCP, option, 1)
        assert info.value.errno == errno.EINVAL
    with hosts.a.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(OSError, match="available") as info:
        datagrams.getsockopt(socket.IPPROTO_TCP, option, 16)
    assert info.value.errno == errno.ENOPROTOOPT


def test_with_quickack_each_segment_is_acknowledged_at_once() -> None:
    for quick in (0, 1):
        with pair(delay=0.001) as (network, _):
            client, server = connect(network)
            server.set_option(Option.QUICKACK, quick)
            client.send(b"first")
            assert receive(network, server, 5)
            network.run(0.2)
            client.send(b"x")
            network.run(0.0022)
            assert (client.info.unacked == 0) == bool(quick)


def test_buffers_grow_with_the_way_until_they_are_set() -> None:
    for fixed in (False, True):
        with pair(delay=0.1) as (network, _):
            client, server = connect(network)
            if fixed:
                client.set_option(Option.SNDBUF, 100_000)
                server.set_option(Option.RCVBUF, 300_000)
            network.transfer(DATA * 4, client, server)
            if fixed:
                assert (client.info.send_buffer, server.info.receive_buffer) == (100_000, 300_000)
            else:
                assert client.info.send_buffer > 1 << 20
                assert server.info.receive_buffer > 1 << 20


def test_buffers_stay_small_on_a_short_way() -> None:
    with pair(delay=0.0002) as (network, _):
        client, server = connect(network)
        network.transfer(DATA * 4, client, server)
        assert client.info.send_buffer == server.info.receive_buffer == 256 * 1024


def test_losses_do_not_slow_the_model_down() -> None:
    """BBR fills a lossy line of 10 Mbit/s that CUBIC cannot."""
    seconds = {}
    for controller in ("bbr", "cubic"):
        with pair(seed=6, delay=0.05, rate=10e6, queue=100) as (network, link):
            client, server = connect(network, controller)
            link.set("out", loss=0.02)
            started = network.now
            assert network.transfer(DATA * 2, client, server) == DATA * 2
            seconds[controller] = network.now - started
    assert seconds["bbr"] < 4
    assert seconds["cubic"] > 2 * seconds["bbr"]


def test_a_pace_limits_what_leaves_in_a_second() -> None:
    with pair(delay=0.005) as (network, link):
        client, server = connect(network)
        client.set_option(Option.MAX_PACING_RATE, 1_000_000)
        started = network.now
        assert network.transfer(DATA, client, server) == DATA
        assert 1.4 < network.now - started < 1.8
        assert link.stage.outgoing_counters.lost == 0
