"""A group of stacks behind one interface: every flow has its stack, and the wire cannot tell it from one host."""

from __future__ import annotations

import asyncio
import errno
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from group_lab import COUNTS, FAMILIES, Lab, ask_datagrams, exchange, family_of, lab_of
from links import eventually

import lwipy
from lwipy.aio import open_connection, start_server


@pytest.fixture(params=[1, 2, 3, 4])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from lab_of(request.param)


@pytest.fixture
def three() -> Iterator[Lab]:
    yield from lab_of(3)


# -- TCP -------------------------------------------------------------------------------------------------------------


@FAMILIES
def test_a_listener_accepts_from_every_stack(lab: Lab, ours: str, theirs: str) -> None:
    used = set()
    with lab.group.create_server((ours, 80), family=family_of(ours)) as listener, ExitStack() as open_ones:
        for _ in range(24 * len(lab.group.stacks)):
            client = open_ones.enter_context(lab.peer.create_connection((ours, 80), timeout=30))
            server, address = listener.accept()
            open_ones.enter_context(server)
            assert address[:2] == client.getsockname()[:2]
            used.add(lab.stack_of(server))
            client.sendall(b"question")
            assert server.recv(100) == b"question"
        assert used == set(range(len(lab.group.stacks)))
        exchange(server, client)


@FAMILIES
def test_connections_outwards_take_turns_and_their_answers_find_them(lab: Lab, ours: str, theirs: str) -> None:
    count = len(lab.group.stacks)
    with lab.peer.create_server((theirs, 80), family=family_of(ours)) as listener, ExitStack() as open_ones:
        stacks = []
        for _ in range(4 * count):
            client = open_ones.enter_context(lab.group.create_connection((theirs, 80), timeout=30))
            server = open_ones.enter_context(listener.accept()[0])
            assert client.getpeername()[:2] == (theirs, 80)
            assert server.getpeername()[:2] == client.getsockname()[:2]
            stacks.append(lab.stack_of(client))
        assert sorted(stacks) == sorted(list(range(count)) * 4)
        exchange(client, server)


def test_a_socket_that_is_bound_connects_from_its_port(three: Lab) -> None:
    with three.peer.create_server(("10.0.0.2", 80)) as listener:
        for port in range(5000, 5012):
            with three.group.socket() as client:
                client.bind(("10.0.0.1", port))
                client.settimeout(30)
                client.connect(("10.0.0.2", 80))
                with listener.accept()[0] as server:
                    assert server.getpeername() == ("10.0.0.1", port)
                    server.sendall(b"found")
                    assert client.recv(10) == b"found"


def test_a_refused_connection_can_be_tried_again_elsewhere(three: Lab) -> None:
    with three.peer.create_server(("10.0.0.2", 81)) as listener, three.group.socket() as client:
        client.settimeout(30)
        for port in (79, 80):
            with pytest.raises(ConnectionRefusedError):
                client.connect(("10.0.0.2", port))
        client.connect(("10.0.0.2", 81))
        with listener.accept()[0] as server:
            server.sendall(b"at last")
            assert client.recv(10) == b"at last"


def test_the_group_connects_to_itself(lab: Lab) -> None:
    with lab.group.create_server(("10.0.0.1", 80)) as listener:
        with lab.group.create_connection(("10.0.0.1", 80), timeout=30) as client, listener.accept()[0] as server:
            exchange(client, server)


