"""The kernel of this machine as the peer, through a TAP into a namespace: both stacks must mean the same by TCP."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
from kernel_peer import Namespace, datagram, namespace, need, pings

import lwipy
from lwipy.links import Tap

GIGABYTE = 1_000_000_000
FAMILIES = pytest.mark.parametrize(("ours", "kernel"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])

BLOCK = bytes(i * 7 % 251 for i in range(1 << 20))  # as in the programs' prelude


@dataclass
class Lab:
    """Our stack, driven by a thread, and the kernel's namespace at the other end of the TAP."""

    stack: lwipy.Stack
    kernel: Namespace
    device: str

    def family(self, host: str) -> int:
        return socket.AF_INET6 if ":" in host else socket.AF_INET

    def listener(self, host: str, port: int = 80, backlog: int = 256) -> lwipy.blocking.Socket:
        return self.stack.create_server((host, port), family=self.family(host), backlog=backlog)


@pytest.fixture
def lab() -> Iterator[Lab]:
    need()
    with namespace() as kernel, lwipy.Stack() as stack:
        tap = Tap()
        stack.add_interface(tap, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        kernel.take(tap.name, "10.0.0.2/24", "fd00::2/64")
        yield Lab(stack, kernel, tap.name)


def digest_of(size: int) -> str:
    digest = hashlib.sha256()
    while size > 0:
        digest.update(BLOCK[:size])
        size -= len(BLOCK)
    return digest.hexdigest()


KERNEL_LISTENS = """
server = socket.create_server((sys.argv[1], 7000), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET,
                              backlog=256)
say("listening")
"""


@FAMILIES
def test_a_gigabyte_to_the_kernel(lab: Lab, ours: str, kernel: str) -> None:
    size = GIGABYTE if ":" not in ours else GIGABYTE // 5
    script = KERNEL_LISTENS + (
        "c, _ = server.accept(); d = hashlib.sha256()\n"
        "while part := c.recv(1 << 20): d.update(part)\n"
        "say(d.hexdigest())"
    )
    program = lab.kernel.run(script, kernel)
    program.hear()
    started = time.perf_counter()
    with lab.stack.create_connection((kernel, 7000), timeout=60) as connection:
        left = size
        while left > 0:
            connection.sendall(BLOCK[:left])
            left -= len(BLOCK)
    assert program.hear() == digest_of(size)
    print(f"to the kernel: {size * 8 / (time.perf_counter() - started) / 1e9:.2f} Gbit/s, sums included")


@FAMILIES
def test_a_gigabyte_from_the_kernel(lab: Lab, ours: str, kernel: str) -> None:
    size = GIGABYTE if ":" not in ours else GIGABYTE // 5
    with lab.listener(ours) as listener:
        script = (
            "c = socket.create_connection((sys.argv[1], 80))\n"
            "for part in stream(int(sys.argv[2]), BLOCK): c.sendall(part)\n"
            "c.shutdown(socket.SHUT_WR); say('sent', c.recv(10))"
        )
        lab.kernel.run(script, ours, size)
        connection, _ = listener.accept()
        started = time.perf_counter()
        digest, received, buffer = hashlib.sha256(), 0, bytearray(1 << 20)
        with connection:
            while got := connection.recv_into(buffer):
                digest.update(memoryview(buffer)[:got])
                received += got
    assert (received, digest.hexdigest()) == (size, digest_of(size))
    print(f"from the kernel: {size * 8 / (time.perf_counter() - started) / 1e9:.2f} Gbit/s, sums included")


@FAMILIES
def test_two_hundred_connections_at_once_each_way(lab: Lab, ours: str, kernel: str) -> None:
    script = KERNEL_LISTENS + (
        "import threading\n"
        "def serve(c):\n    c.sendall(c.recv(100)[::-1]); c.close()\n"
        "for _ in range(200): threading.Thread(target=serve, args=(server.accept()[0],)).start()\n"
        "cs = [socket.create_connection((sys.argv[2], 80), timeout=30) for _ in range(200)]\n"
        "for n, c in enumerate(cs): c.sendall(b'%d' % n)\n"
        "say(sum(c.recv(100) == b'%d!' % n for n, c in enumerate(cs)))"
    )
    with lab.listener(ours) as listener, ThreadPoolExecutor(32) as pool:
        program = lab.kernel.run(script, kernel, ours)
        program.hear()

        connections = [lab.stack.create_connection((kernel, 7000), timeout=30) for _ in range(200)]
        for number, connection in enumerate(connections):
            connection.sendall(b"%d" % number)
        assert [c.recv(100) for c in connections] == [(b"%d" % n)[::-1] for n in range(200)]
        for connection in connections:
            connection.close()

        def serve(connection: lwipy.blocking.Socket) -> None:
            with connection:
                connection.sendall(connection.recv(100) + b"!")

        for _ in range(200):
            pool.submit(serve, listener.accept()[0])
        assert program.hear() == "200"


@FAMILIES
def test_half_close_both_ways(lab: Lab, ours: str, kernel: str) -> None:
    script = KERNEL_LISTENS + (
        "c, _ = server.accept(); data = b''\n"
        "while part := c.recv(100): data += part\n"
        "time.sleep(0.1); c.sendall(data[::-1]); c.close()\n"
        "c = socket.create_connection((sys.argv[2], 80)); c.sendall(b'abc'); c.shutdown(socket.SHUT_WR)\n"
        "data = b''\n"
        "while part := c.recv(100): data += part\n"
        "say(data.decode())"
    )
    with lab.listener(ours) as listener:
        program = lab.kernel.run(script, kernel, ours)
        program.hear()
        with lab.stack.create_connection((kernel, 7000), timeout=30) as connection:
            connection.sendall(b"abc")
            connection.shutdown(socket.SHUT_WR)
            assert connection.makefile("rb").read() == b"cba"
        connection, _ = listener.accept()
        with connection:
            assert connection.makefile("rb").read() == b"abc"
            time.sleep(0.1)
            connection.sendall(b"cba")
        assert program.hear() == "cba"


@FAMILIES
def test_resets_are_told_both_ways(lab: Lab, ours: str, kernel: str) -> None:
    linger = "__import__('struct').pack('ii', 1, 0)"
    script = KERNEL_LISTENS + (
        f"c, _ = server.accept(); c.recv(1); c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, {linger}); c.close()\n"
        "c, _ = server.accept(); c.sendall(b'x')\n"
        "try: c.recv(1)\nexcept ConnectionResetError: say('reset')"
    )
    program = lab.kernel.run(script, kernel)
    program.hear()
    with lab.stack.create_connection((kernel, 7000), timeout=30) as connection:
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with lab.stack.create_connection((kernel, 7000), timeout=30) as connection:
        assert connection.recv(1) == b"x"
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1" + bytes(7))
    assert program.hear() == "reset"


@FAMILIES
def test_refusals_are_told_both_ways(lab: Lab, ours: str, kernel: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        lab.stack.create_connection((kernel, 7001), timeout=30)
    program = lab.kernel.run(
        "try: socket.create_connection((sys.argv[1], 81), timeout=30)\nexcept ConnectionRefusedError: say('refused')",
        ours,
    )
    assert program.hear() == "refused"


@FAMILIES
def test_a_kernel_that_has_gone_is_noticed(lab: Lab, ours: str, kernel: str) -> None:
    """Its interface goes down in mid connection: keepalive ends the wait."""
    script = KERNEL_LISTENS + "c, _ = server.accept(); c.sendall(b'x'); say('accepted'); time.sleep(60)"
    program = lab.kernel.run(script, kernel)
    program.hear()
    with lab.stack.create_connection((kernel, 7000), timeout=60) as connection:
        assert connection.recv(1) == b"x"
        program.hear()
        for option, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 2)):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        lab.kernel.ip("link", "set", lab.device, "down")
        with pytest.raises(TimeoutError) as info:
            connection.recv(1)
        assert info.value.errno is not None, "the socket's own timeout came first"


