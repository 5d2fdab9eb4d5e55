"""TLS for the sockets of a stack, by the standard library's own ``ssl``.

Theory of operation. :class:`TlsSocket` is an :class:`ssl.SSLSocket` in all that has to do with TLS and a stack's socket
in all that has not: its bases in that order. Where an SSLSocket has OpenSSL's object, it has a :class:`TlsEngine`.
A context makes such sockets when its ``sslsocket_class`` is TlsSocket: :class:`SSLContext` here, and what
:func:`create_default_context` gives. Inside :func:`lwipy.patched` every context does. The host's sockets stay those.
"""

from __future__ import annotations

import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

from lwipy.blocking.base import SocketBase
from lwipy.blocking.description import bad_descriptor, description_of
from lwipy.blocking.engine import TlsEngine
from lwipy.blocking.socket import Socket

_DONTWAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)

if TYPE_CHECKING:
    from typing import Self


class TlsSocket(ssl.SSLSocket, Socket):  # type: ignore[misc]
    """As :class:`ssl.SSLSocket`. Made by a context's wrap_socket(), which takes the socket that it is given over."""

    # What SSLSocket's methods look for.
    _context: Any
    _session: ssl.SSLSession | None
    _sslobj: TlsEngine | None
    _connected: bool
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool

    @classmethod
    def _create(
        cls,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | None = None,
        context: Any = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLSocket:
        """What ``SSLContext.wrap_socket`` calls."""
        sock = _unwrapped(sock)
        if not isinstance(sock, SocketBase):
            made: ssl.SSLSocket = _create(
                ssl.SSLSocket, sock, server_side, do_handshake_on_connect, suppress_ragged_eofs, server_hostname,
                context, session,
            )  # fmt: skip
            return made
        _check(sock, server_side, server_hostname, context, session)
        self = cls._take_over(sock)
        self._context = context
        self._session = session
        self._sslobj = None
        self.server_side = server_side
        self.server_hostname = context._encode_hostname(server_hostname)
        self.do_handshake_on_connect = do_handshake_on_connect
        self.suppress_ragged_eofs = suppress_ragged_eofs
        try:
            self._connected = self._has_peer()
            if self._connected:
                self._start()
                if do_handshake_on_connect:
                    if self.gettimeout() == 0.0:
                        raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
                    self.do_handshake()
        except BaseException:
            self.close()
            raise
        return self

    @classmethod
    def _take_over(cls, sock: SocketBase) -> Self:
        """The given socket ends here; its endpoint and descriptor go on in the new one."""
        description, descriptor = sock._description, sock._descriptor
        if description is None:
            raise bad_descriptor()
        self = cls.__new__(cls)
        SocketBase.__init__(self, None, sock.family, sock.type, sock.proto, description=description)
        self._descriptor = descriptor
        self.settimeout(sock.gettimeout())
        sock._description, sock._descriptor, sock._closed = None, -1, True
        return self

    def _has_peer(self) -> bool:
        """SSLError when the peer is gone and has left data in the clear: it must not pass for what came by TLS."""
        try:
            self.getpeername()
            return True
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        try:
            left = Socket.recv(self, 1, _DONTWAIT)
        except OSError:
            left = b""
        if left:
            refusal = ssl.SSLError(errno.ENOTCONN, "Closed before TLS handshake with data in recv buffer.")
            refusal.reason, refusal.library = refusal.args[1], None  # type: ignore[assignment]
            raise refusal
        return False

    def _start(self) -> None:
        hostname: str | None = self.server_hostname
        self._sslobj = TlsEngine(self, self._context, self.server_side, hostname, self._session)

    def _real_connect(self, addr: Any, connect_ex: bool) -> int | None:
        if self.server_side:
            raise ValueError("can't connect in server-side mode")
        if self._connected or self._sslobj is not None:
            raise ValueError("attempt to connect already-connected SSLSocket!")
        self._start()
        try:
            result = 0
            if connect_ex:
                result = Socket.connect_ex(self, addr)
            else:
                Socket.connect(self, addr)
            if not result:
                self._connected = True
                if self.do_handshake_on_connect:
                    self.do_handshake()
            return result
        except (OSError, ValueError):
            self._sslobj = None
            raise


def _check(sock: SocketBase, server_side: bool, hostname: str | None, context: ssl.SSLContext, session: object) -> None:
    """What ssl refuses, with ssl's words."""
    if sock.type != socket.SOCK_STREAM:
        raise NotImplementedError("only stream sockets are supported")
    if server_side and hostname:
        raise ValueError("server_hostname can only be specified in client mode")
    if server_side and session is not None:
        raise ValueError("session can only be specified in client mode")
    if context.check_hostname and not hostname:
        raise ValueError("check_hostname requires server_hostname")


def _unwrapped(sock: socket.socket) -> socket.socket:
    """A stack's socket of what only looks like one and has its descriptor: ssl takes such things over, so do we."""
    if isinstance(sock, SocketBase) or description_of(sock.fileno()) is None:
        return sock
    timeout = sock.gettimeout()
    plain = Socket(None, sock.family, sock.type, sock.proto, sock.detach())
    plain.settimeout(timeout)
    return plain


_create: Final[Any] = vars(ssl.SSLSocket)["_create"].__func__


def create(cls: type[ssl.SSLSocket], sock: socket.socket, *arguments: Any, **keywords: Any) -> ssl.SSLSocket:
    """What :func:`lwipy.patched` puts in the place of ``SSLSocket._create``: a stack's socket gets a stack's TLS, in a
    class that is still `cls`, whatever a program has derived."""
    sock = _unwrapped(sock)
    if not isinstance(sock, SocketBase):
        made: ssl.SSLSocket = _create(cls, sock, *arguments, **keywords)
        return made
    if issubclass(cls, TlsSocket):
        return cls._create(sock, *arguments, **keywords)
    mixed: type[TlsSocket] = TlsSocket if cls is ssl.SSLSocket else type(cls.__name__, (cls, TlsSocket), {})
    return TlsSocket._create.__func__(mixed, sock, *arguments, **keywords)  # type: ignore[attr-defined, no-any-return]


class SSLContext(ssl.SSLContext):
    """A context whose wrap_socket() takes the sockets of a stack, and the host's."""

    sslsocket_class = TlsSocket


def create_default_context(purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH, **keywords: Any) -> ssl.SSLContext:
    """As :func:`ssl.create_default_context`, for the sockets of a stack too."""
    context = ssl.create_default_context(purpose, **keywords)
    context.sslsocket_class = TlsSocket
    return context
