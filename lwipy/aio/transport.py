"""The stream transport: an asyncio protocol on one TCP endpoint.

Theory of operation. The endpoint says once that it is readable or writable, and again only after an operation had to
wait. How a transport reads and how it writes are ideas of their own (`reading.py`, `writing.py`); here is its life, and
what it tells the protocol.

Invariants:

1. The order is connection_made, data and eof_received, connection_lost; the last exactly once (`_conn_lost`).
2. Protocol callbacks run in the loop's thread, in a copy of the context that the transport was made in, never inside
   write() or resume_reading() (flow control's pause_writing excepted, as in asyncio).
3. The endpoint is released when connection_lost has been called, and with it the socket that it was taken from, or the
   descriptor of the socket's stand-in.
4. What arrived before an error or an end is delivered before it.
5. What few ask for is made when somebody asks, from `_names`: addresses as text, and the stand-in for the socket.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import warnings
from asyncio import constants, protocols
from typing import TYPE_CHECKING, Any, Final

from lwipy._native import lib
from lwipy.aio.addresses import both_to_socket
from lwipy.aio.driver import is_told_by, pass_on
from lwipy.aio.reading import Reading
from lwipy.aio.standin import stand_in
from lwipy.endpoints import Event, TcpEndpoint
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    from lwipy.aio.server import Server
    from lwipy.blocking import Socket

_READABLE: Final = int(Event.READABLE)
_WRITABLE: Final = int(Event.WRITABLE)
_FAILED: Final = int(Event.FAILED)
_EXTRA: Final = frozenset(("socket", "sockname", "peername"))
_log: Final = logging.getLogger("lwipy.aio")


class StreamTransport(Reading):
    """An :class:`asyncio.Transport` over a connected endpoint, which it owns from now on."""

    __slots__ = (
        "__weakref__", "_context", "_names", "_owner", "_polled", "_protocol", "_released", "_server",
    )  # fmt: skip

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.FALLBACK

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoint: TcpEndpoint,
        protocol: asyncio.BaseProtocol,
        *,
        server: Server | None = None,
        sock: Socket | None = None,
        names: bytes | None = None,
    ) -> None:
        """Takes no part before begin(). `names` are the endpoint's, where they are known already."""
        self._endpoint = endpoint
        self._owner = sock
        #: What shows the readiness to those who poll a descriptor: a blocking socket, or the stand-in once it is made.
        self._polled: Any = None if sock is None else sock._open
        self._extra: dict[str, Any] | None = None
        self._names = names or endpoint.names()
        self._loop: asyncio.AbstractEventLoop = loop
        self._begin_writing()
        self._begin_reading()
        self._conn_lost = 0
        self._closing = False
        self._server = server
        self.set_protocol(protocol)
        self._context = contextvars.copy_context()
        endpoint.on_event = self._told  # as deliver() does, with fewer objects for each connection
        self._released = False
        if server is not None:
            server._attach(self)

    def begin(self, told_before: bool = True) -> None:
        """Has the protocol's connection_made() called, now; what arrives is read in the loop's later turns.

        Whoever waits for the connection goes first, he may pause reading or change the protocol. `told_before`: others
        may have been told of events that this transport would have heeded.
        """
        try:
            self._context.run(self._protocol.connection_made, self)
        except Exception as error:
            self._loop.call_exception_handler(
                {
                    "message": f"Exception in {type(self._protocol).__name__}.connection_made()",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._started = True
        stack = self._endpoint._stack
        # What came before this transport was told of events; and from now on there will be an event.
        if told_before and not stack.closed and lib.lwipy_ready(stack._core, self._endpoint._handle) != _WRITABLE:
            self._readable = True
            self._ask_to_read()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the connection: "socket" (a stand-in), "sockname", "peername"; `default` for all else."""
        if name not in _EXTRA:
            return default
        if self._extra is None:
            sock = stand_in(self._endpoint, self._owner, polls=True)
            if self._owner is None:
                self._polled = sock
            local, peer = both_to_socket(self._names, self._endpoint.family)
            self._extra = {"socket": sock, "sockname": local, "peername": peer}
        return self._extra[name]

    def _refresh(self) -> None:
        if self._polled is not None:
            self._polled.refresh()

    def __repr__(self) -> str:
        state = "closed" if self._released else "closing" if self._closing else "open"
        peer, size = self.get_extra_info("peername"), self.get_write_buffer_size()
        return f"<{type(self).__name__} {state} {peer} write buffer {size}>"

    def __del__(self) -> None:
        if not getattr(self, "_released", True):
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._endpoint.abort()
            if self._owner is None and self._polled is not None:
                self._polled.end()

    # -- The protocol --------------------------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol: Any = protocol
        self._takes_buffers = isinstance(protocol, protocols.BufferedProtocol)
        self._taken = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._closing

    # -- Events --------------------------------------------------------------------------------------------------------

    def _told(self, event: Event) -> None:
        if is_told_by(self._endpoint, self._loop):
            self._context.run(self._happened, event)
        else:
            pass_on(self._endpoint, self._loop, self._context, self._happened, event)

    def _happened(self, event: Event) -> None:
        if self._conn_lost:
            return
        endpoint = self._endpoint
        if not endpoint._handle and endpoint._stack.closed:
            self._force_close(StackClosedError())
            return
        bits = int(event)  # an IntFlag's own & costs a microsecond
        if bits & _WRITABLE and self._unsent is not None:
            self._flush()
        if bits & _READABLE:
            self._readable = True
            self._read()
        if bits & _FAILED and self._eof_received and not self._conn_lost:
            error = endpoint.take_error()
            if error is not None:
                self._fatal_error(error, "Fatal error on stream transport")
        if self._polled is not None:
            self._polled.refresh()

    def _tell(self, name: str, *arguments: object) -> object:
        """Calls the protocol; what it raises ends the connection. The answer; True for a failed call."""
        try:
            return getattr(self._protocol, name)(*arguments)
        except Exception as error:
            self._fatal_error(error, f"Fatal error: protocol.{name}() call failed.")
            return True

    # -- The end -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Reads no more, sends what was written, then ends the connection in order."""
        if self._closing:
            return
        self._closing = True
        if self._unsent is None:
            self._lose(None)

    def abort(self) -> None:
        """Ends the connection now. What the endpoint has not taken is lost, and then the peer sees a reset."""
        self._force_close(None)

    def _fatal_error(self, error: Exception, message: str) -> None:
        if isinstance(error, OSError):
            _log.debug("%r: %s: %s", self, message, error)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        """Ends now: with a reset where bytes are lost by that, as what was sent must not look complete."""
        if self._released:
            return
        if self._unsent is not None:
            self._endpoint.abort()
        if self._conn_lost:
            return
        self._unsent = None
        self._closing = True
        self._lose(error)

    def _lose(self, error: BaseException | None) -> None:
        self._conn_lost += 1
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._release()

    def _lingers_not(self) -> bool:
        """Whether SO_LINGER asks for a reset instead of a goodbye."""
        holder = self._polled if self._owner is None else self._owner
        return holder is not None and bool(holder._linger == 0)

    def _release(self) -> None:
        self._released = True
        if not self._endpoint.closed and self._lingers_not():
            self._endpoint.abort()
        self._endpoint.close()
        if self._owner is not None:
            self._owner.close()
        elif self._polled is not None:
            self._polled.end()
        self._protocol = None
        server, self._server = self._server, None
        if server is not None:
            server._detach(self)
