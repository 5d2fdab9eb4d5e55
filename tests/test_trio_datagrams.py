"""Datagrams and names in trio."""

from __future__ import annotations

import errno
import socket
from contextlib import closing

import pytest
import trio
import trio.testing
from trio_world import PORT, echo, nothing_left, run, two_hosts

import lwipy
from lwipy.trio import UdpSocket, driving, getaddrinfo, open_tcp_stream, serve_tcp

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
