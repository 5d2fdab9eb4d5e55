"""A learning Ethernet switch, for interfaces and guests that are to be on one network.

Theory of operation. A plug is one place at the switch: frames come from its device through :meth:`Plug.receive`, and
go to it through the callable that :meth:`Switch.join` was given. The switch learns from each frame's source which plug
has that address (IEEE 802.1D 7.8) and sends frames for it there alone; to everybody else's plug it floods what is for
a group, or for an address it does not know. :meth:`Switch.port` wraps a plug in a link, for an interface.

Invariants:

1. No frame goes back to the plug it came from.
2. An address is at one plug. A plug holds at most `limit` of them, so a guest that invents addresses fills its own
   share of the table and nobody else's; an address unheard of for `ageing` seconds makes room.
3. An address that is pinned to a plug (an interface's own) cannot be claimed by another: such frames are dropped.
4. Tables are used under the lock, and plugs are called without it; any thread may bring frames.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lwipy.addresses import parse_mac
from lwipy.links.base import Link
from lwipy.links.inbox import Inbox

if TYPE_CHECKING:
    from lwipy.interface import Interface

_HEADER: Final = 14
_NOBODY: Final = bytes(6)
#: Frames to 01:80:c2:00:00:00 to :0f end at a bridge (IEEE 802.1D 7.12.6).
_BRIDGES_OWN: Final = bytes.fromhex("0180c20000")


@dataclass
class SwitchCounters:
    """Frames: to the one plug that has the address, to all others, and those that went nowhere, by reason."""

    forwarded: int = 0
    flooded: int = 0
    filtered: int = 0  # for the plug they came from, or for bridges alone
    short: int = 0
    bad_source: int = 0  # a group's address, or none
    spoofed: int = 0  # an address that is pinned to another plug
    moved: int = 0  # an address has gone to another plug
    unlearned: int = 0  # the plug's share of the table was full


class Plug:
    """One place at a switch; made by :meth:`Switch.join`."""

    def __init__(self, switch: Switch, deliver: Callable[[list[bytes]], None], name: str) -> None:
        self.switch = switch
        self.name = name
        self._deliver = deliver
        # By when they were heard last, the longest silent first.
        self._heard: dict[bytes, float] = {}

    def __repr__(self) -> str:
        return f"<Plug {self.name}>"

    @property
    def addresses(self) -> list[str]:
        """The MAC addresses that were learned here."""
        return [mac.hex(":") for mac in list(self._heard)]

    def receive(self, frames: Iterable[bytes]) -> None:
        """Frames from the device at this plug. From any thread; never blocks."""
        self.switch._forward(self, frames)

    def leave(self) -> None:
        """Out of the switch, with all that was learned here. Leaving twice is allowed."""
        self.switch._leave(self)


class Port(Link):
    """A plug as the link of an interface; made by :meth:`Switch.port`."""

    def __init__(self, switch: Switch, name: str | None) -> None:
        self._switch = switch
        self._name = name
        self._plug: Plug | None = None

    def __repr__(self) -> str:
        return f"<Port {self._plug.name if self._plug else 'unused'}>"

    def attach(self, interface: Interface) -> None:
        """OSError and ValueError as :meth:`Switch.join`: the interface's MAC address is pinned here."""
        self._plug = self._switch.join(Inbox(interface).put, name=self._name or interface.name, mac=interface.mac)

    def detach(self) -> None:
        plug, self._plug = self._plug, None
        if plug is not None:
            plug.leave()

    def transmit(self, frames: list[bytes]) -> None:
        if self._plug is not None:
            self._plug.receive(frames)


