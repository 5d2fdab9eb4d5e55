"""TLS over a stack's connection: OpenSSL works on two memory BIOs; this carries bytes between them and the endpoint.

Theory of operation. It has the methods that :class:`ssl.SSLSocket` calls on its C object. Each tries OpenSSL; where
that wants to read, the next part of the peer's record is received and fed to it; what it wrote is sent.

Invariants:

1. Of the peer's stream no more is taken than the record at hand. So what OpenSSL has not decrypted still makes the
   socket readable, and what follows the end of TLS is left to who reads on in the clear.
2. OpenSSL is called under ``_lock``, which is never held while waiting. ``_write_lock`` and ``_read_lock`` are, so one
   thread may read while another writes.
3. Ciphertext is sent in the order in which it was made: taken from OpenSSL and sent under ``_flush_lock``.
4. A write that was interrupted has been encrypted as far as ``_accepted``; the next write is its repetition, as with
   OpenSSL itself, and goes on from there.
"""

from __future__ import annotations

import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lwipy.blocking.base import fault
from lwipy.blocking.waiting import READABLE, WRITABLE

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from lwipy.blocking.socket import Socket

T = TypeVar("T")

_HEADER: Final = 5  # type, version, length (RFC 8446 section 5.1)
_CHUNK: Final = 1 << 17  # what is encrypted before it is sent, bytes


class Framing:
    """How many bytes the record at hand still lacks."""

    def __init__(self) -> None:
        self.lacks = _HEADER
        self._header = bytearray()

    def took(self, data: bytes) -> None:
        self.lacks -= len(data)
        if len(self._header) < _HEADER:
            self._header += data
            if self.lacks == 0:
                self.lacks = int.from_bytes(self._header[3:5], "big")
        if self.lacks == 0:
            self.lacks = _HEADER
            self._header.clear()


class Patience:
    """The time that an operation has, by the socket's timeout."""

    def __init__(self, timeout: float | None) -> None:
        self.none = timeout == 0
        self._deadline = None if timeout is None else time.monotonic() + timeout

    @property
    def left(self) -> float | None:
        """Seconds; 0 for an operation that may not wait at all, never for one whose time is up."""
        if self._deadline is None or self.none:
            return 0 if self.none else None
        return max(self._deadline - time.monotonic(), 1e-9)


