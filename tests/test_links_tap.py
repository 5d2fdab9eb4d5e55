"""TAP and TUN devices, with the kernel of this machine as the peer."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from kernel_peer import Namespace, datagram, namespace, need, pings, without_privileges
from links import eventually, exchange, wakeups

import lwipy
from lwipy.links import Tap, Tun

OURS = {4: "10.0.0.1", 6: "fd00::1"}
THEIRS = {4: "10.0.0.2", 6: "fd00::2"}
FAMILIES = pytest.mark.parametrize("family", [4, 6], ids=["ipv4", "ipv6"])


@dataclass
class Cable:
    """A stack at one end, the kernel at the other."""

    kernel: Namespace
    stack: lwipy.Stack
    nic: lwipy.Interface
    link: Tun


@pytest.fixture
def kernel() -> Iterator[Namespace]:
    need()
    with namespace() as kernel:
        yield kernel


@pytest.fixture(
    params=[Tap, Tun, partial(Tap, offload=False), partial(Tun, offload=False)],
    ids=["tap", "tun", "plain tap", "plain tun"],
)
def cable(request: pytest.FixtureRequest, kernel: Namespace) -> Iterator[Cable]:
    link = kernel.inside(request.param)
    kernel.set_up(link.name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.Stack() as stack:
        nic = stack.add_interface(link, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        yield Cable(kernel, stack, nic, link)


# -- Traffic (TCP with the kernel at length: test_kernel_peer.py) -----------------------------------------------------


def host_family(family: int) -> socket.AddressFamily:
    return socket.AF_INET if family == 4 else socket.AF_INET6


@FAMILIES
def test_a_megabyte_each_way_whoever_connects(cable: Cable, family: int) -> None:
    kind = host_family(family)
    with (
        cable.stack.create_server((OURS[family], 80), family=kind) as server,
        cable.kernel.socket(kind) as there,
    ):
        there.connect((OURS[family], 80))
        here, _ = server.accept()
        with here:
            exchange(here, there)
    with cable.kernel.socket(kind) as listener:
        listener.bind((THEIRS[family], 80))
        listener.listen()
        with cable.stack.create_connection((THEIRS[family], 80), timeout=20) as here:
            there, _ = listener.accept()
            with there:
                exchange(here, there)
    counters = cable.nic.counters
    assert counters.rx_malformed == counters.rx_nomem == counters.tx_full == 0
    # What was sent before the kernel had brought its end up.
    assert counters.tx_error <= 5


@FAMILIES
@pytest.mark.parametrize("size", [0, 1472, None], ids=["empty", "a frame", "the longest"])
def test_a_datagram_each_way(cable: Cable, family: int, size: int | None) -> None:
    kind = host_family(family)
    if size is None:
        size = 65535 - (20 if family == 4 else 40) - 8  # lwIP counts a packet's bytes in 16 bits, IPv6 header included
    with (
        cable.stack.socket(kind, socket.SOCK_DGRAM) as here,
        cable.kernel.socket(kind, socket.SOCK_DGRAM) as there,
    ):
        here.bind((OURS[family], 5000))
        there.bind((THEIRS[family], 5000))
        data = os.urandom(size)
        assert datagram(lambda: there.sendto(data, (OURS[family], 5000)), here, lambda _: True) == data
        assert datagram(lambda: here.sendto(data, (THEIRS[family], 5000)), there, lambda _: True) == data


@FAMILIES
@pytest.mark.parametrize("size", [0, 1472, 4000])
def test_the_kernel_answers_pings(cable: Cable, family: int, size: int) -> None:
    assert pings(cable.stack, THEIRS[family], size)


@FAMILIES
@pytest.mark.parametrize("size", [0, 1472, 4000])
def test_the_kernels_pings_are_answered(cable: Cable, family: int, size: int) -> None:
    kind, question, answer = (socket.AF_INET, 8, 0) if family == 4 else (socket.AF_INET6, 128, 129)
    protocol = socket.IPPROTO_ICMP if family == 4 else socket.IPPROTO_ICMPV6
    data = os.urandom(size)
    asked = struct.pack("!BBHHH", question, 0, 0, 7, 1) + data
    if family == 4:  # ICMPv6's is made by the kernel
        asked = asked[:2] + struct.pack("!H", checksum(asked)) + asked[4:]

    def message(packet: bytes) -> bytes:
        return packet if family == 6 else packet[(packet[0] & 15) * 4 :]

    with cable.kernel.socket(kind, socket.SOCK_RAW, protocol) as there:
        ask = partial(there.sendto, asked, (OURS[family], 0))
        assert message(datagram(ask, there, lambda packet: message(packet)[0] == answer))[8:] == data


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


# -- The device -------------------------------------------------------------------------------------------------------


def devices(kernel: Namespace) -> set[str]:
    return kernel.inside(lambda: {name for _, name in socket.if_nameindex()})


def reachable(cable: Cable) -> bool:
    return pings(cable.stack, THEIRS[4])


def test_a_device_that_vanishes_is_reported_once_and_costs_nothing(
    cable: Cable, caplog: pytest.LogCaptureFixture
) -> None:
    lost: list[OSError | None] = []
    cable.link.on_lost = lost.append
    assert reachable(cable)
    assert cable.nic.link_up
    with caplog.at_level(logging.WARNING, "lwipy.links.tap"):
        cable.kernel.ip("link", "delete", cable.link.name)
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
    assert reachable(cable)
    cable.kernel.ip("link", "set", cable.link.name, "down")
    before = cable.nic.counters.tx_error
    with cable.stack.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"into the void", (THEIRS[4], 9))
    assert cable.nic.counters.tx_error > before  # it may say something of its own, too
    assert cable.nic.link_up
    cable.kernel.ip("link", "set", cable.link.name, "up")
    assert reachable(cable)


@pytest.mark.parametrize(("make", "kind"), [(Tap, "tap"), (Tun, "tun")])
def test_the_kernel_chooses_a_name_or_takes_ours(kernel: Namespace, make: type[Tun], kind: str) -> None:
    chosen, named = kernel.inside(make), kernel.inside(lambda: make("guests0"))
    assert chosen.name == f"{kind}0"
    assert named.name == "guests0"
    assert set(devices(kernel)) >= {f"{kind}0", "guests0"}
    chosen.detach()
    named.detach()
    assert not {f"{kind}0", "guests0"} & set(devices(kernel))


def test_a_device_goes_with_its_interface_unless_it_is_persistent(kernel: Namespace) -> None:
    stack = lwipy.Stack()
    stack.add_interface(kernel.inside(lambda: Tap("fleeting"))).remove()
    stack.add_interface(kernel.inside(lambda: Tap("lasting", persistent=True))).remove()
    assert "fleeting" not in devices(kernel)
    assert "lasting" in devices(kernel)
    again = kernel.inside(lambda: Tap("lasting"))
    again.detach()
    assert "lasting" in devices(kernel)
    stack.close()


def test_a_device_goes_with_the_stack(kernel: Namespace) -> None:
    stack = lwipy.Stack()
    stack.add_interface(kernel.inside(lambda: Tap("fleeting")))
    stack.close()
    assert "fleeting" not in devices(kernel)


def test_a_device_that_another_has_is_refused(kernel: Namespace) -> None:
    first = kernel.inside(lambda: Tap("mine"))
    with pytest.raises(OSError, match="mine: another program has it") as caught:
        kernel.inside(lambda: Tap("mine"))
    assert caught.value.errno == errno.EBUSY
    first.detach()


def test_a_device_of_another_kind_is_refused(kernel: Namespace) -> None:
    kernel.inside(lambda: Tun("other", persistent=True)).detach()
    with pytest.raises(OSError, match="other: it is there and is no TAP device") as caught:
        kernel.inside(lambda: Tap("other"))
    assert caught.value.errno == errno.EINVAL


def test_without_privileges_the_error_says_what_is_needed(kernel: Namespace) -> None:
    with pytest.raises(PermissionError, match=r"needs CAP_NET_ADMIN.*ip tuntap add dev mine mode tap"):
        without_privileges(lambda: Tap("mine"))


@pytest.mark.parametrize("name", ["a" * 16, "a/b", "a b", "..", "tap%d", "é" * 8])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot name a device|is a template"):
        Tap(name)


def test_a_link_that_was_detached_cannot_be_attached_again(kernel: Namespace) -> None:
    link = kernel.inside(Tap)
    stack = lwipy.Stack()
    stack.add_interface(link).remove()
    with pytest.raises(OSError, match="detached before"):
        stack.add_interface(link)
    assert not stack.interfaces
    stack.close()
