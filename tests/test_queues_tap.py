"""The queues of a TAP or TUN device, a stack of a group at each, with the kernel as the peer."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from group_lab import FAMILIES, echo_to_clients, family_of
from kernel_peer import Namespace, datagram, namespace, need, pings
from links import eventually, exchange

import lwipy
from lwipy.links import Tap, Tun


@dataclass
class Cable:
    """A group at one end, the kernel at the other."""

    kernel: Namespace
    group: lwipy.StackGroup
    nic: lwipy.GroupInterface
    links: list[Tun]


@pytest.fixture
def kernel() -> Iterator[Namespace]:
    need()
    with namespace() as kernel:
        yield kernel


@contextlib.contextmanager
def cable_of(kernel: Namespace, kind: type[Tun], count: int, *, offload: bool = True) -> Iterator[Cable]:
    links: list[Tun] = list(kernel.inside(partial(kind.queues, count, offload=offload)))
    kernel.set_up(links[0].name, "10.0.0.2/24", "fd00::2/64")
    with lwipy.StackGroup(count) as group:
        nic = group.add_interface(links, ipv4="10.0.0.1/24", ipv6="fd00::1/64")
        yield Cable(kernel, group, nic, links)


@pytest.fixture(
    params=[(Tap, True), (Tun, True), (Tap, False), (Tun, False)], ids=["tap", "tun", "plain tap", "plain tun"]
)
def cable(request: pytest.FixtureRequest, kernel: Namespace) -> Iterator[Cable]:
    kind, offload = request.param
    with cable_of(kernel, kind, 2, offload=offload) as cable:
        yield cable


@pytest.fixture
def two(kernel: Namespace) -> Iterator[Cable]:
    with cable_of(kernel, Tap, 2) as cable:
        yield cable


# -- Traffic ----------------------------------------------------------------------------------------------------------


@FAMILIES
def test_many_connections_from_the_kernel(cable: Cable, ours: str, theirs: str) -> None:
    echo_to_clients(cable.group, cable.kernel, ours)
    steering = cable.nic.steering
    assert steering.flows > 0
    assert steering.full == steering.tcp_fragments == 0


@FAMILIES
def test_connections_to_the_kernel_from_each_stack(cable: Cable, ours: str, theirs: str) -> None:
    with cable.kernel.socket(family_of(ours)) as listener:
        listener.bind((theirs, 80))
        listener.listen()
        for _ in range(3):
            with cable.group.create_connection((theirs, 80), timeout=60) as here, listener.accept()[0] as there:
                there.settimeout(60)
                exchange(here, there)


@FAMILIES
@pytest.mark.parametrize("size", [1, 9000])
def test_datagrams_each_way(cable: Cable, ours: str, theirs: str, size: int) -> None:
    kind = family_of(ours)
    with (
        cable.group.socket(kind, socket.SOCK_DGRAM) as here,
        cable.kernel.socket(kind, socket.SOCK_DGRAM) as there,
    ):
        here.bind((ours, 5000))
        there.bind((theirs, 5000))
        data = bytes(range(256)) * 36
        data = data[:size]
        assert datagram(lambda: there.sendto(data, (ours, 5000)), here, lambda _: True) == data
        assert datagram(lambda: here.sendto(data, (theirs, 5000)), there, lambda _: True) == data


@FAMILIES
def test_the_kernel_answers_pings(cable: Cable, ours: str, theirs: str) -> None:
    assert pings(cable.group, theirs)


def test_a_flow_that_the_kernel_has_forgotten_goes_on(two: Cable) -> None:
    """It remembers for three seconds which queue a flow is at; then it chooses one as for a new flow."""
    with two.group.create_server(("10.0.0.1", 80)) as listener, contextlib.ExitStack() as open_ones:
        ends = []
        for _ in range(8):
            there = open_ones.enter_context(two.kernel.socket())
            there.connect(("10.0.0.1", 80))
            here = open_ones.enter_context(listener.accept()[0])
            here.settimeout(60)
            ends.append((here, there))
        threading.Event().wait(4)
        for here, there in ends:
            there.sendall(b"question")
            assert here.recv(100) == b"question"
            here.sendall(b"answer")
            assert there.recv(100) == b"answer"


# -- The device -------------------------------------------------------------------------------------------------------


def devices(kernel: Namespace) -> set[str]:
    return kernel.inside(lambda: {name for _, name in socket.if_nameindex()})


def test_a_device_that_vanishes_is_reported_at_every_queue(two: Cable) -> None:
    lost: list[int] = []
    for number, link in enumerate(two.links):
        link.on_lost = lambda reason, number=number: lost.append(number)
    assert pings(two.group, "10.0.0.2")
    two.kernel.ip("link", "delete", two.links[0].name)
    eventually(lambda: sorted(lost) == [0, 1])
    assert not two.nic.link_up
    assert two.group.interfaces == {"nic0": two.nic}


def test_a_stack_that_is_closed_takes_its_queue_along_and_no_other(two: Cable) -> None:
    with two.group.create_server(("10.0.0.1", 80)) as listener, contextlib.ExitStack() as open_ones:
        ends: dict[int, tuple[Any, Any]] = {}
        while len(ends) < 2:
            there = open_ones.enter_context(two.kernel.socket())
            there.connect(("10.0.0.1", 80))
            here = open_ones.enter_context(listener.accept()[0])
            here.settimeout(60)
            ends[two.group.stacks.index(here._endpoint.stack)] = (here, there)
        two.group.stacks[1].close()
        exchange(*ends[0])
        assert two.nic.queues[0].link_up


def test_the_device_goes_with_the_group_unless_it_is_persistent(kernel: Namespace) -> None:
    for persistent in (False, True):
        links = kernel.inside(partial(Tap.queues, 2, "several", persistent=persistent))
        with lwipy.StackGroup(2) as group:
            group.add_interface(links, ipv4="10.0.0.1/24")
            assert "several" in devices(kernel)
        eventually(lambda persistent=persistent: ("several" in devices(kernel)) is persistent)  # type: ignore[misc]


def test_what_a_device_cannot_be_is_told(kernel: Namespace) -> None:
    with pytest.raises(ValueError, match="0 queues"):
        Tap.queues(0)
    kernel.ip("tuntap", "add", "dev", "plain", "mode", "tap")
    with pytest.raises(OSError, match="no TAP device with several queues") as caught:
        kernel.inside(lambda: Tap.queues(2, "plain"))
    assert caught.value.errno == errno.EINVAL
    links = kernel.inside(lambda: Tap.queues(2, "several"))
    try:
        with pytest.raises(OSError, match="several"):
            kernel.inside(lambda: Tap("several"))
    finally:
        for link in links:
            link.detach()
    eventually(lambda: "several" not in devices(kernel))
