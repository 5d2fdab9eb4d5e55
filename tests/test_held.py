"""Large sends of bytes: not copied, kept until the peer has them or the connection is gone, and let go then."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from conftest import Pair as Hosts
from pairs import VirtualPair

import lwipy
from lwipy import FastPath, TcpEndpoint
from lwipy._native import calls
from lwipy.links import Impair

SIZE = 1 << 16


class Ends:
    """A connection between two stacks in virtual time."""

    def __init__(self, pair: VirtualPair) -> None:
        self.pair = pair
        self.client, self.server = pair.connect()

    @property
    def kept(self) -> int:
        """Objects that the sending stack keeps."""
        return len(self.pair.a._held)

    def read(self, size: int) -> bytes:
        arrived = bytearray()
        while len(arrived) < size:
            try:
                arrived += self.server.recv(size - len(arrived))
            except BlockingIOError:
                self.pair.step()
        return bytes(arrived)

    def settle(self) -> None:
        self.pair.run(5)


@pytest.fixture
def ends() -> Iterator[Ends]:
    pair = VirtualPair()
    yield Ends(pair)
    pair.close()


def content(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def test_what_is_sent_is_kept_until_it_is_acknowledged_and_no_longer(ends: Ends) -> None:
    data = content(1)
    before = sys.getrefcount(data)
    assert ends.client.send(data) == SIZE
    assert ends.kept == 1
    assert sys.getrefcount(data) == before + 1
    assert ends.read(SIZE) == data
    ends.settle()
    assert ends.kept == 0
    assert sys.getrefcount(data) == before


def test_a_view_keeps_the_bytes_that_it_is_of(ends: Ends) -> None:
    data = content(2, 4 * SIZE)
    view = memoryview(data)[100 : 100 + SIZE]
    assert ends.client.send(view) == SIZE
    view.release()
    assert ends.kept == 1
    assert ends.read(SIZE) == data[100 : 100 + SIZE]


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data)), lambda data: data[:1000]])
def test_what_may_change_and_what_is_short_is_copied(ends: Ends, kind: Callable[[bytes], bytes]) -> None:
    data = content(3)
    sent = kind(data)
    size = ends.client.send(sent)
    assert ends.kept == 0
    if isinstance(sent, bytearray):
        sent[:] = bytes(10)  # changed and shorter: nothing of it is exported
    elif isinstance(sent, memoryview):
        sent[:] = bytes(SIZE)
    assert ends.read(size) == data[:size]


def test_without_the_switch_everything_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lwipy.Stack, "default_without", FastPath.HOLDING)
    pair = VirtualPair()
    ends = Ends(pair)
    ends.client.send(content(4))
    assert ends.kept == 0
    assert ends.read(SIZE) == content(4)
    pair.close()


def test_a_send_that_takes_nothing_keeps_nothing(ends: Ends) -> None:
    data = content(5)
    kept = 0
    with pytest.raises(BlockingIOError):
        while ends.client.send(data):
            kept += 1
    assert ends.kept <= kept + 1
    before = sys.getrefcount(data)
    assert ends.client.send_if_room(data) == 0
    with pytest.raises(BlockingIOError):
        ends.client.send(data)
    assert sys.getrefcount(data) == before
    ends.client.abort()
    with pytest.raises(OSError, match="Bad file descriptor"):
        ends.client.send(data)
    ends.settle()
    assert ends.kept == 0


def abort(ends: Ends) -> None:
    ends.client.abort()


def reset_by_the_peer(ends: Ends) -> None:
    ends.server.abort()


def close(ends: Ends) -> None:
    ends.client.close()  # what is queued is sent
    ends.read(SIZE)


def remove_the_interface(ends: Ends) -> None:
    ends.pair.nic_a.remove()


def lose_the_peer(ends: Ends) -> None:
    ends.pair.nic_b.remove()
    ends.pair.run(2000)  # until lwIP gives the connection up


ENDS = [abort, reset_by_the_peer, close, remove_the_interface, lose_the_peer]


@pytest.mark.parametrize("end", ENDS)
def test_it_is_let_go_however_the_connection_ends(ends: Ends, end: Callable[[Ends], None]) -> None:
    ends.client.send(content(6))
    end(ends)
    ends.settle()
    ends.pair.a.dispatch()
    assert ends.kept == 0


def test_it_is_let_go_with_the_stack(ends: Ends) -> None:
    data = content(7)
    before = sys.getrefcount(data)
    ends.client.send(data)
    ends.pair.a.close()
    gc.collect()
    assert sys.getrefcount(data) == before


def test_what_waits_for_an_address_outlives_its_connection() -> None:
    """The frames that ARP keeps are copies: they leave when the connection and its bytes are long gone."""
    pair = VirtualPair()
    ends = Ends(pair)
    pair.nic_a.remove_neighbour("10.0.0.2")
    ends.client.send(content(8))
    ends.client.abort()
    calls.release(pair.a._way)
    assert ends.kept == 0
    gc.collect()
    pair.run(3)  # the address is asked for and answered
    assert pair.nic_b.counters.rx_frames > 3
    pair.close()


NETWORKS = {
    "good": Impair,
    "lossy": partial(Impair, loss=0.02, delay=0.001),
    "disordered": partial(Impair, delay=0.001, jitter=0.0005, reorder=0.02, duplicate=0.02),
    "damaging": partial(Impair, corrupt=0.005, delay=0.0005),
}


@pytest.mark.parametrize("network", list(NETWORKS.values()), ids=list(NETWORKS))
@pytest.mark.parametrize("without", [FastPath(0), FastPath.HOLDING, FastPath.BLOCKS, FastPath.MERGE], ids=str)
def test_every_byte_arrives_though_the_objects_come_and_go(
    monkeypatch: pytest.MonkeyPatch, network: Callable[..., Impair], without: FastPath
) -> None:
    """Objects of many sizes, each dropped by its sender at once and its memory used again."""
    monkeypatch.setattr(lwipy.Stack, "default_without", without)
    rng = random.Random(9)
    link = network(None, seed=9) if network is not Impair else None
    pair = VirtualPair(link)
    ends = Ends(pair)
    expected, arrived = bytearray(), bytearray()
    while len(expected) < 1_500_000:
        piece = rng.randbytes(rng.choice((10, 3000, 16384, 40_000, 65_536, 200_000)))
        part = piece
        while part:
            sent = ends.client.send_if_room(part)
            part = part[sent:]
            while (got := ends.server.recv_into_if_any(buffer := bytearray(1 << 18))) is not None:
                arrived += buffer[:got]
            if part or rng.random() < 0.3:
                pair.step()
        expected += piece
    arrived += ends.read(len(expected) - len(arrived))
    assert arrived == expected
    ends.settle()
    pair.a.dispatch()
    assert ends.kept == 0
    pair.close()


def test_an_end_behind_it_arrives_behind_it(ends: Ends) -> None:
    data = content(10, 150_000)
    view = memoryview(data)
    while view:
        view = view[ends.client.send_if_room(view) :]
        if view:
            ends.pair.step()
    ends.client.shutdown(write=True)
    assert ends.read(len(data)) == data
    ends.settle()
    assert ends.server.recv(1) == b""


def test_threads_send_and_read_the_same_objects(threads: Hosts) -> None:
    """Blocking sockets, each stack in its own thread: pieces are dropped while the other side still reads."""
    listener = threads.b.create_server(("10.0.0.2", 80))
    total, digest = 0, 0

    def serve() -> None:
        nonlocal total, digest
        connection, _ = listener.accept()
        with connection:
            while piece := connection.recv(1 << 18):
                total += len(piece)
                digest += sum(piece[::997])

    server = threading.Thread(target=serve)
    server.start()
    sent = bytearray()
    with threads.a.create_connection(("10.0.0.2", 80)) as client:
        for seed in range(60):
            piece = content(seed, 20_000 + 3000 * seed)
            sent += piece
            client.sendall(piece)
            del piece
    server.join(60)
    listener.close()
    assert total == len(sent)
    assert isinstance(digest, int)


def test_a_blocking_sendall_sends_the_object_itself(threads: Hosts) -> None:
    data = content(12, 2_000_000)
    before = sys.getrefcount(data)
    with threads.b.create_server(("10.0.0.2", 80)) as listener:
        client = threads.a.create_connection(("10.0.0.2", 80), timeout=120)
        server, _ = listener.accept()
    with client, server:
        server.settimeout(120)
        thread = threading.Thread(target=client.sendall, args=(data,))
        thread.start()
        arrived = bytearray(server.recv(1))
        assert len(threads.a._held) > 0
        while len(arrived) < len(data):
            arrived += server.recv(1 << 18)
        thread.join()
    assert arrived == data
    for _ in range(6000):  # until the stack is reminded
        if len(threads.a._held) == 0:
            break
        time.sleep(0.01)
    assert len(threads.a._held) == 0
    del thread
    assert sys.getrefcount(data) == before


def test_a_connection_of_lwip_alone_copies(ends: Ends) -> None:
    listener, client = ends.pair.b.tcp(), ends.pair.a.tcp()
    listener.bind(("10.0.0.2", 81))
    listener.listen()
    client.congestion = "lwip"
    client.connect(("10.0.0.2", 81))
    server: TcpEndpoint | None = None
    while server is None:
        ends.pair.step()
        server = listener.accept_if_any()
    data = content(11, 16384)
    sent = 0
    while sent < len(data):
        sent += client.send_if_room(data[sent:])
        ends.pair.step()
    ends.settle()
    ends.pair.a.dispatch()
    assert ends.kept == 0
    assert server.recv(1 << 16) == data
