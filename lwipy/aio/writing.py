"""The writing half of a stream transport.

Theory of operation. Writes go to the endpoint at once. What does not fit waits in `_unsent` until the endpoint is
writable, and the end of the stream behind it.

Invariant: `_unsent` is there while the endpoint has not taken all that was written; then a writable event comes.
"""

from __future__ import annotations

import logging
from asyncio import constants, transports
from typing import TYPE_CHECKING, Any, Final

from lwipy.aio.unsent import Unsent
from lwipy.endpoints.base import Buffer

if TYPE_CHECKING:
    from lwipy.endpoints import TcpEndpoint

_log: Final = logging.getLogger("lwipy.aio")


class Writing(transports._FlowControlMixin):
    """What :class:`StreamTransport` is, as far as it writes."""

    __slots__ = ("_closing", "_conn_lost", "_endpoint", "_eof", "_unsent")

    _endpoint: TcpEndpoint
    _conn_lost: int
    _closing: bool

    if TYPE_CHECKING:  # the transport's own

        def _refresh(self) -> None: ...
        def _lose(self, error: BaseException | None) -> None: ...
        def _fatal_error(self, error: Exception, message: str) -> None: ...

    def _begin_writing(self) -> None:
        self._protocol_paused = False
        self._set_write_buffer_limits()  # type: ignore[attr-defined]
        self._unsent: Unsent | None = None
        self._eof = False

    def get_write_buffer_size(self) -> int:
        """Bytes that the endpoint has not taken yet."""
        return 0 if self._unsent is None else self._unsent.size

    def write(self, data: Buffer) -> None:
        """Sends what fits now, keeps the rest of a C-contiguous bytes-like object. RuntimeError after write_eof()."""
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else data
        if not view:
            return
        if self._conn_lost:
            if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                _log.warning("%r: write() on a lost connection", self)
            self._conn_lost += 1
            return
        sent = 0
        if self._unsent is None:
            try:
                sent = self._endpoint.send_if_room(view)
            except OSError as error:
                self._fatal_error(error, "Fatal write error on stream transport")
                return
            if sent == len(view):
                return
            self._unsent = Unsent()
        rest = memoryview(view)[sent:]
        self._unsent.append(rest if isinstance(data, bytes) else memoryview(bytes(rest)))
        self._refresh()
        self._maybe_pause_protocol()  # type: ignore[attr-defined]

    def writelines(self, list_of_data: Any) -> None:
        """As one write() of all."""
        self.write(b"".join(list_of_data))

    def _flush(self) -> None:
        unsent = self._unsent
        while unsent:
            block = unsent.next()
            try:
                sent = self._endpoint.send_if_room(block)
            except OSError as error:
                self._fatal_error(error, "Fatal write error on stream transport")
                return
            if sent < len(block):
                unsent.put_back(block[sent:])
                break
        if not unsent:
            self._unsent = None
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        if self._unsent is not None or self._conn_lost:
            return
        if self._closing:
            self._lose(None)
        elif self._eof:
            self._half_close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Half-closes behind what was written."""
        if self._closing or self._eof:
            return
        self._eof = True
        if self._unsent is None:
            self._half_close()

    def _half_close(self) -> None:
        try:
            self._endpoint.shutdown(write=True)
        except OSError as error:
            # The connection is gone; reading tells the protocol how.
            _log.debug("%r: write_eof() on a lost connection: %s", self, error)
