"""A wire in C: frames are copied once, into blocks of the receiver's, or go through its queue."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

import lwipy
from lwipy import FastPath, TcpEndpoint


class Wired:
    """Two stacks on a wire, driven by hand, and a connection from `a` to `b`."""

    def __init__(self, mtu: int, without: FastPath, memory: int = 1 << 26) -> None:
        self.a = lwipy.Stack(without=without, memory=memory)
        self.b = lwipy.Stack(without=without, memory=memory)
        self.nic_a = self.a.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64", mtu=mtu)
        self.nic_b = self.b.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64", mtu=mtu)
        lwipy.wire(self.nic_a, self.nic_b)
        listener, self.client = self.b.tcp(), self.a.tcp()
        listener.bind(("10.0.0.2", 80))
        listener.listen()
        self.client.connect(("10.0.0.2", 80))
        accepted: TcpEndpoint | None = None
        while accepted is None:
            self.poll()
            accepted = listener.accept_if_any()
        self.server = accepted

    def poll(self) -> None:
        self.a.poll()
        self.b.poll()

    def fill(self, data: bytes) -> int:
        """Sends as much as the two stacks take while nobody reads."""
        sent = 0
        self.poll()  # the last of what was read may have filled the send buffer, and is acknowledged now
        while part := self.client.send_if_room(data[sent : sent + 70_000]):
            sent += part
            self.poll()
        return sent

    def close(self) -> None:
        self.a.close()
        self.b.close()


@pytest.fixture(params=[FastPath(0), FastPath.BLOCKS, FastPath.MERGE, ~FastPath(0)], ids=str)
def without(request: pytest.FixtureRequest) -> FastPath:
    parts: FastPath = request.param
    return parts


@pytest.fixture(params=[576, 1500, 9000, 65_000])
def wired(request: pytest.FixtureRequest, without: FastPath) -> Iterator[Wired]:
    pair = Wired(request.param, without)
    yield pair
    pair.close()


def received(pair: Wired, endpoint: TcpEndpoint, size: int) -> bytes:
    arrived, buffer = bytearray(), bytearray(100_000)
    while len(arrived) < size:
        if (got := endpoint.recv_into_if_any(buffer)) is None:
            pair.poll()
        else:
            assert got > 0, f"the stream ends after {len(arrived)} of {size} bytes"
            arrived += buffer[:got]
    return bytes(arrived)


def test_every_byte_arrives_both_ways(wired: Wired) -> None:
    rng = random.Random(1)
    ends = (wired.client, wired.server)
    contents = [rng.randbytes(1_200_000) for _ in ends]
    sent, arrived = [0, 0], [bytearray(), bytearray()]
    while min(map(len, arrived)) < len(contents[0]):
        for side, end in enumerate(ends):
            size = rng.choice((1, 200, 1460, 5000, 65_536, 150_000))
            if part := contents[side][sent[side] : sent[side] + size]:
                sent[side] += end.send_if_room(part)
            if (got := end.recv_into_if_any(buffer := bytearray(size))) is not None:
                arrived[1 - side] += buffer[:got]
        wired.poll()
    assert arrived == [bytearray(content) for content in contents]


def test_who_does_not_read_gets_it_all_later(wired: Wired) -> None:
    """What lies in blocks is unread data; the wire goes on with others, or with its queue."""
    data = random.Random(2).randbytes(9 << 20)  # more than the largest two buffers
    for _ in range(3):
        sent = wired.fill(data)
        assert 0 < sent < len(data)
        assert received(wired, wired.server, sent) == data[:sent]


def test_what_has_arrived_is_read_though_the_wire_is_gone(wired: Wired) -> None:
    data = random.Random(3).randbytes(3 << 20)
    received(wired, wired.server, wired.fill(data))  # from here on there are blocks
    wired.fill(data)
    wired.a.close()
    waiting = wired.server.info.queued
    assert waiting > 0
    wired.nic_b.remove()
    arrived = bytearray()
    while len(arrived) < waiting:
        arrived += wired.server.recv(waiting - len(arrived))
    assert arrived == data[:waiting]


def test_memory_comes_back_when_an_interface_goes(without: FastPath) -> None:
    pair = Wired(1500, without)
    before = pair.b.statistics.memory_used
    received(pair, pair.server, pair.fill(random.Random(4).randbytes(3 << 20)))
    sent = pair.fill(random.Random(5).randbytes(3 << 20))
    assert sent > 0
    pair.nic_b.remove()
    pair.server.recv(1000)  # some of what lies in blocks
    pair.server.abort()
    assert pair.b.statistics.memory_used <= before + 8192
    pair.close()


def test_both_ends_may_be_one_stacks(without: FastPath) -> None:
    stack = lwipy.Stack(without=without)
    nics = [stack.add_interface(ipv4=f"10.{n}.0.1/24") for n in range(2)]
    lwipy.wire(*nics)
    sender = stack.raw(200)
    nics[0].add_neighbour("10.0.0.9", nics[1].mac)
    before = nics[1].counters.rx_frames
    for size in (10, 600, 1400) * 10:
        sender.send(bytes(size), ("10.0.0.9", 0))
        stack.poll()
    assert nics[1].counters.rx_frames == before + 30
    for nic in nics:
        nic.remove()
    stack.close()


def test_little_memory_makes_no_blocks_that_others_need(without: FastPath) -> None:
    pair = Wired(9000, without, memory=2 << 20)
    data = random.Random(6).randbytes(1 << 20)
    for _ in range(4):
        sent = pair.fill(data)
        assert received(pair, pair.server, sent) == data[:sent]
    assert pair.b.statistics.memory_used < 1 << 20
    pair.close()


@pytest.mark.parametrize("mtu", [1500, 65_000])
def test_an_end_is_cut_off_while_both_threads_work(mtu: int) -> None:
    """Whoever goes first takes its blocks along; the other's frames are counted as dropped."""
    for seed in range(8):
        with lwipy.Stack(memory=1 << 26) as a, lwipy.Stack(memory=1 << 26) as b:
            nic_a, nic_b = a.add_interface(ipv4="10.0.0.1/24", mtu=mtu), b.add_interface(ipv4="10.0.0.2/24", mtu=mtu)
            lwipy.wire(nic_a, nic_b)
            listener = b.create_server(("10.0.0.2", 80))
            client = a.create_connection(("10.0.0.2", 80))
            server, _ = listener.accept()
            stop = threading.Event()

            def send(client=client, stop=stop) -> None:  # type: ignore[no-untyped-def]
                client.settimeout(0.05)
                while not stop.is_set():
                    try:
                        client.send(bytes(100_000))
                    except TimeoutError:
                        continue
                    except OSError:
                        return

            def read(server=server, stop=stop) -> None:  # type: ignore[no-untyped-def]
                server.settimeout(0.05)
                while not stop.is_set():
                    try:
                        if not server.recv(300_000):
                            return
                    except TimeoutError:
                        continue
                    except OSError:
                        return

            workers = [threading.Thread(target=work) for work in (send, read)]
            for worker in workers:
                worker.start()
            time.sleep(0.02)
            if seed % 4 == 0:
                nic_a.remove()
            elif seed % 4 == 1:
                nic_b.remove()
            elif seed % 4 == 2:
                a.close()
            else:
                b.close()
            stop.set()
            for worker in workers:
                worker.join(30)
                assert not worker.is_alive()
            for sock in (client, server, listener):
                sock.close()
