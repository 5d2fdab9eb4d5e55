"""A group of stacks that share one interface and its load.

Theory of operation. Each stack of the group is a whole copy of lwIP with a thread of its own, so they work at the same
time. A further core, the front, has the interface's link and a thread too: there C reads from each frame which flow it
is of, and hands it to the stack that has that flow (``csrc/steer.c``). The group is its first stack, with the others
behind it: names, hosts and raw sockets are the first one's, and its TCP and UDP endpoints are grouped ones
(``endpoints/grouped.py``), so all that works with a stack works with a group.

Invariants:

1. All stacks have the same interfaces, by name and number, with the same addresses. They are changed through the
   group's only.
2. A group is driven by its own threads: entered by ``with``, or polled by hand as a whole; never by an event loop. With
   its threads running, asyncio works on it as on any stack that a thread drives.
3. Closing ends the front first; so no frame reaches a stack that is closed.
"""

from __future__ import annotations

import errno
import importlib
import ipaddress
import secrets
import time
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from lwipy._addressed import GREATEST_MTU
from lwipy._driver import Driver
from lwipy._native import check, ffi, lib
from lwipy._statistics import Statistics
from lwipy.addresses import IPAddress, IPInterface
from lwipy.endpoints.base import check_family
from lwipy.endpoints.grouped import GroupTcpEndpoint, GroupUdpEndpoint
from lwipy.interface import Interface
from lwipy.stack import DEFAULT_MEMORY, Stack

if TYPE_CHECKING:
    from typing import Self

    from lwipy.endpoints.tcp import TcpEndpoint
    from lwipy.endpoints.udp import UdpEndpoint
    from lwipy.links.base import Link

MOST_STACKS: Final[int] = lib.LWIPY_STEER_MOST


@dataclass(frozen=True)
class Steering:
    """Frames of a group's interface: by flow, fragments by their addresses, to all stacks, to the first.

    `full` were dropped because a stack's queue was, `tcp_fragments` because TCP's fragments cannot be steered;
    `suppressed` were not sent, as another stack says the same. `pinned` counts UDP flows that stay with who began them.
    """

    flows: int
    fragments: int
    to_all: int
    to_first: int
    full: int
    tcp_fragments: int
    suppressed: int
    pinned: int


