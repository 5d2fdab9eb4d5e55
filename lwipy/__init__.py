"""lwipy: the real lwIP C stack in Python. Frames in one side, ordinary sockets out the other."""

from lwipy.endpoints import Datagram, Event, Option, RawEndpoint, TcpEndpoint, TcpInfo, TcpState, UdpEndpoint
from lwipy.errors import StackClosedError, StackError
from lwipy.interface import Counters, Interface, wire
from lwipy.stack import Stack, Statistics

__version__ = "0.1.0"

__all__ = [
    "Counters", "Datagram", "Event", "Interface", "Option", "RawEndpoint", "Stack", "StackClosedError", "StackError",
    "Statistics", "TcpEndpoint", "TcpInfo", "TcpState", "UdpEndpoint", "wire",
]  # fmt: skip
