"""The Stack: one private copy of lwIP, sans-IO, and the door to everything built on it.

Theory of operation. The core does no I/O and starts no thread. Someone drives it: by hand (:meth:`Stack.poll`), a
thread (``with stack:``), or an asyncio loop (:func:`lwipy.aio.driving`). Driving means: run what is due, hand the
events to the endpoints and the frames to the links, sleep until the deadline that :meth:`poll` returned or until the
core asks for attention.

Invariants:

1. One driver at a time. Without one, every operation hands out events and frames before it returns.
2. ``_core`` is the one owning reference; the core is freed when the last call that uses it has returned. After
   :meth:`close` the attribute is gone and every use raises :class:`StackClosedError`.
3. Callbacks (events, frames, timers) run in the driver's thread, never inside a call of the core, never nested.
4. A stack stays in the process that made it: in the child of a fork() it is closed.
5. An exception in a callback reaches whoever drives: the caller of the operation or of poll(), the event loop's
   exception handler, or the log of the driver thread.
"""

from __future__ import annotations

import errno
import heapq
import importlib
import itertools
import math
import os
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import check, ffi, lib
from lwipy._watches import Watches
from lwipy.addresses import IPAddress, parse_ip, parse_mac, parse_scope
from lwipy.endpoints.base import Endpoint, Event
from lwipy.endpoints.resolver import DnsServers
from lwipy.endpoints.tcp import TcpEndpoint
from lwipy.endpoints.udp import RawEndpoint, UdpEndpoint
from lwipy.errors import StackClosedError, StackError
from lwipy.interface import Interface, check_mtu

if TYPE_CHECKING:
    from typing import Self

    from lwipy.blocking.socket import Socket
    from lwipy.links.base import Link
    from lwipy.links.descriptor import DescriptorLink

_EVENTS: Final[int] = lib.LWIPY_HAS_EVENTS
_FRAMES: Final[int] = lib.LWIPY_HAS_FRAMES
_LINKS: Final[int] = lib.LWIPY_HAS_LINKS
_WATCHED: Final[int] = lib.LWIPY_HAS_WATCHED
_TROUBLE: Final[int] = lib.LWIPY_HAS_TROUBLE
_NEWS: Final[int] = _EVENTS | _FRAMES | _LINKS | _WATCHED | _TROUBLE
_BATCH: Final = 256

#: lwIP numbers interfaces in a byte, and keeps one for the loopback.
MOST_INTERFACES: Final = 250

#: Bytes that one stack may allocate, unless told otherwise.
DEFAULT_MEMORY: Final = 1 << 30
#: Parts of the core that stacks do without, by name, to compare with: "demux" (csrc/demux.c).
_WITHOUT: Final = frozenset(os.environ.get("LWIPY_WITHOUT", "").split(","))


@dataclass(frozen=True)
class Statistics:
    """Counters of a stack: packets by protocol, drops by reason, memory in bytes. `csrc/lwipy.h` names them."""

    tcp_rx: int
    tcp_tx: int
    tcp_drop: int
    tcp_chkerr: int
    tcp_lenerr: int
    tcp_memerr: int
    tcp_proterr: int
    udp_rx: int
    udp_tx: int
    udp_drop: int
    udp_chkerr: int
    udp_lenerr: int
    udp_noport: int
    ip4_rx: int
    ip4_tx: int
    ip4_drop: int
    ip4_chkerr: int
    ip4_lenerr: int
    ip4_proterr: int
    ip6_rx: int
    ip6_tx: int
    ip6_drop: int
    ip6_lenerr: int
    ip6_proterr: int
    icmp_rx: int
    icmp_tx: int
    icmp_drop: int
    arp_rx: int
    arp_drop: int
    nd6_rx: int
    nd6_drop: int
    frag_rx: int
    frag_drop: int
    guard_tcp_options: int
    guard_tcp_flags: int
    guard_tcp_window: int
    guard_nd_options: int
    guard_nd_fragment: int
    guard_nd_unasked: int
    guard_icmp: int
    guard_ip_header: int
    guard_fragment: int
    guard_source: int
    syn_backlog: int
    syn_cookies_sent: int
    syn_cookies_good: int
    time_wait_shed: int
    memory_refused: int
    memory_waits: int
    udp_queue_full: int
    memory_used: int
    memory_limit: int
    endpoints: int


