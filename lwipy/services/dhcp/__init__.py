"""A DHCP server for guests (RFC 2131, RFC 2132).

    server = DhcpServer(nic)            # addresses of nic's subnet; router and DNS server: nic itself
    server.leases, server.counters, server.close()

Inside: `message` (bytes to messages and back), `settings`, `leases` (who has which address), `responder` (the
protocol, without I/O), `server` (the endpoint).
"""

from lwipy.services.dhcp.leases import Lease, Leases
from lwipy.services.dhcp.server import DhcpServer

__all__ = ["DhcpServer", "Lease", "Leases"]
