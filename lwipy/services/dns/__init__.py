"""A DNS server for a stack's own names (RFC 1035, RFC 6891).

    server = DnsServer(stack, leases=dhcp_server)      # host.lwipy, guests, stack.hosts, and back by PTR
    server.counters, server.close()

Inside: `message` (bytes to questions, answers to bytes), `zone` (which names there are), `responder` (the
protocol, without I/O), `server` (the endpoint). UDP only.
"""

from lwipy.services.dns.server import DnsServer

__all__ = ["DnsServer"]
