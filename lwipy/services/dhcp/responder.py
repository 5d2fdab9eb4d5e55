"""The server's side of DHCP without I/O: a datagram and the time in, at most one reply out.

Theory of operation.  A REQUEST means one of four things, told apart by what it carries (RFC 2131, 4.3.2):

    state          server id   requested address   ciaddr   sent to
    SELECTING      set         set                 0        everybody
    INIT-REBOOT    -           set                 0        everybody
    RENEWING       -           -                   set      us
    REBINDING      -           -                   set      everybody, or through a relay

1. Silence is an answer: to a client unknown to us that asks for nothing of ours, when no address is left, to
   RELEASE and DECLINE, and to whatever cannot be read. Each kind of silence has a counter.
2. A reply never goes to an address outside the subnet, so a forged sender cannot turn us against others.
3. A NAK goes to everybody on the wire or to the relay, never to an address the client should not have.
"""

import logging
from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address
from typing import NamedTuple

from lwipy.services.dhcp.leases import Lease, LeaseTable
from lwipy.services.dhcp.message import (
    BROADCAST,
    CLIENT_PORT,
    HEADERS,
    MINIMUM_SIZE,
    SERVER_PORT,
    UNSPECIFIED,
    Malformed,
    Message,
    Option,
    Type,
    addresses,
    decode,
    encode,
)
from lwipy.services.dhcp.settings import Settings
from lwipy.services.hostnames import hostname_from

_log = logging.getLogger(__name__)

SHORTEST_LEASE = 60  # seconds; a client that asks for less gets this, if our own lease time allows


class Reply(NamedTuple):
    """A datagram to send from port 67.

    `neighbour`: the MAC address behind `destination`, where the client cannot answer ARP yet.
    `lease`: set when this reply newly gives an address, rather than offers it or renews it.
    """

    data: bytes
    destination: tuple[str, int]
    neighbour: str | None = None
    lease: Lease | None = None


class _Silence(Exception):
    """No reply, for a reason that is counted."""


