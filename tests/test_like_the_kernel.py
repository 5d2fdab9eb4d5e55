"""The same call on the kernel's socket and on a stack's: the same answer, or the same exception and errno."""

from __future__ import annotations

import asyncio
import copy
import io
import pickle
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import lwipy
from lwipy.aio import StackEventLoop
from lwipy.blocking import names

LOOPBACK = "127.0.0.1"
GROUP = socket.inet_aton("224.1.1.1")


@pytest.fixture(scope="module")
def stack() -> Iterator[lwipy.Stack]:
    with lwipy.Stack() as stack:
        stack.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        yield stack


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns; of an exception its class and errno."""
    try:
        return call()
    except Exception as error:
        return type(error), getattr(error, "errno", None)


# -- Sockets -----------------------------------------------------------------------------------------------------------

TCP: dict[str, Callable[[Any], Any]] = {
    "recv": lambda s: s.recv(1),
    "recv of a negative size": lambda s: s.recv(-1),
    "recv of no number": lambda s: s.recv("x"),
    "recv_into what cannot be written": lambda s: s.recv_into(b"x"),
    "recv_into more than there is room": lambda s: s.recv_into(bytearray(3), 4),
    "recvmsg with negative room": lambda s: s.recvmsg(1, -1),
    "send": lambda s: s.send(b"x"),
    "send of text": lambda s: s.send("x"),
    "sendall": lambda s: s.sendall(b"x"),
    "sendfile of text": lambda s: s.sendfile(io.StringIO("x")),
    "accept": lambda s: s.accept(),
    "shutdown": lambda s: s.shutdown(socket.SHUT_RDWR),
    "shutdown of nothing known": lambda s: s.shutdown(7),
    "listen of no number": lambda s: s.listen("x"),
    "bind to another's address": lambda s: s.bind(("1.2.3.4", 0)),
    "bind to no port": lambda s: s.bind((LOOPBACK, -1)),
    "bind to no tuple": lambda s: s.bind("x"),
    "bind to another family": lambda s: s.bind(("::1", 0)),
    "connect, refused": lambda s: s.connect((LOOPBACK, 1)),
    "connect_ex, refused": lambda s: s.connect_ex((LOOPBACK, 1)),
    "getpeername": lambda s: s.getpeername(),
    "getsockname": lambda s: s.getsockname(),
    "settimeout(-1)": lambda s: s.settimeout(-1),
    "settimeout(nan)": lambda s: s.settimeout(float("nan")),
    "settimeout(1e30)": lambda s: s.settimeout(1e30),
    "settimeout('x')": lambda s: s.settimeout("x"),
    "setblocking('x')": lambda s: s.setblocking("x"),
    "makefile of no mode": lambda s: s.makefile("q"),
    "pickle": pickle.dumps,
    "copy": copy.copy,
    "a level of no number": lambda s: s.setsockopt("a", 1, 1),
    "an option of too few bytes": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, b"x"),
    "no value and no length": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, None),
    "SO_LINGER of one int": lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 1),
    "SO_LINGER": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8),
    "SO_LINGER, half of it": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 4),
    "SO_LINGER as a number": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER),
    "SO_TYPE": lambda s: repr(s.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)),
    "SO_PROTOCOL": lambda s: s.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL),
    "IP_TTL": lambda s: s.getsockopt(socket.IPPROTO_IP, socket.IP_TTL),
    "TCP_MAXSEG": lambda s: s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
    "an unknown option": lambda s: s.setsockopt(socket.SOL_SOCKET, 9999, 1),
}
UDP: dict[str, Callable[[Any], Any]] = {
    "sendto port 0": lambda s: s.sendto(b"x", (LOOPBACK, 0)),
    "sendto port 70000": lambda s: s.sendto(b"x", (LOOPBACK, 70000)),
    "sendto no address": lambda s: s.sendto(b"x", ()),
    "sendto everybody": lambda s: s.sendto(b"x", ("255.255.255.255", 9)),
    "send to nobody": lambda s: s.send(b"x"),
    "too long": lambda s: s.sendto(bytes(70000), (LOOPBACK, 9)),
    "recv of nothing": lambda s: s.recv(0, socket.MSG_DONTWAIT),
    "recv": lambda s: s.recv(1, socket.MSG_DONTWAIT),
    "listen": lambda s: s.listen(),
    "shutdown": lambda s: s.shutdown(socket.SHUT_RDWR),
    "IP_MULTICAST_TTL": lambda s: s.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL),
    "IP_MULTICAST_LOOP": lambda s: s.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP),
    "IP_MULTICAST_TTL of one byte": lambda s: s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, b"\x07"),
    "join what is no group": lambda s: s.setsockopt(
        socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("10.1.1.1") + bytes(4)
    ),
    "join by an interface that is not there": lambda s: s.setsockopt(
        socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, GROUP + socket.inet_aton("9.9.9.9")
    ),
    "leave what was not joined": lambda s: s.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, GROUP + bytes(4)),
}


@pytest.mark.parametrize(
    ("kind", "call"),
    [pytest.param(socket.SOCK_STREAM, call, id=f"tcp: {name}") for name, call in TCP.items()]
    + [pytest.param(socket.SOCK_DGRAM, call, id=f"udp: {name}") for name, call in UDP.items()],
)
def test_a_fresh_socket_answers_as_the_kernels(stack: lwipy.Stack, kind: int, call: Callable[[Any], Any]) -> None:
    with stack.socket(type=kind) as ours, socket.socket(type=kind) as theirs:
        assert outcome(lambda: call(ours)) == outcome(lambda: call(theirs))


@pytest.mark.parametrize(
    "arguments",
    [
        ("x",), (socket.AF_INET, "x"), (socket.AF_INET, socket.SOCK_STREAM, "x"), (99, socket.SOCK_STREAM),
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP), (socket.AF_INET, socket.SOCK_SEQPACKET),
        (-1, -1, -1, -1), (-1, -1, -1, 99999), (-1, -1, -1, "x"),
    ],
)  # fmt: skip
def test_a_socket_that_cannot_be(stack: lwipy.Stack, arguments: tuple[Any, ...]) -> None:
    assert outcome(lambda: stack.socket(*arguments)) == outcome(lambda: socket.socket(*arguments))


@pytest.mark.parametrize(
    ("keywords", "error"),
    [({"timeout": -1}, ValueError), ({"timeout": "x"}, TypeError), ({"source_address": ("9.9.9.9", 0)}, OSError)],
)
def test_create_connection_that_cannot_be(stack: lwipy.Stack, keywords: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        stack.create_connection((LOOPBACK, 1), **keywords)


# -- Names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("getaddrinfo", (LOOPBACK, 80)),
        ("getaddrinfo", (LOOPBACK, 80, 0, 0, socket.IPPROTO_TCP)),
        ("getaddrinfo", (LOOPBACK, "http", 0, socket.SOCK_STREAM)),
        ("getaddrinfo", (LOOPBACK, "nosuch")),
        ("getaddrinfo", (LOOPBACK, 80, socket.AF_INET6)),
        ("getaddrinfo", (LOOPBACK, 1.5)),
        ("getaddrinfo", ("fe80::1%nope", 80)),
        ("getaddrinfo", (5, 80)),
        ("getaddrinfo", (None, None)),
        ("gethostbyname", (5,)),
        ("gethostbyname", (LOOPBACK,)),
        ("gethostbyname_ex", (5,)),
        ("gethostbyaddr", (5,)),
        ("getnameinfo", ("x", 0)),
        ("getnameinfo", ((LOOPBACK,), 0)),
        ("if_indextoname", (-1,)),
    ],
)
def test_names(stack: lwipy.Stack, function: str, arguments: tuple[Any, ...]) -> None:
    ours, theirs = partial(getattr(names, function), stack), getattr(socket, function)
    assert outcome(lambda: ours(*arguments)) == outcome(lambda: theirs(*arguments))


# -- IPv6 only ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["", "::"])
def test_a_server_of_ipv6_only_has_no_ipv4(stack: lwipy.Stack, host: str) -> None:
    for create_server, create_connection in (
        (stack.create_server, stack.create_connection),
        (socket.create_server, socket.create_connection),
    ):
        with create_server((host, 0), family=socket.AF_INET6) as listener:
            port = listener.getsockname()[1]
            with pytest.raises(ConnectionRefusedError):
                create_connection((LOOPBACK, port))
            create_connection(("::1", port)).close()


def test_datagrams_of_ipv6_only(stack: lwipy.Stack) -> None:
    for make in (stack.socket, socket.socket):
        with make(socket.AF_INET6, socket.SOCK_DGRAM) as six, make(socket.AF_INET, socket.SOCK_DGRAM) as four:
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("", 0))
            four.sendto(b"of IPv4", (LOOPBACK, six.getsockname()[1]))
            with make(socket.AF_INET6, socket.SOCK_DGRAM) as friend:
                friend.sendto(b"of IPv6", ("::1", six.getsockname()[1]))
            assert six.recv(100) == b"of IPv6"


# -- asyncio -----------------------------------------------------------------------------------------------------------

LOOP: dict[str, Callable[[Any, Any, Any], Any]] = {
    "ssl without a name": lambda loop, tcp, _: loop.create_connection(asyncio.Protocol, None, 1, ssl=True),
    "sock, ssl without a name": lambda loop, tcp, _: loop.create_connection(asyncio.Protocol, sock=tcp, ssl=True),
    "connection, unknown option": lambda loop, tcp, _: loop.create_connection(asyncio.Protocol, sock=tcp, bogus=1),
    "server, unknown option": lambda loop, tcp, _: loop.create_server(asyncio.Protocol, sock=tcp, bogus=1),
    "accepted, unknown option": lambda loop, tcp, _: loop.connect_accepted_socket(asyncio.Protocol, tcp, bogus=1),
    "datagrams, unknown option": lambda loop, _, udp: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=udp, bogus=1
    ),
    "datagrams, sock and address": lambda loop, _, udp: loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, sock=udp, local_addr=(LOOPBACK, 0)
    ),
    "sendfile of datagrams": lambda loop, _, udp: loop.sock_sendfile(udp, io.BytesIO(b"x")),
    "sendfile from before the start": lambda loop, tcp, _: loop.sock_sendfile(tcp, io.BytesIO(b"x"), -1),
    "sendfile of less than nothing": lambda loop, tcp, _: loop.sock_sendfile(tcp, io.BytesIO(b"x"), 0, -5),
    "sendto no address": lambda loop, _, udp: loop.sock_sendto(udp, b"x", "x"),
    "getnameinfo of no address": lambda loop, tcp, _: loop.getnameinfo("x"),
    "getnameinfo": lambda loop, tcp, _: loop.getnameinfo((LOOPBACK, 80), socket.NI_NUMERICHOST),
}


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in LOOP.items()])
def test_misuse_of_the_loop(call: Callable[[Any, Any, Any], Any]) -> None:
    async def main(make: Any) -> Any:
        with make(type=socket.SOCK_STREAM) as tcp, make(type=socket.SOCK_DGRAM) as udp:
            for sock in (tcp, udp):
                sock.setblocking(False)
            try:
                return await call(asyncio.get_running_loop(), tcp, udp)
            except Exception as error:
                return type(error), getattr(error, "errno", None)

    stack = lwipy.Stack()
    try:
        with asyncio.Runner(loop_factory=lambda: StackEventLoop(stack)) as ours, asyncio.Runner() as theirs:
            assert ours.run(main(stack.socket)) == theirs.run(main(socket.socket))
    finally:
        stack.close()


def test_ssl_that_is_no_context() -> None:
    async def main(stack: lwipy.Stack, neither: Any) -> None:
        with pytest.raises(TypeError, match="SSLContext"):
            await lwipy.aio.create_connection(stack, asyncio.Protocol, LOOPBACK, 1, ssl=neither)

    with lwipy.Stack() as alone:
        asyncio.run(main(alone, "x"))


# -- The end of a stack ------------------------------------------------------------------------------------------------


def test_closing_the_stack_ends_a_lookup() -> None:
    with lwipy.Stack() as stack:
        stack.add_interface(ipv4="10.0.0.1/24")
        stack.dns_servers = ["10.0.0.53"]
        stack.call_later(0.05, stack.close)
        with pytest.raises(lwipy.StackClosedError):
            stack.getaddrinfo("somebody.example", 80)


def test_linger_is_kept(stack: lwipy.Stack) -> None:
    value = struct.pack("ii", 1, 5)
    with stack.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, value)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == value
