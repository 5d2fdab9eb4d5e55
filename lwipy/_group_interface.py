"""An interface of a group of stacks: its addresses are every stack's, its frames are shared out.

Theory of operation. It is the front's interface (:mod:`lwipy.group`) with the way to each stack's own one behind it.
With a link for each stack, the stacks' own ones have ways between them (:mod:`lwipy._queues`), and it stands for all.

Invariants:

1. ``_members`` are the stacks' own interfaces, by their stack's number; what is set here is set at all of them.
2. ``_ends`` are the inner interfaces (``csrc/steer.c``), with the interface each stands behind.
3. ``_queues`` is empty, or the members; once they are, they stay.
"""

from __future__ import annotations

import errno
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lwipy._native import check, ffi, lib
from lwipy._queues import lead_between, not_here, remove_ends
from lwipy.addresses import IPAddress, IPInterface
from lwipy.interface import Counters, Interface
from lwipy.stack import Stack

if TYPE_CHECKING:
    from array import array

    from lwipy.endpoints.base import Buffer
    from lwipy.group import StackGroup


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
    """An interface of a group: the addresses are every stack's. As :class:`Interface`, except that with a link for each
    stack, frames and stages are at the :attr:`queues`: here those raise OSError EOPNOTSUPP."""

    def __init__(self, stack: Stack, number: int, name: str, layer: int, mac: bytes, mtu: int) -> None:
        super().__init__(stack, number, name, layer, mac, mtu)
        group: StackGroup = stack.group  # type: ignore[attr-defined]
        self._group = group
        self._members: list[Interface] = []
        self._ends: list[tuple[Interface, int]] = []
        self._queues: tuple[Interface, ...] = ()
        try:
            self._shared = ffi.gc(_made(lib.lwipy_shared_new()), lib.lwipy_shared_drop)
            self._steer(self, -1)
            for member in self._group.stacks:
                nic = Stack.add_interface(member, mac=mac or None, mtu=mtu, name=name, layer=layer)
                self._members.append(nic)
                self._lead_to(nic)
        except BaseException:
            self.remove()
            raise

    def _steer(self, at: Interface, own: int) -> None:
        group, core = self._group, at.stack._core
        check(core, lib.lwipy_steer_open(core, at.number, group.key, len(group.stacks), own, self._shared), self.name)

    def _lead_to(self, nic: Interface) -> None:
        core = self._stack._core
        end = check(core, lib.lwipy_steer_add(core, self.number, len(self._ends)), self.name)
        self._ends.append((self, end))
        check(core, lib.lwipy_wire(core, end, nic.stack._core, nic.number, 0))

    @property
    def queues(self) -> tuple[Interface, ...]:
        """The stacks' own interfaces, by number, where each has a link; else ()."""
        return self._queues

    def _read_by_members(self) -> tuple[Interface, ...]:
        """Takes the front away: the stacks' own interfaces may have links now. They steer what these bring."""
        ends, self._ends = self._ends, []
        remove_ends(ends)
        for number, nic in enumerate(self._members):
            check(nic.stack._core, lib.lwipy_unwire(nic.stack._core, nic.number), self.name)
            self._steer(nic, number)
        self._ends = lead_between(self._members)
        self._queues = tuple(self._members)
        return self._queues

    def __repr__(self) -> str:
        return f"<GroupInterface {self.name}{'' if self.number else ' removed'}>"

    @property
    def steering(self) -> Steering:
        """How its frames were shared out."""
        sums = dict.fromkeys((field.name for field in fields(Steering)), 0)
        out = ffi.new("lwipy_steer_counters *")
        for nic in self._queues or (self,):
            nic._check(lib.lwipy_steer_get_counters(nic.stack._core, nic.number, out))
            for name in sums:
                sums[name] += getattr(out, name)
        return Steering(**sums)

    # -- The queues' -------------------------------------------------------------------------------------------------

    @property
    def _interface(self) -> Interface:
        """For stages."""
        return not_here(self) if self._queues else self

    def receive(self, frame: Buffer) -> None:
        if self._queues:
            not_here(self)
        super().receive(frame)

    def receive_many(self, frames: Iterable[Buffer] | Buffer, offsets: Buffer | array[int] | None = None) -> None:
        if self._queues:
            not_here(self)
        super().receive_many(frames, offsets)

    def frames(self) -> list[bytes]:
        return not_here(self) if self._queues else super().frames()

    def frames_into(self, buffer: bytearray | memoryview, offsets: bytearray | memoryview | array[int]) -> int:
        return not_here(self) if self._queues else super().frames_into(buffer, offsets)

    @property
    def counters(self) -> Counters:
        """Of all queues together."""
        if not self._queues:
            return super().counters
        each = [nic.counters for nic in self._queues]
        return Counters(*(sum(getattr(one, field.name) for one in each) for field in fields(Counters)))

    @property
    def link_up(self) -> bool:
        """Whether there is a wire; of queues, at any of them."""
        return any(nic.link_up for nic in self._queues) if self._queues else bool(self._flags() & lib.LWIPY_NETIF_LINK)

    @link_up.setter
    def link_up(self, on: bool) -> None:
        for nic in self._queues or (self,):
            nic._set_flag(lib.LWIPY_NETIF_LINK, on)

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
        for nic, number in ((self, self.number), *self._ends):
            nic._check(lib.lwipy_netif_set_mtu(nic.stack._core, number, value))
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
        ends, self._ends = self._ends, []
        remove_ends(ends)
        for nic in self._members:
            if not nic.stack.closed:
                nic.remove()
        super().remove()


def _made(shared: Any) -> Any:
    if not shared:
        raise MemoryError
    return shared
