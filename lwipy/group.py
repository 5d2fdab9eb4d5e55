"""A group of stacks that share one interface and its load.

Theory of operation. Each stack of the group is a whole copy of lwIP with a thread of its own, so they work at the same
time. A further core, the front, has the interface's link and a thread too: there C reads from each frame which flow it
is of, and hands it to the stack that has that flow (``csrc/steer.c``). With a link for each stack, the stacks read and
steer by themselves (``_queues.py``), and the front has nothing to do. The group is its first stack, with the others
behind it: names, hosts and raw sockets are the first one's, and its TCP and UDP endpoints are grouped ones
(``endpoints/grouped.py``), so all that works with a stack works with a group.

Invariants:

1. All stacks have the same interfaces, by name and number, with the same addresses. They are changed through the
   group's only.
2. A group is driven by its own threads: entered by ``with``, or polled by hand as a whole; never by an event loop. With
   its threads running, asyncio works on it as on any stack that a thread drives.
3. Closing ends the front first, and all links with it; so no frame reaches a stack that is closed.
"""

from __future__ import annotations

import importlib
import secrets
import time
import weakref
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from lwipy._addressed import GREATEST_MTU
from lwipy._driver import Driver
from lwipy._group_interface import GroupInterface
from lwipy._native import lib
from lwipy._queues import Queues
from lwipy._statistics import Statistics
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
        link: Link | Sequence[Link | None] | None = None,
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
        """As :meth:`Stack.add_interface`, with one set of addresses for all stacks.

        A list of links, one for each stack, such as :meth:`lwipy.links.Tap.queues` makes, is read by the stacks
        themselves; one link by a thread more. ValueError unless there are as many as stacks.
        """
        several = isinstance(link, list | tuple)
        one: Any = Queues(link, len(self.stacks)) if several else link  # type: ignore[arg-type]
        nic = self._front.add_interface(
            one, mac=mac, ipv4=ipv4, ipv6=ipv6, gateway=gateway, mtu=mtu, name=name, layer=layer, checksums=checksums
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
        everyone = (self._front, *self.stacks)
        for stack in (*everyone, self._front):  # last, what the stacks gave to it
            Stack.poll(stack)
        waits = [delay for stack in everyone if (delay := stack._deadline()) is not None]
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
