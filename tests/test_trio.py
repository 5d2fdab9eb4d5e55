"""trio's streams, listeners and datagrams on stacks, by trio's own conformance suite and by what a network can do."""

from __future__ import annotations

import errno
import hashlib
import random
import socket
import struct
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest
import trio
import trio.testing
from conftest import Pair
from trio_world import PORT, clog, connected, nothing_left, run, two_hosts

import lwipy
from lwipy.trio import SocketStream, UdpSocket, driving, getaddrinfo, open_tcp_listeners, open_tcp_stream, serve_tcp

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


async def echo(stream: SocketStream) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):
            async for data in stream:
                await stream.send_all(data)


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


# -- Closing and misuse ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", ["receive_some", "send_all", "wait_send_all_might_not_block"])
def test_closing_wakes_who_waits(waiting: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            await clog(near)

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await getattr(near, waiting)(*[b"x"] * (waiting == "send_all"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                await near.aclose()
            await near.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await near.send_eof()
            await trio.aclose_forcefully(far)

    run(main)


def test_closing_a_listener_wakes_who_accepts() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.0.2")

            async def accept() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await listener.accept()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept)
                nursery.start_soon(accept)
                await trio.testing.wait_all_tasks_blocked()
                await listener.aclose()
            await listener.aclose()
            with pytest.raises(ConnectionRefusedError):
                await open_tcp_stream(pair.a, "10.0.0.2", PORT)

    run(main)


def test_one_port_for_all_families_and_no_second_server() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            listeners = await open_tcp_listeners(pair.b, 0)
            (port,) = {listener.socket.getsockname()[1] for listener in listeners}
            with pytest.raises(OSError, match="while attempting to bind") as info:
                await open_tcp_listeners(pair.b, port)
            assert info.value.errno == errno.EADDRINUSE
            with pytest.raises(OSError, match=r"10\.0\.0\.9"):
                await open_tcp_listeners(pair.b, PORT, host="10.0.0.9")
            for listener in listeners:
                await listener.aclose()

    run(main)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.receive_some(0), ValueError),
        (lambda s: s.receive_some("1"), TypeError),
        (lambda s: s.send_all("text"), TypeError),
        (lambda s: s.send_all(memoryview(b"abcd")[::2]), TypeError),
    ],
)
def test_wrong_arguments(call: Callable[[SocketStream], Any], error: type[Exception]) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            async with near, far:
                with pytest.raises(error):
                    await call(near)
                await near.send_all(b"unharmed")
                assert await far.receive_some() == b"unharmed"

    run(main)


def test_a_stream_nobody_closed_is_told_of() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            near, far = await connected(pair)
            with pytest.warns(ResourceWarning, match="unclosed stream"):
                del near
            with pytest.raises(trio.BrokenResourceError):
                await far.receive_some()
            await far.aclose()

    run(main)


# -- Cancellation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(0, 24, 2))
def test_cancelled_at_any_turn_connecting_leaves_nothing(turns: int) -> None:
    async def main() -> None:
        async with two_hosts() as pair, trio.open_nursery() as nursery:
            pair.a.hosts["b.lwipy"] = ["fd00::77", "10.0.0.2"]
            await nursery.start(serve_tcp, pair.b, echo, PORT)

            async def connect() -> None:
                async with await open_tcp_stream(pair.a, "b.lwipy", PORT, happy_eyeballs_delay=0):
                    await trio.sleep_forever()

            nursery.start_soon(connect)
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # two_hosts() has seen that no endpoint is left.

    run(main)


def test_a_cancelled_accept_takes_no_connection() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            (listener,) = await open_tcp_listeners(pair.b, PORT, host="10.0.0.2")
            async with listener, await open_tcp_stream(pair.a, "10.0.0.2", PORT) as near:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await listener.accept()
                async with await listener.accept() as far:
                    await near.send_all(b"here")
                    assert await far.receive_some() == b"here"

    run(main)


@pytest.mark.parametrize("seed", range(4))
def test_no_byte_is_lost_or_doubled_by_cancelling(seed: int) -> None:
    """Sending and receiving are cancelled all the time, at times of their own; what was not sent is sent again."""
    text = random.Random(seed).randbytes(1 << 20)

    async def send(stream: SocketStream) -> None:
        dice = random.Random(seed + 100)
        while (at := stream.bytes_sent) < len(text):
            with trio.move_on_after(dice.random() / 50):
                await stream.send_all(text[at : at + dice.randrange(1, 300_000)])
        await stream.send_eof()

    async def main() -> None:
        dice = random.Random(seed + 200)
        async with two_hosts() as pair:
            pair.nic_a.impair(delay=0.003, jitter=0.002, loss=0.01, seed=seed + 1)
            near, far = await connected(pair)
            got = bytearray()
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(send, near)
                while True:
                    data: bytes | None = None
                    with trio.move_on_after(dice.random() / 100):
                        data = await far.receive_some(dice.randrange(1, 100_000))
                    if data == b"":
                        break
                    got += data or b""
                    if not dice.randrange(20):
                        await trio.sleep(dice.random() / 10)
            assert got == text

    run(main)


