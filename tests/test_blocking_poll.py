"""fileno(): a descriptor that select, poll, epoll and selectors see as they see one of the system's sockets."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Pair, started
from descriptors import descriptors
from links import eventually

import lwipy
from lwipy.blocking import Socket, close

Look = Callable[[Socket, float], tuple[bool, bool]]


def by_select(sock: Socket, timeout: float) -> tuple[bool, bool]:
    readable, writable, _ = select.select([sock], [sock], [], timeout)
    return bool(readable), bool(writable)


def by_poll(sock: Socket, timeout: float) -> tuple[bool, bool]:
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT)
    events = sum(event for _, event in poll.poll(timeout * 1000))
    return bool(events & select.POLLIN), bool(events & select.POLLOUT)


def by_epoll(sock: Socket, timeout: float) -> tuple[bool, bool]:
    with select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN | select.EPOLLOUT)
        events = sum(event for _, event in epoll.poll(timeout))
    return bool(events & select.EPOLLIN), bool(events & select.EPOLLOUT)


def by_selectors(sock: Socket, timeout: float) -> tuple[bool, bool]:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        events = sum(event for _, event in selector.select(timeout))
    return bool(events & selectors.EVENT_READ), bool(events & selectors.EVENT_WRITE)


@pytest.fixture(params=[by_select, by_poll, by_epoll, by_selectors], ids=lambda look: look.__name__[3:])
def look(request: pytest.FixtureRequest) -> Look:
    """Whether a socket is readable and writable, after at most so many seconds for either."""
    found: Look = request.param
    return found


@pytest.fixture
def listener(threads: Pair) -> Iterator[Socket]:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        yield server


@pytest.fixture
def pair(threads: Pair, listener: Socket) -> Iterator[tuple[Socket, Socket]]:
    """A connection's two ends."""
    with threads.b.create_connection(("10.0.0.1", 80), timeout=30) as client:
        server, _ = listener.accept()
        with server:
            server.settimeout(30)
            yield client, server


def readable(sock: Socket) -> bool:
    return bool(select.select([sock], [], [], 10)[0])


def writable(sock: Socket) -> bool:
    return bool(select.select([], [sock], [], 10)[1])


# -- Levels -----------------------------------------------------------------------------------------------------------


def test_a_listener_is_readable_while_a_connection_waits(threads: Pair, listener: Socket, look: Look) -> None:
    assert look(listener, 0) == (False, False)
    with threads.b.create_connection(("10.0.0.1", 80)), threads.b.create_connection(("10.0.0.1", 80)):
        assert readable(listener)
        for waiting in (True, False):
            connection, _ = listener.accept()
            connection.close()
            assert (readable(listener) if waiting else look(listener, 0)[0]) is waiting


def test_a_connection_is_readable_until_all_is_read(pair: tuple[Socket, Socket], look: Look) -> None:
    client, server = pair
    assert look(server, 0) == (False, True)
    client.sendall(b"ten bytes.")
    assert readable(server)
    assert look(server, 0) == (True, True)
    assert server.recv(10, socket.MSG_PEEK) == b"ten bytes."
    assert look(server, 0) == (True, True)
    for left in (True, False):
        server.recv(5)
        assert look(server, 0) == (left, True)


def test_a_connection_is_writable_while_there_is_room(pair: tuple[Socket, Socket], look: Look) -> None:
    client, server = pair
    assert look(client, 0) == (False, True)
    client.setblocking(False)
    sent = 0

    def is_full() -> bool:
        """Nothing fits, and nothing is under way that will make room."""
        nonlocal sent
        try:
            while True:
                sent += client.send(bytes(1 << 16))
        except BlockingIOError:
            return client.tcp_info.unacked == 0 and not look(client, 0.2)[1]

    eventually(is_full)
    assert look(client, 0) == (False, False)
    while sent:
        sent -= len(server.recv(1 << 20))
    assert writable(client)
    assert client.send(b"more") == 4


def test_the_end_of_the_stream_is_readable(pair: tuple[Socket, Socket], look: Look) -> None:
    client, server = pair
    client.shutdown(socket.SHUT_WR)
    assert readable(server)
    assert server.recv(1) == b""
    assert look(server, 0) == (True, True)


