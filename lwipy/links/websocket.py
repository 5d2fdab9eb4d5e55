"""A relay for emulators in a browser, such as v86: guests that come by WebSocket.

Theory of operation. The protocol is the one that v86 speaks: an ordinary RFC 6455 upgrade on any path, no
subprotocol, no greeting; then one binary message is one Ethernet frame, both ways. The relay runs an asyncio loop in a
thread of its own, whatever drives the stack. Frames for a guest wait in its bounded queue until the loop sends them;
frames from a guest go to the switch, or to the inbox of the guest's own interface, which the stack's driver empties.

Two ways to use it. As the link of an interface, all guests and the interface are on one switch::

    stack.add_interface(WebSocketRelay("127.0.0.1", 8080), ipv4="10.0.0.1/24")

With `on_guest`, each guest is a link of its own, to give to an interface of its own, which goes when the guest goes::

    relay = WebSocketRelay("127.0.0.1", 8080, on_guest=lambda guest: stack.add_interface(guest, ...), stack=stack)
    with relay: ...

Who may come. A page of any site that is open in a browser can connect to this machine's ports; its Origin header
tells whose page it is. Without `origins`, pages from this machine (localhost, 127.x.x.x, ::1) are let in and all
others refused; with it, exactly those named; with "*", all. Programs other than browsers send no Origin and are let
in: against them, only the address that the relay listens on helps, which is the loopback's unless told otherwise.

Invariants:

1. transmit() never blocks: what does not fit into a guest's queue is dropped and counted.
2. A guest that sends what is no frame is told off once: text is ignored and counted, a message that is too long ends
   the connection (close code 1009).
3. Nothing runs, listens or waits after close().
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

try:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.http11 import Request, Response
except ImportError as error:
    raise ImportError("the WebSocket relay needs the websockets library: pip install 'lwipy[websocket]'") from error

from lwipy.addresses import parse_port
from lwipy.links.base import Link
from lwipy.links.inbox import Inbox
from lwipy.links.origins import allows, parse_origins
from lwipy.links.switch import Plug, Switch
from lwipy.links.websocket_guest import LONGEST_FRAME, GuestCounters, WebSocketGuest

if TYPE_CHECKING:
    import ssl
    from typing import Self

    from lwipy.interface import Interface
    from lwipy.stack import Stack

__all__ = ["GuestCounters", "RelayCounters", "WebSocketGuest", "WebSocketRelay"]

_log = logging.getLogger("lwipy.links.websocket")


@dataclass
class RelayCounters:
    """Guests let in; refused for their origin, or because there were too many; ended for a message too long.

    `rx_dropped` are frames for the relay's own interface that its stack did not fetch in time.
    """

    accepted: int = 0
    refused_origin: int = 0
    refused_full: int = 0
    too_long: int = 0
    rx_dropped: int = 0


class WebSocketRelay(Link):
    """The relay; see the module's text for what it does and whom it lets in.

    `origins`: None (pages of this machine), "*", or a list such as ["https://copy.sh"]. `on_guest` is called with each
    guest, in the thread that drives `stack` when that is given, else in the relay's. `max_guests` and `queue` (frames
    that may wait for one guest) are bounds. `keepalive`: seconds between pings; a guest that leaves one unanswered for
    as long is gone. `ssl`: a context makes it wss://.

    It listens from attach() or start() on, and raises OSError there when it cannot.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        origins: str | Iterable[str] | None = None,
        on_guest: Callable[[WebSocketGuest], object] | None = None,
        stack: Stack | None = None,
        switch: Switch | None = None,
        max_guests: int = 64,
        queue: int = 1024,
        keepalive: float | None = 30.0,
        ssl: ssl.SSLContext | None = None,
    ) -> None:
        if max_guests < 1 or queue < 1:
            name, value = ("max_guests", max_guests) if max_guests < 1 else ("queue", queue)
            raise ValueError(f"{name} {value} is out of range: expected at least 1")
        if keepalive is not None and not keepalive > 0:
            raise ValueError(f"keepalive {keepalive} is out of range: expected more than 0 seconds, or None")
        if on_guest is not None and switch is not None:
            raise ValueError("guests have interfaces of their own (on_guest) or are on one switch, not both")
        self._bind = (host, parse_port(port))
        self._origins = parse_origins(origins)
        self._on_guest = on_guest
        self._stack = stack
        self._switch = switch if switch is not None else Switch()
        self._queue = queue
        self._max_guests = max_guests
        self._options: dict[str, Any] = {"ping_interval": keepalive, "ping_timeout": keepalive, "ssl": ssl}
        self._inbox: Inbox | None = None
        self._plug: Plug | None = None
        self._guests: list[WebSocketGuest] = []
        self._numbers = 0
        self._counters = RelayCounters()
        self._told: set[str] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._address: tuple[str, int] | None = None

    def __repr__(self) -> str:
        return f"<WebSocketRelay {self.url if self._address else 'closed'}, {len(self._guests)} guests>"

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens. RuntimeError while it does not."""
        if self._address is None:
            raise RuntimeError("the relay listens once it is attached to an interface, or started")
        return self._address

    @property
    def url(self) -> str:
        """What v86 wants as its `relay_url`."""
        host, port = self.address
        return f"{'wss' if self._options['ssl'] else 'ws'}://{f'[{host}]' if ':' in host else host}:{port}/"

    @property
    def guests(self) -> tuple[WebSocketGuest, ...]:
        """Those connected now."""
        return tuple(self._guests)

    @property
    def switch(self) -> Switch:
        """The switch that guests are on, without `on_guest`."""
        return self._switch

    @property
    def counters(self) -> RelayCounters:
        return replace(self._counters, rx_dropped=self._inbox.dropped if self._inbox is not None else 0)

    # -- A link, and a life of its own -------------------------------------------------------------------------------

    def attach(self, interface: Interface) -> None:
        """ValueError for a relay whose guests have interfaces of their own."""
        if self._on_guest is not None:
            raise ValueError("the guests of this relay have interfaces of their own (on_guest); start() it instead")
        self._inbox = Inbox(interface)
        self._plug = self._switch.join(self._inbox.put, name=interface.name, mac=interface.mac)
        try:
            self.start()
        except BaseException:
            self.detach()
            raise

    def detach(self) -> None:
        self.close()
        plug, self._plug = self._plug, None
        if plug is not None:
            plug.leave()

    def transmit(self, frames: list[bytes]) -> None:
        if self._plug is not None:
            self._plug.receive(frames)

    def start(self) -> None:
        """Listens. OSError when it cannot: EADDRINUSE, EADDRNOTAVAIL, EACCES. Starting twice is allowed."""
        if self._thread is not None:
            return
        started: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run(started)), name="lwipy-websocket", daemon=True
        )
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise

    def close(self) -> None:
        """Says goodbye to all guests and stops listening; from any thread. Closing twice is allowed."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None or self._stop is None:
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        if thread is not threading.current_thread():
            thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- In the relay's loop -----------------------------------------------------------------------------------------

    async def _run(self, started: Future[None]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        host, port = self._bind
        listening = serve(
            self._serve_guest, host or None, port,
            compression=None, max_size=LONGEST_FRAME, process_request=self._admit, close_timeout=1.0,
            server_header=None, logger=_log.getChild("protocol"), **self._options,
        )  # fmt: skip
        try:
            async with listening as server:
                self._address = server.sockets[0].getsockname()[:2]
                started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)
        finally:
            self._address = None

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Looks at a guest before the upgrade; an answer refuses it."""
        origins = request.headers.get_all("Origin")
        if not all(allows(self._origins, origin) for origin in origins):
            self._counters.refused_origin += 1
            self._tell(f"refused a page of {', '.join(origins)[:200]}: it is not among the origins allowed")
            return connection.respond(403, "This relay does not take guests from pages of your origin.\n")
        if len(self._guests) >= self._max_guests:
            self._counters.refused_full += 1
            self._tell(f"refused a guest: there are {self._max_guests} already")
            return connection.respond(503, "This relay has as many guests as it takes.\n")
        return None

    def _tell(self, text: str) -> None:
        """Once for each text, and for no more than a hundred: the counters have them all."""
        if text not in self._told and len(self._told) < 100:
            self._told.add(text)
            _log.warning("%r %s", self, text)

    async def _serve_guest(self, connection: ServerConnection) -> None:
        if len(self._guests) >= self._max_guests:  # several may have been admitted at the same time
            self._counters.refused_full += 1
            await connection.close(1013, "too many guests")
            return
        self._numbers += 1
        guest = WebSocketGuest(connection, self._numbers, self._queue)
        self._counters.accepted += 1  # before other threads can see it
        self._guests.append(guest)
        _log.info("%r has come", guest)
        plug = self._welcome(guest)
        try:
            self._counters.too_long += not await guest.serve()
        finally:
            self._guests.remove(guest)
            if plug is not None:
                plug.leave()
            _log.info("%r has gone: %s", guest, guest.counters)

    def _welcome(self, guest: WebSocketGuest) -> Plug | None:
        if self._on_guest is None:
            plug = self._switch.join(guest.transmit, name=guest.name)
            guest.deliver_to(plug.receive)
            return plug
        if self._stack is not None:
            self._stack.call_later(0, lambda: self._announce(guest))
        else:
            self._announce(guest)
        return None

    def _announce(self, guest: WebSocketGuest) -> None:
        assert self._on_guest is not None
        if not guest.connected:
            return
        try:
            self._on_guest(guest)
        except Exception:
            _log.exception("on_guest failed for %r, which is sent away", guest)
            guest.close()
