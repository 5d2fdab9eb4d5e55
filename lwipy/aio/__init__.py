"""asyncio on lwipy stacks: the standard library's functions with the stack as their first argument."""

from lwipy.aio.connection import create_connection
from lwipy.aio.datagram import DatagramTransport, create_datagram_endpoint
from lwipy.aio.driver import driving
from lwipy.aio.loop import StackEventLoop
from lwipy.aio.names import getaddrinfo
from lwipy.aio.server import Server, create_server
from lwipy.aio.streams import open_connection, start_server
from lwipy.aio.tls import start_tls
from lwipy.aio.transport import StreamTransport

__all__ = [
    "DatagramTransport", "Server", "StackEventLoop", "StreamTransport", "create_connection",
    "create_datagram_endpoint", "create_server", "driving", "getaddrinfo", "open_connection", "start_server",
    "start_tls",
]  # fmt: skip
