"""The DHCP server of an interface: datagrams from its endpoint to the responder and back."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

from lwipy.services.datagrams import on_datagram
from lwipy.services.dhcp.leases import Lease, Leases
from lwipy.services.dhcp.message import BROADCAST, SERVER_PORT
from lwipy.services.dhcp.responder import Reply, Responder
from lwipy.services.dhcp.settings import OWN, Settings

if TYPE_CHECKING:
    from lwipy.endpoints.udp import Datagram
    from lwipy.interface import Interface

_log = logging.getLogger(__name__)

# lwIP lets endpoints share a port if all say so, but cannot tell that two of them want the same interface.
_served: WeakSet[Interface] = WeakSet()


class DhcpServer:
    """Gives addresses of the interface's IPv4 subnet to whoever asks on that interface (RFC 2131).

    `range`: first and last address to give; by default the whole subnet. Our own address, routers, DNS
    servers and static addresses are left out of it.
    `router`, `dns`: address or addresses to tell; "self" is the interface's own, None tells nothing.
    `domain`: domain name to tell, or None. `mtu`: bytes; by default the interface's. `lease_time`: seconds.
    `static`: addresses by MAC ("02:00:00:00:00:07") or client identifier (bytes).
    `on_lease`: called in the stack's driver with each `Lease` newly given (not renewed), after the reply.

    The interface must keep its address while the server is open. ValueError names an argument that cannot be;
    OSError (EADDRINUSE) if the interface has a DHCP server already.
    """

    def __init__(
        self,
        interface: Interface,
        *,
        range: tuple[str, str] | None = None,
        router: str | Iterable[str] | None = OWN,
        dns: str | Iterable[str] | None = OWN,
        domain: str | None = "lwipy",
        mtu: int | None = None,
        lease_time: float = 3600.0,
        static: Mapping[str | bytes, str] | None = None,
        on_lease: Callable[[Lease], object] | None = None,
    ) -> None:
        if interface.layer != 2:
            raise ValueError(f"interface {interface.name} has no MAC addresses: expected an Ethernet one")
        settings = Settings.check(
            interface.ipv4,
            pool=range,
            router=router,
            dns=dns,
            domain=domain,
            mtu=interface.mtu if mtu is None else mtu,
            lease_time=lease_time,
            static=static,
        )
        if interface in _served:
            raise OSError(errno.EADDRINUSE, f"interface {interface.name} has a DHCP server already")
        self.on_lease = on_lease
        self._interface = interface
        self._stack = interface.stack
        self._responder = Responder(settings)
        self._leases = Leases(self._responder.table, self._stack.time)
        self._everybody = {str(BROADCAST), str(settings.own.network.broadcast_address)}
        self._endpoint = self._stack.udp()
        try:
            on_datagram(self._stack, self._endpoint, self._receive)
            self._endpoint.broadcast = True
            self._endpoint.bind(("0.0.0.0", SERVER_PORT), interface=interface, reuse=True)
        except BaseException:
            self._endpoint.close()
            raise
        _served.add(interface)

    @property
    def leases(self) -> Leases:
        """The leases there are: a read-only collection, with `.at(address)` and `.named(hostname)`."""
        return self._leases

    @property
    def counters(self) -> dict[str, int]:
        """Messages taken and sent by type, and what was dropped, by reason."""
        return dict(self._responder.counters)

    def close(self) -> None:
        """Give no more addresses. Idempotent."""
        if not self._endpoint.closed:
            _served.discard(self._interface)
        self._endpoint.close()

    def _receive(self, datagram: Datagram) -> None:
        broadcast = datagram.destination[0] in self._everybody
        reply = self._responder.receive(datagram.data, broadcast=broadcast, now=self._stack.time())
        if reply is None:
            return
        try:
            self._send(reply)
        except OSError as error:
            self._responder.counters["send_failed"] += 1
            _log.warning("reply to %s: %s", reply.destination[0], error)
        if reply.lease is not None and self.on_lease is not None:
            self.on_lease(reply.lease)

    def _send(self, reply: Reply) -> None:
        """To a client that cannot answer ARP yet, its entry stands for just this datagram."""
        if reply.neighbour is not None:
            self._interface.add_neighbour(reply.destination[0], reply.neighbour)
        try:
            self._endpoint.send(reply.data, reply.destination, interface=self._interface)
        finally:
            if reply.neighbour is not None:
                self._interface.remove_neighbour(reply.destination[0])
