"""Two hosts on a wire, in virtual time or driven by threads: what most tests begin with."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

import lwipy
from lwipy.links import WebSocketRelay
from lwipy.testing import VirtualTime

if TYPE_CHECKING:
    from attacker import Target
    from vnet_device import OffloadPair
    from websockets.sync.client import ClientConnection

T = TypeVar("T")

# With several workers the longest files begin, or one of them would be left running alone at the end.
LONGEST = ("test_guests.py", "test_stdlib.py", "test_kernel_peer.py", "test_guest_images.py", "test_packaging.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@dataclass
class Pair:
    """`a` is 10.0.0.1 and fd00::1, `b` is 10.0.0.2 and fd00::2; `time` is set in virtual time."""

    a: lwipy.Stack
    b: lwipy.Stack
    nic_a: lwipy.Interface
    nic_b: lwipy.Interface
    time: VirtualTime | None = None

    @classmethod
    def of(cls, a: lwipy.Stack, b: lwipy.Stack, time: VirtualTime | None = None, *, wired: bool = True) -> Pair:
        nic_a = a.add_interface(mac="02:00:00:00:00:01", ipv4="10.0.0.1/24", ipv6="fd00::1/64", name="a0")
        nic_b = b.add_interface(mac="02:00:00:00:00:02", ipv4="10.0.0.2/24", ipv6="fd00::2/64", name="b0")
        if wired:
            lwipy.wire(nic_a, nic_b)
        return cls(a, b, nic_a, nic_b, time)


@pytest.fixture
def virtual() -> Iterator[VirtualTime]:
    """A clock of the test's own."""
    with VirtualTime() as time:
        yield time


@pytest.fixture
def hosts(virtual: VirtualTime) -> Pair:
    """Two wired hosts in virtual time."""
    return Pair.of(virtual.stack(seed=1), virtual.stack(seed=2), virtual)


@pytest.fixture
def target(virtual: VirtualTime) -> Target:
    """A stack under attack (attacker.py)."""
    from attacker import Target  # scapy takes a second to import

    return Target(virtual)


@pytest.fixture
def router(target: Target) -> Target:
    """The same when it believes in routers."""
    from attacker import ATTACKER_MAC, LINK_LOCAL

    target.nic.add_neighbour(LINK_LOCAL, ATTACKER_MAC)
    target.nic.autoconfigure()
    target.rest()
    return target


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two wired hosts in real time that nothing drives yet."""
    with closing(lwipy.Stack()) as a, closing(lwipy.Stack()) as b:
        yield Pair.of(a, b)


@pytest.fixture
def offload() -> Iterator[OffloadPair]:
    """A stack on a device with virtio-net headers, and one beyond the device."""
    from vnet_device import OffloadPair

    with closing(OffloadPair()) as pair:
        yield pair


@pytest.fixture
def threads() -> Iterator[Pair]:
    """Two wired hosts, each driven by a thread."""
    with lwipy.Stack() as a, lwipy.Stack() as b:
        yield Pair.of(a, b)


@pytest.fixture
def stack() -> Iterator[lwipy.Stack]:
    """A stack without interfaces, driven by a thread."""
    with lwipy.Stack() as stack:
        yield stack


@pytest.fixture
def host(stack: lwipy.Stack) -> lwipy.Stack:
    """The same, where there is a guest, too."""
    return stack


@pytest.fixture
def guest() -> Iterator[lwipy.Stack]:
    """Another one."""
    with lwipy.Stack() as stack:
        yield stack


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a guest's unix socket may be."""
    return str(tmp_path / "guest.sock")


@pytest.fixture
def relay(stack: lwipy.Stack) -> WebSocketRelay:
    """A relay for guests in browsers, with the stack at 10.0.0.1 behind it."""
    relay = WebSocketRelay()
    stack.add_interface(relay, ipv4="10.0.0.1/24", mac="02:00:00:00:00:01")
    return relay


@pytest.fixture
def client(relay: WebSocketRelay) -> Iterator[ClientConnection]:
    """A bare client of the relay, that has been let in."""
    from links import eventually
    from websockets.sync.client import connect

    with connect(relay.url, max_size=None) as client:
        eventually(lambda: relay.guests)
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what blocks."""
    with ThreadPoolExecutor(32) as executor:
        yield executor


def started(pool: ThreadPoolExecutor, work: Callable[[], T]) -> Future[T]:
    """Runs `work` in a thread and gives it time to block."""
    future = pool.submit(work)
    time.sleep(0.05)
    return future
