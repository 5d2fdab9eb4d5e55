"""A link for each stack of a group: the stacks read the wire themselves, each its own queue of it.

Theory of operation. The front of a group (:mod:`lwipy.group`) is a thread more, and each frame goes through two of the
machine's caches. Where the wire has a queue for each stack, such as a multi-queue TAP's, each stack's own interface has
the link to one of them, and its core steers what it reads (``csrc/steer.c``): it keeps what is its own, and hands only
the rest to the others. A device that brings a flow's frames to the queue which the flow's answers come from, as the
kernel's does, leaves nearly nothing to be handed over; whatever it does, a frame reaches the stack that has its flow.

Invariants:

1. Queue i is the interface of stack i. The group's interface, which is the front's, has no frames then.
2. A queue's link can be lost alone: its stack is then without a wire, the others go on.
3. No queue has a link before all ways between the stacks are there.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lwipy._native import check, lib
from lwipy.links.base import Link

if TYPE_CHECKING:
    from lwipy._group_interface import GroupInterface
    from lwipy.interface import Interface


class Queues(Link):
    """`links`, one for each stack of a group; None for one that is wired, or given its frames, by hand."""

    takes_frames = False

    def __init__(self, links: Sequence[Link | None], count: int) -> None:
        if len(links) != count:
            raise ValueError(f"{len(links)} links for {count} stacks: expected one for each")
        for link in links:
            if link is not None and not hasattr(link, "attach"):
                raise TypeError(f"{link!r} is not a link: expected a lwipy.links.Link")
        layers = {link.layer for link in links if link is not None} - {None}
        if len(layers) > 1:
            raise ValueError("the links are of different layers: a group's interface has one")
        self.layer = layers.pop() if layers else None
        self._links = list(links)
        self._members: Sequence[Interface] = ()

    def __repr__(self) -> str:
        return f"<Queues {self._links!r}>"

    def attach(self, interface: Interface) -> None:
        group_interface: GroupInterface = interface  # type: ignore[assignment]
        self._members = group_interface._read_by_members()
        for nic, link in zip(self._members, self._links, strict=True):
            if link is not None:
                nic.attach(link)

    def detach(self) -> None:
        for nic in self._members:
            link, nic._link = nic._link, None
            if link is not None:
                link.detach()


def lead_between(members: Sequence[Interface]) -> list[tuple[Interface, int]]:
    """A way between any two of them; the inner interfaces that are their ends."""
    ends: list[tuple[Interface, int]] = []

    def end(at: Interface, towards: int) -> int:
        number = check(at.stack._core, lib.lwipy_steer_add(at.stack._core, at.number, towards), at.name)
        ends.append((at, number))
        return number

    try:
        for i, one in enumerate(members):
            for j, other in enumerate(members[:i]):
                here, there = end(one, j), end(other, i)
                check(one.stack._core, lib.lwipy_wire(one.stack._core, here, other.stack._core, there, 0))
    except BaseException:
        remove_ends(ends)
        raise
    return ends


def remove_ends(ends: Sequence[tuple[Interface, int]]) -> None:
    for nic, number in ends:
        if not nic.stack.closed:
            check(nic.stack._core, lib.lwipy_netif_remove(nic.stack._core, number))


def not_here(interface: Interface) -> NoReturn:
    """OSError EOPNOTSUPP: the interface's frames are elsewhere."""
    text = f"{interface.name} has a queue for each stack: its frames are at .queues[i]"
    raise OSError(errno.EOPNOTSUPP, text)