def test_a_port_is_taken_in_every_stack(three: Lab) -> None:
    with three.group.create_server(("10.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        assert port
        with pytest.raises(OSError, match="in use") as caught:
            three.group.create_server(("10.0.0.1", port))
        assert caught.value.errno == errno.EADDRINUSE
    with three.group.create_server(("10.0.0.1", port)):
        pass


def test_a_listener_that_closes_refuses_in_every_stack(three: Lab) -> None:
    three.group.create_server(("10.0.0.1", 80)).close()
    for _ in range(12):
        with pytest.raises(ConnectionRefusedError):
            three.peer.create_connection(("10.0.0.1", 80), timeout=30)


def test_a_listener_polls_readable_whichever_stack_has_the_connection(three: Lab) -> None:
    with three.group.create_server(("10.0.0.1", 80)) as listener:
        for _ in range(12):
            assert select.select([listener], [], [], 0)[0] == []
            with three.peer.create_connection(("10.0.0.1", 80), timeout=30):
                assert select.select([listener], [], [], 30)[0] == [listener]
                listener.accept()[0].close()


def test_options_are_set_in_every_stack(three: Lab) -> None:
    with three.group.socket() as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(("10.0.0.1", 80))
        listener.listen()
        for _ in range(12):
            with three.peer.create_connection(("10.0.0.1", 80), timeout=30), listener.accept()[0] as server:
                assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# -- UDP -------------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("size", [1, 1400, 9000])
def test_datagrams_come_to_one_socket_and_go_back_from_it(lab: Lab, ours: str, theirs: str, size: int) -> None:
    """The longest go in fragments, which are steered by their addresses alone."""
    ask_datagrams(lab, ours, size, 6 * len(lab.group.stacks))
    assert (lab.nic.steering.fragments > 0) is (size > 1500)
    assert lab.nic.steering.pinned == 0


def test_a_connected_datagram_socket_hears_its_peer_only(three: Lab) -> None:
    with ExitStack() as open_ones:
        servers = [open_ones.enter_context(three.peer.socket(type=socket.SOCK_DGRAM)) for _ in range(2)]
        for port, server in enumerate(servers, 53):
            server.settimeout(30)
            server.bind(("10.0.0.2", port))
        client = open_ones.enter_context(three.group.socket(type=socket.SOCK_DGRAM))
        client.settimeout(30)
        client.connect(("10.0.0.2", 53))
        client.send(b"question")
        question, address = servers[0].recvfrom(100)
        assert (question, address[1]) == (b"question", client.getsockname()[1])
        servers[1].sendto(b"from elsewhere", address)
        servers[0].sendto(b"answer", address)
        assert client.recv(100) == b"answer"


def test_peeking_and_then_receiving_gives_the_same_datagram(three: Lab) -> None:
    with three.group.socket(type=socket.SOCK_DGRAM) as server, ExitStack() as open_ones:
        server.settimeout(30)
        server.bind(("10.0.0.1", 53))
        for number in range(9):
            client = open_ones.enter_context(three.peer.socket(type=socket.SOCK_DGRAM))
            client.sendto(bytes([number]), ("10.0.0.1", 53))
        found = set()
        for _ in range(9):
            peeked = server.recv(10, socket.MSG_PEEK)
            assert server.recv(10) == peeked
            found.add(peeked)
        assert len(found) == 9


def test_a_broadcast_and_a_group_are_heard_once(three: Lab) -> None:
    with three.group.socket(type=socket.SOCK_DGRAM) as server, three.peer.socket(type=socket.SOCK_DGRAM) as client:
        server.settimeout(30)
        server.bind(("", 53))
        server.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("10.0.0.1")
        )
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for target in ("10.0.0.255", "239.1.2.3", "10.0.0.1"):
            client.sendto(target.encode(), (target, 53))
            assert server.recv(100) == target.encode()
        with pytest.raises(BlockingIOError):
            server.recv(100, socket.MSG_DONTWAIT)


def test_a_flow_that_a_stack_began_by_itself_is_pinned_to_it(three: Lab) -> None:
    """So do the resolver's questions find their answers, whatever port lwIP gave them."""
    with three.peer.socket(type=socket.SOCK_DGRAM) as server:
        server.settimeout(30)
        server.bind(("10.0.0.2", 53))
        for number in range(24):
            own = three.group.stacks[number % 3]
            with closing(lwipy.Stack.udp(own)) as client:
                client.send(bytes([number]), ("10.0.0.2", 53))
                data, address = server.recvfrom(100)
                server.sendto(data, address)
                eventually(lambda client=client: bool(client.ready() & lwipy.Event.READABLE))  # type: ignore[misc]
                assert client.receive().data == bytes([number])
    assert three.nic.steering.pinned > 0


# -- asyncio ---------------------------------------------------------------------------------------------------------


def test_asyncio_serves_and_connects_on_a_group(three: Lab) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readline()).upper())
        writer.close()
        await writer.wait_closed()

    async def ask(stack: lwipy.Stack, host: str) -> bytes:
        reader, writer = await open_connection(stack, host, 80)
        writer.write(b"question\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def main() -> None:
        async with await start_server(three.group, answer, "10.0.0.1", 80):
            assert await asyncio.gather(*(ask(three.peer, "10.0.0.1") for _ in range(12))) == [b"QUESTION\n"] * 12
        async with await start_server(three.peer, answer, "10.0.0.2", 80):
            assert await asyncio.gather(*(ask(three.group, "10.0.0.2") for _ in range(12))) == [b"QUESTION\n"] * 12

    asyncio.run(main())


def test_an_event_loop_cannot_drive_a_group() -> None:
    async def main(group: lwipy.StackGroup) -> None:
        await open_connection(group, "10.0.0.1", 80)

    with closing(lwipy.StackGroup(2)) as group, pytest.raises(RuntimeError, match="with group"):
        asyncio.run(main(group))


# -- Life ------------------------------------------------------------------------------------------------------------


@COUNTS
def test_closing_ends_who_waits_in_any_stack(count: int) -> None:
    failures: list[BaseException] = []

    def wait(listener: socket.socket) -> None:
        try:
            listener.accept()
        except OSError as error:
            failures.append(error)

    with lwipy.StackGroup(count) as group:
        group.add_interface(ipv4="10.0.0.1/24")
        listener = group.create_server(("10.0.0.1", 80))
        thread = threading.Thread(target=wait, args=(listener,))
        thread.start()
        eventually(lambda: bool(listener._open._waiters._locks))
        group.close()
        thread.join(60)
        assert not thread.is_alive()
        assert len(failures) == 1
        assert all(stack.closed for stack in group.stacks)
        group.close()
        listener.close()


def test_an_interface_can_go_and_another_come(three: Lab) -> None:
    three.nic.remove()
    with pytest.raises(OSError, match="removed"):
        three.nic.receive(b"x" * 60)
    nic = three.group.add_interface(ipv4="10.1.0.1/24")
    lwipy.wire(nic, three.peer.add_interface(ipv4="10.1.0.2/24"))
    with three.group.create_server(("10.1.0.1", 80)) as listener:
        for _ in range(6):
            with three.peer.create_connection(("10.1.0.1", 80), timeout=30), listener.accept()[0]:
                pass


def test_interfaces_are_the_same_in_every_stack(three: Lab) -> None:
    assert three.group.interfaces == {"nic0": three.nic}
    three.nic.mtu = 1280
    three.nic.add_ipv6("fd01::1/64")
    for stack in three.group.stacks:
        (nic,) = stack._interfaces.values()
        assert (nic.name, nic.number, nic.mac, nic.mtu) == ("nic0", nic.number, three.nic.mac, 1280)
        assert (nic.ipv4, nic.ipv6[1:]) == (three.nic.ipv4, three.nic.ipv6[1:])


def test_an_interface_that_cannot_be_made_leaves_nothing_behind(three: Lab) -> None:
    with pytest.raises(ValueError, match="not an IPv4 address"):
        three.group.add_interface(ipv4="nonsense")
    assert all(len(stack._interfaces) == 1 for stack in (*three.group.stacks, three.group._front))


def test_wrong_arguments_are_named() -> None:
    for count, error in ((0, ValueError), (65, ValueError), (2.5, TypeError)):
        with pytest.raises(error, match=str(count)):
            lwipy.StackGroup(count)  # type: ignore[arg-type]
    with closing(lwipy.StackGroup(2)) as group:
        group.add_interface(ipv4="10.0.0.1/24")
        with pytest.raises(RuntimeError, match="enter it first"):
            group.create_connection(("10.0.0.1", 80))
        with pytest.raises(OSError, match="no DHCP client"):
            group.interfaces["nic0"].start_dhcp()


def test_statistics_are_the_sums(three: Lab) -> None:
    with three.group.create_server(("10.0.0.1", 80)) as listener:
        for _ in range(6):
            with three.peer.create_connection(("10.0.0.1", 80), timeout=30), listener.accept()[0]:
                pass
    each = [lwipy.Stack.statistics.fget(stack) for stack in three.group.stacks]  # type: ignore[attr-defined]
    assert three.group.statistics.tcp_rx >= sum(one.tcp_rx for one in each) > 0
