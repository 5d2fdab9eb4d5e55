"""One guest of the WebSocket relay, see :mod:`lwipy.links.websocket`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from lwipy.links.base import Link
from lwipy.links.inbox import Inbox

if TYPE_CHECKING:
    from lwipy.interface import Interface

_log = logging.getLogger("lwipy.links.websocket")

#: The longest message: the largest IP packet with Ethernet's header and a VLAN's.
LONGEST_FRAME: Final = 65535 + 18
_TOO_BIG: Final = 1009


@dataclass
class GuestCounters:
    """Frames from a guest and to it; those that did not fit into a queue; messages of text."""

    rx_frames: int = 0
    rx_dropped: int = 0
    tx_frames: int = 0
    tx_dropped: int = 0
    text: int = 0


class WebSocketGuest(Link):
    """One guest: a link for an interface of its own, or a device at the relay's switch.

    `peer` is its address as the socket module tells it, `path` what it asked for, such as "/".
    """

    def __init__(self, connection: ServerConnection, number: int, queue: int) -> None:
        self.name = f"guest{number}"
        self.peer: Any = connection.remote_address
        self.path = connection.request.path if connection.request is not None else "/"
        #: Called in the thread that drives the stack when the guest has gone, before its interface is removed.
        self.on_close: Callable[[], None] | None = None
        self._queue = queue
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()
        self._lock = threading.Lock()
        self._out: list[bytes] = []
        self._interface: Interface | None = None
        self._inbox: Inbox | None = None
        self._take: Callable[[list[bytes]], None] | None = None
        self._early: list[bytes] = []
        self._open = True
        self._closing: asyncio.Task[None] | None = None
        self._counters = GuestCounters()

    def __repr__(self) -> str:
        return f"<WebSocketGuest {self.name} at {self.peer}>"

    @property
    def counters(self) -> GuestCounters:
        dropped = self._counters.rx_dropped + (self._inbox.dropped if self._inbox is not None else 0)
        return replace(self._counters, rx_dropped=dropped)

    @property
    def connected(self) -> bool:
        return self._open

    # -- A link ------------------------------------------------------------------------------------------------------

    def attach(self, interface: Interface) -> None:
        """OSError ENOTCONN when the guest has gone already; ValueError when it has an interface."""
        with self._lock:
            if not self._open:
                raise OSError(errno.ENOTCONN, f"{self!r} has gone")
            if self._take is not None:
                raise ValueError(f"{self!r} is in use already")
            self._interface = interface
            self._inbox = Inbox(interface)
        self.deliver_to(self._inbox.put)

    def detach(self) -> None:
        """Closes the connection. v86 will connect again, as a new guest."""
        with self._lock:
            self._interface = None
        self.close()

    def transmit(self, frames: Iterable[bytes]) -> None:
        """From any thread."""
        with self._lock:
            if not self._open:
                return
            first = not self._out
            self._out += frames
            if (excess := len(self._out) - self._queue) > 0:
                self._counters.tx_dropped += excess
                del self._out[self._queue :]
        if first:
            self._call(self._awake.set)

    def close(self) -> None:
        """Ends the connection; from any thread. Closing twice is allowed."""
        self._call(self._start_to_close)

    def _start_to_close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._connection.close(1001))

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the relay has been closed, and the guest with it
            self._loop.call_soon_threadsafe(function)

    def deliver_to(self, take: Callable[[list[bytes]], None]) -> None:
        """Frames go there from now on, and first those that have come before."""
        with self._lock:
            self._take = take
            early, self._early = self._early, []
        if early:
            take(early)

    # -- In the relay's loop -----------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            with self._lock:
                frames, self._out = self._out, []
            for frame in frames:
                await self._connection.send(frame)
                self._counters.tx_frames += 1

    async def _read(self) -> None:
        async for message in self._connection:
            if isinstance(message, str):
                self._ignore_text()
                continue
            self._counters.rx_frames += 1
            with self._lock:
                take = self._take
                if take is None:
                    self._keep_early(message)
            if take is not None:
                take([message])

    def _keep_early(self, frame: bytes) -> None:
        if len(self._early) < self._queue:
            self._early.append(frame)
        else:
            self._counters.rx_dropped += 1

    def _ignore_text(self) -> None:
        if self._counters.text == 0:
            _log.warning("%r sent text, which is ignored: a frame is a binary message", self)
        self._counters.text += 1

    async def serve(self) -> bool:
        """Until the connection ends, whoever ends it; False when that was for a message too long."""
        writing = asyncio.ensure_future(self._write())
        try:
            await self._read()
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == _TOO_BIG:
                _log.warning("%r sent a message of more than %d bytes", self, LONGEST_FRAME)
                return False
        finally:
            writing.cancel()
            with contextlib.suppress(ConnectionClosed, asyncio.CancelledError):
                await writing
            with self._lock:
                self._open, interface = False, self._interface
            if interface is not None:
                interface.stack.call_later(0, self._gone)
        return True

    def _gone(self) -> None:
        """In the thread that drives the stack."""
        with self._lock:
            interface, self._interface = self._interface, None
        if self.on_close is not None:
            self.on_close()
        if interface is not None and interface.number:
            interface.remove()