def test_a_reset_is_readable_and_writable(pair: tuple[Socket, Socket], look: Look) -> None:
    client, server = pair
    assert look(client, 0) == (False, True)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.close()
    assert readable(client)
    assert look(client, 0) == (True, True)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_connect_is_writable_when_it_is_decided(threads: Pair, listener: Socket, look: Look) -> None:
    for port, result in ((80, 0), (81, errno.ECONNREFUSED)):
        with threads.b.socket() as client:
            client.setblocking(False)
            assert client.connect_ex(("10.0.0.1", port)) == errno.EINPROGRESS
            assert writable(client)
            assert look(client, 0)[1]
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == result


def test_a_connect_without_answer_is_neither(threads: Pair, look: Look) -> None:
    with threads.b.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(("10.0.0.77", 80)) == errno.EINPROGRESS
        assert look(client, 0) == (False, False)


def test_datagrams_make_readable(threads: Pair, look: Look) -> None:
    with threads.a.socket(type=socket.SOCK_DGRAM) as server, threads.b.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("10.0.0.1", 7))
        assert look(server, 0) == (False, True)
        client.sendto(b"one", ("10.0.0.1", 7))
        client.sendto(b"two", ("10.0.0.1", 7))
        assert readable(server)
        assert server.recv(10) == b"one"
        assert readable(server)
        assert server.recv(10) == b"two"
        assert look(server, 0) == (False, True)


def test_what_fails_at_once_is_ready(threads: Pair, look: Look) -> None:
    with threads.a.socket() as fresh:
        assert look(fresh, 0) == (True, True)
        with pytest.raises(OSError, match="not connected"):
            fresh.recv(1)


# -- Edges ------------------------------------------------------------------------------------------------------------


def test_edge_triggered_epoll_hears_of_everything_after_a_socket_was_emptied(pair: tuple[Socket, Socket]) -> None:
    client, server = pair
    server.setblocking(False)
    with select.epoll() as epoll:
        epoll.register(server, select.EPOLLIN | select.EPOLLET)
        for number in range(20):
            client.sendall(b"%d" % number)
            assert epoll.poll(10)
            with pytest.raises(BlockingIOError):
                while server.recv(100):
                    pass


def test_one_who_sleeps_in_select_is_woken(pair: tuple[Socket, Socket], pool: ThreadPoolExecutor) -> None:
    client, server = pair
    waiting = started(pool, lambda: readable(server))
    assert not waiting.done()
    client.sendall(b"!")
    assert waiting.result(30)


def test_nothing_is_missed_while_the_descriptor_is_made(threads: Pair, listener: Socket) -> None:
    """A connection may come at the very moment of the first fileno()."""
    for number in range(100):
        with threads.a.create_server(("10.0.0.1", 1000 + number)) as server, threads.b.socket() as client:
            client.setblocking(False)
            client.connect_ex(("10.0.0.1", 1000 + number))
            assert readable(server)
            server.accept()[0].close()


def test_a_selector_loop_serves_a_hundred_clients(threads: Pair, listener: Socket, pool: ThreadPoolExecutor) -> None:
    stop = threading.Event()

    def serve() -> int:
        served = 0
        with selectors.DefaultSelector() as selector:
            listener.setblocking(False)
            selector.register(listener, selectors.EVENT_READ)
            while not stop.is_set():
                for key, _ in selector.select(0.05):
                    sock = key.fileobj
                    assert isinstance(sock, Socket)
                    if sock is listener:
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        selector.register(connection, selectors.EVENT_READ)
                    elif data := sock.recv(1000):
                        sock.send(data.upper())
                    else:
                        selector.unregister(sock)
                        sock.close()
                        served += 1
            return served

    def client(number: int) -> bool:
        with threads.b.create_connection(("10.0.0.1", 80), timeout=20) as sock:
            return all(
                sock.send(b"text %d" % n) and sock.recv(100) == b"TEXT %d" % n for n in range(number, number + 5)
            )

    serving = pool.submit(serve)
    assert all(pool.map(client, range(100)))
    with threads.b.create_connection(("10.0.0.1", 80), timeout=20) as last:
        last.shutdown(socket.SHUT_WR)
        assert last.recv(1) == b""
    stop.set()
    assert serving.result(20) >= 1


