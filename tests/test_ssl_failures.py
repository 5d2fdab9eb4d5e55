"""TLS: what goes wrong."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from conftest import Pair, started
from tls_world import HOST, client_context, connection, server_context, tls

from lwipy.blocking import Socket
from lwipy.blocking.tls import create_default_context


def refused(pool: ThreadPoolExecutor, server: Socket) -> Future[type[BaseException] | None]:
    """What the server's handshake ends with."""

    def accept() -> type[BaseException] | None:
        try:
            with server_context().wrap_socket(server, server_side=True) as there:
                there.recv(1)  # TLS 1.3: the client's verdict comes after the server's handshake
        except OSError as error:
            return type(error)
        return None

    return pool.submit(accept)


def test_a_certificate_error_reaches_both(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with connection(threads) as (client, server):
        result = refused(pool, server)
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            create_default_context().wrap_socket(client, server_hostname="host.lwipy")
        assert result.result(20) is ssl.SSLError


def test_a_certificate_of_another_host_is_refused(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with connection(threads) as (client, server):
        result = refused(pool, server)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.lwipy"):
            client_context().wrap_socket(client, server_hostname="other.lwipy")
        assert result.result(20) is ssl.SSLError


def test_no_common_version(threads: Pair, pool: ThreadPoolExecutor) -> None:
    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    new = server_context()
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    with connection(threads) as (client, server):
        accepting = pool.submit(new.wrap_socket, server, server_side=True)
        with pytest.raises(ssl.SSLError, match=r"(?i)version"):
            old.wrap_socket(client, server_hostname="host.lwipy")
        with pytest.raises(ssl.SSLError):
            accepting.result(20)


def test_clear_text_where_tls_is_expected(threads: Pair) -> None:
    with connection(threads) as (client, server):
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ssl.SSLError, match=r"(?i)http request"):
            server_context().wrap_socket(server, server_side=True)


def test_a_handshake_that_stalls_times_out(threads: Pair) -> None:
    with connection(threads) as (client, server):
        client.settimeout(0.1)
        with pytest.raises(TimeoutError, match="handshake"):
            client_context().wrap_socket(client, server_hostname="host.lwipy")
        assert server.recv(1) == b"\x16"


def test_a_client_that_never_begins_the_handshake_times_out(threads: Pair) -> None:
    with connection(threads) as (client, server):
        server.settimeout(0.1)
        with pytest.raises(TimeoutError, match="handshake"):
            server_context().wrap_socket(server, server_side=True)
        assert client.recv(1) == b""  # the refused socket was closed


@pytest.mark.parametrize("goodbye", [True, False])
def test_garbage_in_the_clear_is_never_data(threads: Pair, pool: ThreadPoolExecutor, goodbye: bool) -> None:
    """After close_notify the stream has ended, and what follows is nobody's; without it, garbage is an error."""
    with tls(threads, pool) as (client, server):
        server.sendall(b"last words")
        if goodbye:
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.unwrap()  # sends close_notify, then waits for the other's
        Socket.send(server, b"garbage" * 100)  # type: ignore[arg-type]
        assert client.recv(100) == b"last words"
        if goodbye:
            assert [client.recv(100), client.recv(100)] == [b"", b""]
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)wrong version|packet length"):
                client.recv(100)


def test_a_peer_that_goes_on_after_close_is_told(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        client.close()
        with pytest.raises((ConnectionError, ssl.SSLError)):
            while True:
                server.sendall(bytes(10_000))


def test_a_peer_that_vanishes_in_the_handshake(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with connection(threads) as (client, server):
        shaking = pool.submit(client_context().wrap_socket, client, server_hostname="host.lwipy")
        server.recv(10_000)
        server.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLEOFError):
            shaking.result(20)


def test_reading_times_out_and_goes_on(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        client.settimeout(0.1)
        with pytest.raises(TimeoutError, match="read"):
            client.recv(1)
        server.sendall(b"late")
        client.settimeout(20)
        assert client.recv(10) == b"late"


def test_an_end_without_goodbye(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        Socket.shutdown(server, socket.SHUT_WR)  # type: ignore[arg-type]
        assert client.recv(10) == b""
    with connection(threads) as (near, far):
        accepting = pool.submit(server_context().wrap_socket, far, server_side=True)
        strict = client_context().wrap_socket(near, server_hostname="host.lwipy", suppress_ragged_eofs=False)
        with strict, accepting.result(20) as there:
            Socket.shutdown(there, socket.SHUT_WR)  # type: ignore[arg-type]
            with pytest.raises(ssl.SSLEOFError):
                strict.recv(10)


def test_closing_wakes_who_reads(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, _):
        client.settimeout(None)
        reading = started(pool, lambda: client.recv(1))
        client.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            reading.result(20)


def test_misuse_is_refused_in_ssls_words(threads: Pair) -> None:
    with threads.a.socket(type=socket.SOCK_DGRAM) as datagrams, pytest.raises(NotImplementedError):
        client_context().wrap_socket(datagrams, server_hostname="host.lwipy")
    with threads.a.socket() as sock:
        with pytest.raises(ValueError, match="server_hostname"):
            client_context().wrap_socket(sock)
        with pytest.raises(ValueError, match="client mode"):
            server_context().wrap_socket(sock, server_side=True, server_hostname="host.lwipy")
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            client_context().wrap_socket(sock, server_hostname="host.lwipy")


def test_a_context_of_the_hosts_says_what_to_do(threads: Pair) -> None:
    """It would talk into the descriptor, and wait for ever."""
    with connection(threads) as (client, _):
        with pytest.raises(TypeError, match="sslsocket_class"):
            ssl.create_default_context(cafile=str(HOST)).wrap_socket(client, server_hostname="host.lwipy")


def test_the_hosts_sockets_stay_the_hosts() -> None:
    here, there = socket.socketpair()
    with here, there:
        made = client_context().wrap_socket(here, server_hostname="host.lwipy", do_handshake_on_connect=False)
        with made:
            assert type(made) is ssl.SSLSocket
