"""TAP and TUN devices, with the kernel of this machine as the peer."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from kernel import Kernel, without_privileges
from links import eventually, exchange, wakeups

import lwipy
from lwipy.blocking import ping
from lwipy.links import Tap, Tun

OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@dataclass
class Cable:
    """A stack at one end, the kernel at the other."""

    kernel: Kernel
    stack: lwipy.Stack
    nic: lwipy.Interface
    link: Tun


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel() as kernel:
        yield kernel


@pytest.fixture(params=[Tap, Tun])
def cable(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[Cable]:
    link = kernel.run(request.param)
    with lwipy.Stack() as stack:
        nic = stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        kernel.up(link.name, "10.0.0.2/24", "fd00::2/64")
        yield Cable(kernel, stack, nic, link)


# -- Traffic ----------------------------------------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("size", [0, 56, 1472, 4000, 60000])
def test_echoes_both_ways(cable: Cable, family: int, size: int) -> None:
    cable.kernel.ping(OURS[family], size)
    ping(cable.stack, THEIRS[family], size=size, timeout=20)


@FAMILIES
def test_a_megabyte_each_way_whoever_connects(cable: Cable, family: int) -> None:
    with cable.stack.create_server((OURS[family], 80), family=cable_family(family)) as server:
        with cable.kernel.connect(OURS[family], 80) as there:
            here, _ = server.accept()
            with here:
                exchange(here, there)
    with cable.kernel.listener(THEIRS[family]) as listener:
        port = listener.getsockname()[1]
        with cable.stack.create_connection((THEIRS[family], port), timeout=20) as here:
            there, _ = listener.accept()
            with there:
                exchange(here, there)
    counters = cable.nic.counters
    assert counters.rx_malformed == counters.rx_nomem == counters.tx_full == 0
    # What was sent before the kernel had brought its end up.
    assert counters.tx_error <= 5


def cable_family(family: int) -> socket.AddressFamily:
    return socket.AF_INET if family == 4 else socket.AF_INET6


@FAMILIES
def test_the_longest_datagram_each_way(cable: Cable, family: int) -> None:
    kind = cable_family(family)
    with (
        cable.stack.socket(kind, socket.SOCK_DGRAM) as here,
        cable.kernel.socket(kind, socket.SOCK_DGRAM) as there,
    ):
        here.bind((OURS[family], 5000))
        here.settimeout(20)
        there.bind((THEIRS[family], 5000))
        there.sendto(b"warm up", (OURS[family], 5000))
        assert here.recv(100) == b"warm up"
        data = os.urandom(65507 if family == 4 else 65487)
        there.sendto(data, (OURS[family], 5000))
        assert here.recv(65535) == data
        here.sendto(data, (THEIRS[family], 5000))
        assert there.recv(65535) == data


def test_two_hundred_connections_at_once(cable: Cable) -> None:
    def talk(number: int) -> bool:
        with cable.kernel.connect(OURS[4], 80) as sock:
            everybody.wait(60)
            sock.sendall(number.to_bytes(4, "big") * 5000)
            sock.shutdown(socket.SHUT_WR)
            answer = b""
            while data := sock.recv(65536):
                answer += data
            return answer == (number ^ 0xFFFFFFFF).to_bytes(4, "big") * 5000

    def serve(connection: lwipy.blocking.Socket) -> None:
        with connection:
            data = b""
            while more := connection.recv(65536):
                data += more
            connection.sendall(bytes(byte ^ 0xFF for byte in data))

    everybody = threading.Barrier(200)
    with (
        cable.stack.create_server((OURS[4], 80), backlog=256) as server,
        ThreadPoolExecutor(200) as clients,
        ThreadPoolExecutor(200) as servers,
    ):
        talks = [clients.submit(talk, number) for number in range(200)]
        served = [servers.submit(serve, server.accept()[0]) for _ in range(200)]
        assert all(future.result(60) for future in talks)
        for future in served:
            future.result(60)


@FAMILIES
def test_each_side_ends_its_half_and_still_hears_the_other(cable: Cable, family: int) -> None:
    with cable.kernel.listener(THEIRS[family]) as listener:
        port = listener.getsockname()[1]
        for kernel_first in (True, False):
            with cable.stack.create_connection((THEIRS[family], port), timeout=20) as here:
                there, _ = listener.accept()
                with there:
                    first, second = (there, here) if kernel_first else (here, there)
                    first.sendall(b"the question")
                    first.shutdown(socket.SHUT_WR)
                    question = b""
                    while more := second.recv(100):
                        question += more
                    assert question == b"the question"
                    second.sendall(b"the answer")
                    second.shutdown(socket.SHUT_WR)
                    assert first.recv(100) == b"the answer"
                    assert first.recv(100) == b""


@FAMILIES
def test_a_refused_connection_is_refused_at_once_on_either_side(cable: Cable, family: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        cable.kernel.connect(OURS[family], 81)
    with pytest.raises(ConnectionRefusedError):
        cable.stack.create_connection((THEIRS[family], 81), timeout=20)


def test_a_reset_reaches_the_other_side_as_one(cable: Cable) -> None:
    with cable.kernel.listener(THEIRS[4]) as listener:
        port = listener.getsockname()[1]
        with cable.stack.create_connection((THEIRS[4], port), timeout=20) as here:
            there, _ = listener.accept()
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            there.close()
            with pytest.raises(ConnectionResetError):
                here.recv(100)
        here = cable.stack.create_connection((THEIRS[4], port), timeout=20)
        there, _ = listener.accept()
        with there:
            here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            here.close()
            with pytest.raises(ConnectionResetError):
                there.recv(100)


# -- The device -------------------------------------------------------------------------------------------------------


def test_a_device_that_vanishes_is_reported_once_and_costs_nothing(
    cable: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[OSError | None] = []
    cable.link.on_lost = lost.append
    cable.kernel.ping(OURS[4])
    assert cable.nic.link_up
    with caplog.at_level(logging.WARNING, "lwipy.links.tap"):
        cable.kernel.delete(cable.link.name)
        eventually(lambda: lost)
    assert not cable.nic.link_up
    assert isinstance(lost[0], OSError)
    assert f"{cable.link.name}> has vanished" in caplog.text
    before = wakeups()
    threading.Event().wait(0.5)
    assert wakeups() - before < 20
    assert len(lost) == 1
    with pytest.raises(OSError, match=r"unreachable|No route"):
        cable.stack.create_connection((THEIRS[4], 80), timeout=20)
    cable.nic.remove()


def test_a_device_that_is_down_costs_frames_and_comes_back(cable: Cable) -> None:
    cable.kernel.ping(OURS[4])
    cable.kernel.down(cable.link.name)
    before = cable.nic.counters.tx_error
    with cable.stack.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"into the void", (THEIRS[4], 9))
    assert cable.nic.counters.tx_error == before + 1
    assert cable.nic.link_up
    cable.kernel.up(cable.link.name)
    cable.kernel.ping(OURS[4])


@pytest.mark.parametrize(("make", "kind"), [(Tap, "tap"), (Tun, "tun")])
def test_the_kernel_chooses_a_name_or_takes_ours(kernel: Kernel, make: type[Tun], kind: str) -> None:
    chosen, named = kernel.run(make), kernel.run(lambda: make("guests0"))
    assert chosen.name == f"{kind}0"
    assert named.name == "guests0"
    assert set(kernel.devices()) >= {f"{kind}0", "guests0"}
    chosen.detach()
    named.detach()
    assert not {f"{kind}0", "guests0"} & set(kernel.devices())


def test_a_device_goes_with_its_interface_unless_it_is_persistent(kernel: Kernel) -> None:
    stack = lwipy.Stack()
    stack.add_interface(kernel.run(lambda: Tap("fleeting"))).remove()
    stack.add_interface(kernel.run(lambda: Tap("lasting", persistent=True))).remove()
    assert "fleeting" not in kernel.devices()
    assert "lasting" in kernel.devices()
    again = kernel.run(lambda: Tap("lasting"))
    again.detach()
    assert "lasting" in kernel.devices()
    stack.close()


def test_a_device_goes_with_the_stack(kernel: Kernel) -> None:
    stack = lwipy.Stack()
    stack.add_interface(kernel.run(lambda: Tap("fleeting")))
    stack.close()
    assert "fleeting" not in kernel.devices()


def test_a_device_that_another_has_is_refused(kernel: Kernel) -> None:
    first = kernel.run(lambda: Tap("mine"))
    with pytest.raises(OSError, match="mine: another program has it") as caught:
        kernel.run(lambda: Tap("mine"))
    assert caught.value.errno == errno.EBUSY
    first.detach()


def test_a_device_of_another_kind_is_refused(kernel: Kernel) -> None:
    kernel.run(lambda: Tun("other", persistent=True)).detach()
    with pytest.raises(OSError, match="other: it is there and is no TAP device") as caught:
        kernel.run(lambda: Tap("other"))
    assert caught.value.errno == errno.EINVAL


def test_without_privileges_the_error_says_what_is_needed(kernel: Kernel) -> None:
    with pytest.raises(PermissionError, match=r"needs CAP_NET_ADMIN.*ip tuntap add dev mine mode tap"):
        without_privileges(lambda: Tap("mine"))


@pytest.mark.parametrize("name", ["a" * 16, "a/b", "a b", "..", "tap%d", "é" * 8])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot name a device|is a template"):
        Tap(name)


def test_a_link_that_was_detached_cannot_be_attached_again(kernel: Kernel) -> None:
    link = kernel.run(Tap)
    stack = lwipy.Stack()
    stack.add_interface(link).remove()
    with pytest.raises(OSError, match="detached before"):
        stack.add_interface(link)
    assert not stack.interfaces
    stack.close()
