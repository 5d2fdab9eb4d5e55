"""The DNS server of a stack: packets from its endpoint to the responder and back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface
from typing import TYPE_CHECKING

from lwipy.addresses import parse_ip
from lwipy.services.datagrams import on_datagram
from lwipy.services.dhcp.server import DhcpServer
from lwipy.services.dns.message import PORT
from lwipy.services.dns.responder import Fallback, Responder
from lwipy.services.dns.zone import Zone

if TYPE_CHECKING:
    from lwipy.endpoints.udp import Datagram
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
        self._endpoint = stack.udp(0 if address is None else parse_ip(address).version)
        try:
            on_datagram(stack, self._endpoint, self._receive)
            self._endpoint.bind((address or "", PORT))
        except BaseException:
            self._endpoint.close()
            raise

    @property
    def counters(self) -> dict[str, int]:
        """Queries, responses by code, and what was dropped, by reason."""
        return dict(self._responder.counters)

    def close(self) -> None:
        """Answer no more. Idempotent."""
        self._endpoint.close()

    def _own(self) -> Iterator[IPv4Interface | IPv6Interface]:
        for interface in self._stack.interfaces.values():
            yield from _addresses(interface)

    def _receive(self, datagram: Datagram) -> None:
        near = [] if datagram.interface is None else [own.ip for own in _addresses(datagram.interface)]
        self._responder.receive(datagram.data, partial(self._send, datagram), near)

    def _source(self, datagram: Datagram) -> str | None:
        """The address the query was sent to, unless that was everybody's."""
        asked = parse_ip(datagram.destination[0])
        ours = any(asked == own.ip for own in self._own()) if asked.version == 4 else not asked.is_multicast
        return datagram.destination[0] if ours else None

    def _send(self, datagram: Datagram, response: bytes) -> None:
        """Back to where it came from, from the address it was sent to: clients check."""
        if self._endpoint.closed:
            return  # before a fallback was done
        try:
            self._endpoint.send(response, datagram.source, datagram.interface, self._source(datagram))
        except OSError as error:
            self._responder.counters["send_failed"] += 1
            _log.debug("response to %s: %s", datagram.source, error)


def _addresses(interface: Interface) -> Iterator[IPv4Interface | IPv6Interface]:
    if interface.ipv4 is not None:
        yield interface.ipv4
    yield from interface.ipv6
