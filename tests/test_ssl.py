"""TLS over blocking sockets, by the standard library's ssl: what http.client, smtplib and urllib3 do with it."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

import pytest
from conftest import Pair
from tls_world import HOST, client_context, connection, server_context, tls

from lwipy.blocking import Socket
from lwipy.blocking.tls import TlsSocket

T = TypeVar("T")


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
