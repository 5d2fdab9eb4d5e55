"""TCP endpoints, without blocking: two stacks on a wire in virtual time."""

from __future__ import annotations

import errno
import hashlib
import random

import pytest
from conftest import Pair
from tcp_world import ADDRESSES, connected, listening, read_all, transfer

from lwipy import Event, Option, TcpState
from lwipy.testing import VirtualTime


@ADDRESSES
def test_a_connection_knows_both_its_ends(hosts: Pair, family: int, host: str) -> None:
    server, client = connected(hosts, family, host)
    assert server.address == (host, 80) == client.peer
    assert server.peer == client.address
    assert client.info.mss == (1460 if family == 4 else 1440)


@ADDRESSES
def test_bytes_arrive_in_order_both_ways(hosts: Pair, family: int, host: str) -> None:
    server, client = connected(hosts, family, host)
    content = random.Random(1).randbytes(3_000_000)
    assert hashlib.sha256(transfer(hosts, client, server, content)).digest() == hashlib.sha256(content).digest()
    # The other direction is still open: a half-close.
    assert transfer(hosts, server, client, content[::-1]) == content[::-1]


def test_send_takes_what_fits_and_says_when_there_is_room_again(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    client.set_option(Option.SNDBUF, 10_000)
    events: list[Event] = []
    client.on_event = events.append
    assert client.send(bytes(50_000)) == 10_000
    with pytest.raises(BlockingIOError) as info:
        client.send(b"more")
    assert info.value.errno == errno.EAGAIN
    hosts.time.run(lambda: any(Event.WRITABLE in event for event in events))
    assert client.send(bytes(50_000)) > 0
    assert server.info.queued >= 10_000


def test_the_window_opens_when_the_application_reads(hosts: Pair) -> None:
    """Back-pressure: a peer that does not read holds no more than its buffer."""
    assert hosts.time is not None
    server, client = connected(hosts)
    sent = 0
    for _ in range(200):
        try:
            sent += client.send(bytes(65536))
        except BlockingIOError:
            hosts.time.run(limit=0.05)
    assert server.info.queued <= 256 * 1024
    assert server.info.receive_window < 2 * 1460
    client.shutdown(write=True)
    assert len(read_all(hosts, server)) == sent


def test_readable_is_told_once_until_a_read_had_to_wait(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    server.ready()
    events: list[Event] = []
    server.on_event = events.append
    for _ in range(3):
        client.send(b"x" * 100)
        hosts.time.run(limit=0.1)
    assert events == [Event.READABLE]
    assert len(server.recv(1000)) == 300
    with pytest.raises(BlockingIOError):
        server.recv(1000)
    client.send(b"again")
    hosts.time.run(limit=0.1)
    assert events == [Event.READABLE] * 2


def test_peeking_leaves_the_bytes(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    client.send(b"abc")
    hosts.time.run(limit=0.1)
    buffer = bytearray(10)
    assert server.recv_into(buffer, peek=True) == 3
    assert server.recv(2) == b"ab"
    assert server.recv(2) == b"c"


def test_refused_is_told_apart(hosts: Pair) -> None:
    assert hosts.time is not None
    client = hosts.b.tcp()
    events: list[Event] = []
    client.on_event = events.append
    client.connect(("10.0.0.1", 81))
    hosts.time.run(lambda: events)
    assert Event.FAILED in events[0]
    assert isinstance(client.take_error(), ConnectionRefusedError)


def test_a_peer_that_is_not_there_times_out(hosts: Pair) -> None:
    assert hosts.time is not None
    client = hosts.b.tcp()
    client.connect(("10.0.0.77", 80))
    error: list[OSError] = []

    def failed() -> bool:
        error.extend([found] if (found := client.take_error()) else [])
        return bool(error)

    seconds = hosts.time.run(failed, limit=300)
    assert isinstance(error[0], TimeoutError)
    assert 10 < seconds < 200


def test_unreachable_is_told_at_once(hosts: Pair) -> None:
    with pytest.raises(OSError, match=r"10\.9\.9\.9") as info:
        hosts.b.tcp().connect(("10.9.9.9", 80))
    assert info.value.errno == errno.EHOSTUNREACH


def test_a_reset_follows_the_bytes_that_came_before_it(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    server.send(b"last words")
    hosts.time.run(limit=0.1)
    server.abort()
    hosts.time.run(limit=0.1)
    assert client.recv(100) == b"last words"
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_closing_with_unread_bytes_resets_as_rfc_2525_asks(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    client.send(b"nobody reads this")
    hosts.time.run(limit=0.1)
    server.close()
    hosts.time.run(limit=0.1)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_close_delivers_what_was_sent(hosts: Pair) -> None:
    server, client = connected(hosts)
    content = bytes(200_000)
    assert client.send(content) == len(content)
    client.close()
    assert read_all(hosts, server) == content


def test_half_close_lets_the_answer_come(hosts: Pair) -> None:
    server, client = connected(hosts)
    client.send(b"question")
    client.shutdown(write=True)
    assert read_all(hosts, server) == b"question"
    server.send(b"answer")
    server.close()
    assert read_all(hosts, client) == b"answer"
    with pytest.raises(BrokenPipeError):
        client.send(b"x")


def test_the_peer_vanishing_is_noticed_by_keepalive(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    for option, value in ((Option.KEEPIDLE, 10), (Option.KEEPINTVL, 2), (Option.KEEPCNT, 3), (Option.KEEPALIVE, 1)):
        client.set_option(option, value)
    hosts.time.run(limit=30)
    assert client.info.state is TcpState.ESTABLISHED
    hosts.nic_a.link_up = False
    failed: list[Event] = []
    client.on_event = failed.append
    seconds = hosts.time.run(lambda: failed, limit=60)
    assert 6 < seconds < 30
    assert isinstance(client.take_error(), TimeoutError)
    assert server.info.state is TcpState.ESTABLISHED


def test_an_idle_connection_has_no_deadline(hosts: Pair) -> None:
    """A sleeping stack is not woken: once housekeeping has gone to rest, poll() says None."""
    assert hosts.time is not None
    connected(hosts)
    hosts.time.run(limit=120)
    assert hosts.a.poll() is None
    assert hosts.b.poll() is None


def test_options_are_kept_and_inherited_by_accepted_connections(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = hosts.a.tcp()
    settings = {
        Option.NODELAY: 1,
        Option.KEEPALIVE: 1,
        Option.KEEPIDLE: 33,
        Option.KEEPINTVL: 7,
        Option.KEEPCNT: 5,
        Option.RCVBUF: 1 << 20,
        Option.SNDBUF: 1 << 19,
    }
    listener.bind(("", 80))
    for option, value in settings.items():
        listener.set_option(option, value)
    listener.listen()
    client = hosts.b.tcp()
    client.connect(("10.0.0.1", 80))
    hosts.time.run(lambda: listener.info.queued)
    server = listener.accept()
    assert {option: server.get_option(option) for option in settings} == settings
    assert server.info.receive_window == 1 << 20


def test_windows_of_four_megabytes_are_used(hosts: Pair) -> None:
    assert hosts.time is not None
    listener = hosts.a.tcp()
    listener.set_option(Option.RCVBUF, 4 << 20)
    listener.bind(("", 80))
    listener.listen()
    client = hosts.b.tcp()
    client.set_option(Option.SNDBUF, 4 << 20)
    client.connect(("10.0.0.1", 80))
    hosts.time.run(lambda: listener.info.queued)
    server = listener.accept()
    sent = 0
    for _ in range(1000):
        try:
            sent += client.send(bytes(65536))
        except BlockingIOError:
            hosts.time.run(limit=0.1)
            if server.info.queued > 4_000_000:
                break
    assert server.info.queued > 4_000_000
    client.close()
    assert len(read_all(hosts, server)) == sent


def test_unsent_and_unacked_bytes_are_told(hosts: Pair) -> None:
    server, client = connected(hosts)
    hosts.nic_b.link_up = False
    client.send(bytes(100_000))
    info = client.info
    assert info.unsent + info.unacked == 100_000
    assert info.unacked <= info.congestion_window
    assert server.info.queued == 0


def test_lingering_tells_when_all_was_acknowledged(hosts: Pair) -> None:
    assert hosts.time is not None
    server, client = connected(hosts)
    events: list[Event] = []
    client.on_event = events.append
    client.send(bytes(50_000))
    client.linger()
    hosts.time.run(lambda: any(Event.ACKED in event for event in events))
    assert server.info.queued == 50_000


def test_urgent_data_is_ordinary_data(virtual: VirtualTime) -> None:
    """RFC 6093: the urgent pointer is not acted upon, and no byte is lost for it."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    hosts = Pair.of(virtual.stack(seed=1), virtual.stack(seed=2), virtual, wired=False)

    def carry(urgent: bool) -> bool:
        for frame in hosts.nic_b.frames():
            packet = Ether(frame)
            if urgent and TCP in packet and packet[TCP].payload:
                packet[TCP].flags |= "U"
                packet[TCP].urgptr = 1
                del packet[IP].chksum, packet[TCP].chksum
            hosts.nic_a.receive(bytes(packet))
        hosts.nic_b.receive_many(hosts.nic_a.frames())
        return False

    listener = listening(hosts)
    client = hosts.b.tcp()
    client.connect(("10.0.0.1", 80))
    virtual.run(lambda: carry(False) or listener.info.queued)
    server = listener.accept()
    client.send(b"every byte of it")
    virtual.run(lambda: carry(True) or server.info.queued)
    assert server.recv(100) == b"every byte of it"


def test_a_connection_survives_its_time_wait_twin(hosts: Pair) -> None:
    """A SYN from the address and port of a connection in TIME_WAIT opens a new one at once."""
    assert hosts.time is not None
    listener = listening(hosts)
    for attempt in range(3):
        client = hosts.b.tcp()
        client.bind(("", 50_000), reuse=True)
        client.connect(("10.0.0.1", 80))
        took = hosts.time.run(lambda: listener.info.queued, limit=10)
        assert took < 0.5, f"attempt {attempt} waited for TIME_WAIT"
        server = listener.accept()
        # The server closes first, so that TIME_WAIT is its own.
        server.close()
        assert read_all(hosts, client) == b""
        client.close()
        hosts.time.run(limit=0.1)


def test_bytes_that_are_still_on_their_way_outlive_the_close(hosts: Pair) -> None:
    """Both have said their end, then the wire is cut for longer than a connection lingers otherwise (LAST_ACK)."""
    assert hosts.time is not None
    server, client = connected(hosts)
    client.shutdown(write=True)
    hosts.time.run(lambda: Event.READABLE in server.ready())
    assert server.recv(1) == b""
    hosts.nic_b.link_up = False
    content = random.Random(1).randbytes(100_000)
    assert server.send(content) == len(content)
    server.close()
    hosts.time.run(limit=7)
    hosts.nic_b.link_up = True
    assert read_all(hosts, client) == content