def test_datagrams_in_fragments(lab: Lab) -> None:
    script = (
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.0.0.2', 7)); say('bound')\n"
        "while True: data, a = s.recvfrom(70000); s.sendto(data[::-1], a)"
    )
    lab.kernel.run(script).hear()
    with lab.stack.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for size in (1, 4000, 65_507):
            data = BLOCK[:size]
            datagram(partial(sock.sendto, data, ("10.0.0.2", 7)), sock, data[::-1].__eq__)


@pytest.mark.parametrize("size", [56, 1472, 4000, 60_000])
@FAMILIES
def test_the_kernel_answers_pings(lab: Lab, ours: str, kernel: str, size: int) -> None:
    assert pings(lab.stack, kernel, size)


def test_eight_streams_both_ways_at_once(lab: Lab) -> None:
    """Every stream keeps its own bytes."""
    size = 20_000_000
    script = KERNEL_LISTENS + (
        "import threading\n"
        "def serve(c):\n"
        "    sender = threading.Thread(target=lambda: [c.sendall(p) for p in stream(int(sys.argv[2]), BLOCK)])\n"
        "    sender.start(); d = hashlib.sha256(); left = int(sys.argv[2])\n"
        "    while left: part = c.recv(1 << 18); left -= len(part); d.update(part)\n"
        "    sender.join(); say(d.hexdigest()); c.close()\n"
        "for _ in range(8): threading.Thread(target=serve, args=(server.accept()[0],)).start()"
    )
    program = lab.kernel.run(script, "10.0.0.2", size)
    program.hear()
    sums: list[str] = []

    def talk() -> None:
        with lab.stack.create_connection(("10.0.0.2", 7000), timeout=60) as connection:
            sender = threading.Thread(target=connection.sendall, args=((BLOCK * (size // len(BLOCK) + 1))[:size],))
            sender.start()
            digest = hashlib.sha256()
            while part := connection.recv(1 << 18):
                digest.update(part)
            sender.join()
            sums.append(digest.hexdigest())

    threads = [threading.Thread(target=talk) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert [program.hear() for _ in range(8)] == [digest_of(size)] * 8
    for thread in threads:
        thread.join()
    assert sums == [digest_of(size)] * 8