def test_socketserver_serves_for_ever(threads: Pair) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    with threads.a.create_server(("10.0.0.1", 81)) as listening:
        server = socketserver.ThreadingTCPServer(("", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with threads.b.create_connection(("10.0.0.1", 81), timeout=30) as client, client.makefile("rwb") as file:
                file.write(b"hello\n")
                file.flush()
                assert file.readline() == b"HELLO\n"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


# -- The descriptor itself --------------------------------------------------------------------------------------------


def test_it_is_made_when_asked_for_and_closed_with_the_socket(threads: Pair, listener: Socket) -> None:
    before = descriptors()
    with threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = listener.accept()
        client.sendall(b"by itself")
        assert connection.recv(100) == b"by itself"
        assert descriptors() <= before
        number = client.fileno()
        assert number >= 0
        assert client.fileno() == number
        assert not descriptors() <= before
        connection.close()
    assert client.fileno() == -1
    assert descriptors() <= before


def test_it_outlives_close_as_long_as_a_file_does(threads: Pair, listener: Socket) -> None:
    client = threads.b.create_connection(("10.0.0.1", 80))
    file = client.makefile("rb")
    number = client.fileno()
    client.close()
    assert client.fileno() == number
    file.close()
    assert client.fileno() == -1


def test_blocking_sockets_have_blocking_descriptors(threads: Pair) -> None:
    with threads.a.socket() as sock:
        for timeout, blocking in ((None, True), (0, False), (5, False)):
            sock.settimeout(timeout)
            assert os.get_blocking(sock.fileno()) is blocking


def test_duplicates_are_one_socket(threads: Pair, pair: tuple[Socket, Socket]) -> None:
    client, server = pair
    with server.dup() as twin:
        assert isinstance(twin, Socket)
        assert twin.fileno() != server.fileno()
        client.sendall(b"either")
        assert readable(server)
        assert readable(twin)
        assert twin.recv(10) == b"either"
        assert by_select(server, 0) == (False, True)
        server.close()
        twin.sendall(b"still open")
        assert client.recv(20) == b"still open"
    assert client.recv(1) == b""


def test_a_detached_descriptor_makes_a_socket_again(threads: Pair, pair: tuple[Socket, Socket]) -> None:
    client, server = pair
    number = server.detach()
    assert server.fileno() == -1
    with pytest.raises(OSError, match="Bad file descriptor"):
        server.recv(1)
    client.sendall(b"to whom")
    with threads.a.socket(fileno=number) as again:
        assert again.fileno() == number
        assert (again.family, again.type) == (socket.AF_INET, socket.SOCK_STREAM)
        assert readable(again)
        assert again.recv(10) == b"to whom"
    assert client.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        threads.a.socket(fileno=number)


def test_a_detached_descriptor_can_be_closed(threads: Pair, pair: tuple[Socket, Socket]) -> None:
    client, server = pair
    number = server.detach()
    close(number)
    assert client.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        close(number)


def test_a_number_that_was_closed_behind_our_back_is_nobodys(threads: Pair) -> None:
    sock = threads.a.socket()
    number = sock.fileno()
    os.close(number)
    with Path(os.devnull).open("rb") as other:
        assert other.fileno() == number
        sock.close()
        os.fstat(number)  # the stranger's descriptor is still open


def test_a_closed_stack_is_ready_to_say_so() -> None:
    with lwipy.Stack() as stack:
        sock = stack.socket(type=socket.SOCK_DGRAM)
        assert by_select(sock, 0) == (False, True)
    assert by_select(sock, 0) == (True, True)
    with pytest.raises(lwipy.StackClosedError):
        sock.recv(1)
    sock.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_leaves_the_stack_to_its_parent(pair: tuple[Socket, Socket]) -> None:
    client, server = pair
    assert by_select(server, 0) == (False, True)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            server.recv(1)
        except lwipy.StackClosedError:
            server.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert by_select(server, 0) == (False, True)
    client.sendall(b"parent")
    assert readable(server)
    assert server.recv(10) == b"parent"
