"""Endpoints: what a socket is made of, without blocking, threads or event loops."""

from lwipy.endpoints.base import Endpoint, Event, Option
from lwipy.endpoints.resolver import Lookup
from lwipy.endpoints.tcp import RecoveryPhase, TcpEndpoint, TcpInfo, TcpState
from lwipy.endpoints.udp import Datagram, RawEndpoint, UdpEndpoint

__all__ = [
    "Datagram", "Endpoint", "Event", "Lookup", "Option", "RawEndpoint", "RecoveryPhase", "TcpEndpoint", "TcpInfo",
    "TcpState", "UdpEndpoint",
]  # fmt: skip
