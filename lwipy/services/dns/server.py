"""The DNS server of a stack: packets from its endpoints to the responder and back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_address
from typing import TYPE_CHECKING

from lwipy.endpoints.base import Option
from lwipy.services.datagrams import on_datagram
from lwipy.services.dhcp.server import DhcpServer
from lwipy.services.dns.message import PORT
from lwipy.services.dns.responder import Fallback, Responder
from lwipy.services.dns.zone import Zone

if TYPE_CHECKING:
    from lwipy.endpoints.udp import Datagram, UdpEndpoint
    from lwipy.interface import Interface
    from lwipy.stack import Stack

_log = logging.getLogger(__name__)


class DnsServer:
    """Answers on port 53 for the names of a stack: its own, those in `stack.hosts`, and its guests'.

    `address`: the one of the stack's addresses to answer on; by default all, IPv4 and IPv6.
    `domain`: where the names are; `host.lwipy` and `host` are the stack itself.
    `leases`: the DHCP server, or servers, whose guests have names.
    `fallback(query, reply)`: asked for other names, which are refused otherwise. It gets the packet as it
    came, and calls `reply(response)` once, now or later, in the stack's driver. It must not block.

    ValueError for a domain or an address that is none; OSError (EADDRINUSE, EADDRNOTAVAIL) if it cannot be
    bound.
    """

    def __init__(
        self,
        stack: Stack,
        *,
        address: str | None = None,
        domain: str = "lwipy",
        leases: DhcpServer | Sequence[DhcpServer] | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        servers = [leases] if isinstance(leases, DhcpServer) else leases or []
        zone = Zone(domain, self._own, stack.hosts, [server.leases for server in servers])
        self._stack = stack
        self._responder = Responder(zone, fallback)
        self._endpoints: list[UdpEndpoint] = []
        try:
            for host in ("0.0.0.0", "::") if address is None else (address,):
                self._open(host)
        except OSError:
            self.close()
            raise

    def _open(self, host: str) -> None:
        version = ip_address(host.partition("%")[0]).version
        endpoint = self._stack.udp(socket.AF_INET if version == 4 else socket.AF_INET6)
        self._endpoints.append(endpoint)
        if version == 6:
            endpoint.set_option(Option.V6ONLY, 1)  # IPv4 has an endpoint of its own
        on_datagram(self._stack, endpoint, partial(self._receive, endpoint))
        endpoint.bind((host, PORT))

    @property
    def counters(self) -> dict[str, int]:
        """Queries, responses by code, and what was dropped, by reason."""
        return dict(self._responder.counters)

    def close(self) -> None:
        """Answer no more. Idempotent."""
        for endpoint in self._endpoints:
            endpoint.close()
        self._endpoints.clear()

    def _own(self) -> Iterator[IPv4Interface | IPv6Interface]:
        for interface in self._stack.interfaces:
            yield from _addresses(interface)

    def _receive(self, endpoint: UdpEndpoint, datagram: Datagram) -> None:
        near = [] if datagram.interface is None else [own.ip for own in _addresses(datagram.interface)]
        self._responder.receive(datagram.data, partial(self._send, endpoint, datagram), near)

    def _source(self, datagram: Datagram) -> str | None:
        """The address the query was sent to, unless that was everybody's."""
        asked = ip_address(datagram.destination[0])
        ours = any(asked == own.ip for own in self._own()) if asked.version == 4 else not asked.is_multicast
        return datagram.destination[0] if ours else None

    def _send(self, endpoint: UdpEndpoint, datagram: Datagram, response: bytes) -> None:
        """Back to where it came from, from the address it was sent to: clients check."""
        if endpoint not in self._endpoints:
            return  # closed before a fallback was done
        try:
            endpoint.send(response, datagram.source, datagram.interface, self._source(datagram))
        except OSError as error:
            self._responder.counters["send_failed"] += 1
            _log.debug("response to %s: %s", datagram.source, error)


def _addresses(interface: Interface) -> Iterator[IPv4Interface | IPv6Interface]:
    if interface.ipv4 is not None:
        yield interface.ipv4
    yield from interface.ipv6
