"""TLS over blocking sockets, by the standard library's ssl: what http.client, smtplib and urllib3 do with it."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from conftest import Pair, started

from lwipy.blocking import Socket
from lwipy.blocking.tls import SSLContext, TlsSocket, create_default_context

T = TypeVar("T")

#: A certificate of host.lwipy, 10.0.0.2 and fd00::2 that signs itself, with its key; for tests only.
HOST = Path(__file__).parent / "tls" / "host.pem"


def server_context() -> ssl.SSLContext:
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HOST)
    return context


def client_context() -> ssl.SSLContext:
    return create_default_context(cafile=str(HOST))


@contextmanager
def connection(threads: Pair) -> Iterator[tuple[Socket, Socket]]:
    """A client of `a` and its server on `b`, in the clear, with timeouts that end a test that hangs."""
    with (
        threads.b.create_server(("10.0.0.2", 443)) as listener,
        threads.a.create_connection(("10.0.0.2", 443)) as client,
    ):
        server, _ = listener.accept()
        with server:
            client.settimeout(20)
            server.settimeout(20)
            yield client, server


@contextmanager
def tls(
    threads: Pair, pool: ThreadPoolExecutor, client: ssl.SSLContext | None = None, server: ssl.SSLContext | None = None
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The same, with TLS."""
    with connection(threads) as (near, far):
        accepting = pool.submit((server or server_context()).wrap_socket, far, server_side=True)
        with (client or client_context()).wrap_socket(near, server_hostname="host.lwipy") as here:
            with accepting.result(20) as there:
                yield here, there


def test_a_conversation(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        assert isinstance(client, TlsSocket)
        assert isinstance(client, ssl.SSLSocket)
        assert isinstance(client, Socket)
        client.sendall(b"question")
        assert server.recv(100) == b"question"
        server.write(b"answer")
        buffer = bytearray(100)
        assert client.recv_into(buffer, 3) == 3
        assert client.pending() == 3
        assert client.read(100) == b"wer"
        assert buffer[:3] == b"ans"
        assert client.getpeername() == ("10.0.0.2", 443)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM


def test_what_is_known_of_the_connection(threads: Pair, pool: ThreadPoolExecutor) -> None:
    ours, theirs = client_context(), server_context()
    ours.set_alpn_protocols(["h2", "http/1.1"])
    theirs.set_alpn_protocols(["http/1.1"])
    with tls(threads, pool, ours, theirs) as (client, server):
        assert client.version() == server.version() == "TLSv1.3"
        assert client.cipher() == server.cipher()
        assert client.selected_alpn_protocol() == server.selected_alpn_protocol() == "http/1.1"
        certificate = client.getpeercert()
        assert certificate is not None
        assert ("DNS", "host.lwipy") in certificate["subjectAltName"]
        assert ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True) or b"") in HOST.read_text()
        assert server.getpeercert() is None
        assert client.server_hostname == "host.lwipy"
        assert server.server_side
        assert client.compression() is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_megabytes_each_way_at_once(threads: Pair, pool: ThreadPoolExecutor, version: ssl.TLSVersion) -> None:
    content = random.Random(3).randbytes(6 << 20)
    context = client_context()
    context.minimum_version = context.maximum_version = version

    def receive(sock: ssl.SSLSocket) -> str:
        digest, left = hashlib.sha256(), len(content)
        while left:
            part = sock.recv(100_000)
            assert part
            digest.update(part)
            left -= len(part)
        return digest.hexdigest()

    with tls(threads, pool, context) as ends:
        received = [pool.submit(receive, end) for end in ends]
        sent = [pool.submit(end.sendall, content) for end in ends]
        for sending in sent:
            sending.result(60)
        assert {future.result(60) for future in received} == {hashlib.sha256(content).hexdigest()}


