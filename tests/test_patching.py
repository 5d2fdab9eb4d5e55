"""patched(): the socket module's names are a stack's, for the process or for one thread or task."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import Pair

import lwipy
from lwipy.blocking import Socket

HOST = Path(__file__).parent / "tls" / "host.pem"
NAMES = ("socket", "SocketType", "create_connection", "create_server", "getaddrinfo", "gethostbyname", "dup", "close")


def names() -> dict[str, Any]:
    return {name: getattr(socket, name) for name in NAMES} | {"_create": vars(ssl.SSLSocket)["_create"]}


def owner() -> lwipy.Stack | None:
    """Whose sockets the socket module makes."""
    with socket.socket() as made:
        return made.stack if isinstance(made, Socket) else None


@pytest.fixture(autouse=True)
def everything_is_put_back() -> Iterator[None]:
    before = names()
    yield
    assert names() == before


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Calls a function in another thread."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda function: thread.submit(function).result(30)


def test_for_the_whole_process(threads: Pair, elsewhere: Callable[[Callable[[], Any]], Any]) -> None:
    with lwipy.patched(threads.a) as stack:
        assert stack is threads.a
        assert owner() is threads.a
        assert elsewhere(owner) is threads.a
        assert socket.has_dualstack_ipv6()
        with socket.create_server(("10.0.0.1", 80)) as server, socket.create_connection(("10.0.0.1", 80)) as client:
            assert isinstance(server, Socket)
            assert isinstance(client, socket.socket)
    assert owner() is None


def test_contexts_nest_and_may_end_in_any_order(threads: Pair) -> None:
    with lwipy.patched(threads.a):
        with lwipy.patched(threads.b):
            assert owner() is threads.b
        assert owner() is threads.a
    outer, inner = lwipy.patched(threads.a), lwipy.patched(threads.b)
    with ExitStack() as ends_later:
        with outer:
            ends_later.enter_context(inner)
        assert owner() is threads.b
    assert owner() is None


def test_for_one_thread(threads: Pair, elsewhere: Callable[[Callable[[], Any]], Any]) -> None:
    """The thread that enters is on the stack, others are on the host's network or on what the process is on."""
    with lwipy.patched(threads.a, everywhere=False):
        assert owner() is threads.a
        assert elsewhere(owner) is None
        with lwipy.patched(threads.b):
            assert owner() is threads.a
            assert elsewhere(owner) is threads.b


def test_names_are_the_hosts_where_no_stack_is_chosen(
    threads: Pair, elsewhere: Callable[[Callable[[], Any]], Any]
) -> None:
    def on_the_host() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as server:
            assert not isinstance(server, Socket)
            with socket.create_connection(server.getsockname()) as client, server.accept()[0] as accepted:
                accepted.sendall(socket.gethostbyname("127.0.0.1").encode())
                return client.recv(100)

    with lwipy.patched(threads.a, everywhere=False):
        assert elsewhere(on_the_host) == b"127.0.0.1"


def test_two_threads_on_two_stacks(threads: Pair) -> None:
    """The same program at both ends of the wire, each end on its own stack."""
    listening = threading.Event()

    def serve() -> bytes:
        with lwipy.patched(threads.a, everywhere=False), socket.create_server(("10.0.0.1", 80)) as server:
            listening.set()
            connection, address = server.accept()
            with connection:
                connection.sendall(address[0].encode())
                return connection.recv(100)

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        assert listening.wait(30)
        with lwipy.patched(threads.b, everywhere=False), socket.create_connection(("10.0.0.1", 80)) as client:
            assert client.recv(100) == b"10.0.0.2"
            client.sendall(b"over the wire")
            assert client.getpeername() == ("10.0.0.1", 80)
        assert served.result(30) == b"over the wire"


def test_a_task_has_a_choice_of_its_own(threads: Pair) -> None:
    async def owner_within(stack: lwipy.Stack) -> bool:
        with lwipy.patched(stack, everywhere=False):
            await asyncio.sleep(0)
            return owner() is stack and await asyncio.to_thread(owner) is stack

    async def main() -> None:
        assert all(await asyncio.gather(owner_within(threads.a), owner_within(threads.b)))
        assert owner() is None

    asyncio.run(main())


def test_sockets_stay_with_their_stack(threads: Pair) -> None:
    """Made inside, used outside: duplicates and files too."""
    with lwipy.patched(threads.a):
        server = socket.create_server(("10.0.0.1", 80))
        made = socket.socket()
    with server, made, made.dup() as twin, threads.b.create_connection(("10.0.0.1", 80)) as client:
        assert isinstance(twin, type(made))
        assert twin.stack is threads.a  # type: ignore[attr-defined]
        accepted, address = server.accept()
        with accepted, accepted.dup() as second, second.makefile("rw") as file:
            assert address[0] == "10.0.0.2"
            client.sendall(b"a line\n")
            assert file.readline() == "a line\n"


def test_other_families_are_the_hosts(threads: Pair) -> None:
    with lwipy.patched(threads.a):
        one, other = socket.socketpair()
        with one, other:
            one.sendall(b"x")
            assert other.recv(1) == b"x"
            assert isinstance(one, socket.socket)
            assert issubclass(type(one), socket.socket)
            assert not isinstance("a text", socket.socket)


def test_a_derived_class(threads: Pair) -> None:
    with lwipy.patched(threads.a):

        class Counting(socket.socket):
            sent = 0

            def sendall(self, *arguments: Any) -> None:
                self.sent += 1
                super().sendall(*arguments)

        with Counting(socket.AF_INET, socket.SOCK_STREAM) as made, made.dup() as twin:
            assert isinstance(made, Socket)
            assert isinstance(twin, Counting)


def test_tls(threads: Pair) -> None:
    """Contexts made before, during and by whomever take a stack's sockets then."""
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(HOST)

    def serve() -> None:
        accepted, _ = server.accept()
        with accepted, server_side.wrap_socket(accepted, server_side=True) as tls:
            request = tls.recv(1000)
            assert request.startswith(b"GET /page HTTP/1.1\r\n")
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with threads.b.create_server(("10.0.0.2", 443)) as server, lwipy.patched(threads.a):
        with ThreadPoolExecutor(1) as pool:
            served = pool.submit(serve)
            with urllib.request.urlopen(
                "https://10.0.0.2/page", context=ssl.create_default_context(cafile=str(HOST))
            ) as response:
                assert response.read() == b"hello"
            served.result(30)
