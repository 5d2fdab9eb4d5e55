"""Datagram endpoints: what loop.create_datagram_endpoint does, on stacks."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from contextlib import closing
from typing import Any

import pytest
from aio_world import nothing_left, run, soon, two_hosts

import lwipy
from lwipy.aio import DatagramTransport, create_datagram_endpoint

HOSTS = pytest.mark.parametrize(
    ("ours", "theirs"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")], ids=["ipv4", "ipv6"]
)


class Recorder(asyncio.DatagramProtocol):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((data, addr))

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Echo(Recorder):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        self.transport.sendto(data[::-1], addr)


@HOSTS
def test_question_and_answer(ours: str, theirs: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, echo = await create_datagram_endpoint(pair.b, Echo, (theirs, 7))
            client, protocol = await create_datagram_endpoint(pair.a, Recorder, (ours, 5000), (theirs, 7))
            assert isinstance(client, DatagramTransport)
            assert client.get_extra_info("peername")[:2] == (theirs, 7)
            assert client.get_extra_info("sockname")[:2] == (ours, 5000)
            assert server.get_extra_info("peername") is None
            client.sendto(b"abc")
            await soon(lambda: protocol.received)
            tail = (0, 0) if ":" in ours else ()
            assert protocol.received == [(b"cba", (theirs, 7, *tail))]
            assert echo.received == [(b"abc", (ours, 5000, *tail))]
            client.close()
            client.close()
            assert client.is_closing()
            assert await protocol.lost is None
            server.abort()
            assert await echo.lost is None

    run(main)


def test_datagrams_of_all_sizes() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, protocol = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 7))
            client, sender = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            sizes = [0, 1, 1472, 1473, 10_000, 65_507]
            for size in sizes:
                client.sendto(bytearray(size))
                await soon(lambda: len(protocol.received) == sizes.index(size) + 1)  # noqa: B023
            assert [len(data) for data, _ in protocol.received] == sizes
            client.sendto(bytes(65_508))
            (error,) = sender.errors
            assert isinstance(error, OSError)
            assert error.errno == errno.EMSGSIZE
            client.close()
            server.close()

    run(main)


def test_a_thousand_at_once_arrive_in_order() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, protocol = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 7))
            client, _ = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            client.sendto(b"the address must be known, for few datagrams wait for it")
            await soon(lambda: protocol.received)
            protocol.received.clear()
            for number in range(1000):
                client.sendto(b"%d" % number)
            await soon(lambda: len(protocol.received) == 1000)
            assert [int(data) for data, _ in protocol.received] == list(range(1000))
            client.close()
            server.close()

    run(main)


def test_only_the_connected_peer_is_heard() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            chosen, _ = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 7))
            other, _ = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 8))
            client, protocol = await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 5000), ("10.0.0.2", 7))
            with pytest.raises(ValueError, match="Invalid address"):
                client.sendto(b"x", ("10.0.0.2", 8))
            client.sendto(b"x", ("10.0.0.2", 7))
            other.sendto(b"from a stranger", ("10.0.0.1", 5000))
            chosen.sendto(b"from the peer", ("10.0.0.1", 5000))
            await soon(lambda: protocol.received)
            await asyncio.sleep(0.01)
            assert protocol.received == [(b"from the peer", ("10.0.0.2", 7))]
            for transport in (chosen, other, client):
                transport.close()

    run(main)


def test_broadcast_must_be_allowed() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, protocol = await create_datagram_endpoint(pair.b, Recorder, ("0.0.0.0", 7))
            refused, its = await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 0))
            refused.sendto(b"x", ("10.0.0.255", 7))
            assert [error.errno for error in its.errors if isinstance(error, OSError)] == [errno.EACCES]
            allowed, its = await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 0), allow_broadcast=True)
            allowed.sendto(b"to everybody", ("10.0.0.255", 7))
            await soon(lambda: protocol.received)
            assert protocol.received[0][0] == b"to everybody"
            assert its.errors == []
            for transport in (server, refused, allowed):
                transport.close()

    run(main)


def test_a_multicast_group_is_joined_through_the_socket() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, protocol = await create_datagram_endpoint(pair.b, Recorder, ("0.0.0.0", 5353))
            membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("10.0.0.2")
            sock = server.get_extra_info("socket")
            assert sock.type == socket.SOCK_DGRAM
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
            client, _ = await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 0))
            client.sendto(b"anybody?", ("224.0.0.251", 5353))
            await soon(lambda: protocol.received)
            client.close()
            server.close()

    run(main)


def test_names_that_need_no_asking_can_be_sent_to() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            pair.a.hosts["there"] = ["fd00::2", "10.0.0.2"]
            server, protocol = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 7))
            client, _ = await create_datagram_endpoint(pair.a, Recorder, family=socket.AF_INET)
            client.sendto(b"x", ("there", 7))
            await soon(lambda: protocol.received)
            with pytest.raises(ValueError, match="'nowhere' is not an IP address"):
                client.sendto(b"x", ("nowhere", 7))
            client.close()
            server.close()

    run(main)


def test_link_local_peers_are_named_with_their_interface() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            link_local = str(pair.nic_b.ipv6[0].ip)
            assert link_local.startswith("fe80:")
            server, _ = await create_datagram_endpoint(pair.b, Echo, (f"{link_local}%b0", 7))
            client, protocol = await create_datagram_endpoint(pair.a, Recorder, family=socket.AF_INET6)
            await asyncio.sleep(0.01)
            client.sendto(b"ab", (link_local, 7, 0, pair.nic_a.number))
            await soon(lambda: protocol.received)
            assert protocol.received == [(b"ba", (link_local, 7, 0, pair.nic_a.number))]
            client.close()
            server.close()

    run(main)


@pytest.mark.parametrize(
    ("local", "remote", "family", "error", "text"),
    [
        (None, None, 0, ValueError, "unexpected address family"),
        (("10.0.0.1", 7), ("fd00::2", 7), 0, ValueError, "cannot get address information"),
        (("10.0.0.1", 7, 0, 0), None, 0, TypeError, "expected a pair"),
        (("10.0.0.99", 7), None, 0, OSError, "10.0.0.99"),
        (None, ("no such name", 7), 0, socket.gaierror, "no such name"),
    ],
)
def test_bad_arguments(local: Any, remote: Any, family: int, error: type[Exception], text: str) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            with pytest.raises(error, match=text):
                await create_datagram_endpoint(pair.a, Recorder, local, remote, family=family)
            await nothing_left(pair)

    run(main)


def test_a_port_in_use() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            first, _ = await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 7))
            with pytest.raises(OSError, match="in use"):
                await create_datagram_endpoint(pair.a, Recorder, ("10.0.0.1", 7))
            first.close()

    run(main)


@pytest.mark.parametrize("wrong", ["text", 7, None])
def test_only_bytes_can_be_sent(wrong: Any) -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            client, _ = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            with pytest.raises(TypeError):
                client.sendto(wrong)
            client.close()

    run(main)


def test_no_route_is_told_to_the_protocol() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            client, protocol = await create_datagram_endpoint(pair.a, Recorder, family=socket.AF_INET)
            client.sendto(b"x", ("192.0.2.1", 7))
            assert [error.errno for error in protocol.errors if isinstance(error, OSError)] == [errno.EHOSTUNREACH]
            assert not client.is_closing()
            client.close()

    run(main)


def test_what_a_callback_raises_is_reported_and_the_service_goes_on() -> None:
    reports: list[dict[str, Any]] = []

    class Fails(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"poison":
                raise ZeroDivisionError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        async with two_hosts() as pair:
            server, protocol = await create_datagram_endpoint(pair.b, Fails, ("10.0.0.2", 7))
            client, _ = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            for data in (b"poison", b"x", b"poison", b"y"):
                client.sendto(data)
            await soon(lambda: len(protocol.received) == 4)
            client.close()
            server.close()

    run(main)
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2


def test_closing_inside_a_callback_stops_delivery() -> None:
    class ClosesAtOnce(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async def main() -> None:
        async with two_hosts() as pair:
            _, protocol = await create_datagram_endpoint(pair.b, ClosesAtOnce, ("10.0.0.2", 7))
            client, _ = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            for _ in range(10):
                client.sendto(b"x")
            assert await protocol.lost is None
            assert len(protocol.received) == 1
            protocol.transport.sendto(b"after the end", ("10.0.0.1", 7))
            assert protocol.errors == []
            client.close()

    run(main)


def test_a_closed_stack_is_told_as_such() -> None:
    async def main() -> None:
        with closing(lwipy.Stack()) as stack:
            stack.add_interface(ipv4="10.0.0.1/24")
            _, protocol = await create_datagram_endpoint(stack, Recorder, ("10.0.0.1", 7))
            stack.close()
            assert isinstance(await protocol.lost, lwipy.StackClosedError)

    run(main)


def test_the_protocol_can_be_changed() -> None:
    async def main() -> None:
        async with two_hosts() as pair:
            server, first = await create_datagram_endpoint(pair.b, Recorder, ("10.0.0.2", 7))
            client, _ = await create_datagram_endpoint(pair.a, Recorder, remote_addr=("10.0.0.2", 7))
            second = Recorder()
            server.set_protocol(second)
            assert server.get_protocol() is second
            assert server.get_write_buffer_size() == 0
            client.sendto(b"x")
            await soon(lambda: second.received)
            assert first.received == []
            client.close()
            server.close()

    run(main)


def test_what_comes_while_the_loop_stands_waits_for_what_the_loop_is_given_next() -> None:
    """A protocol may be asked to listen in the very call that sets the loop going again, as with a selector."""
    loop = asyncio.new_event_loop()
    received = loop.create_future()
    listening = False

    class Listener(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            received.set_result((data, listening))

    async def listen() -> tuple[bytes, bool]:
        nonlocal listening
        listening = True
        answer: tuple[bytes, bool] = await asyncio.wait_for(received, 20)
        return answer

    with closing(loop), lwipy.Stack() as stack, closing(stack.udp()) as sender:
        stack.add_interface(ipv4="10.0.0.2/24")
        transport, _ = loop.run_until_complete(create_datagram_endpoint(stack, Listener, local_addr=("10.0.0.2", 9)))
        sender.send(b"early", ("10.0.0.2", 9))
        time.sleep(0.1)
        assert loop.run_until_complete(listen()) == (b"early", True)
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
