"""Bytes of a blocking socket, whose calls wait in C: how much they take, signals and other threads meanwhile."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from conftest import Pair, started
from links import eventually

from lwipy.blocking import Socket


@pytest.fixture
def ends(threads: Pair) -> Iterator[tuple[Socket, Socket]]:
    """Those of a connection."""
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        peer = threads.b.create_connection(("10.0.0.1", 80), 60)
        end, _ = server.accept()
    end.settimeout(60)
    with closing(end), closing(peer):
        yield end, peer


def read(end: Socket) -> bytes:
    """All, until the end."""
    return b"".join(iter(lambda: end.recv(100_000), b""))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_a_signal_is_handled_in_a_send(ends: tuple[Socket, Socket], pool: ThreadPoolExecutor, raises: bool) -> None:
    """In the midst of one that has to wait: nothing is sent twice or left out."""
    end, peer = ends
    content = random.Random(1).randbytes(8 << 20)
    handled = threading.Event()

    def note(*_: object) -> None:
        handled.set()
        if raises:
            raise KeyboardInterrupt

    def ring_and_read() -> bytes:
        eventually(lambda: end.tcp_info.send_window == 0 < end.tcp_info.unsent)  # it waits, or will in a moment
        for _ in range(200):
            os.kill(os.getpid(), signal.SIGUSR1)
            if handled.wait(0.1):
                break
        return read(peer)

    before = signal.signal(signal.SIGUSR1, note)
    try:
        reading = pool.submit(ring_and_read)
        if raises:
            with pytest.raises(KeyboardInterrupt):
                end.sendall(content)
        else:
            end.sendall(content)
        end.shutdown(socket.SHUT_WR)
        got = reading.result(60)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (content.startswith(got) and got != content) if raises else got == content


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 60_000])
def test_what_has_come_is_given_as_far_as_asked_for(
    ends: tuple[Socket, Socket], pool: ThreadPoolExecutor, size: int, waits: bool
) -> None:
    end, peer = ends
    content = random.Random(size).randbytes(size)
    for most in (1, 2048, 2049, 1 << 20):
        expected = content[:most]
        receiving = started(pool, lambda most=most: end.recv(most)) if waits else None  # type: ignore[misc]
        peer.sendall(content)
        if receiving is not None:
            got = receiving.result(20)
        else:
            eventually(lambda: end.tcp_info.queued == len(content))
            got = end.recv(most)
        assert expected.startswith(got)
        if not waits:
            assert got == expected
        while len(got) < len(content):
            got += end.recv(1 << 20)
        assert got == content


def test_two_threads_read_one_socket(ends: tuple[Socket, Socket], pool: ThreadPoolExecutor) -> None:
    """What one has seen waiting the other may take: both go on, and nothing is lost."""
    end, peer = ends
    total = 8 << 20

    def count() -> int:
        got = 0
        while data := end.recv(5000):
            got += len(data)
        return got

    counting = [started(pool, count) for _ in range(2)]
    peer.sendall(bytes(total))
    peer.shutdown(socket.SHUT_WR)
    assert sum(each.result(60) for each in counting) == total
