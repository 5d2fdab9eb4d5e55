"""A group of stacks behind one interface: every flow has its stack, and the wire cannot tell it from one host."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from kernel_peer import namespace, need
from links import eventually

import lwipy
from lwipy.aio import open_connection, start_server
from lwipy.blocking import ping
from lwipy.links import Tap

COUNTS = pytest.mark.parametrize("count", [1, 2, 3, 4])
FAMILIES = pytest.mark.parametrize(("ours", "theirs"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
MAC, PEER = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")
DATA = bytes(i * 7 % 251 for i in range(300_000))


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@dataclass
class Lab:
    """A group, 10.0.0.1 and fd00::1, and an ordinary stack, 10.0.0.2 and fd00::2, on one wire."""

    group: lwipy.StackGroup
    peer: lwipy.Stack
    nic: lwipy.GroupInterface

    def stack_of(self, sock: socket.socket) -> int:
        assert isinstance(sock, lwipy.blocking.Socket)
        number: int = self.group.stacks.index(sock._endpoint.stack)
        return number


def lab_of(count: int) -> Iterator[Lab]:
    with lwipy.StackGroup(count) as group, lwipy.Stack() as peer:
        nic = group.add_interface(ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        lwipy.wire(nic, peer.add_interface(ipv4="10.0.0.2/24", ipv6="fd00::2/64"))
        yield Lab(group, peer, nic)


@pytest.fixture(params=[1, 2, 3, 4])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    yield from lab_of(request.param)


@pytest.fixture
def three() -> Iterator[Lab]:
    yield from lab_of(3)


def receive_all(sock: socket.socket) -> bytes:
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def exchange(here: socket.socket, there: socket.socket) -> None:
    """A long way and back, at the same time."""
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(send_all, end) for end in (here, there)]
        assert [receive_all(end) for end in (here, there)] == [DATA, DATA]
        for each in sent:
            each.result()


def send_all(sock: socket.socket) -> None:
    sock.sendall(DATA)
    sock.shutdown(socket.SHUT_WR)


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
    with ExitStack() as open_ones:
        server = open_ones.enter_context(lab.group.socket(family_of(ours), socket.SOCK_DGRAM))
        server.settimeout(30)
        server.bind((ours, 53))
        for number in range(6 * len(lab.group.stacks)):
            client = open_ones.enter_context(lab.peer.socket(family_of(ours), socket.SOCK_DGRAM))
            client.settimeout(30)
            question = bytes([number]) * size
            client.sendto(question, (ours, 53))
            data, address = server.recvfrom(10_000)
            assert data == question
            server.sendto(data[::-1] + b"!", address)
            answer, source = client.recvfrom(10_000)
            assert answer == question[::-1] + b"!"
            assert source[:2] == (ours, 53)
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


# -- What no flow has ------------------------------------------------------------------------------------------------


def test_pings_are_answered_once_and_the_groups_own_find_back(lab: Lab) -> None:
    assert ping(lab.peer, "10.0.0.1", timeout=30) is not None
    assert ping(lab.group, "10.0.0.2", timeout=30) is not None
    assert ping(lab.group, "fd00::2", timeout=30) is not None
    before = lab.nic.counters.tx_frames
    assert ping(lab.peer, "10.0.0.1", timeout=30) is not None
    assert lab.nic.counters.tx_frames == before + 1


@dataclass
class Bench:
    """A group polled by hand, whose frames the test makes and takes."""

    group: lwipy.StackGroup
    nic: lwipy.GroupInterface

    def ask(self, *frames: bytes) -> list[bytes]:
        self.nic.receive_many(frames)
        for _ in range(3):
            self.group.poll()
        return self.nic.frames()


@pytest.fixture(params=[1, 2, 4])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with closing(lwipy.StackGroup(request.param)) as group:
        nic = group.add_interface(mac=MAC, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        nic.add_neighbour("10.0.0.2", PEER)
        for _ in range(3):
            group.poll()
        nic.frames()
        yield Bench(group, nic)


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(payload: bytes, protocol: int, *, fragment: int = 0, source: str = "10.0.0.2") -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    header += socket.inet_aton(source) + socket.inet_aton("10.0.0.1")
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def frame(packet: bytes, kind: int = 0x0800, target: bytes = MAC) -> bytes:
    return target + PEER + struct.pack("!H", kind) + packet


def arp(operation: int, sender: str, target: str, to: bytes = b"\xff" * 6) -> bytes:
    ends = PEER + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target)
    return frame(struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends, 0x0806, to)


def test_arp_is_answered_once_and_learned_by_all(bench: Bench) -> None:
    (answer,) = bench.ask(arp(1, "10.0.0.3", "10.0.0.1"))
    assert answer[12:14] == b"\x08\x06"
    assert answer[20:22] == b"\0\2"
    assert bench.nic.steering.suppressed >= len(bench.group.stacks) - 1
    # Whoever sends there now knows the way: no stack asks.
    for stack in bench.group.stacks:
        with closing(lwipy.Stack.udp(stack)) as udp:
            udp.send(b"x", ("10.0.0.3", 9))
    kinds = [sent[12:14] for sent in bench.ask()]
    assert kinds == [b"\x08\x00"] * len(bench.group.stacks)


def test_an_address_is_announced_once(bench: Bench) -> None:
    bench.nic.ipv4 = "10.0.0.9/24"
    announced = [sent for sent in bench.ask() if sent[12:14] == b"\x08\x06"]
    assert len(announced) == 1


def test_an_icmp_error_goes_to_the_stack_whose_packet_it_is_about(bench: Bench) -> None:
    """Not to the first stack for want of ports: by the flow that it carries."""
    before = bench.nic.steering
    for port in range(40_000, 40_020):
        about = ip4(struct.pack("!HHHH", 80, port, 8, 0), 17, source="10.0.0.1")
        message = struct.pack("!BBHI", 3, 3, 0, 0) + about
        bench.ask(frame(ip4(message[:2] + struct.pack("!H", checksum(message)) + message[4:], 1)))
    after = bench.nic.steering
    assert (after.flows - before.flows, after.to_first - before.to_first) == (20, 0)


def test_fragments_of_tcp_are_dropped_and_counted(bench: Bench) -> None:
    segment = struct.pack("!HHIIBBHHH", 5000, 80, 1, 0, 0x50, 2, 1000, 0, 0)
    assert bench.ask(frame(ip4(segment, 6, fragment=0x2000)), frame(ip4(segment, 6, fragment=3))) == []
    assert bench.nic.steering.tcp_fragments == 2


def test_frames_for_others_and_empty_ones_are_counted(bench: Bench) -> None:
    bench.ask(frame(ip4(b"", 17), target=b"\x02" * 6), b"")
    counters = bench.nic.counters
    assert (counters.rx_other, counters.rx_malformed) == (1, 1)


def hostile(dice: random.Random) -> bytes:
    """A frame that is nearly right: cut anywhere, with some bytes changed."""
    ports = struct.pack("!HHHH", dice.randrange(65536), 80, 8, 0)
    ip6 = struct.pack("!IHBB", 6 << 28, dice.randrange(64), dice.choice([0, 6, 17, 43, 44, 58, 60]), 64)
    ip6 += dice.randbytes(16) + socket.inet_pton(socket.AF_INET6, "fd00::1") + dice.randbytes(dice.randrange(64))
    good = dice.choice(
        [
            arp(dice.randrange(4), "10.0.0.3", "10.0.0.1"),
            frame(ip4(ports, dice.choice([1, 2, 6, 17, 99]), fragment=dice.choice([0, 0, 0x2000, 5]))),
            frame(ip4(struct.pack("!BBHI", 3, 3, 0, 0) + ip4(ports, 6), 1)),
            frame(ip6, 0x86DD),
            frame(b"\0\1\x86\xdd" + ip6, 0x8100),
        ]
    )
    bad = bytearray(good[: dice.randrange(len(good) + 1)] if dice.random() < 0.5 else good)
    for _ in range(dice.randrange(4)):
        if len(bad) > 14:
            bad[dice.randrange(14, len(bad))] = dice.randrange(256)
    return bytes(bad)


@pytest.mark.parametrize("seed", range(8))
def test_hostile_frames_harm_no_stack(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    frames = [hostile(dice) for _ in range(2000)]
    bench.ask(*frames)
    steering = bench.nic.steering
    counters = bench.nic.counters
    shared = steering.flows + steering.fragments + steering.to_all + steering.to_first + steering.tcp_fragments
    assert shared + counters.rx_malformed + counters.rx_other == len(frames)
    (answer,) = [sent for sent in bench.ask(arp(1, "10.0.0.4", "10.0.0.1")) if sent[12:14] == b"\x08\x06"]
    assert answer[28:32] == socket.inet_aton("10.0.0.1")


# -- The kernel as the peer ------------------------------------------------------------------------------------------

KERNEL_CLIENTS = """
import threading
def client(number):
    with socket.create_connection(("10.0.0.1", 80), timeout=60) as sock:
        sock.sendall(bytes([number]) * 100_000); sock.shutdown(socket.SHUT_WR)
        digest = hashlib.sha256()
        while part := sock.recv(1 << 16): digest.update(part)
        answers[number] = digest.hexdigest()
answers = {}
threads = [threading.Thread(target=client, args=(n,)) for n in range(16)]
[t.start() for t in threads]; [t.join() for t in threads]
say(*(answers.get(n, "none") for n in range(16)))
"""


@COUNTS
def test_many_connections_from_the_kernel_through_a_tap(count: int) -> None:
    need()
    with namespace() as kernel, lwipy.StackGroup(count) as group, ThreadPoolExecutor(16) as pool:
        tap = Tap()
        group.add_interface(tap, ipv4="10.0.0.1/24")
        kernel.take(tap.name, "10.0.0.2/24")

        def echo(sock: socket.socket) -> None:
            with sock:
                sock.sendall(receive_all(sock))

        with group.create_server(("10.0.0.1", 80)) as listener:
            program = kernel.run(KERNEL_CLIENTS)
            served = [pool.submit(echo, listener.accept()[0]) for _ in range(16)]
            expected = [hashlib.sha256(bytes([n]) * 100_000).hexdigest() for n in range(16)]
            assert program.hear().split() == expected
            for each in served:
                each.result()


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
