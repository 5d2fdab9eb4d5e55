"""Sockets that block, as the standard library has them. TLS for them is in :mod:`lwipy.blocking.tls`."""

from lwipy.blocking.connecting import create_connection, create_server
from lwipy.blocking.names import (
    getaddrinfo,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
)
from lwipy.blocking.patching import close, patched
from lwipy.blocking.ping import ping
from lwipy.blocking.socket import Socket

__all__ = [
    "Socket", "close", "create_connection", "create_server", "getaddrinfo", "gethostbyaddr", "gethostbyname",
    "gethostbyname_ex", "getnameinfo", "patched", "ping",
]  # fmt: skip