class Responder:
    """A DHCP server that does no I/O. `counters` has messages by type, and drops by reason."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.table = LeaseTable(settings)
        self.counters: Counter[str] = Counter()
        self._exhausted = False

    def receive(self, data: bytes, *, broadcast: bool, now: float) -> Reply | None:
        """Answer what came to port 67 at `now` (seconds); `broadcast`: it was sent to everybody."""
        try:
            return self._answer(decode(data), broadcast, now)
        except (Malformed, _Silence) as reason:
            self.counters[f"dropped_{reason}"] += 1
            _log.debug("no reply: %s", reason)
            return None

    def _answer(self, message: Message, broadcast: bool, now: float) -> Reply | None:
        relayed = message.giaddr != UNSPECIFIED
        if relayed and not self._is_guest(message.giaddr):
            raise _Silence("foreign_relay")
        match message.type:
            case Type.DISCOVER:
                return self._discover(message, now)
            case Type.REQUEST:
                return self._request(message, broadcast or relayed, now)
            case Type.DECLINE:
                self._decline(message, now)
                return None
            case Type.RELEASE:
                self._release(message, now)
                return None
            case Type.INFORM:
                return self._inform(message)
        raise _Silence("unexpected_type")

    def _discover(self, message: Message, now: float) -> Reply:
        self.counters["discover"] += 1
        wish = message.address(Option.REQUESTED_ADDRESS)
        address = self.table.offer(self._client(message), message.mac, wish, now)
        if address is None:
            if not self._exhausted:  # once, not for each of a flood
                first, last = self.settings.first, self.settings.last
                _log.warning("no address of %s to %s left for %s", first, last, message.mac)
            self._exhausted = True
            raise _Silence("exhausted")
        self._exhausted = False
        return self._reply(message, Type.OFFER, address)

    def _request(self, message: Message, everybody: bool, now: float) -> Reply:
        self.counters["request"] += 1
        client = self._client(message)
        known = self.table.address_of(client)
        wish = message.address(Option.REQUESTED_ADDRESS)
        if Option.SERVER in message.options:  # SELECTING
            self._check_chosen(message, client, now)
            address = wish or message.ciaddr
            good = known is None or known == address or not self.table.holds(client, known, now)
        elif wish is not None and message.ciaddr == UNSPECIFIED:  # INIT-REBOOT
            address = wish
            if known is None and self.settings.owns(address):
                raise _Silence("unknown_client")
            good = known == address
        elif message.ciaddr != UNSPECIFIED:  # RENEWING or REBINDING
            address = message.ciaddr
            good = True
            available = self.table.available(client, address, now)
            if not available and known is None and everybody and self.settings.owns(address):
                raise _Silence("unknown_client")  # another server's, perhaps
        else:
            raise _Silence("no_address")
        if good and self.table.available(client, address, now):
            return self._ack(message, client, address, now)
        return self._nak(message, address)

    def _check_chosen(self, message: Message, client: bytes, now: float) -> None:
        """The client names the server it means; if that is another one, our offer is free again."""
        if message.address(Option.SERVER) == self.settings.own.ip:
            return
        known = self.table.address_of(client)
        if known is not None and self.table.at(known, now) is None:
            self.table.release(client, known, now)
        raise _Silence("other_server")

    def _ack(self, message: Message, client: bytes, address: IPv4Address, now: float) -> Reply:
        renewed = self.table.at(address, now) is not None
        hostname = hostname_from(message.options.get(Option.HOST_NAME, b""))
        expires = now + self._lease_time(message)
        lease = self.table.bind(client, message.mac, hostname, address, expires, now)
        _log.info("%s leased to %s (%s)", address, message.mac, lease.hostname or "no name")
        reply = self._reply(message, Type.ACK, address, lease.hostname)
        return reply if renewed else reply._replace(lease=lease)

    def _nak(self, message: Message, address: IPv4Address) -> Reply:
        self.counters["nak"] += 1
        _log.info("%s refused to %s", address, message.mac)
        relayed = message.giaddr != UNSPECIFIED
        text = f"{address} is not yours".encode("ascii")
        nak = Message(
            type=Type.NAK,
            xid=message.xid,
            chaddr=message.chaddr,
            reply=True,
            broadcast=message.broadcast or relayed,
            giaddr=message.giaddr,
            options={Option.SERVER: self.settings.own.ip.packed, Option.TEXT: text} | _echo(message),
        )
        destination = (str(message.giaddr), SERVER_PORT) if relayed else (str(BROADCAST), CLIENT_PORT)
        return Reply(self._encode(message, nak), destination)

    def _decline(self, message: Message, now: float) -> None:
        self.counters["decline"] += 1
        address = message.address(Option.REQUESTED_ADDRESS)
        client = self._client(message)
        self._check_server(message)
        if address is None or not self.table.decline(client, address, now):
            raise _Silence("not_leased")
        _log.warning("%s declined by %s: in use by somebody else", address, message.mac)

    def _release(self, message: Message, now: float) -> None:
        self.counters["release"] += 1
        self._check_server(message)
        if not self.table.release(self._client(message), message.ciaddr, now):
            raise _Silence("not_leased")
        _log.info("%s released by %s", message.ciaddr, message.mac)

    def _check_server(self, message: Message) -> None:
        if message.address(Option.SERVER) not in (None, self.settings.own.ip):
            raise _Silence("other_server")

    def _inform(self, message: Message) -> Reply:
        self.counters["inform"] += 1
        if not self._is_guest(message.ciaddr):
            raise _Silence("foreign_address")
        return self._reply(message, Type.ACK, None)

    def _reply(self, message: Message, kind: Type, address: IPv4Address | None, hostname: str | None = None) -> Reply:
        """An OFFER or ACK; `address` None answers an INFORM: no lease, the client keeps its own address."""
        self.counters[kind.name.lower()] += 1
        reply = Message(
            type=kind,
            xid=message.xid,
            chaddr=message.chaddr,
            reply=True,
            broadcast=message.broadcast,
            ciaddr=message.ciaddr if kind == Type.ACK else UNSPECIFIED,
            yiaddr=address or UNSPECIFIED,
            giaddr=message.giaddr,
            options=self._parameters(message, leased=address is not None, hostname=hostname),
        )
        data = self._encode(message, reply)
        # Where to: RFC 2131 section 4.1. A client that has its address is reached there.
        if address is None or (message.ciaddr == address and message.giaddr == UNSPECIFIED):
            return Reply(data, (str(message.ciaddr), CLIENT_PORT))
        if message.giaddr != UNSPECIFIED:
            return Reply(data, (str(message.giaddr), SERVER_PORT))
        if message.broadcast:
            return Reply(data, (str(BROADCAST), CLIENT_PORT))
        return Reply(data, (str(address), CLIENT_PORT), neighbour=message.mac)

    def _encode(self, message: Message, reply: Message) -> bytes:
        room = min(max(message.number(Option.MAXIMUM_SIZE) or 0, 576), self.settings.mtu) - HEADERS
        data, omitted = encode(reply, max(room, MINIMUM_SIZE))
        if omitted:
            self.counters["options_omitted"] += len(omitted)
            _log.warning("options %s do not fit into %d bytes for %s", omitted, room, message.mac)
        return data

    def _parameters(self, message: Message, *, leased: bool, hostname: str | None) -> dict[int, bytes]:
        """What the client is told: what it must know, then what it asked for, in its order."""
        settings, network = self.settings, self.settings.own.network
        required: dict[int, bytes] = {Option.SERVER: settings.own.ip.packed}
        if leased:
            seconds = self._lease_time(message)
            required[Option.LEASE_TIME] = seconds.to_bytes(4, "big")
            required[Option.RENEWAL_TIME] = (seconds // 2).to_bytes(4, "big")
            required[Option.REBINDING_TIME] = (seconds * 7 // 8).to_bytes(4, "big")
        required[Option.SUBNET_MASK] = network.netmask.packed
        known: dict[int, bytes] = {
            Option.ROUTER: addresses(settings.routers),
            Option.DNS: addresses(settings.dns),
            Option.HOST_NAME: (hostname or "").encode("ascii"),
            Option.DOMAIN: (settings.domain or "").encode("ascii"),
            Option.MTU: settings.mtu.to_bytes(2, "big"),
            Option.BROADCAST: network.broadcast_address.packed,
        }
        wanted = message.options.get(Option.PARAMETERS, bytes(known))
        return required | {code: known[code] for code in wanted if known.get(code)} | _echo(message)

    def _lease_time(self, message: Message) -> int:
        ours = self.settings.lease_time
        asked = message.number(Option.LEASE_TIME)
        return ours if asked is None else max(min(asked, ours), min(SHORTEST_LEASE, ours))

    def _client(self, message: Message) -> bytes:
        """Who asks. A MAC address with a static lease counts whatever identifier comes with it."""
        by_mac = replace(message, options={}).client
        static = self.settings.static
        return by_mac if by_mac in static and message.client not in static else message.client

    def _is_guest(self, address: IPv4Address) -> bool:
        return self.settings.owns(address) and address != self.settings.own.ip


def _echo(message: Message) -> dict[int, bytes]:
    """What every reply gives back as it came: RFC 6842, and last the relay's (RFC 3046 section 2.2)."""
    codes = (Option.CLIENT_ID, Option.RELAY_AGENT)
    return {code: message.options[code] for code in codes if code in message.options}
