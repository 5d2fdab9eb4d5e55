"""TLS over a stack's connections, by asyncio's own SSLProtocol. Works on any loop, uvloop's included."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any, Final

from lwipy.aio.transport import StreamTransport

if TYPE_CHECKING:
    from lwipy.endpoints import TcpEndpoint


class TlsSettings:
    """What create_connection and create_server are told about TLS. ValueError for what only means something with it."""

    def __init__(
        self,
        context: ssl.SSLContext | bool | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
        server_hostname: str | None = None,
        *,
        server_side: bool = False,
    ) -> None:
        for name, value in (
            ("server_hostname", server_hostname),
            ("ssl_handshake_timeout", handshake_timeout),
            ("ssl_shutdown_timeout", shutdown_timeout),
        ):
            if value is not None and not context:
                raise ValueError(f"{name} is only meaningful with ssl")
        if context and not isinstance(context, ssl.SSLContext | bool):
            raise TypeError(f"ssl must be an SSLContext, True or None, not {context!r}")
        if context and not server_side and server_hostname is None:
            raise ValueError("You must set server_hostname when using ssl without a host")
        self.context = context if isinstance(context, ssl.SSLContext) else None
        self.wanted = bool(context)
        self.handshake_timeout = handshake_timeout
        self.shutdown_timeout = shutdown_timeout
        self.server_hostname = server_hostname
        self.server_side = server_side

    @classmethod
    def of(cls, context: Any, *others: Any) -> TlsSettings:
        """As the class; one for all connections without TLS."""
        return _PLAIN if context is None and others == (None, None, None) else cls(context, *others)

    def transport(
        self,
        endpoint: TcpEndpoint,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        **arguments: Any,
    ) -> asyncio.Transport:
        """The transport of a new connection, plain or with the handshake begun; the endpoint is its own from now on.

        `arguments` are StreamTransport's. Once the handshake is over, or has failed, the `waiter` is told.
        """
        loop = asyncio.get_running_loop()
        if not self.wanted:
            transport = StreamTransport(loop, endpoint, protocol, **arguments)
            transport.begin()
            return transport
        timeouts: dict[str, Any] = {
            "ssl_handshake_timeout": self.handshake_timeout,
            "ssl_shutdown_timeout": self.shutdown_timeout,
        }
        tls = sslproto.SSLProtocol(
            loop,
            protocol,
            self.context,  # type: ignore[arg-type]
            waiter,  # type: ignore[arg-type]
            server_side=self.server_side,
            server_hostname=self.server_hostname,
            **timeouts,
        )
        StreamTransport(loop, endpoint, tls, **arguments).begin()
        return tls._app_transport


_PLAIN: Final = TlsSettings(None, None, None)


async def start_tls(
    transport: asyncio.Transport,
    protocol: asyncio.BaseProtocol,
    sslcontext: ssl.SSLContext,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
    ssl_handshake_timeout: float | None = None,
    ssl_shutdown_timeout: float | None = None,
) -> asyncio.Transport:
    """Upgrades a connection to TLS, as loop.start_tls; also on loops whose own start_tls knows only their transports.

    Returns the transport that `protocol` is to use from now on. ssl.SSLError, with the connection closed, when the
    handshake fails; TypeError for a transport that is not of lwipy.aio.
    """
    if not isinstance(sslcontext, ssl.SSLContext):
        raise TypeError(f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}")
    if not getattr(transport, "_start_tls_compatible", False):
        raise TypeError(f"transport {transport!r} is not supported by start_tls()")
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    timeouts: dict[str, Any] = {
        "ssl_handshake_timeout": ssl_handshake_timeout,
        "ssl_shutdown_timeout": ssl_shutdown_timeout,
    }
    tls = sslproto.SSLProtocol(
        loop, protocol, sslcontext, waiter, server_side, server_hostname, call_connection_made=False, **timeouts
    )
    # What arrives before the handshake has begun waits.
    transport.pause_reading()
    transport.set_protocol(tls)
    begin = loop.call_soon(tls.connection_made, transport)
    resume = loop.call_soon(transport.resume_reading)
    app_transport = tls._app_transport
    try:
        await waiter
    except BaseException:
        transport.close()
        begin.cancel()
        resume.cancel()
        raise
    return app_transport
