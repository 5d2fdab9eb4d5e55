"""lwipy: the real lwIP C stack in Python. Frames in one side, ordinary sockets out the other."""

from lwipy._group_interface import GroupInterface, Steering
from lwipy._statistics import Statistics
from lwipy.blocking.patching import patched
from lwipy.endpoints import (
    Datagram,
    Event,
    Option,
    RawEndpoint,
    RecoveryPhase,
    TcpEndpoint,
    TcpInfo,
    TcpState,
    UdpEndpoint,
)  # fmt: skip
from lwipy.errors import StackClosedError, StackError
from lwipy.fast_path import FastPath
from lwipy.group import StackGroup
from lwipy.interface import Counters, Interface, wire
from lwipy.stack import Stack
from lwipy.stages import Capture, Impairment, Pacing

__version__ = "0.1.0"

__all__ = [
    "Capture", "Counters", "Datagram", "Event", "FastPath", "GroupInterface", "Impairment", "Interface", "Option",
    "Pacing", "RawEndpoint", "RecoveryPhase", "Stack", "StackClosedError", "StackError", "StackGroup", "Statistics",
    "Steering", "TcpEndpoint", "TcpInfo", "TcpState", "UdpEndpoint", "patched", "wire",
]  # fmt: skip