# -- Datagrams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "10.0.0.2"), (socket.AF_INET6, "fd00::2")])
def test_datagrams(family: int, host: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["b.lwipy"] = ["fd00::2", "10.0.0.2"]
            with UdpSocket(pair.a, family) as near, UdpSocket(pair.b, family) as far:
                await far.bind(("", 53))
                for to in (host, "b.lwipy"):
                    for text in (b"question", b"", bytes(60_000)):
                        assert await near.sendto(text, (to, 53)) == len(text)
                        data, source = await far.recvfrom()
                        assert data == text
                        assert await far.sendto(b"answer", source) == 6
                        assert (await near.recvfrom())[0] == b"answer"
                await near.connect((host, 53))
                assert near.getpeername()[:2] == (host, 53)
                await near.send(b"again")
                assert await far.recv(3) == b"aga"
                await near.send(b"and more")
                datagram = await far.receive()
                assert (datagram.data, datagram.destination) == (b"and more", (host, 53))

    run(main)


def test_what_datagram_sockets_refuse() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with UdpSocket(pair.a) as sock, UdpSocket(pair.a) as other:
                await sock.bind(("10.0.0.1", 53))
                with pytest.raises(OSError, match="in use") as info:
                    await other.bind(("10.0.0.1", 53))
                assert info.value.errno == errno.EADDRINUSE
                with pytest.raises(OSError, match="not connected"):
                    await sock.send(b"x")
                with pytest.raises(OSError, match=r"too long") as info:
                    await sock.sendto(bytes(65508), ("10.0.0.2", 53))
                assert info.value.errno == errno.EMSGSIZE
                with pytest.raises(socket.gaierror):
                    await sock.sendto(b"x", ("fd00::2", 53))
                with pytest.raises(TypeError, match="expected a tuple"):
                    await sock.sendto(b"x", "10.0.0.2")  # type: ignore[arg-type]

                async def wait() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await sock.recvfrom()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await trio.testing.wait_all_tasks_blocked()
                    sock.close()
                sock.close()
                with pytest.raises(trio.ClosedResourceError):
                    await sock.sendto(b"x", ("10.0.0.2", 53))
                with pytest.raises(trio.ClosedResourceError):
                    sock.getsockname()
            with pytest.raises(ValueError, match="family"):
                UdpSocket(pair.a, socket.AF_UNIX)

    run(main)


def test_a_cancelled_receive_takes_no_datagram() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with UdpSocket(pair.a) as near, UdpSocket(pair.b) as far:
                await far.bind(("", 53))
                with trio.move_on_after(1):
                    await far.recv()
                await near.sendto(b"kept", ("10.0.0.2", 53))
                await trio.sleep(1)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await far.recv()
                assert await far.recv() == b"kept"

    run(main)


# -- Names -------------------------------------------------------------------------------------------------------------


def test_names_by_dns() -> None:
    """The other host answers any question with one address of its own."""

    async def answer(server: UdpSocket) -> None:
        while True:
            question, source = await server.recvfrom()
            is_a = question[-4:-2] == b"\0\1"
            head = question[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
            record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\x04\x0a\0\0\x02" if is_a else b""
            await server.sendto(head + question[12:] + record, source)

    async def main() -> None:
        async with two_hosts() as pair:
            with UdpSocket(pair.b) as server:
                await server.bind(("", 53))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(answer, server)
                    await nursery.start(serve_tcp, pair.b, echo, PORT)
                    pair.a.dns_servers = ["10.0.0.2"]
                    async with await open_tcp_stream(pair.a, "some.where", PORT) as stream:
                        assert stream.socket.getpeername() == ("10.0.0.2", PORT)
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await getaddrinfo(pair.a, "else.where", PORT)
                    nursery.cancel_scope.cancel()

    run(main)


def test_names_that_lead_nowhere() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.dns_servers = ["10.0.0.2"]
            with pytest.raises(socket.gaierror):
                await open_tcp_stream(pair.a, "no.where", PORT)
            with pytest.raises(socket.gaierror):
                await open_tcp_stream(pair.a, "not a name", PORT)
            for port in (70000, "no such service"):
                with pytest.raises(socket.gaierror):
                    await open_tcp_stream(pair.a, "10.0.0.2", port)

    run(main)


def test_a_stack_closed_while_a_name_is_asked_for() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with closing(lwipy.Stack()) as stack:
                stack.add_interface(ipv4="10.0.1.1/24", gateway="10.0.1.2")
                stack.dns_servers = ["10.0.1.2"]
                async with driving(stack), trio.open_nursery() as nursery:

                    async def ask() -> None:
                        with pytest.raises(lwipy.StackClosedError):
                            await getaddrinfo(stack, "some.where", PORT)

                    nursery.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked()
                    stack.close()
            await nothing_left(pair)

    run(main)


# -- The end of a stack ------------------------------------------------------------------------------------------------


def test_a_stack_closed_under_its_streams_breaks_them() -> None:
    async def main() -> None:
        with closing(lwipy.Stack(clock=trio.current_time)) as a, closing(lwipy.Stack(clock=trio.current_time)) as b:
            pair = Pair.of(a, b)
            async with driving(a), driving(b):
                near, far = await connected(pair)
                (listener,) = await open_tcp_listeners(a, PORT, host="10.0.0.1")

                async def expect_broken(call: Callable[[], Any]) -> None:
                    with pytest.raises(trio.BrokenResourceError) as info:
                        await call()
                    assert isinstance(info.value.__cause__, lwipy.StackClosedError)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(expect_broken, near.receive_some)
                    nursery.start_soon(expect_broken, listener.accept)
                    await trio.testing.wait_all_tasks_blocked()
                    a.close()
                await expect_broken(lambda: near.send_all(b"x"))
                await near.aclose()
                await listener.aclose()
                await far.aclose()

    run(main)