class Timer:
    """A callback that :meth:`Stack.call_later` will run."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Driver:
    """What drives a stack. This one is the caller's own hand: nothing is left waiting when an operation returns."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._waiting = 0

    def kick(self) -> None:
        """Something may have changed: called after every operation."""
        if self.stack._attention[0] & _NEWS:
            self.stack.dispatch()

    def kick_timer(self) -> None:
        """A timer was added, maybe by another thread and an earlier one than the driver sleeps for."""
        if self._waiting and not self.stack.closed:
            lib.lwipy_wake(self.stack._core)

    def wait(self, lock: threading.Lock, deadline: float | None) -> bool:
        """Waits until someone releases `lock`; False when `deadline` (monotonic seconds) came first.

        By hand, the caller's thread drives the stack meanwhile.
        """
        stack = self.stack
        stack._check_waiting()
        self._waiting += 1
        try:
            while not lock.acquire(blocking=False):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                delay = stack.poll()
                if not lock.locked():
                    continue
                delays = [d for d in (left, delay) if d is not None]
                check(stack._core, lib.lwipy_run(stack._core, int(min(delays) * 1e6) + 1 if delays else -1))
            return True
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Gives the stack back."""


class Hosts(MutableMapping[str, list[str]]):
    """A hosts table: names without regard to case to lists of numeric addresses."""

    def __init__(self) -> None:
        self._table: dict[str, list[str]] = {}

    @staticmethod
    def _key(name: str) -> str:
        return name.rstrip(".").lower()

    def __getitem__(self, name: str) -> list[str]:
        return self._table[self._key(name)]

    def __setitem__(self, name: str, addresses: Sequence[str | IPAddress] | str) -> None:
        several = [addresses] if isinstance(addresses, str) else list(addresses)
        self._table[self._key(name)] = [str(parse_ip(address)) for address in several]

    def __delitem__(self, name: str) -> None:
        del self._table[self._key(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return repr(self._table)


class Stack:
    """A TCP/IP stack of its own.

    `clock` is a callable that returns seconds; with it time is the caller's, and passes only in poll() and receive().
    `memory` bounds what the stack may allocate, bytes. `seed` makes its random numbers repeatable, for tests only.
    """

    #: What :meth:`add_interface` makes; a group's has another.
    _interface_type: type[Interface] = Interface

    def __init__(
        self, clock: Callable[[], float] | None = None, *, memory: int = DEFAULT_MEMORY, seed: int | None = None
    ) -> None:
        if memory < 1 << 20:
            raise ValueError(f"memory of {memory} bytes is too little: expected at least {1 << 20}")
        if seed is not None and not 0 < seed < 1 << 64:
            raise ValueError(f"seed {seed} is out of range: expected 1 to 2**64 - 1")
        options = ffi.new("lwipy_options *", {"seed": seed or 0, "memory": memory, "manual_clock": clock is not None})
        options.one_bucket = "demux" in _WITHOUT
        if clock is not None:
            options.start = int(clock() * 1e6)
        error = ffi.new("char[]", 512)
        core = lib.lwipy_open(options, error, len(error))
        if not core:
            raise StackError(ffi.string(error).decode(errors="replace"))
        self._core = ffi.gc(core, lib.lwipy_close)
        _stacks.add(self)
        self._attention = lib.lwipy_attention(core)
        self._clock = clock
        self._event_buffer = ffi.new("lwipy_event[]", _BATCH)
        self._endpoints: dict[int, Endpoint] = {}
        self._interfaces: dict[int, Interface] = {}
        self._scopes: dict[str, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._timer_lock = threading.Lock()
        self._timer_order = itertools.count()
        self._dispatching = False
        self._closing = False
        self._watches = Watches(self)
        self._descriptor_links: dict[int, DescriptorLink] = {}
        self.hosts = Hosts()
        self._dns_servers = DnsServers(self)
        #: Ask the host's resolver instead of lwIP's for names that the hosts table has not.
        self.use_host_resolver = False
        self._driver = Driver(self)
        self._after = self._driver.kick

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "_core":
                raise StackClosedError
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<Stack {'closed' if self.closed else ', '.join(self._scopes) or 'without interfaces'}>"

    # -- Time --------------------------------------------------------------------------------------

    def time(self) -> float:
        """The stack's clock, seconds."""
        return time.monotonic() if self._clock is None else self._clock()

    def _check_waiting(self) -> None:
        """RuntimeError where a thread that waits by hand would wait for ever."""
        if self._clock is not None:
            raise RuntimeError("cannot block: the stack's clock stands still; call poll() by hand")

    def _sync(self) -> None:
        """Tells the core what time it is, where the clock is the caller's."""
        if self._clock is not None:
            lib.lwipy_set_time(self._core, int(self._clock() * 1e6))

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Runs `callback` from poll() once `delay` seconds have passed. ValueError unless that is a time."""
        if not math.isfinite(delay):
            raise ValueError(f"a timer cannot wait {delay} seconds")
        if self.closed:
            raise StackClosedError
        timer = Timer(self.time() + delay, callback)
        with self._timer_lock:
            heapq.heappush(self._timers, (timer.when, next(self._timer_order), timer))
        self._driver.kick_timer()
        return timer

    def _run_timers(self) -> None:
        now = self.time()
        while True:
            with self._timer_lock:
                if not self._timers or self._timers[0][0] > now:
                    return
                timer = heapq.heappop(self._timers)[2]
            timer._run()

    def _until_timer(self) -> float | None:
        with self._timer_lock:
            while self._timers and self._timers[0][2]._callback is None:
                heapq.heappop(self._timers)
            return max(0.0, self._timers[0][0] - self.time()) if self._timers else None

    def poll(self) -> float | None:
        """Runs what is due, hands out events and frames; seconds until the next deadline, or None for none.

        StackError when lwIP failed. Call it again then, or sooner when a frame came.
        """
        self._sync()
        if self._timers:
            self._run_timers()
        microseconds = lib.lwipy_poll(self._core)
        if self._attention[0] or self._timers or microseconds < -1:
            self.dispatch()
            return self._deadline()
        return None if microseconds < 0 else microseconds / 1e6

    def _deadline(self) -> float | None:
        microseconds = lib.lwipy_deadline(self._core)
        core = None if microseconds == -1 else check(self._core, microseconds) / 1e6
        timer = self._until_timer()
        return core if timer is None else timer if core is None else min(core, timer)

    # -- Events ------------------------------------------------------------------------------------

    def dispatch(self) -> None:
        """Hands news to links, watches, endpoints and takers of frames, until none is left. Nested calls do nothing."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            attention = self._attention
            while not self.closed and (pending := attention[0] & _NEWS):
                if pending & _LINKS:
                    self._dispatch_links()
                if pending & _WATCHED and not self.closed:
                    self._watches.dispatch()
                if pending & _EVENTS and not self.closed:
                    self._dispatch_events()
                if pending & _FRAMES and not self.closed:
                    self._dispatch_frames()
                if pending & _TROUBLE and not self.closed:
                    self._dispatch_trouble()
        finally:
            self._dispatching = False

    def _dispatch_trouble(self) -> None:
        """Stages that ended by themselves."""
        lib.lwipy_clear_trouble(self._core)
        for interface in list(self._interfaces.values()):
            interface._look_for_trouble()

    def _dispatch_links(self) -> None:
        event = ffi.new("lwipy_link_event *")
        if check(self._core, lib.lwipy_link_news(self._core, event, 1)):
            link = self._descriptor_links.get(event.nic)
            if link is not None:
                link._on_news(event.news, event.reason, event.announced)

    def _dispatch_frames(self) -> None:
        for interface in list(self._interfaces.values()):
            if not self.closed:
                interface._dispatch()

    def _dispatch_events(self) -> None:
        buffer = self._event_buffer
        count = check(self._core, lib.lwipy_events(self._core, buffer, _BATCH))
        news = [(buffer[i].handle, buffer[i].events) for i in range(count)]
        for number, (handle, events) in enumerate(news):
            endpoint = self._endpoints.get(handle)
            if endpoint is not None and endpoint.on_event is not None:
                try:
                    endpoint.on_event(Event(events))
                except BaseException:
                    self._dispatch_rest(news[number + 1 :])
                    raise

    def _dispatch_rest(self, news: list[tuple[int, int]]) -> None:
        """One callback's exception must not cost the others their events."""
        for handle, events in news:
            endpoint = self._endpoints.get(handle)
            if endpoint is not None and endpoint.on_event is not None:
                endpoint.on_event(Event(events))

    def _tell_failure(self) -> None:
        """lwIP is dead: everyone who waits shall hear of it, for no further event will come."""
        for endpoint in list(self._endpoints.values()):
            if endpoint.on_event is not None:
                endpoint.on_event(Event.FAILED | Event.READABLE | Event.WRITABLE)

    # -- Descriptors -------------------------------------------------------------------------------

    def watch(self, fd: int, callback: Callable[[], None], *, write: bool = False) -> None:
        """Calls `callback` from whatever drives the stack, each time `fd` is found readable (or writable).

        One watch a descriptor: the last one counts. OSError: EPERM for what is always ready, such as a file;
        ENOPROTOOPT where the system has neither epoll nor kqueue. Unwatch before closing the descriptor.
        """
        self._watches.add(fd, callback, write)
        self._after()

    def unwatch(self, fd: int) -> None:
        """Ends a watch; its callback is not called any more. Nothing happens if there is none."""
        if not self.closed:
            self._watches.remove(fd)

    # -- Interfaces --------------------------------------------------------------------------------

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
    ) -> Interface:
        """A new interface, up at once.

        `layer` is 2 for Ethernet or 3 for IP point to point; a `link` that knows decides by itself. Addresses are
        text with prefix ("10.0.0.1/24", "fd00::1/64", a list for several IPv6), `gateway` one address or one of each
        family. Without `mac` a random one is taken. ValueError names the value that is wrong.
        """
        if link is not None and not hasattr(link, "attach"):
            raise TypeError(f"{link!r} is not a link: expected a lwipy.links.Link")
        if link is not None and link.layer is not None:
            layer = link.layer
        if layer not in (2, 3):
            raise ValueError(f"layer {layer} is unknown: expected 2 (Ethernet) or 3 (IP)")
        if len(self._interfaces) >= MOST_INTERFACES:
            raise OSError(errno.ENOBUFS, f"a stack has at most {MOST_INTERFACES} interfaces")
        if name is None:
            name = next(f"nic{i}" for i in itertools.count() if f"nic{i}" not in self._scopes)
        if not isinstance(name, str):
            raise TypeError(f"an interface's name must be a str, not {name!r}")
        if layer == 3 and mac is not None:
            raise ValueError(f"MAC address {mac!r} for an interface of layer 3: it has none")
        if name in self._scopes:
            raise ValueError(f"{name!r} is the name of another interface of this stack")
        if not name or "%" in name or name.isdecimal():
            raise ValueError(f"{name!r} cannot name an interface: expected text without '%', not a number")
        hardware = b"" if layer == 3 else parse_mac(mac) if mac is not None else _random_mac()
        number = lib.lwipy_netif_add(self._core, layer, hardware or ffi.NULL, check_mtu(mtu))
        interface = self._interface_type(self, check(self._core, number, name), name, layer, hardware, mtu)
        self._interfaces[interface.number] = interface
        self._scopes[name] = interface.number
        try:
            if not checksums:
                interface.checksums = False
            if ipv4 is not None:
                interface.ipv4 = ipv4
            for address in [ipv6] if isinstance(ipv6, str) else ipv6 or ():
                interface.add_ipv6(address)
            if gateway is not None:
                interface.gateway = gateway
            if link is not None:
                interface.attach(link)
        except BaseException:
            interface.remove()
            raise
        return interface

    def _forget(self, interface: Interface, number: int) -> None:
        self._interfaces.pop(number, None)
        self._scopes.pop(interface.name, None)

    @property
    def interfaces(self) -> dict[str, Interface]:
        """The interfaces by name."""
        return {interface.name: interface for interface in self._interfaces.values()}

    # -- Endpoints ---------------------------------------------------------------------------------

    def tcp(self, family: int = 4) -> TcpEndpoint:
        """A TCP endpoint of family 4 or 6, or 0 for both at once (a dual-stack listener)."""
        return TcpEndpoint(self, check_family(family))

    def udp(self, family: int = 4) -> UdpEndpoint:
        """A UDP endpoint of family 4 or 6, or 0 for both at once."""
        return UdpEndpoint(self, check_family(family))

    def raw(self, protocol: int, family: int = 4) -> RawEndpoint:
        """An endpoint for one IP protocol, such as 1 (ICMP) or 58 (ICMPv6). ValueError unless 0 to 255."""
        if not 0 <= protocol <= 255:
            raise ValueError(f"protocol {protocol} is out of range: expected 0 to 255")
        return RawEndpoint(self, check_family(family), protocol)

    # -- Names -------------------------------------------------------------------------------------

    @property
    def dns_servers(self) -> DnsServers:
        """The servers that names are asked of, at most three; assign a list of addresses."""
        return self._dns_servers

    @dns_servers.setter
    def dns_servers(self, servers: Sequence[str | IPAddress]) -> None:
        self._dns_servers.replace(servers)

    def _scope_number(self, scope: str) -> int:
        return parse_scope(scope, self._scopes) if scope else 0

    # -- Sockets that block; the driver is entered by `with stack:` --------------------------------

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        fileno: int | None = None,
    ) -> Socket:
        """As :class:`socket.socket`; `fileno` is what a stack's socket gave by fileno() or detach()."""
        sock: Socket = _blocking().Socket(self, family, type, proto, fileno)
        return sock

    def create_connection(self, address: tuple[str | None, int], *arguments: Any, **keywords: Any) -> Socket:
        """As :func:`socket.create_connection`."""
        sock: Socket = _blocking().create_connection(self, address, *arguments, **keywords)
        return sock

    def create_server(self, address: tuple[str, int], **keywords: Any) -> Socket:
        """As :func:`socket.create_server`."""
        sock: Socket = _blocking().create_server(self, address, **keywords)
        return sock

    def getaddrinfo(
        self, host: str | bytes | None, port: int | str | bytes | None, *arguments: Any, **keywords: Any
    ) -> list[Any]:
        """As :func:`socket.getaddrinfo`."""
        found: list[Any] = _blocking().getaddrinfo(self, host, port, *arguments, **keywords)
        return found

    def gethostbyname(self, hostname: str) -> str:
        """As :func:`socket.gethostbyname`: the first IPv4 address."""
        return str(_blocking().gethostbyname(self, hostname))

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """As :func:`socket.gethostbyname_ex`: name, aliases and IPv4 addresses."""
        found: tuple[str, list[str], list[str]] = _blocking().gethostbyname_ex(self, hostname)
        return found

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """As :func:`socket.gethostbyaddr`, by the hosts table."""
        found: tuple[str, list[str], list[str]] = _blocking().gethostbyaddr(self, ip_address)
        return found

    def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """As :func:`socket.getnameinfo`, by the hosts table."""
        found: tuple[str, str] = _blocking().getnameinfo(self, sockaddr, flags)
        return found

    # -- State and end -----------------------------------------------------------------------------

    @property
    def statistics(self) -> Statistics:
        out = ffi.new("lwipy_statistics *")
        check(self._core, lib.lwipy_get_statistics(self._core, out))
        return Statistics(*(getattr(out, field.name) for field in fields(Statistics)))

    @property
    def closed(self) -> bool:
        return "_core" not in self.__dict__

    def _drive(self, driver: Driver | None) -> None:
        """Hands the stack to a driver; None takes it back."""
        self._driver = driver if driver is not None else Driver(self)
        self._after = self._driver.kick

    def close(self) -> None:
        """Ends everything at once: connections without goodbye, links, the core. From any thread; twice is allowed."""
        with self._timer_lock:
            if self._closing:
                return
            self._closing = True
        self._driver.stop()
        for interface in list(self._interfaces.values()):
            if interface._link is not None:
                interface._link.detach()
            interface._retire_stages()
            interface.number = 0
        endpoints, self._endpoints = list(self._endpoints.values()), {}
        del self._core
        failure: BaseException | None = None
        for endpoint in endpoints:
            callback = endpoint.on_event
            endpoint._handle, endpoint.on_event = 0, None
            if callback is not None:
                try:
                    callback(Event.CLOSED)
                except BaseException as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def __enter__(self) -> Self:
        """Starts the driver thread. RuntimeError when something drives the stack already."""
        if type(self._driver) is not Driver:
            raise RuntimeError(f"the stack is driven already, by a {type(self._driver).__name__}")
        importlib.import_module("lwipy.drivers.thread").ThreadDriver(self).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if "_core" in self.__dict__ and self.__dict__.get("_driver") is not None:
            self._driver.stop()


_stacks: Final[weakref.WeakSet[Stack]] = weakref.WeakSet()


def _leave_to_the_parent() -> None:
    """In the child of a fork(): its copies of stacks have no driver, and their locks may be held for ever."""
    for stack in list(_stacks):
        core = stack.__dict__.pop("_core", None)
        if core is not None:
            ffi.gc(core, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)


def _blocking() -> ModuleType:
    """The room above: only the names of the contract reach up, and only when they are used."""
    return importlib.import_module("lwipy.blocking")


def check_family(family: int) -> int:
    if family not in (0, 4, 6):
        raise ValueError(f"family {family!r} is unknown: expected 4, 6, or 0 for both")
    return int(family)


def _random_mac() -> bytes:
    return b"\x02" + secrets.token_bytes(5)
