"""Connections by name, over both families, that fail and begin again; listeners that end."""

from __future__ import annotations

import errno
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Pair, started

import lwipy

NOBODY4, NOBODY6 = "10.0.0.99", "fd00::99"


# -- create_connection -------------------------------------------------------------------------------------------------


def test_an_address_that_does_not_answer_does_not_hold_up_the_next(threads: Pair) -> None:
    """RFC 8305. By itself, the first would give up after half a minute."""
    threads.b.hosts["both.lab"] = [NOBODY6, "10.0.0.1"]
    with threads.a.create_server(("10.0.0.1", 80)), threads.b.create_connection(("both.lab", 80)) as client:
        assert client.getpeername() == ("10.0.0.1", 80)
        assert client.gettimeout() is None


def test_the_families_take_turns(threads: Pair) -> None:
    threads.b.hosts["many.lab"] = [f"fd00::{n}" for n in range(90, 99)] + ["10.0.0.1"]
    with threads.a.create_server(("10.0.0.1", 80)), threads.b.create_connection(("many.lab", 80), timeout=30) as client:
        assert client.family == socket.AF_INET
        assert client.gettimeout() == 30


def test_ipv6_is_preferred_where_it_leads_somewhere(threads: Pair) -> None:
    threads.b.hosts["both.lab"] = ["10.0.0.1", "fd00::1"]
    with threads.a.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True):
        with threads.b.create_connection(("both.lab", 80)) as client:
            assert client.getpeername()[0] == "fd00::1"


def test_all_that_fail_are_told(threads: Pair) -> None:
    threads.b.hosts["closed.lab"] = ["10.0.0.1", "fd00::1"]
    with pytest.raises(ConnectionRefusedError, match=r"(10\.0\.0\.1|fd00::1):81"):
        threads.b.create_connection(("closed.lab", 81))
    with pytest.raises(ExceptionGroup) as info:
        threads.b.create_connection(("closed.lab", 81), all_errors=True)
    assert [type(error) for error in info.value.exceptions] == [ConnectionRefusedError] * 2
    assert {str(error).split(": ")[1] for error in info.value.exceptions} == {"10.0.0.1:81", "fd00::1:81"}


def test_a_timeout_is_each_attempts_own(threads: Pair) -> None:
    threads.b.hosts["nobody.lab"] = [NOBODY4, NOBODY6]
    with pytest.raises(ExceptionGroup) as info:
        threads.b.create_connection(("nobody.lab", 80), timeout=0.1, all_errors=True)
    assert [type(error) for error in info.value.exceptions] == [TimeoutError] * 2
    with pytest.raises(BlockingIOError):
        threads.b.create_connection((NOBODY4, 80), timeout=0)


def test_closing_the_stack_ends_who_connects(threads: Pair, pool: ThreadPoolExecutor) -> None:
    connecting = started(pool, lambda: threads.b.create_connection((NOBODY4, 80)))
    threads.b.close()
    with pytest.raises(lwipy.StackClosedError):
        connecting.result(20)


def test_losers_are_closed(threads: Pair) -> None:
    threads.b.hosts["both.lab"] = [NOBODY6, "10.0.0.1"]
    before = threads.b.statistics.endpoints
    with threads.a.create_server(("10.0.0.1", 80)), threads.b.create_connection(("both.lab", 80)):
        assert threads.b.statistics.endpoints == before + 1
    with pytest.raises(TimeoutError):
        threads.b.create_connection((NOBODY4, 80), timeout=0.1)
    assert threads.b.statistics.endpoints == before


