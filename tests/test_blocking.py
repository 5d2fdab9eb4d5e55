"""Blocking sockets: two stacks, each driven by a thread, and code as one writes it for the socket module."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from conftest import Pair, started

import lwipy
from lwipy.blocking import Socket, ping

IP_PKTINFO = 8  # the socket module has no name for it before 3.14
FAMILIES = pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")], ids=["ipv4", "ipv6"]
)


@FAMILIES
def test_a_conversation(threads: Pair, pool: ThreadPoolExecutor, family: int, host: str) -> None:
    with threads.a.create_server((host, 80), family=family) as server:

        def serve() -> bytes:
            connection, address = server.accept()
            with connection:
                assert address[:2] == connection.getpeername()[:2]
                question = connection.recv(100)
                connection.sendall(b"answer to " + question)
                return connection.recv(100)

        served = pool.submit(serve)
        with threads.b.create_connection((host, 80), timeout=30) as client:
            assert client.getpeername()[:2] == (host, 80)
            client.sendall(b"question")
            assert client.recv(100) == b"answer to question"
            client.shutdown(socket.SHUT_WR)
            assert served.result(30) == b""
            assert client.recv(100) == b""


@FAMILIES
def test_eight_megabytes_arrive_with_the_right_sum(
    threads: Pair, pool: ThreadPoolExecutor, family: int, host: str
) -> None:
    content = random.Random(8).randbytes(8 << 20)
    with threads.a.create_server((host, 80), family=family) as server:

        def receive() -> str:
            digest, buffer = hashlib.sha256(), bytearray(100_000)
            connection, _ = server.accept()
            with connection:
                while size := connection.recv_into(buffer):
                    digest.update(buffer[:size])
            return digest.hexdigest()

        received = pool.submit(receive)
        with threads.b.create_connection((host, 80)) as client:
            client.sendall(content)
        assert received.result(30) == hashlib.sha256(content).hexdigest()


def test_two_hundred_clients_at_once(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.a.create_server(("10.0.0.1", 80), backlog=256) as server:

        def serve() -> int:
            count = 0
            for _ in range(200):
                connection, _ = server.accept()
                with connection:
                    connection.sendall(connection.recv(100))
                count += 1
            return count

        served = pool.submit(serve)

        def client(number: int) -> bool:
            with threads.b.create_connection(("10.0.0.1", 80), timeout=20) as sock:
                sock.sendall(b"%d" % number)
                return sock.recv(100) == b"%d" % number

        assert all(pool.map(client, range(200)))
        assert served.result(30) == 200


def test_concurrent_writers_are_not_mixed(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        with threads.b.create_connection(("10.0.0.1", 80)) as client:
            connection, _ = server.accept()
            writers = [pool.submit(client.sendall, bytes([letter]) * 500_000) for letter in b"abcd"]
            data = bytearray()
            while len(data) < 2_000_000:
                data += connection.recv(1 << 16)
            for writer in writers:
                writer.result(30)
            connection.close()
    runs = [data[i] for i in range(len(data)) if i == 0 or data[i] != data[i - 1]]
    assert len(runs) == 4


def test_timeouts(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        server.settimeout(0.05)
        with pytest.raises(TimeoutError):
            server.accept()
        with threads.b.create_connection(("10.0.0.1", 80)) as client:
            client.settimeout(0.05)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(0)
            with pytest.raises(BlockingIOError) as info:
                client.recv(1)
            assert info.value.errno == errno.EAGAIN
            with pytest.raises(TimeoutError):
                client.settimeout(0.2)
                while True:
                    client.sendall(bytes(1 << 20))


def test_non_blocking_connect_says_in_progress_then_connects(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)), threads.b.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(("10.0.0.1", 80)) == errno.EINPROGRESS
        deadline = time.monotonic() + 30
        while (code := client.connect_ex(("10.0.0.1", 80))) == errno.EALREADY and time.monotonic() < deadline:
            time.sleep(0.01)
        assert code in (0, errno.EISCONN)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_refused_names_the_peer(threads: Pair) -> None:
    with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.1:81"):
        threads.b.create_connection(("10.0.0.1", 81), timeout=30)
    with threads.b.socket() as client:
        assert client.connect_ex(("10.0.0.1", 81)) == errno.ECONNREFUSED


def test_closing_wakes_whoever_waits(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = server.accept()
        waiting: list[Future[object]] = [started(pool, lambda: client.recv(1)), started(pool, lambda: server.accept())]
        client.close()
        server.close()
        for future in waiting:
            with pytest.raises(OSError, match="Bad file descriptor") as info:
                future.result(30)
            assert info.value.errno == errno.EBADF
        connection.close()


def test_closing_the_stack_wakes_whoever_waits(pool: ThreadPoolExecutor) -> None:
    with lwipy.Stack() as stack:
        server = stack.create_server(("", 80))
        waiting = started(pool, server.accept)
    with pytest.raises(OSError):  # noqa: PT011 (EBADF, or that the stack is closed)
        waiting.result(30)


def test_linger_zero_resets(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = server.accept()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_linger_waits_until_all_has_arrived(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + (30).to_bytes(4, "little"))
        # More than the peer's window takes before it reads.
        client.sendall(bytes(400_000))
        closing = started(pool, client.close)
        assert not closing.done()
        left = 400_000
        while left:
            left -= len(connection.recv(1 << 16))
        closing.result(30)
        assert connection.recv(1) == b""
        connection.close()


def test_files_of_a_connection(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = server.accept()
        with connection, connection.makefile("rw", newline="\n") as there, client.makefile("rwb") as here:
            here.write(b"one\ntwo\n")
            here.flush()
            assert [there.readline(), there.readline()] == ["one\n", "two\n"]
            there.write("three\n")
            there.flush()
            assert here.readline() == b"three\n"


def test_a_socket_stays_open_for_its_file(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        client = threads.b.create_connection(("10.0.0.1", 80))
        connection, _ = server.accept()
        file = client.makefile("rb")
        client.close()
        connection.sendall(b"still here")
        assert file.read(10) == b"still here"
        file.close()
        assert connection.recv(1) == b""
        connection.close()


def test_sendfile(threads: Pair, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)) as client:
        connection, _ = server.accept()
        with path.open("rb") as file:
            assert client.sendfile(file, 100, 100_000) == 100_000
            assert file.tell() == 100_100
        client.close()
        data = bytearray()
        while part := connection.recv(1 << 16):
            data += part
        assert data == path.read_bytes()[100:100_100]
        connection.close()


def test_datagrams(threads: Pair) -> None:
    with (
        threads.a.socket(type=socket.SOCK_DGRAM) as server,
        threads.b.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("10.0.0.1", 7))
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        server.settimeout(30)
        client.settimeout(30)
        assert client.sendto(b"hello", ("10.0.0.1", 7)) == 5
        data, ancillary, flags, address = server.recvmsg(100, 100)
        assert (data, flags) == (b"hello", 0)
        assert ancillary[0][:2] == (socket.IPPROTO_IP, IP_PKTINFO)
        assert ancillary[0][2][8:] == socket.inet_aton("10.0.0.1")
        server.sendto(b"world", address)
        assert client.recvfrom(100) == (b"world", ("10.0.0.1", 7))
        client.connect(("10.0.0.1", 7))
        client.send(bytes(60_000))
        assert server.recv(65_535) == bytes(60_000)
        with pytest.raises(OSError, match="too long"):
            client.send(bytes(70_000))


def test_dual_stack_servers_take_both(threads: Pair) -> None:
    with threads.a.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        for host, seen in (("10.0.0.1", "::ffff:10.0.0.2"), ("fd00::1", "fd00::2")):
            with threads.b.create_connection((host, 80), timeout=30):
                connection, address = server.accept()
                connection.close()
                assert address[0] == seen


def test_options_of_the_socket_module(threads: Pair) -> None:
    with threads.a.socket() as sock:
        for level, name, value in (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
            (socket.SOL_SOCKET, socket.SO_RCVBUF, 100_000),
            (socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000),
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.IPPROTO_IP, socket.IP_TTL, 7),
        ):
            sock.setsockopt(level, name, value)
            assert sock.getsockopt(level, name) == value
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        with pytest.raises(OSError, match="option 9999") as info:
            sock.setsockopt(socket.SOL_SOCKET, 9999, 1)
        assert info.value.errno == errno.ENOPROTOOPT


def test_names_come_from_the_hosts_table(threads: Pair) -> None:
    threads.b.hosts["Server.Lab"] = ["fd00::1", "10.0.0.1"]
    with threads.a.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True):
        with threads.b.create_connection(("server.lab", 80), timeout=30) as client:
            assert client.getpeername()[0] == "fd00::1"
    assert threads.b.getaddrinfo("server.lab", 80, socket.AF_INET)[0][4] == ("10.0.0.1", 80)
    with pytest.raises(socket.gaierror, match="no DNS server"):
        threads.b.getaddrinfo("elsewhere.lab", 80)


@pytest.mark.parametrize("size", [0, 56, 1472, 4000, 65_000])
@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
def test_ping(threads: Pair, host: str, size: int) -> None:
    assert 0 <= ping(threads.b, host, size=size, timeout=30) < 30


def test_ping_of_nobody_times_out(threads: Pair) -> None:
    with pytest.raises(TimeoutError):
        ping(threads.b, "10.0.0.99", timeout=0.1)


def test_a_stack_driven_by_hand_blocks_too(pool: ThreadPoolExecutor) -> None:
    """Without a thread the caller drives its stack while it waits."""
    with lwipy.Stack() as a:
        b = lwipy.Stack()
        Pair.of(a, b)
        with a.create_server(("10.0.0.1", 80)) as server:
            with b.create_connection(("10.0.0.1", 80), timeout=30) as client:
                connection, _ = server.accept()
                connection.sendall(b"by hand")
                assert client.recv(100) == b"by hand"
                connection.close()
        b.close()


def test_blocking_in_a_callback_is_an_error_not_a_deadlock(threads: Pair) -> None:
    caught: list[BaseException] = []
    done = threading.Event()

    def callback() -> None:
        try:
            threads.a.socket(type=socket.SOCK_DGRAM).recv(1)
        except BaseException as error:
            caught.append(error)
        done.set()

    threads.a.call_later(0, callback)
    assert done.wait(30)
    assert isinstance(caught[0], RuntimeError)


def test_starting_twice_is_an_error(threads: Pair) -> None:
    with pytest.raises(RuntimeError, match="driven already"):
        threads.a.__enter__()


def test_a_socket_made_by_accept_lives_as_long_as_it_is_kept(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        client: Socket = threads.b.create_connection(("10.0.0.1", 80))
        connection, _ = server.accept()
        server.close()
        connection.sendall(b"alive")
        assert client.recv(10) == b"alive"
        connection.close()
        client.close()
