"""trio on lwipy stacks: trio's own functions with the stack as their first argument. Needs the extra lwipy[trio]."""

try:
    import trio as _trio  # noqa: F401
except ImportError as error:
    raise ImportError("lwipy.trio needs the trio library: pip install 'lwipy[trio]'") from error

from lwipy.trio.connecting import open_tcp_listeners, open_tcp_stream, serve_tcp
from lwipy.trio.datagrams import UdpSocket
from lwipy.trio.driver import driving
from lwipy.trio.names import getaddrinfo
from lwipy.trio.streams import SocketListener, SocketStream

__all__ = [
    "SocketListener", "SocketStream", "UdpSocket", "driving", "getaddrinfo", "open_tcp_listeners", "open_tcp_stream",
    "serve_tcp",
]  # fmt: skip
