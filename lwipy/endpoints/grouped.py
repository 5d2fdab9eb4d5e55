"""Endpoints of a :class:`lwipy.StackGroup`: one to Python, one in each of the group's stacks to C.

Theory of operation. Such an endpoint is an ordinary one of the first stack, the lead, with a follower in each other
stack. What is set is set in all of them. A listener listens in all and accepts from whichever has a connection; a
datagram endpoint receives from whichever has a datagram, and sends from the stack that the hash names. A connection is
in one stack only: connect() chooses a local port, asks the hash for the stack, and changes places with the follower
there, so that from then on it is as fast as any. What accept() gives is a plain endpoint of the stack that has it.

Invariants:

1. ``_index`` is the number of the stack that the endpoint's own handle is of; ``_followers`` has those of all others,
   until the connection stands.
2. Followers report to the lead's ``on_event``; so it is called from every stack's thread.
3. All ends are bound to the same port, or none: a port that is chosen for the caller is free in all.
4. A flow leaves from the stack that its answers will reach (``csrc/steer.c``); one whose packets are to be fragmented,
   from the one that fragments reach.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lwipy._native import ffi, lib
from lwipy.addresses import IPAddress, pack, parse_ip
from lwipy.endpoints.base import Address, Buffer, Endpoint, Event, Option
from lwipy.endpoints.tcp import TcpEndpoint, TcpState
from lwipy.endpoints.udp import LONGEST_DATAGRAM, Datagram, UdpEndpoint

if TYPE_CHECKING:
    from lwipy.group import StackGroup
    from lwipy.interface import Interface

T = TypeVar("T")

#: Ports for those who name none: where servers and datagrams begin, where connections do (RFC 6335), and their end.
_SERVERS: Final = 32768
_CLIENTS: Final = 49152
_END: Final = 65536
_TRIES: Final = 64

#: Headers of IPv6, a fragment and UDP, bytes: a datagram that is longer than the MTU less these may be cut.
_HEADERS: Final = 56
#: Peers whose stack a datagram endpoint remembers.
_PEERS: Final = 4096


class Grouped(Endpoint):
    """What grouped endpoints share."""

    plain: Callable[..., Any]

    def __init__(self, group: StackGroup, family: int) -> None:
        super().__init__(group, family)
        self._group = group
        self._index = 0
        self._start = 0
        self._followers: dict[int, Any] = {}
        try:
            for index, stack in enumerate(group.stacks[1:], 1):
                follower = self.plain(stack, family)
                follower.on_event = self._forward
                self._followers[index] = follower
        except BaseException:
            self.close()
            raise

    def _forward(self, event: Event) -> None:
        handler = self.on_event
        if handler is not None:
            handler(event)

    @property
    def _ends(self) -> list[Any]:
        """All of them, by their stack's number where they are as many as the stacks."""
        followers = self._followers
        return [followers.get(index, self) for index in range(len(self._group.stacks))] if followers else [self]

    def _from_any(self, attempt: Callable[[Any], T | None], *, stay: bool = False) -> T | None:
        """What the first end has that has something; in turns, so that no stack is left out. None when none has.

        After one that `stay`\\ s (a peek), the same end is asked first again.
        """
        ends = self._ends
        for step in range(len(ends)):
            number = (self._start + step) % len(ends)
            found = attempt(ends[number])
            if found is not None:
                self._start = number if stay else number + 1
                return found
        return None

    def _swap(self, index: int) -> None:
        """Takes the follower's place in its stack, and gives it its own."""
        if index == self._index:
            return
        other = self._followers.pop(index)
        self._stack, other._stack = other._stack, self._stack
        self._handle, other._handle = other._handle, self._handle
        for end in (self, other):
            end._stack._endpoints[end._handle] = end
        self._followers[self._index] = other
        self._index = index

    def _release_followers(self) -> None:
        followers, self._followers = list(self._followers.values()), {}
        for follower in followers:
            follower.close()

    # -- What all ends do --------------------------------------------------------------------------------------------

    def _number(self, interface: Interface | None) -> int:
        """Interfaces have the same name in the group and in each of its stacks."""
        if interface is None:
            return 0
        number = self._stack._scopes.get(interface.name)
        if number is None:
            raise OSError(errno.ENODEV, f"the group has no interface {interface.name}")
        return number

    def bind_interface(self, interface: Interface | None) -> None:
        number = self._number(interface)
        for end in self._ends:
            end._check(lib.lwipy_set_option(end._stack._core, end._handle, lib.LWIPY_OPT_NETIF, number))

    def bind(self, address: Address, interface: Interface | None = None, *, reuse: bool = False) -> None:
        """As any endpoint's, in every stack."""
        if interface is not None:
            self.bind_interface(interface)
        host, port = address[0], address[1]
        for _ in range(_TRIES if port == 0 else 1):
            chosen = port or _port(_SERVERS, _CLIENTS)
            try:
                super().bind((host, chosen), reuse=reuse)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or port:
                    raise
        else:
            raise OSError(errno.EADDRINUSE, f"no free port for {host or 'any address'}")
        for follower in self._followers.values():
            follower.bind((host, chosen), reuse=reuse)

    def set_option(self, option: Option, value: int) -> None:
        super().set_option(option, value)
        for follower in self._followers.values():
            follower.set_option(option, value)

    def ready(self) -> Event:
        found = super().ready()
        for follower in list(self._followers.values()):
            found |= follower.ready()
        return found

    def _end(self) -> int:
        self._release_followers()
        return super()._end()

    # -- Where a flow belongs ----------------------------------------------------------------------------------------

    def _source(self, remote: Any) -> Any:
        """Our end of a flow to `remote`: the bound address, or the one that the way there has. None: no way."""
        local = ffi.new("lwipy_address *")
        self._check(lib.lwipy_local(self._stack._core, self._handle, local))
        if local.family == remote.family and any(bytes(local.bytes)):
            return local
        port = local.port
        if lib.lwipy_source(self._stack._core, remote, local) < 0:
            return None
        local.port = port
        return local

    def _pick(self, local: Any, remote: Any, *, fragmented: bool = False) -> int:
        group = self._group
        return int(lib.lwipy_steer_pick(group.key, len(group.stacks), local, remote, fragmented))


