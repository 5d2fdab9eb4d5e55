"""Whoever waits drives: threads that wait in one stack lead, follow, hand on, and are released."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from conftest import Pair, started
from links import eventually

import lwipy
from lwipy.blocking import Socket
from lwipy.testing import fail


def connections(threads: Pair, count: int) -> list[tuple[Socket, Socket]]:
    """`count` connections: their ends on a and on b."""
    with threads.a.create_server(("10.0.0.1", 80), backlog=count) as server:
        clients = [threads.b.create_connection(("10.0.0.1", 80), 20) for _ in range(count)]
        by_address = {client.getsockname(): client for client in clients}
        accepted = [server.accept() for _ in range(count)]
    return [(end, by_address[address]) for end, address in accepted]


@pytest.fixture
def pairs(threads: Pair) -> Iterator[list[tuple[Socket, Socket]]]:
    with ExitStack() as exits:
        made = connections(threads, 8)
        for pair in made:
            for end in pair:
                exits.enter_context(closing(end))
        yield made


def sleeps(thread: int) -> int:
    """How often a thread has slept so far, by the kernel's count."""
    status = Path(f"/proc/self/task/{thread}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


# -- Leading and following ------------------------------------------------------------------------------------------


def test_of_many_who_wait_each_gets_its_own(pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    """Bytes come in any order and in pieces; whoever leads sees everybody's, and hands on when its own came."""
    contents = [random.Random(number).randbytes(200_000) for number in range(len(pairs))]

    def receive(end: Socket) -> str:
        digest = hashlib.sha256()
        while data := end.recv(random.choice((1, 100, 5000, 1 << 16))):
            digest.update(data)
        return digest.hexdigest()

    received = [pool.submit(receive, end) for end, _ in pairs]
    chance, left = random.Random(1), dict(enumerate(contents))
    while left:
        number = chance.choice(list(left))
        size = chance.choice((1, 10, 3000, 60_000))
        pairs[number][1].sendall(left[number][:size])
        left[number] = left[number][size:]
        if not left[number]:
            del left[number]
            pairs[number][1].shutdown(socket.SHUT_WR)
    for content, future in zip(contents, received, strict=True):
        assert future.result(60) == hashlib.sha256(content).hexdigest()


def test_both_directions_of_one_socket_are_waited_for_at_once(
    pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    content = random.Random(2).randbytes(4 << 20)

    def receive(end: Socket) -> bytes:
        return b"".join(iter(lambda: end.recv(1 << 16), b""))

    def send(end: Socket) -> None:
        end.sendall(content)
        end.shutdown(socket.SHUT_WR)

    ends = pairs[0]
    received = [pool.submit(receive, end) for end in ends]
    done = [pool.submit(send, end) for end in ends]
    for future in done:
        future.result(60)
    assert all(future.result(60) == content for future in received)


def test_a_leader_that_gives_up_leaves_the_others_served(
    pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    (leader, _), *others = pairs
    leader.settimeout(0.1)
    leading = started(pool, lambda: leader.recv(1))
    waiting = [pool.submit(end.recv, 1) for end, _ in others]
    assert isinstance(leading.exception(20), TimeoutError)
    for _, peer in others:
        peer.sendall(b"x")
    assert [future.result(20) for future in waiting] == [b"x"] * len(others)


def test_what_comes_while_nobody_waits_is_taken(pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    """After a busy exchange both programs turn to something else; the driver's thread serves on."""
    end, peer = pairs[0]
    for _ in range(200):
        peer.sendall(b"x")
        assert end.recv(1) == b"x"
        end.sendall(b"y")
        assert peer.recv(1) == b"y"
    peer.sendall(bytes(100_000))
    eventually(lambda: end.tcp_info.queued == 100_000)
    eventually(lambda: peer.tcp_info.unacked == 0)


def test_a_thread_that_waits_sleeps(
    pairs: list[tuple[Socket, Socket]], threads: Pair, pool: ThreadPoolExecutor
) -> None:
    """Neither it nor the driver's thread wakes for nothing, but for the housekeeping of a stack that had traffic."""
    numbers: list[int] = []

    def wait() -> bytes:
        numbers.append(threading.get_native_id())
        return pairs[0][0].recv(1)

    waiting = started(pool, wait)
    eventually(lambda: numbers)
    driver = threads.a._driver._thread.native_id  # type: ignore[attr-defined]

    def quiet_second() -> bool:
        """At first the driver's thread may still be about to step back."""
        before, begun = [sleeps(thread) for thread in (driver, numbers[0])], time.monotonic()
        time.sleep(1)
        after, seconds = [sleeps(thread) for thread in (driver, numbers[0])], time.monotonic() - begun
        return after[0] == before[0] and after[1] - before[1] <= 12 * seconds + 4

    eventually(quiet_second)
    pairs[0][1].sendall(b"x")
    assert waiting.result(20) == b"x"


def test_callbacks_run_in_the_drivers_thread_whoever_leads(
    pairs: list[tuple[Socket, Socket]], threads: Pair, pool: ThreadPoolExecutor
) -> None:
    driver = threads.a._driver._thread.ident  # type: ignore[attr-defined]
    waiting = started(pool, lambda: pairs[0][0].recv(1))
    ran: list[int] = []
    heard = threading.Event()
    threads.a.call_later(0.01, lambda: ran.append(threading.get_ident()))
    udp = threads.a.udp()
    udp.bind(("10.0.0.1", 5000))

    def on_event(_: object) -> None:
        ran.append(threading.get_ident())
        heard.set()

    udp.on_event = on_event
    with threads.b.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.0.0.1", 5000))
    assert heard.wait(20)
    eventually(lambda: len(ran) == 2)
    assert set(ran) == {driver}
    udp.close()
    pairs[0][1].sendall(b"x")
    assert waiting.result(20) == b"x"


def test_a_descriptor_shows_what_comes_while_another_thread_leads(
    pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor
) -> None:
    (leader, leaders_peer), (polled, peer) = pairs[:2]
    waiting = started(pool, lambda: leader.recv(1))
    for _ in range(20):
        assert select.select([polled], [], [], 0)[0] == []
        peer.sendall(b"x")
        assert select.select([polled], [], [], 20)[0] == [polled]
        assert polled.recv(10) == b"x"
    leaders_peer.sendall(b"x")
    assert waiting.result(20) == b"x"


# -- Being released -------------------------------------------------------------------------------------------------


def test_closing_releases_everybody_who_waits(pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    """Three threads in each socket, two that receive and one whose send does not fit; and closers, in any order."""

    def send(end: Socket) -> None:
        while True:
            end.sendall(bytes(1 << 20))

    waiting: list[Future[object]] = []
    for end, _ in pairs:
        waiting += [pool.submit(end.recv, 10), pool.submit(end.recv_into, bytearray(10)), pool.submit(send, end)]
    time.sleep(0.1)
    for end in random.sample([end for end, _ in pairs], len(pairs)):
        end.close()
    for future in waiting:
        error = future.exception(20)
        assert isinstance(error, OSError)
        assert error.errno == errno.EBADF


def test_threads_come_and_go_while_sockets_are_closed(threads: Pair, pool: ThreadPoolExecutor) -> None:
    """No wake-up is lost: with timeouts, news, closes and new sockets all at once, everybody ends."""
    with threads.a.create_server(("10.0.0.1", 80), backlog=64) as server:
        server.settimeout(20)

        def client(number: int) -> int:
            chance, count = random.Random(number), 0
            while count < 25:
                with threads.b.create_connection(("10.0.0.1", 80), 20) as connection:
                    connection.settimeout(chance.choice((None, 20, 0.001)))
                    connection.sendall(b"question")
                    try:
                        assert connection.recv(100) in (b"", b"answer")
                    except (TimeoutError, ConnectionError):
                        pass
                    count += 1
            return count

        def serve(connection: Socket, kind: int) -> None:
            closer = threading.Timer(0.001 * kind, connection.close)
            closer.start()
            try:
                while data := connection.recv(100):
                    assert data == b"question"
                    connection.sendall(b"answer")
            except OSError:
                pass
            closer.join()

        clients = [pool.submit(client, number) for number in range(6)]
        served = [pool.submit(serve, server.accept()[0], number % 5) for number in range(6 * 25)]
        assert sum(future.result(60) for future in clients) == 150
        for future in served:
            future.result(60)


def test_a_half_close_releases_whom_it_concerns(pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    reader, writer = pairs[0][0], pairs[1][0]
    reading = started(pool, lambda: reader.recv(1))
    writing = started(pool, lambda: writer.sendall(bytes(16 << 20)))
    reader.shutdown(socket.SHUT_RD)
    assert reading.result(20) == b""
    writer.shutdown(socket.SHUT_WR)
    assert isinstance(writing.exception(20), BrokenPipeError)


def test_closing_the_stack_releases_everybody(threads: Pair, pool: ThreadPoolExecutor) -> None:
    ends = connections(threads, 4)
    waiting = [pool.submit(end.recv, 1) for end, _ in ends]
    time.sleep(0.1)
    threads.a.close()
    for future in waiting:
        assert isinstance(future.exception(20), lwipy.StackClosedError)
    for _, client in ends:
        client.close()


def test_a_failed_assertion_reaches_everybody(pool: ThreadPoolExecutor) -> None:
    with closing(lwipy.Stack()) as a, closing(lwipy.Stack()) as b:
        a.__enter__()
        b.__enter__()
        ends = connections(Pair.of(a, b), 4)
        waiting = [pool.submit(end.recv, 1) for end, _ in ends]
        time.sleep(0.1)
        fail(a, "for a test")
        for future in waiting:
            assert isinstance(future.exception(20), lwipy.StackError)
        for end, client in ends:
            client.close()
            end.close()


# -- Time and signals -----------------------------------------------------------------------------------------------


def test_a_send_that_is_too_slow_times_out(pairs: list[tuple[Socket, Socket]]) -> None:
    end, peer = pairs[0]
    end.settimeout(0.1)
    with pytest.raises(TimeoutError, match="timed out"):
        end.sendall(bytes(64 << 20))
    assert peer.recv(10) == bytes(10)


def test_a_reset_is_told_to_who_waits_in_a_send(pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor) -> None:
    end, peer = pairs[0]
    sending = started(pool, lambda: end.sendall(bytes(64 << 20)))
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    assert isinstance(sending.exception(20), ConnectionResetError)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
@pytest.mark.parametrize("follows", [False, True], ids=["leader", "follower"])
def test_a_signal_is_handled_in_a_wait(
    pairs: list[tuple[Socket, Socket]], pool: ThreadPoolExecutor, follows: bool
) -> None:
    """What its handler raises ends the wait (as Ctrl-C does); after one that returns the wait goes on (PEP 475)."""
    first = started(pool, lambda: pairs[1][0].recv(1)) if follows else None
    end, peer = pairs[0]
    handled: list[int] = []

    def note(*_: object) -> None:
        handled.append(len(handled))
        if len(handled) == 2:
            raise KeyboardInterrupt

    def ring() -> None:
        for _ in range(2):
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, note)
    try:
        ringing = pool.submit(ring)
        end.settimeout(20)
        with pytest.raises(KeyboardInterrupt):
            end.recv(1)
        ringing.result(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [0, 1]
    peer.sendall(b"x")
    assert end.recv(1) == b"x"
    if first is not None:
        pairs[1][1].sendall(b"y")
        assert first.result(20) == b"y"