class Switch:
    """The switch. `ageing` in seconds, `limit` addresses per plug, `clock` for tests."""

    def __init__(self, *, ageing: float = 300.0, limit: int = 256, clock: Callable[[], float] = time.monotonic) -> None:
        if not ageing > 0:
            raise ValueError(f"ageing {ageing} is out of range: expected more than 0 seconds")
        if limit < 1:
            raise ValueError(f"limit {limit} is out of range: expected at least 1 address per plug")
        self._ageing = ageing
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._plugs: list[Plug] = []
        self._where: dict[bytes, Plug] = {}
        self._pinned: dict[bytes, Plug] = {}
        self._counters = SwitchCounters()

    def __repr__(self) -> str:
        return f"<Switch {', '.join(plug.name for plug in self.plugs)}>"

    @property
    def plugs(self) -> tuple[Plug, ...]:
        with self._lock:
            return tuple(self._plugs)

    @property
    def counters(self) -> SwitchCounters:
        with self._lock:
            return replace(self._counters)

    def port(self, name: str | None = None) -> Link:
        """A link for :meth:`Stack.add_interface`: the interface of any stack, in any thread."""
        return Port(self, name)

    def join(
        self, deliver: Callable[[list[bytes]], None], *, name: str | None = None, mac: str | bytes | None = None
    ) -> Plug:
        """A place for a device. `deliver` is called with frames for it, in the thread that brought them, and must
        not block. With `mac`, that address is pinned here. ValueError when it is pinned to another plug.
        """
        pinned = parse_mac(mac) if mac is not None else None
        with self._lock:
            plug = Plug(self, deliver, name or f"port{len(self._plugs)}")
            if pinned is not None:
                if pinned in self._pinned:
                    raise ValueError(f"{mac!r} is the address of {self._pinned[pinned].name} on this switch already")
                self._pinned[pinned] = plug
                self._forget(pinned)
                self._where[pinned] = plug
            self._plugs.append(plug)
        return plug

    def _leave(self, plug: Plug) -> None:
        with self._lock:
            if plug in self._plugs:
                self._plugs.remove(plug)
                for table in (self._pinned, self._where):
                    for mac in [mac for mac, where in table.items() if where is plug]:
                        del table[mac]
                plug._heard.clear()

    # -- Frames, under the lock but for the delivery -----------------------------------------------------------------

    def _forward(self, source: Plug, frames: Iterable[bytes]) -> None:
        out: dict[Plug, list[bytes]] = {}
        with self._lock:
            if source not in self._plugs:
                return
            now = self._clock()
            for frame in frames:
                for plug in self._route(source, bytes(frame), now):
                    out.setdefault(plug, []).append(frame)
        for plug, batch in out.items():
            plug._deliver(batch)

    def _route(self, source: Plug, frame: bytes, now: float) -> list[Plug]:
        """Where a frame goes; every way is counted."""
        counters = self._counters
        if len(frame) < _HEADER:
            counters.short += 1
            return []
        target, sender = frame[:6], frame[6:12]
        if sender[0] & 1 or sender == _NOBODY:
            counters.bad_source += 1
            return []
        if self._pinned.get(sender, source) is not source:
            counters.spoofed += 1
            return []
        self._learn(source, sender, now)
        if not target[0] & 1 and (plug := self._find(target, now)) is not None:
            if plug is source:
                counters.filtered += 1
                return []
            counters.forwarded += 1
            return [plug]
        if target[:5] == _BRIDGES_OWN and target[5] < 16:
            counters.filtered += 1
            return []
        counters.flooded += 1
        return [plug for plug in self._plugs if plug is not source]

    def _learn(self, plug: Plug, mac: bytes, now: float) -> None:
        if mac in self._pinned:
            return
        before = self._where.get(mac)
        if before is plug:
            del plug._heard[mac]  # to the end of the order
        else:
            if before is not None:
                self._counters.moved += now < before._heard[mac] + self._ageing
                self._forget(mac)
            if not self._has_room(plug, now):
                self._counters.unlearned += 1
                return
            self._where[mac] = plug
        plug._heard[mac] = now

    def _has_room(self, plug: Plug, now: float) -> bool:
        if len(plug._heard) < self._limit:
            return True
        eldest, heard = next(iter(plug._heard.items()))
        if now < heard + self._ageing:
            return False
        self._forget(eldest)
        return True

    def _find(self, mac: bytes, now: float) -> Plug | None:
        plug = self._where.get(mac)
        if plug is not None and mac not in self._pinned and now >= plug._heard[mac] + self._ageing:
            self._forget(mac)
            return None
        return plug

    def _forget(self, mac: bytes) -> None:
        plug = self._where.pop(mac, None)
        if plug is not None:
            plug._heard.pop(mac, None)
