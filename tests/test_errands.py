"""Who drives does what other threads wait for: crowds that stream both ways, and waits that end in the midst."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from conftest import Pair, started
from links import eventually

import lwipy
from lwipy import FastPath
from lwipy.blocking import Socket

CROWD = 8


@pytest.fixture(params=[FastPath(0), FastPath.ERRANDS], ids=["with", "without"])
def crowd(request: pytest.FixtureRequest) -> Iterator[list[tuple[Socket, Socket]]]:
    """The ends of several connections, on a link that loses, reorders and repeats."""
    with ExitStack() as exits:
        a, b = (exits.enter_context(lwipy.Stack(without=request.param)) for _ in range(2))
        pair = Pair.of(a, b)
        server = exits.enter_context(pair.a.create_server(("10.0.0.1", 80), backlog=CROWD))
        made = []
        for _ in range(CROWD):
            peer = exits.enter_context(closing(pair.b.create_connection(("10.0.0.1", 80), 60)))
            end = exits.enter_context(closing(server.accept()[0]))
            end.settimeout(60)
            made.append((end, peer))
        pair.nic_a.impair(loss=0.005, reorder=0.02, duplicate=0.02, seed=1)
        yield made


def content_of(number: int, size: int = 3 << 20) -> bytes:
    return random.Random(number).randbytes(size)


def test_of_a_crowd_that_streams_both_ways_each_gets_its_own(
    crowd: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    """By recv() and recv_into(), in buffers of any size."""

    def receive(end: Socket, number: int) -> str:
        chance, digest, buffer = random.Random(number), hashlib.sha256(), bytearray(1 << 20)
        while True:
            size = chance.choice((1, 3000, 1 << 16, 1 << 20))
            if chance.random() < 0.5:
                data: bytes | memoryview = end.recv(size)
            else:
                data = memoryview(buffer)[: end.recv_into(buffer, size)]
            if not data:
                return digest.hexdigest()
            digest.update(data)

    def send(end: Socket, number: int) -> None:
        chance, left = random.Random(number), memoryview(content_of(number))
        while left:
            size = chance.choice((1, 2000, 100_000, 1 << 20))
            end.sendall(bytes(left[:size]))
            left = left[size:]
        end.shutdown(socket.SHUT_WR)

    ends = [end for both in crowd for end in both]
    received = [pool.submit(receive, end, number) for number, end in enumerate(ends)]
    sent = [pool.submit(send, end, number ^ 1) for number, end in enumerate(ends)]
    for future in sent:
        future.result(120)
    for number, digest in enumerate(received):
        assert digest.result(120) == hashlib.sha256(content_of(number)).hexdigest()


def test_what_comes_as_the_time_is_over_is_not_lost(
    crowd: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    """A wait that ends by its timeout has received and sent what it says, or nothing, and leaves its buffer alone."""

    def receive(end: Socket) -> tuple[str, int]:
        digest, got, timeouts = hashlib.sha256(), 1, 0
        while got:
            buffer = bytearray(b"." * 70_000)
            end.settimeout(0.0003 if timeouts < 300 else 60)
            try:
                got = end.recv_into(buffer)
                digest.update(buffer[:got])
            except TimeoutError:
                timeouts += 1
                assert buffer == b"." * 70_000
                buffer.clear()  # it would be exported still if someone could write into it
        return digest.hexdigest(), timeouts

    def send(end: Socket, number: int) -> None:
        chance, left, timeouts = random.Random(number), memoryview(content_of(number, 1 << 20)), 0
        while left:
            end.settimeout(0.0003 if timeouts < 300 else 60)
            try:
                left = left[end.send(bytes(left[: chance.choice((1, 1000, 1 << 20))])) :]
            except TimeoutError:
                timeouts += 1
        end.shutdown(socket.SHUT_WR)

    received = [pool.submit(receive, end) for end, _ in crowd]
    sent = [pool.submit(send, peer, number) for number, (_, peer) in enumerate(crowd)]
    for future in sent:
        future.result(120)
    results = [future.result(120) for future in received]
    assert [digest for digest, _ in results] == [
        hashlib.sha256(content_of(number, 1 << 20)).hexdigest() for number in range(CROWD)
    ]
    assert any(timeouts for _, timeouts in results)


def test_one_who_waits_alone_after_a_crowd_is_served(
    crowd: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    """The driver's thread, which drives for a crowd, leaves off when there is none."""
    alone, peer_of_it = crowd[0]
    for size in (1, 100_000, 1):
        together = [pool.submit(end.recv, 1 << 20) for end, _ in crowd]
        for _, peer in crowd:
            peer.sendall(bytes(size))
        for (end, _), future in zip(crowd, together, strict=True):
            got = len(future.result(60))
            while got < size:
                got += len(end.recv(1 << 20))
        for _ in range(20):
            answer = started(pool, lambda: alone.recv(10))
            peer_of_it.sendall(b"x")
            assert answer.result(60) == b"x"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
def test_a_signal_in_a_crowd_costs_nothing(crowd: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    """Its handler runs while the thread that waits is served; nothing is lost or comes twice."""
    handled, over = [0], threading.Event()

    def note(*_: object) -> None:
        handled[0] += 1

    def ring() -> None:
        while not over.wait(0.001):
            os.kill(os.getpid(), signal.SIGUSR1)

    def read(end: Socket) -> bytes:
        return b"".join(iter(lambda: end.recv(1 << 20), b""))

    before = signal.signal(signal.SIGUSR1, note)
    try:
        ringing = pool.submit(ring)
        others = [pool.submit(read, end) for end, _ in crowd[1:]]
        sent = [pool.submit(peer.sendall, content_of(number)) for number, (_, peer) in enumerate(crowd)]
        got = bytearray()
        while len(got) < 3 << 20:
            got += crowd[0][0].recv(1 << 20)  # in the main thread, which alone has signals
        for future in sent:
            future.result(120)
        eventually(lambda: handled[0])
    finally:
        over.set()
        ringing.result(20)
        signal.signal(signal.SIGUSR1, before)
    for _, peer in crowd[1:]:
        peer.shutdown(socket.SHUT_WR)
    assert got == content_of(0)
    assert [future.result(120) for future in others] == [content_of(number) for number in range(1, CROWD)]


def test_sockets_that_close_in_a_crowd_release_their_threads(
    crowd: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    def stream(end: Socket) -> None:
        while True:
            end.sendall(bytes(1 << 20))

    flowing = [threading.Event() for _ in crowd]

    def drain(end: Socket, flows: threading.Event) -> None:
        buffer = bytearray(1 << 20)
        while end.recv_into(buffer):
            flows.set()

    sending = [pool.submit(stream, peer) for _, peer in crowd]
    receiving = [pool.submit(drain, end, flows) for (end, _), flows in zip(crowd, flowing, strict=True)]
    for (end, _), flows in zip(crowd, flowing, strict=True):
        assert flows.wait(60)
        end.close()
    for future in [*sending, *receiving]:
        assert isinstance(future.exception(60), OSError)