def test_the_source_address_is_the_one_that_was_asked_for(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        with threads.b.create_connection(("10.0.0.1", 80), source_address=("10.0.0.2", 5555)) as client:
            assert client.getsockname() == ("10.0.0.2", 5555)
            connection, address = server.accept()
            connection.close()
            assert address == ("10.0.0.2", 5555)
        with pytest.raises(OSError, match="Cannot assign") as info:
            threads.b.create_connection(("10.0.0.1", 80), source_address=("10.0.0.3", 0))
        assert info.value.errno == errno.EADDRNOTAVAIL


def test_a_name_that_is_none_says_so(threads: Pair) -> None:
    with pytest.raises(socket.gaierror):
        threads.b.create_connection(("nowhere.invalid", 80))


# -- connect, and again ------------------------------------------------------------------------------------------------


def test_a_refused_socket_may_try_again(threads: Pair) -> None:
    with threads.b.socket() as client:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.bind(("10.0.0.2", 4444))
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                client.connect(("10.0.0.1", 80))
            with pytest.raises(OSError, match="not connected"):
                client.getpeername()
        with threads.a.create_server(("10.0.0.1", 80)) as server:
            client.connect(("10.0.0.1", 80))
            connection, address = server.accept()
            connection.close()
        assert address == ("10.0.0.2", 4444)
        assert client.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 33
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert client.recv(1) == b""


def test_connecting_twice(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)), threads.b.socket() as client:
        client.connect(("10.0.0.1", 80))
        with pytest.raises(OSError, match="already connected") as info:
            client.connect(("10.0.0.1", 80))
        assert info.value.errno == errno.EISCONN


def test_a_timeout_leaves_the_connection_trying(threads: Pair) -> None:
    with threads.b.socket() as client:
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.connect((NOBODY4, 80))
        client.settimeout(0)
        assert client.connect_ex((NOBODY4, 80)) == errno.EALREADY


def test_misuse_has_the_kernels_errno(threads: Pair) -> None:
    with threads.a.socket() as sock:
        for operation, number in (
            (lambda: sock.recv(1), errno.ENOTCONN),
            (lambda: sock.send(b"x"), errno.EPIPE),
            (sock.accept, errno.EINVAL),
            (sock.getpeername, errno.ENOTCONN),
            (lambda: sock.shutdown(socket.SHUT_RD), errno.ENOTCONN),
            (lambda: sock.bind(("10.0.0.77", 0)), errno.EADDRNOTAVAIL),
        ):
            with pytest.raises(OSError) as info:  # noqa: PT011 (its errno is looked at)
                operation()
            assert info.value.errno == number
        sock.bind(("10.0.0.1", 0))
        with pytest.raises(OSError, match="Invalid argument"):
            sock.bind(("10.0.0.1", 0))


def test_closing_twice_is_fine_and_using_it_after_is_not(threads: Pair) -> None:
    sock = threads.a.socket()
    sock.close()
    sock.close()
    for operation in (lambda: sock.recv(1), lambda: sock.sendall(b""), sock.listen, sock.getsockname, sock.dup):
        with pytest.raises(OSError, match="Bad file descriptor") as info:
            operation()
        assert info.value.errno == errno.EBADF


def test_an_unclosed_socket_is_complained_of(threads: Pair) -> None:
    sock = threads.a.socket()
    text = repr(sock)
    before = threads.a.statistics.endpoints
    with pytest.warns(ResourceWarning) as warnings:
        del sock
    assert text in str(warnings[0].message)
    assert threads.a.statistics.endpoints == before - 1


# -- Listeners ---------------------------------------------------------------------------------------------------------


def test_shutdown_ends_listening_and_wakes_who_accepts(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server:
        waiting = started(pool, server.accept)
        server.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OSError, match="Invalid argument"):
            waiting.result(30)
        with pytest.raises(ConnectionRefusedError):
            threads.b.create_connection(("10.0.0.1", 80))
        server.listen()
        with threads.b.create_connection(("10.0.0.1", 80), timeout=30):
            server.accept()[0].close()


def test_the_unspecified_address_is_this_very_host(threads: Pair) -> None:
    for family, host in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with threads.a.create_server(("", 80), family=family) as server, threads.a.socket(family) as client:
            client.connect((host, 80))
            connection, address = server.accept()
            connection.close()
            assert address[0] in ("127.0.0.1", "::1")


def test_accepted_sockets_block_unless_the_default_says_otherwise(threads: Pair) -> None:
    with threads.a.create_server(("10.0.0.1", 80)) as server, threads.b.create_connection(("10.0.0.1", 80)):
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            assert connection.gettimeout() is None
