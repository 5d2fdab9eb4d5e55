"""The Stack: one private copy of lwIP, sans-IO, and the door to everything built on it.

Theory of operation. The core does no I/O and starts no thread. Someone drives it: by hand (:meth:`Stack.poll`), a
thread (``with stack:``), or an asyncio loop (:func:`lwipy.aio.driving`). Driving means: run what is due, hand the
events to the endpoints and the frames to the links, sleep until the deadline that :meth:`poll` returned or until the
core asks for attention.

Invariants:

1. One driver at a time. Without one, every operation hands out events and frames before it returns.
2. ``_core`` owns the core, and ``_way`` (``csrc/python/calls.c``) and ``_attention`` have references to it; the core is
   freed when the last call that uses one of them has returned. After :meth:`close` nothing is new any more, and every
   other use raises :class:`StackClosedError`.
3. Callbacks (events, frames, timers) run in the driver's thread, never inside a call of the core, never nested.
4. A stack stays in the process that made it: in the child of a fork() it is closed.
5. An exception in a callback reaches whoever drives: the caller of the operation or of poll(), the event loop's
   exception handler, or the log of the driver thread.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import math
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from lwipy._addressed import check_mtu
from lwipy._closed import STACKS, closed_kind
from lwipy._dispatch import Dispatcher
from lwipy._doors import Doors
from lwipy._driver import Driver
from lwipy._held import LEAST, Held
from lwipy._hosts import Hosts
from lwipy._native import calls, check, ffi, lib
from lwipy._statistics import Statistics
from lwipy._timers import Timer, Timers
from lwipy._watches import Watches
from lwipy.addresses import IPAddress, parse_mac, parse_scope
from lwipy.endpoints.base import Event, check_family
from lwipy.endpoints.resolver import DnsServers
from lwipy.endpoints.tcp import TcpEndpoint
from lwipy.endpoints.udp import RawEndpoint, UdpEndpoint
from lwipy.errors import StackClosedError, StackError
from lwipy.fast_path import FastPath
from lwipy.interface import Interface

if TYPE_CHECKING:
    from typing import Self

    from lwipy._calls import Driven
    from lwipy.links.base import Link
else:
    Driven = calls.Driven

#: lwIP numbers interfaces in a byte, and keeps one for the loopback.
MOST_INTERFACES: Final = 250
#: Seconds that closed connections get for their last bytes when a ``with`` block ends.
LINGER: Final = 1.0

#: Bytes that one stack may allocate, unless told otherwise.
DEFAULT_MEMORY: Final = 1 << 30


#: What is new in a closed stack.
_QUIET: Final = (0,)


class Stack(Driven, Doors):
    """A TCP/IP stack of its own.

    `clock` is a callable that returns seconds; with it time is the caller's, and passes only in poll() and receive().
    `memory` bounds what the stack may allocate, bytes. `seed` makes its random numbers repeatable, for tests only.
    `without` names what is to be left out of the fast path; `default_without` is that of stacks that do not say, and
    comes from the environment: ``LWIPY_WITHOUT=merge,demux``.
    """

    #: What :meth:`add_interface` makes; a group's has another.
    _interface_type: type[Interface] = Interface
    default_without: ClassVar[FastPath] = FastPath.named(os.environ.get("LWIPY_WITHOUT", ""))

    def __init__(
        self,
        clock: Callable[[], float] | None = None,
        *,
        memory: int = DEFAULT_MEMORY,
        seed: int | None = None,
        without: FastPath | None = None,
    ) -> None:
        if memory < 1 << 20:
            raise ValueError(f"memory of {memory} bytes is too little: expected at least {1 << 20}")
        if seed is not None and not 0 < seed < 1 << 64:
            raise ValueError(f"seed {seed} is out of range: expected 1 to 2**64 - 1")
        options = ffi.new("lwipy_options *", {"seed": seed or 0, "memory": memory, "manual_clock": clock is not None})
        options.without = self.default_without if without is None else without
        if clock is not None:
            options.start = int(clock() * 1e6)
        error = ffi.new("char[]", 512)
        core = lib.lwipy_open(options, error, len(error))
        if not core:
            raise StackError(ffi.string(error).decode(errors="replace"))
        self._held = Held(LEAST if not options.without & FastPath.HOLDING else sys.maxsize)
        self._core = ffi.gc(core, self._held.end)
        self._way = self._held.way(self._core)
        STACKS.add(self)
        self._attention: Sequence[int] = self._word()
        self._clock = clock
        self._endpoints = {}
        self._interfaces: dict[int, Interface] = {}
        self._scopes: dict[str, int] = {}
        self._timers = Timers()
        self._first = self._timers.heap if clock is None else (clock,)
        self._closing = False
        self._close_lock = threading.Lock()
        self._watches = Watches(self)
        self._dispatcher = Dispatcher(self, self._watches)
        self.hosts = Hosts()
        self._dns_servers = DnsServers(self)
        #: Ask the host's resolver instead of lwIP's for names that the hosts table has not.
        self.use_host_resolver = False
        self._driver = Driver(self)
        self._after = self._driver.kick

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

    def _word(self) -> memoryview:
        """The core's attention word, which is read faster so than by a pointer. It keeps the core alive."""
        core = self._core
        return memoryview(ffi.buffer(ffi.gc(lib.lwipy_attention(core), lambda _: core))).cast("I")

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
        self._timers.add(timer)
        self._driver.kick_timer()
        return timer

    def _until_timer(self) -> float | None:
        when = self._timers.next()
        return None if when is None else max(0.0, when - self.time())

    def _begin_turn(self) -> None:
        self._sync()
        self._timers.run(self.time())

    def _end_turn(self, found: list[Any] | float | None) -> float | None:
        """Events are told, if that is what a turn found. What poll() returns."""
        if isinstance(found, list):
            self._dispatcher.run(found)
        elif not self._timers:
            return found
        return self._deadline()

    def _deadline(self) -> float | None:
        core: float | None = calls.deadline(self._way)
        if type(core) is int:
            check(self._core, core)
        timer = self._until_timer() if self._timers else None
        return core if timer is None else timer if core is None else min(core, timer)

    def dispatch(self) -> None:
        """Hands news to links, watches, endpoints and takers of frames, until none is left. Nested calls do nothing."""
        self._dispatcher.run()

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

    # -- State and end -----------------------------------------------------------------------------

    @property
    def statistics(self) -> Statistics:
        return Statistics.of(self)

    @property
    def closed(self) -> bool:
        return False  # a closed one is of another class

    def _drive(self, driver: Driver | None) -> None:
        """Hands the stack to a driver; None takes it back."""
        self._driver = driver if driver is not None else Driver(self)
        self._after = self._driver.kick

    def close(self, linger: float = 0.0) -> None:
        """Ends everything at once: connections without goodbye, links, the core. From any thread; twice is allowed.

        What sockets that were closed still have to send gets `linger` seconds, as long as there is a way to send it;
        RuntimeError for such a wait in a callback or in the loop that drives the stack.
        """
        if linger > 0:
            self._finish_sending(time.monotonic() + linger)
        with self._close_lock:
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
        self.__class__ = closed_kind(type(self))
        self._attention = _QUIET
        del self._core, self._way
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
        self.close(LINGER)

    def _finish_sending(self, deadline: float) -> None:
        never = threading.Lock()
        never.acquire()
        with contextlib.suppress(StackClosedError):  # by another thread
            while time.monotonic() < deadline and lib.lwipy_tcp_unfinished(self._core) > 0:
                self._driver.wait(never, min(deadline, time.monotonic() + 0.005))

    def __del__(self) -> None:
        # Not by __dict__: one made now, while the collector is at it, would keep what it holds until the next time.
        if not self.closed and (driver := getattr(self, "_driver", None)) is not None:
            driver.stop()


def _random_mac() -> bytes:
    return b"\x02" + secrets.token_bytes(5)