class GroupTcpEndpoint(Grouped, TcpEndpoint):
    """A connection or a listener of a group."""

    plain = TcpEndpoint

    def connect(self, address: Address) -> None:
        """As any endpoint's. OSError EADDRNOTAVAIL when no local port leads to a stack of the group."""
        if self._followers and self.info.state == TcpState.CLOSED:
            self._swap(self._place(self._pack(address)))
        super().connect(address)

    def _place(self, remote: Any) -> int:
        """The stack of the connection that is to be; its end is bound to a port that leads there."""
        local = self._source(remote)
        if local is None:
            return self._index  # which will say what is wrong
        if local.port:
            return self._pick(local, remote)
        wanted = self._group.next_turn()
        end = self._ends[wanted]
        for _ in range(_TRIES * len(self._group.stacks)):
            local.port = _port(_CLIENTS, _END)
            if self._pick(local, remote) != wanted:
                continue
            try:
                Endpoint.bind(end, ("", local.port))
                return wanted
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRNOTAVAIL, f"{os.strerror(errno.EADDRNOTAVAIL)}: no local port is free")

    def finish_connect(self) -> None:
        super().finish_connect()
        self._release_followers()

    def listen(self, backlog: int = 128) -> None:
        """In every stack; each may keep `backlog` connections waiting."""
        if self._followers and self.address[1] == 0:
            self.bind(("", 0))
        for end in self._ends:
            TcpEndpoint.listen(end, backlog)

    def accept_if_any(self) -> TcpEndpoint | None:
        return self._from_any(TcpEndpoint.accept_if_any) if self._followers else super().accept_if_any()

    def accept_many(self) -> list[tuple[TcpEndpoint, bytes]]:
        if not self._followers:
            return super().accept_many()
        return self._from_any(lambda end: TcpEndpoint.accept_many(end) or None) or []

    def shutdown(self, *, read: bool = False, write: bool = False) -> None:
        if self.info.state == TcpState.LISTEN:
            for follower in self._followers.values():
                follower.shutdown(read=read, write=write)
        super().shutdown(read=read, write=write)


class GroupUdpEndpoint(Grouped, UdpEndpoint):
    """A datagram endpoint of a group."""

    plain = UdpEndpoint

    def __init__(self, group: StackGroup, family: int) -> None:
        super().__init__(group, family)
        self._peer: Address | None = None
        self._ways: dict[tuple[Address, bool], int] = {}

    def connect(self, address: Address | None) -> None:
        if address is not None:
            self._take_port()
        super().connect(address)
        for follower in self._followers.values():
            follower.connect(address)
        self._peer = address
        self._ways.clear()

    def _take_port(self) -> None:
        """The first datagram's port, the same everywhere."""
        if self.address[1] == 0:
            self.bind(("", 0))

    def send(
        self,
        data: Buffer,
        address: Address | None = None,
        interface: Interface | None = None,
        source: str | IPAddress | None = None,
        *,
        ttl: int = -1,
        tos: int = -1,
    ) -> None:
        to = self._peer if address is None else address
        if to is None:
            super().send(data, address, interface, source, ttl=ttl, tos=tos)
            return
        self._take_port()
        end = self._ends[self._way(to, source, memoryview(data).nbytes)]
        if interface is not None:
            interface = end._stack._interfaces[self._number(interface)]
        UdpEndpoint.send(end, data, address, interface, source, ttl=ttl, tos=tos)

    def _way(self, to: Address, source: str | IPAddress | None, size: int) -> int:
        """The number of the stack that sends."""
        fragmented = size > self._group.least_mtu - _HEADERS
        known = self._ways.get((to, fragmented)) if source is None else None
        if known is not None:
            return known
        remote = self._pack(to)
        local = self._source(remote)
        if local is None or parse_ip(to[0]).is_multicast:
            return 0
        if source is not None:
            local = pack(parse_ip(source), local.port)
        way = self._pick(local, remote, fragmented=fragmented)
        if source is None:
            if len(self._ways) >= _PEERS:
                self._ways.clear()
            self._ways[to, fragmented] = way
        return way

    def receive_if_any(self, size: int = LONGEST_DATAGRAM, *, peek: bool = False) -> Datagram | None:
        return self._from_any(lambda end: UdpEndpoint.receive_if_any(end, size, peek=peek), stay=peek)

    def _change_group(self, function, group: str, interface: Interface | None) -> None:  # type: ignore[no-untyped-def]
        for end in self._ends:
            own = None if interface is None else end._stack._interfaces[self._number(interface)]
            UdpEndpoint._change_group(end, function, group, own)


def _port(first: int, end: int) -> int:
    """Not to be guessed (RFC 6056)."""
    return first + secrets.randbelow(end - first)