class TlsEngine:
    """The TLS of one connection. Its methods raise what ``ssl`` raises: SSLError and kin, TimeoutError, OSError."""

    def __init__(
        self,
        sock: Socket,
        context: ssl.SSLContext,
        server_side: bool,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
    ) -> None:
        # Weak, as the C object's is: the socket owns its engine.
        self._sock = weakref.ref(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner: Any = context._wrap_bio(  # type: ignore[attr-defined]
            self._incoming, self._outgoing, server_side, server_hostname, owner=sock, session=session
        )
        self._framing = Framing()
        self._fed = 0
        self._unsent = memoryview(b"")
        self._accepted = 0
        self._lock, self._flush_lock = threading.Lock(), threading.Lock()
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def context(self) -> ssl.SSLContext:
        found: ssl.SSLContext = self._inner.context
        return found

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        self._inner.context = context

    @property
    def session(self) -> ssl.SSLSession | None:
        found: ssl.SSLSession | None = self._inner.session
        return found

    @session.setter
    def session(self, session: ssl.SSLSession) -> None:
        self._inner.session = session

    # -- Operations ----------------------------------------------------------------------------------------------------

    def _patience(self) -> Patience:
        sock = self._sock()
        return Patience(0 if sock is None else sock.gettimeout())

    def read(self, size: int, buffer: Buffer | None = None) -> Any:
        """Decrypted bytes, or how many were put into `buffer`; nothing at the end of the stream."""
        patience = self._patience()
        with _named("read"):
            return self._run(
                lambda: self._inner.read(size) if buffer is None else self._inner.read(size, buffer),
                patience,
                own=False,
            )

    def write(self, data: Buffer) -> int:
        """Encrypts and sends all of `data`; a part of it where the socket does not block."""
        patience = self._patience()
        with _named("write"), _held(self._write_lock, patience), memoryview(data).cast("B") as view:
            while True:
                self._flush(patience)
                if self._accepted >= len(view) > 0 or (patience.none and self._accepted):
                    break
                chunk = view[self._accepted : self._accepted + _CHUNK]
                self._accepted += self._run(lambda chunk=chunk: self._inner.write(chunk), patience)  # type: ignore[misc]
                if not view:
                    break
            done, self._accepted = self._accepted, 0
            return done

    def do_handshake(self) -> None:
        patience = self._patience()
        with _named("handshake"), _held(self._write_lock, patience):
            self._run(self._inner.do_handshake, patience)
            self._flush(patience)

    def shutdown(self) -> Socket | None:
        """Ends TLS both ways and gives the socket, for going on in the clear."""
        patience = self._patience()
        with _named("read"), _held(self._write_lock, patience):
            self._run(self._inner.shutdown, patience)
            self._flush(patience)
        return self._sock()

    # -- Between OpenSSL and the endpoint ------------------------------------------------------------------------------

    def _run(self, operation: Callable[[], T], patience: Patience, *, own: bool = True) -> T:
        """Runs an operation of OpenSSL's until it wants no more bytes; what is unsent may be its `own`."""
        while True:
            fed = self._fed
            try:
                with self._lock:
                    result = operation()
                self._flush_some()
                return result
            except ssl.SSLWantReadError:
                self._flush_some()
            except ssl.SSLError:
                # The alert that tells the peer why should still reach it; the error is the one to be raised.
                try:
                    self._flush_some()
                except OSError:
                    pass
                raise
            with _held(self._read_lock, patience):
                if self._fed == fed:
                    self._receive(patience, own)

    def _receive(self, patience: Patience, own: bool) -> None:
        """Feeds OpenSSL with the next part of the record at hand."""
        sock = self._sock()
        if sock is None:
            raise fault(9)
        tcp = sock._tcp()

        def attempt() -> bytes:
            try:
                return tcp.recv(self._framing.lacks)
            except BlockingIOError:
                # The peer may wait for what is not sent yet.
                self._flush_some()
                raise

        try:
            # What is unsent goes on when there is room, so then any event is worth an attempt.
            data = sock._open.until(attempt, patience.left, 0 if self._unsent else READABLE)
        except BlockingIOError:
            if self._unsent and own:
                raise ssl.SSLWantWriteError(
                    ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)"
                ) from None
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)") from None
        with self._lock:
            self._fed += 1
            if data:
                self._framing.took(data)
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def _next(self) -> memoryview:
        """What is to be sent next, with ``_flush_lock`` held."""
        if not self._unsent and self._outgoing.pending:
            with self._lock:
                self._unsent = memoryview(self._outgoing.read())
        return self._unsent

    def _flush_some(self) -> None:
        """Sends what goes without waiting, unless another thread sends already."""
        sock = self._sock()
        if sock is None or not self._flush_lock.acquire(blocking=False):
            return
        try:
            tcp = sock._tcp()
            while self._next():
                self._unsent = self._unsent[tcp.send(self._unsent) :]
        except BlockingIOError:
            pass
        finally:
            self._flush_lock.release()
            sock._open.refresh()

    def _flush(self, patience: Patience) -> None:
        """Sends all that OpenSSL has written."""
        sock = self._sock()
        if sock is None:
            raise fault(9)
        with _held(self._flush_lock, patience):
            while self._next():
                tcp = sock._tcp()
                try:
                    sent = sock._open.until(lambda tcp=tcp: tcp.send(self._unsent), patience.left, WRITABLE)  # type: ignore[misc]
                except BlockingIOError:
                    text = "The operation did not complete (write)"
                    raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, text) from None
                self._unsent = self._unsent[sent:]


@contextmanager
def _held(lock: threading.Lock, patience: Patience) -> Iterator[None]:
    """A lock that another thread may hold while it waits: no longer than the operation has time."""
    left = patience.left
    if not lock.acquire(timeout=-1 if left is None else left):
        if patience.none:
            raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
        raise TimeoutError("timed out")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _named(operation: str) -> Iterator[None]:
    """Says in a TimeoutError what it was that took too long, as ssl does."""
    try:
        yield
    except TimeoutError as error:
        if error.errno is None:
            raise TimeoutError(f"The {operation} operation timed out") from None
        raise
