"""trio's streams, listeners and datagrams on stacks, by trio's own conformance suite and by what a network can do."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import struct
from contextlib import closing
from typing import Any

import pytest
import trio
import trio.testing
from conftest import Pair
from trio_world import PORT, clog, connected, echo, run, two_hosts

import lwipy
from lwipy.trio import SocketStream, driving, open_tcp_stream, serve_tcp

# -- trio's own idea of a stream ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2"])
def test_trios_conformance_suite(host: str) -> None:
    """check_half_closeable_stream holds all of check_two_way_stream and check_one_way_stream."""

    async def main() -> None:
        async with two_hosts() as pair:

            async def maker() -> tuple[SocketStream, SocketStream]:
                return await connected(pair, host)

            async def clogged_maker() -> tuple[SocketStream, SocketStream]:
                near, far = await connected(pair, host)
                await clog(near)
                await clog(far)
                return near, far

            await trio.testing.check_half_closeable_stream(maker, clogged_maker)

    run(main)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_suite_again_on_a_bad_wire(seed: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.nic_a.impair(loss=0.02, reorder=0.05, duplicate=0.02, seed=seed)

            async def maker() -> tuple[SocketStream, SocketStream]:
                return await connected(pair)

            await trio.testing.check_half_closeable_stream(maker, None)

    run(main)


# -- Conversations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["10.0.0.2", "fd00::2", "b.lwipy"])
def test_serving_and_connecting(host: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            pair.a.hosts["b.lwipy"] = ["fd00::2", "10.0.0.2"]
            listeners = await nursery.start(serve_tcp, pair.b, echo, PORT)
            assert [listener.socket.family for listener in listeners] == [socket.AF_INET6, socket.AF_INET]
            async with await open_tcp_stream(pair.a, host, PORT) as stream:
                assert stream.socket.getpeername()[:2] == ("10.0.0.2" if host[0] == "1" else "fd00::2", PORT)
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
            nursery.cancel_scope.cancel()

    run(main)


def test_20_megabytes_both_ways_at_once() -> None:
    size = 20 << 20
    texts = [random.Random(seed).randbytes(size) for seed in (1, 2)]

    async def send(stream: SocketStream, text: bytes) -> None:
        view = memoryview(text)
        for at in range(0, size, 300_000):
            await stream.send_all(view[at : at + 300_000])
        await stream.send_eof()

    async def receive(stream: SocketStream, text: bytes) -> None:
        digest = hashlib.sha256()
        async for data in stream:
            digest.update(data)
        assert digest.digest() == hashlib.sha256(text).digest()

    async def main() -> None:
        async with two_hosts(virtual=False) as pair:
            near, far = await connected(pair)
            async with near, far:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send, near, texts[0])
                    nursery.start_soon(send, far, texts[1])
                    nursery.start_soon(receive, near, texts[1])
                    nursery.start_soon(receive, far, texts[0])

    run(main, virtual=False)


def test_two_hundred_connections_at_once() -> None:
    async def talk(pair: Pair, number: int) -> None:
        text = b"%d" % number * 1000
        async with await open_tcp_stream(pair.a, "10.0.0.2", PORT) as stream:
            await stream.send_all(text)
            await stream.send_eof()
            assert b"".join([data async for data in stream]) == text

    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as servers:
            await servers.start(serve_tcp, pair.b, echo, PORT)
            async with trio.open_nursery() as clients:
                for number in range(200):
                    clients.start_soon(talk, pair, number)
            servers.cancel_scope.cancel()

    run(main)


def test_several_stacks_in_one_trio() -> None:
    """A message around a ring of twenty."""

    async def main() -> None:
        with closing(_Ring(20)) as ring:
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    await nursery.start(ring.host, number)
                async with await open_tcp_stream(ring.stacks[0], ring.address(1), PORT) as stream:
                    await stream.send_all(b"0")
                    await stream.send_eof()
                    assert await stream.receive_some() == b""
                with trio.fail_after(100):
                    await ring.round.wait()
                nursery.cancel_scope.cancel()
            assert ring.message == b" ".join(b"%d" % number for number in range(20))

    run(main)


class _Ring:
    """Stacks of which each is wired to the next."""

    def __init__(self, count: int) -> None:
        self.stacks = [lwipy.Stack(clock=trio.current_time) for _ in range(count)]
        self.round = trio.Event()
        self.message = b""
        for number in range(count):
            left = self.stacks[number - 1].add_interface(ipv4=f"10.0.{number}.1/24")
            lwipy.wire(left, self.stacks[number].add_interface(ipv4=f"10.0.{number}.2/24"))

    def address(self, number: int) -> str:
        return f"10.0.{number}.2"

    def close(self) -> None:
        for stack in self.stacks:
            stack.close()

    async def host(self, number: int, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async def pass_on(stream: SocketStream) -> None:
            async with stream:
                message = b"".join([data async for data in stream])
            if number == 0:
                self.message = message
                self.round.set()
                return
            after = (number + 1) % len(self.stacks)
            async with await open_tcp_stream(self.stacks[number], self.address(after), PORT) as onward:
                await onward.send_all(message + b" %d" % number)
                await onward.send_eof()
                await onward.receive_some()

        async with driving(self.stacks[number]):
            await serve_tcp(self.stacks[number], pass_on, PORT, task_status=task_status)


# -- What the network does ---------------------------------------------------------------------------------------------


def test_refused() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(ConnectionRefusedError, match=r"10\.0\.0\.2:81"):
                await open_tcp_stream(pair.a, "10.0.0.2", 81)

    run(main)


def test_all_addresses_refuse() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["b.lwipy"] = ["fd00::2", "10.0.0.2"]
            with pytest.raises(ConnectionRefusedError, match=r"all attempts to connect to b\.lwipy:81") as info:
                await open_tcp_stream(pair.a, "b.lwipy", 81)
            cause = info.value.__cause__
            assert isinstance(cause, ExceptionGroup)
            assert [type(error) for error in cause.exceptions] == [ConnectionRefusedError] * 2

    run(main)


def test_nobody_answers() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(TimeoutError):
                await open_tcp_stream(pair.a, "10.0.0.77", PORT)
            with pytest.raises(trio.TooSlowError):
                with trio.fail_after(1):
                    await open_tcp_stream(pair.a, "10.0.0.77", PORT)
            with pytest.raises(OSError, match="route") as info:
                await open_tcp_stream(pair.a, "192.0.2.1", PORT)
            assert info.value.errno == errno.EHOSTUNREACH

    run(main)


def test_happy_eyeballs_does_not_wait_for_the_dead_address() -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            pair.a.hosts["b.lwipy"] = ["fd00::77", "10.0.0.2"]
            await nursery.start(serve_tcp, pair.b, echo, PORT)
            began = trio.current_time()
            async with await open_tcp_stream(pair.a, "b.lwipy", PORT) as stream:
                assert stream.socket.family == socket.AF_INET
                assert trio.current_time() - began < 1  # virtual seconds
            began = trio.current_time()
            async with await open_tcp_stream(pair.a, "b.lwipy", PORT, happy_eyeballs_delay=3):
                assert 3 <= trio.current_time() - began < 4
            nursery.cancel_scope.cancel()

    run(main)


def test_the_local_address_can_be_chosen() -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            await nursery.start(serve_tcp, pair.b, echo, PORT)
            async with await open_tcp_stream(pair.a, "fd00::2", PORT, local_address="fd00::1") as stream:
                assert stream.socket.getsockname()[0] == "fd00::1"
            with pytest.raises(OSError, match=r"10\.0\.0\.9") as info:
                await open_tcp_stream(pair.a, "10.0.0.2", PORT, local_address="10.0.0.9")
            assert info.value.errno == errno.EADDRNOTAVAIL
            nursery.cancel_scope.cancel()

    run(main)


def test_a_reset_breaks_both_directions_for_good() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await far.aclose()
            for _ in range(2):
                with pytest.raises(trio.BrokenResourceError) as info:
                    await near.receive_some()
                assert isinstance(info.value.__cause__, ConnectionResetError)
                with pytest.raises(trio.BrokenResourceError) as info:
                    await near.send_all(b"x")
                assert isinstance(info.value.__cause__, OSError)
            await near.aclose()

    run(main)


def test_a_peer_that_vanishes() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            near.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
                near.setsockopt(socket.IPPROTO_TCP, option, value)
            pair.nic_a.link_up = False
            with pytest.raises(trio.BrokenResourceError) as info:
                await near.receive_some()
            assert isinstance(info.value.__cause__, TimeoutError)
            await near.aclose()
            pair.nic_a.link_up = True
            await far.send_all(b"I was away")
            with pytest.raises(trio.BrokenResourceError):
                await far.receive_some()
            await far.aclose()

    run(main)


def test_a_peer_that_never_reads_holds_the_sender_and_nobody_else() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            with trio.move_on_after(60) as scope:
                await near.send_all(bytes(4 << 20))
            assert scope.cancelled_caught
            sent = near.bytes_sent
            assert 0 < sent < 2 << 20
            other, end = await connected(pair)
            async with other, end:
                await other.send_all(b"still here")
                assert await end.receive_some() == b"still here"
            await near.aclose()
            size = 0
            async for data in far:
                size += len(data)
            assert size == sent  # what a cancelled send_all() said it had sent, and no byte else
            await far.aclose()

    run(main)