class GroupInterface(Interface):
    """An interface of a group: the link is the front's, the addresses are every stack's. As :class:`Interface`."""

    def __init__(self, stack: Stack, number: int, name: str, layer: int, mac: bytes, mtu: int) -> None:
        super().__init__(stack, number, name, layer, mac, mtu)
        assert isinstance(stack, _Front)
        self._group = stack.group
        self._inner: list[int] = []
        self._members: list[Interface] = []
        core = stack._core
        try:
            check(core, lib.lwipy_steer_open(core, number, self._group.key), name)
            for member in self._group.stacks:
                nic = Stack.add_interface(member, mac=mac or None, mtu=mtu, name=name, layer=layer)
                self._members.append(nic)
                inner = check(core, lib.lwipy_steer_add(core, number), name)
                self._inner.append(inner)
                check(core, lib.lwipy_wire(core, inner, member._core, nic.number, 0))
        except BaseException:
            self.remove()
            raise

    def __repr__(self) -> str:
        return f"<GroupInterface {self.name}{'' if self.number else ' removed'}>"

    @property
    def steering(self) -> Steering:
        """How its frames were shared out."""
        out = ffi.new("lwipy_steer_counters *")
        self._check(lib.lwipy_steer_get_counters(self._stack._core, self.number, out))
        return Steering(*(getattr(out, field.name) for field in fields(Steering)))

    # -- Every stack's -----------------------------------------------------------------------------------------------

    @property
    def mac(self) -> str:
        """The MAC address, "" for an L3 interface."""
        return self._members[0].mac

    @mac.setter
    def mac(self, value: str | bytes) -> None:
        for nic in self._members:
            nic.mac = value
        self._mac = self._members[0]._mac
        self._check(lib.lwipy_netif_set_mac(self._stack._core, self.number, self._mac))

    @property
    def mtu(self) -> int:
        """The largest IP packet, bytes."""
        return self._mtu

    @mtu.setter
    def mtu(self, value: int) -> None:
        for nic in self._members:
            nic.mtu = value
        for number in (self.number, *self._inner):
            self._check(lib.lwipy_netif_set_mtu(self._stack._core, number, value))
        self._mtu = value

    @property
    def ipv4(self) -> ipaddress.IPv4Interface | None:
        """The IPv4 address with its prefix; assign text such as "10.0.0.1/24", or None."""
        return self._members[0].ipv4 if self._members else None

    @ipv4.setter
    def ipv4(self, value: str | ipaddress.IPv4Interface | None) -> None:
        for nic in self._members:
            nic.ipv4 = value

    @property
    def ipv6(self) -> tuple[ipaddress.IPv6Interface, ...]:
        """The IPv6 addresses with their prefixes; the link-local one comes first on an L2 interface."""
        return self._members[0].ipv6

    def add_ipv6(self, value: str | ipaddress.IPv6Interface) -> None:
        for nic in self._members:
            nic.add_ipv6(value)

    def remove_ipv6(self, value: str | IPAddress | IPInterface) -> None:
        for nic in self._members:
            nic.remove_ipv6(value)

    def autoconfigure(self, on: bool = True) -> None:
        for nic in self._members:
            nic.autoconfigure(on)

    @property
    def gateway(self) -> ipaddress.IPv4Address | None:
        """The IPv4 router. Assign an address of either family, a pair of both, or None."""
        return self._members[0].gateway

    @gateway.setter
    def gateway(self, value: str | IPAddress | Iterable[str | IPAddress] | None) -> None:
        several = value if isinstance(value, str | None) or not isinstance(value, Iterable) else list(value)
        for nic in self._members:
            nic.gateway = several

    def add_neighbour(self, address: str | IPAddress, mac: str | bytes) -> None:
        for nic in self._members:
            nic.add_neighbour(address, mac)

    def remove_neighbour(self, address: str | IPAddress) -> None:
        for nic in self._members:
            nic.remove_neighbour(address)

    def make_default(self) -> None:
        for nic in self._members:
            nic.make_default()

    @property
    def up(self) -> bool:
        """Whether the interface is in use (administratively up)."""
        return self._members[0].up

    @up.setter
    def up(self, on: bool) -> None:
        for nic in self._members:
            nic.up = on

    def _set_checksums(self, on: bool) -> None:
        for nic in self._members:
            nic.checksums = on

    checksums = property(None, _set_checksums, None, "Whether sums are made and checked.")

    def start_dhcp(self, hostname: str = "") -> None:
        """OSError EOPNOTSUPP: a lease is one stack's, and a group's addresses are all stacks'."""
        raise self._no_dhcp()

    def stop_dhcp(self) -> None:
        raise self._no_dhcp()

    def _no_dhcp(self) -> OSError:
        return OSError(errno.EOPNOTSUPP, f"{self.name}: a group has no DHCP client; give it addresses")

    @property
    def has_lease(self) -> bool:
        return False

    def remove(self) -> None:
        for nic in self._members:
            if not nic.stack.closed:
                nic.remove()
        numbers, self._inner = self._inner, []
        for number in numbers:
            check(self._stack._core, lib.lwipy_netif_remove(self._stack._core, number))
        super().remove()


class _Front(Stack):
    """The core at the wire. It has no addresses and no endpoints."""

    _interface_type = GroupInterface

    def __init__(self, group: StackGroup) -> None:
        self._group = weakref.ref(group)
        super().__init__()

    @property
    def group(self) -> StackGroup:
        group = self._group()
        assert group is not None, "a group outlives its front's interfaces"
        return group


def _thread_driver() -> Any:
    """The room above: only used by `with`, as a stack's."""
    return importlib.import_module("lwipy.drivers.thread").ThreadDriver


