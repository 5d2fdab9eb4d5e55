"""Sockets that block, as the standard library has them."""

from lwipy.blocking.functions import create_connection, create_server, getaddrinfo
from lwipy.blocking.ping import ping
from lwipy.blocking.socket import Socket

__all__ = ["Socket", "create_connection", "create_server", "getaddrinfo", "ping"]
