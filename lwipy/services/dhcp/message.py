"""DHCP messages on the wire: RFC 2131 section 2, options of RFC 2132, long options of RFC 3396.

Theory of operation.  `decode` takes any bytes and gives a request worth answering, or raises `Malformed` with
a reason that a counter can be named after. Whatever a `Message` carries has been checked: fixed-size options
have their size, so the code that answers needs no checks of form.

1. An option that occurs several times is one value, its parts joined in the order options, file, sname.
2. A field ends at END or at its last byte; an option that runs past its field makes the message malformed.
3. What `encode` makes has at least 300 bytes, BOOTP's minimum (RFC 1542 section 2.1), and at most `limit`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address

SERVER_PORT = 67
CLIENT_PORT = 68
MINIMUM_SIZE = 300
HEADERS = 28  # IPv4 and UDP, which the client's maximum message size includes

UNSPECIFIED = IPv4Address(0)
BROADCAST = IPv4Address("255.255.255.255")

_COOKIE = b"\x63\x82\x53\x63"
_ETHERNET = 1
_BROADCAST_FLAG = 0x8000
# op htype hlen hops xid secs flags ciaddr yiaddr siaddr giaddr chaddr sname file cookie
_HEADER = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_SIZES = {50: 4, 51: 4, 52: 1, 53: 1, 54: 4, 57: 2}


class Malformed(ValueError):
    """A message that cannot be read; `str()` is the reason, fit for a counter's name."""


class Type(IntEnum):
    """Message types (RFC 2132 section 9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


class Option(IntEnum):
    """Options that a server reads or writes (RFC 2132; RELAY_AGENT: RFC 3046)."""

    PAD = 0
    SUBNET_MASK = 1
    ROUTER = 3
    DNS = 6
    HOST_NAME = 12
    DOMAIN = 15
    MTU = 26
    BROADCAST = 28
    REQUESTED_ADDRESS = 50
    LEASE_TIME = 51
    OVERLOAD = 52
    TYPE = 53
    SERVER = 54
    PARAMETERS = 55
    TEXT = 56
    MAXIMUM_SIZE = 57
    RENEWAL_TIME = 58
    REBINDING_TIME = 59
    CLIENT_ID = 61
    RELAY_AGENT = 82
    END = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One DHCP message over Ethernet. `type` may be a number that `Type` does not know."""

    type: int
    xid: int
    chaddr: bytes
    reply: bool = False
    broadcast: bool = False
    ciaddr: IPv4Address = UNSPECIFIED
    yiaddr: IPv4Address = UNSPECIFIED
    siaddr: IPv4Address = UNSPECIFIED
    giaddr: IPv4Address = UNSPECIFIED
    options: Mapping[int, bytes] = field(default_factory=dict)

    def address(self, option: Option) -> IPv4Address | None:
        """The IPv4 address that a fixed-size option carries."""
        value = self.options.get(option)
        return None if value is None else IPv4Address(value)

    def number(self, option: Option) -> int | None:
        """The unsigned number that a fixed-size option carries."""
        value = self.options.get(option)
        return None if value is None else int.from_bytes(value, "big")

    @property
    def client(self) -> bytes:
        """Who asks (RFC 2131 section 4.2): the client identifier, else hardware type and address."""
        return self.options.get(Option.CLIENT_ID) or bytes([_ETHERNET]) + self.chaddr

    @property
    def mac(self) -> str:
        return self.chaddr.hex(":")


def decode(data: bytes) -> Message:
    """A client's message. Raises `Malformed`."""
    if len(data) < _HEADER.size:
        raise Malformed("truncated")
    op, htype, hlen, _, xid, _, flags, *fields, chaddr, sname, file, cookie = _HEADER.unpack_from(data)
    ciaddr, yiaddr, siaddr, giaddr = map(IPv4Address, fields)
    if op != 1:
        raise Malformed("not_a_request")
    if cookie != _COOKIE:
        raise Malformed("no_cookie")
    if htype != _ETHERNET or hlen != 6 or chaddr[0] & 1 or not any(chaddr[:6]):
        raise Malformed("hardware_address")
    options = _options(data[_HEADER.size :], file, sname)
    if Option.TYPE not in options:
        raise Malformed("no_type")  # plain BOOTP
    return Message(
        type=options[Option.TYPE][0],
        xid=xid,
        chaddr=chaddr[:6],
        broadcast=bool(flags & _BROADCAST_FLAG),
        ciaddr=ciaddr,
        yiaddr=yiaddr,
        siaddr=siaddr,
        giaddr=giaddr,
        options=options,
    )


def _options(field: bytes, file: bytes, sname: bytes) -> dict[int, bytes]:
    values: dict[int, bytearray] = {}
    overload = 0
    for code, value in _walk(field):
        values.setdefault(code, bytearray()).extend(value)
        if code == Option.OVERLOAD:
            overload = value[0] if value else 0
    for bit, extra in ((1, file), (2, sname)):
        if overload & bit:
            for code, value in _walk(extra):
                values.setdefault(code, bytearray()).extend(value)
    for code, size in _SIZES.items():
        if code in values and len(values[code]) != size:
            raise Malformed("option_size")
    if len(values.get(Option.CLIENT_ID, b"")) > 255:
        raise Malformed("option_size")  # we would have to keep it
    return {code: bytes(value) for code, value in values.items()}


def _walk(field: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(field) and (code := field[position]) != Option.END:
        position += 1
        if code == Option.PAD:
            continue
        if position == len(field) or position + 1 + field[position] > len(field):
            raise Malformed("option_truncated")
        end = position + 1 + field[position]
        yield code, field[position + 1 : end]
        position = end


def encode(message: Message, limit: int = 576 - HEADERS) -> tuple[bytes, list[int]]:
    """The message as bytes, and the options left out because `limit` bytes did not hold them.

    Options go out in the mapping's order, so what matters most stands first.
    """
    header = _HEADER.pack(
        2 if message.reply else 1,
        _ETHERNET,
        len(message.chaddr),
        0,
        message.xid,
        0,
        _BROADCAST_FLAG if message.broadcast else 0,
        message.ciaddr.packed,
        message.yiaddr.packed,
        message.siaddr.packed,
        message.giaddr.packed,
        message.chaddr,
        b"",
        b"",
        _COOKIE,
    )
    out = bytearray(header)
    omitted: list[int] = []
    for code, value in {Option.TYPE: bytes([message.type]), **message.options}.items():
        parts = [value[start : start + 255] for start in range(0, len(value), 255)] or [b""]
        encoded = b"".join(bytes([code, len(part)]) + part for part in parts)
        if len(out) + len(encoded) < limit:
            out += encoded
        else:
            omitted.append(code)
    out.append(Option.END)
    return bytes(out.ljust(MINIMUM_SIZE, b"\0")), omitted


def addresses(values: Sequence[IPv4Address]) -> bytes:
    """An option's value of addresses, one after the other."""
    return b"".join(value.packed for value in values)