class StackGroup(Stack):
    """`count` stacks behind one socket API, each with its own thread. See the module's text.

    `memory` bounds what each stack may allocate, bytes. ValueError unless 1 <= `count` <= 64.
    """

    def __init__(self, count: int, *, memory: int = DEFAULT_MEMORY) -> None:
        if not isinstance(count, int):
            raise TypeError(f"the number of stacks must be an int, not {count!r}")
        if not 1 <= count <= MOST_STACKS:
            raise ValueError(f"{count} stacks are out of range: expected 1 to {MOST_STACKS}")
        super().__init__(memory=memory)
        self._others: tuple[Stack, ...] = ()
        self._turn = 0
        #: The hash's key; nobody outside shall know which flow goes where.
        self.key: Final[int] = secrets.randbits(64)
        try:
            self._others = tuple(Stack(memory=memory) for _ in range(count - 1))
            self._front = _Front(self)
        except BaseException:
            for stack in self._others:
                stack.close()
            super().close()
            raise

    def __repr__(self) -> str:
        names = "closed" if self.closed else ", ".join(self._scopes) or "without interfaces"
        return f"<StackGroup of {len(self.stacks)}, {names}>"

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks that share the load; the first one is the group itself."""
        return (self, *self._others)

    def next_turn(self) -> int:
        """The number of the stack that gets the next connection."""
        self._turn = (self._turn + 1) % len(self.stacks)
        return self._turn

    @property
    def least_mtu(self) -> int:
        """Of all interfaces, bytes: a datagram that fits it is not cut anywhere."""
        return min((nic.mtu for nic in self._front._interfaces.values()), default=GREATEST_MTU)

    # -- The stack's own methods, for all of them --------------------------------------------------------------------

    def add_interface(
        self,
        link: Link | None = None,
        *,
        mac: str | bytes | None = None,
        ipv4: str | None = None,
        ipv6: str | Sequence[str] | None = None,
        gateway: str | Sequence[str] | None = None,
        mtu: int = 1500,
        name: str | None = None,
        layer: int = 2,
        checksums: bool = True,
    ) -> GroupInterface:
        """As :meth:`Stack.add_interface`: one link and one set of addresses for all stacks."""
        nic = self._front.add_interface(
            link, mac=mac, ipv4=ipv4, ipv6=ipv6, gateway=gateway, mtu=mtu, name=name, layer=layer, checksums=checksums
        )
        assert isinstance(nic, GroupInterface)
        return nic

    @property
    def interfaces(self) -> dict[str, Interface]:
        """The group's interfaces by name."""
        return self._front.interfaces

    def tcp(self, family: int = 4) -> TcpEndpoint:
        return GroupTcpEndpoint(self, check_family(family))

    def udp(self, family: int = 4) -> UdpEndpoint:
        return GroupUdpEndpoint(self, check_family(family))

    @property
    def statistics(self) -> Statistics:
        """The sums over all stacks."""
        each = [Stack.statistics.fget(stack) for stack in self.stacks]  # type: ignore[attr-defined]
        return Statistics(*(sum(getattr(one, field.name) for one in each) for field in fields(Statistics)))

    def poll(self) -> float | None:
        """By hand: polls the front and every stack; seconds until the first deadline, or None."""
        delays = [Stack.poll(stack) for stack in (self._front, *self.stacks)]
        # What the first ones were given by the later ones.
        delays[0] = Stack.poll(self._front)
        waits = [delay for delay in delays if delay is not None]
        return min(waits) if waits else None

    def _drive(self, driver: Driver | None) -> None:
        if driver is not None and not isinstance(driver, _thread_driver()):
            raise RuntimeError("a group is driven by its own threads: enter it first, `with group:`")
        super()._drive(driver)

    def _check_waiting(self) -> None:
        raise RuntimeError("a group blocks only while its threads run: enter it first, `with group:`")

    def __enter__(self) -> Self:
        """Starts the threads, one for each stack and one for the link."""
        if type(self._driver) is not Driver:
            raise RuntimeError(f"the group is driven already, by a {type(self._driver).__name__}")
        try:
            for stack in (*self.stacks, self._front):
                _thread_driver()(stack).start()
        except BaseException:
            self.close()
            raise
        return self

    def close(self, linger: float = 0.0) -> None:
        """Ends all of it at once, as :meth:`Stack.close`."""
        if linger > 0:
            for stack in self.stacks:
                stack._finish_sending(time.monotonic() + linger)
        front: Any = self.__dict__.get("_front")
        for stack in (*((front,) if front is not None else ()), *self.__dict__.get("_others", ())):
            stack.close()
        super().close()