def test_files_of_a_connection(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        with client.makefile("rwb") as here, server.makefile("rw", newline="\n") as there:
            here.write(b"one\ntwo\n")
            here.flush()
            assert [there.readline(), there.readline()] == ["one\n", "two\n"]
            there.write("three\n")
            there.flush()
            assert here.readline() == b"three\n"


def test_unwrap_goes_on_in_the_clear(threads: Pair, pool: ThreadPoolExecutor) -> None:
    """Also when the clear text comes right behind TLS's end."""
    with tls(threads, pool) as (client, server):

        def end() -> bytes:
            with suppress(ssl.SSLError):
                plain = server.unwrap()
                plain.sendall(b"behind")
                return plain.recv(100)
            return b""

        ending = pool.submit(end)
        plain = client.unwrap()
        assert isinstance(plain, Socket)
        plain.sendall(b"in the clear")
        assert plain.recv(100) == b"behind"
        assert ending.result(20) == b"in the clear"


def test_starttls(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with connection(threads) as (client, server):
        client.sendall(b"STARTTLS\r\n")
        assert server.recv(100) == b"STARTTLS\r\n"
        accepting = pool.submit(server_context().wrap_socket, server, server_side=True)
        with client_context().wrap_socket(client, server_hostname="host.lwipy") as here, accepting.result(20) as there:
            there.sendall(b"220 go ahead\r\n")
            assert here.recv(100) == b"220 go ahead\r\n"
            assert client.fileno() == -1  # wrap_socket() has taken it over


def test_connecting_a_wrapped_socket(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with threads.b.create_server(("10.0.0.2", 443)) as listener:
        with server_context().wrap_socket(listener, server_side=True) as server:
            accepting = pool.submit(server.accept)
            with client_context().wrap_socket(threads.a.socket(), server_hostname="host.lwipy") as client:
                client.settimeout(20)
                client.connect(("10.0.0.2", 443))
                there, address = accepting.result(20)
                with there:
                    assert address[0] == "10.0.0.1"
                    client.sendall(b"hello")
                    assert there.recv(100) == b"hello"
                with pytest.raises(ValueError, match="already-connected"):
                    client.connect(("10.0.0.2", 443))


# -- What goes wrong ---------------------------------------------------------------------------------------------------


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


# -- Without blocking --------------------------------------------------------------------------------------------------


def patiently(sock: ssl.SSLSocket, operation: Callable[[], T]) -> T:
    """As an event loop does it: tries, and asks select() when to try again."""
    while True:
        try:
            return operation()
        except ssl.SSLWantReadError:
            assert select.select([sock], [], [], 20)[0]
        except ssl.SSLWantWriteError:
            assert select.select([], [sock], [], 20)[1]


def test_a_loop_of_selects(threads: Pair, pool: ThreadPoolExecutor) -> None:
    content = random.Random(4).randbytes(3 << 20)
    with connection(threads) as (near, far):
        near.setblocking(False)
        far.setblocking(False)
        client = client_context().wrap_socket(near, server_hostname="host.lwipy", do_handshake_on_connect=False)
        server = server_context().wrap_socket(far, server_side=True, do_handshake_on_connect=False)

        def send() -> None:
            patiently(client, client.do_handshake)
            left = memoryview(content)
            while left:
                part = left[:300_000]
                left = left[patiently(client, lambda part=part: client.send(part)) :]  # type: ignore[misc]

        with client, server:
            sending = pool.submit(send)
            patiently(server, server.do_handshake)
            received = bytearray()
            while len(received) < len(content):
                # Whole records: what is left of one that was read in part, select() does not know.
                received += patiently(server, lambda: server.recv(1 << 14))
            sending.result(20)
            assert received == content


def test_it_is_readable_while_a_record_is_unread(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        for number in range(5):
            server.sendall(b"record %d" % number)
        for number in range(5):
            assert select.select([client], [], [], 20)[0]
            assert client.recv(100) == b"record %d" % number


def test_a_handshake_on_connect_must_block(threads: Pair) -> None:
    with connection(threads) as (client, _):
        client.setblocking(False)
        with pytest.raises(ValueError, match="non-blocking"):
            client_context().wrap_socket(client, server_hostname="host.lwipy")


# -- More of TLS -------------------------------------------------------------------------------------------------------


def test_a_server_may_choose_by_name(threads: Pair, pool: ThreadPoolExecutor) -> None:
    asked: list[object] = []
    other = server_context()

    def choose(sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext) -> None:
        asked.extend([type(sock), name])
        sock.context = other

    context = server_context()
    context.sni_callback = choose
    with tls(threads, pool, server=context) as (_, server):
        assert asked == [TlsSocket, "host.lwipy"]
        assert server.context is other


def test_client_certificates(threads: Pair, pool: ThreadPoolExecutor) -> None:
    ours, theirs = client_context(), server_context()
    ours.load_cert_chain(HOST)
    theirs.verify_mode = ssl.CERT_REQUIRED
    theirs.load_verify_locations(HOST)
    with tls(threads, pool, ours, theirs) as (_, server):
        certificate = server.getpeercert()
        assert certificate is not None
        assert ("DNS", "host.lwipy") in certificate["subjectAltName"]


def test_sessions_are_resumed(threads: Pair, pool: ThreadPoolExecutor) -> None:
    ours, theirs = client_context(), server_context()
    ours.maximum_version = ssl.TLSVersion.TLSv1_2
    with tls(threads, pool, ours, theirs) as (client, _):
        session = client.session
        assert not client.session_reused
    assert session is not None
    with connection(threads) as (near, far):
        accepting = pool.submit(theirs.wrap_socket, far, server_side=True)
        with ours.wrap_socket(near, server_hostname="host.lwipy", session=session) as again, accepting.result(20):
            assert again.session_reused


def test_two_threads_write_without_mixing(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool) as (client, server):
        writers = [pool.submit(client.sendall, bytes([letter]) * 300_000) for letter in b"abcd"]
        counts: dict[int, int] = {}
        left = 1_200_000
        while left:
            data = server.recv(1 << 16)
            left -= len(data)
            for letter in set(data):
                counts[letter] = counts.get(letter, 0) + data.count(letter)
        for writer in writers:
            writer.result(20)
        assert counts == dict.fromkeys(b"abcd", 300_000)


def test_threads_are_not_left(threads: Pair, pool: ThreadPoolExecutor) -> None:
    with tls(threads, pool):
        before = threading.active_count()
    with tls(threads, pool):
        assert threading.active_count() <= before
