"""DNS messages on the wire, as much as a responder needs (RFC 1035 section 4, EDNS0: RFC 6891).

Theory of operation.  `decode` turns any bytes into one question that can be answered, or raises
`Unanswerable`, which knows what to say instead. `encode` answers a `Query`.

1. No compression pointer is ever followed: before a first question there is nothing to point to, and the
   names behind it are stepped over. So no packet costs more than its length.
2. The question goes back byte for byte as it came: a client may check its letters' case (0x20).
3. A response is never longer than the query allows; records that do not fit are left out and TC is set.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

PORT = 53
PLAIN_SIZE = 512  # bytes over UDP without EDNS
EDNS_SIZE = 1232  # bytes we take and give: fits IPv6's smallest MTU

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_QR, _AA, _TC, _RD, _RA, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_DNSSEC_OK = 0x8000

Name = tuple[bytes, ...]  # labels as they came; compare lower-cased ones
CLASS_IN = 1


class Rcode(IntEnum):
    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Type(IntEnum):
    A = 1
    NS = 2
    SOA = 6
    PTR = 12
    AAAA = 28
    OPT = 41
    FIRST_QUERY_ONLY = 249  # 249 to 255 ask for what is no record: TKEY ... AXFR, ANY
    ANY = 255


class Unanswerable(ValueError):
    """A packet that asks no single question. `str()` is the reason; `response` what to send, if anything."""

    def __init__(self, reason: str, response: bytes | None = None) -> None:
        super().__init__(reason)
        self.response = response


class _Malformed(ValueError):
    pass


class Edns(NamedTuple):
    """What a query's OPT record says: the bytes its sender takes, version, DNSSEC OK."""

    size: int
    version: int
    dnssec_ok: bool


class Record(NamedTuple):
    """A resource record of class IN. `data`: bytes and names, one after the other."""

    name: Name
    type: int
    ttl: int
    data: tuple[bytes | Name, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `question` is its section as it came; `flags` the header's second word."""

    id: int
    flags: int
    name: Name
    type: int
    rclass: int
    question: bytes
    edns: Edns | None

    @property
    def limit(self) -> int:
        """The most bytes a response may have."""
        return min(max(self.edns.size, PLAIN_SIZE), EDNS_SIZE) if self.edns else PLAIN_SIZE


def decode(data: bytes) -> Query:
    """The question in a packet. Raises `Unanswerable`."""
    if len(data) < _HEADER.size:
        raise Unanswerable("truncated")
    ident, flags, questions, *others = _HEADER.unpack_from(data)
    if flags & _QR:
        raise Unanswerable("response")  # answering one could go on forever
    if flags & 0x7800:
        raise Unanswerable("opcode", _bare(ident, flags, Rcode.NOTIMP))
    try:
        if questions != 1:
            raise _Malformed("question_count")
        name, position = _name(data, _HEADER.size)
        if name is None:
            raise _Malformed("name_pointer")
        if position + 4 > len(data):
            raise _Malformed("question_truncated")
        rtype, rclass = struct.unpack_from("!HH", data, position)
        question = data[_HEADER.size : position + 4]
        edns = _edns(data, position + 4, *others)
    except _Malformed as error:
        raise Unanswerable(str(error), _bare(ident, flags, Rcode.FORMERR)) from None
    return Query(ident, flags, name, rtype, rclass, question, edns)


def _bare(ident: int, flags: int, rcode: Rcode) -> bytes:
    return _HEADER.pack(ident, _QR | flags & (0x7800 | _RD) | rcode, 0, 0, 0, 0)


def _name(data: bytes, position: int) -> tuple[Name | None, int]:
    """The name at `position` (None if it is compressed), and where it ends."""
    labels: list[bytes] = []
    size = 1
    while position < len(data):
        length = data[position]
        if length == 0:
            return tuple(labels), position + 1
        if length >= 0xC0:
            return None, position + 2
        label = data[position + 1 : position + 1 + length]
        size += 1 + length
        if length > 63 or size > 255:
            raise _Malformed("name")
        labels.append(label)
        position += 1 + length
    raise _Malformed("name_truncated")


def _edns(data: bytes, position: int, *counts: int) -> Edns | None:
    """The OPT record among those behind the question, which must all be whole."""
    edns = None
    for section, count in enumerate(counts):
        for _ in range(count):
            name, position = _name(data, position)
            if position + _RECORD.size > len(data):
                raise _Malformed("record_truncated")
            rtype, rclass, ttl, length = _RECORD.unpack_from(data, position)
            position += _RECORD.size + length
            if rtype != Type.OPT:
                continue
            if edns is not None or name != () or section != 2:
                raise _Malformed("opt")
            edns = Edns(rclass, ttl >> 16 & 0xFF, bool(ttl & _DNSSEC_OK))
    if position != len(data):
        raise _Malformed("record_truncated" if position > len(data) else "trailing_bytes")
    return edns


def encode(
    query: Query,
    rcode: Rcode,
    answers: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    *,
    authoritative: bool = False,
    recursion: bool = False,
    truncated: bool = False,
) -> bytes:
    """The response to `query`. `recursion`: we also find names that are not ours."""
    opt = b""
    if query.edns:
        extended = rcode >> 4 << 24 | (_DNSSEC_OK if query.edns.dnssec_ok else 0)
        opt = b"\0" + _RECORD.pack(Type.OPT, EDNS_SIZE, extended, 0)
    out = bytearray(_HEADER.size) + query.question
    offsets: dict[Name, int] = {}
    _compressed(query.name, _HEADER.size, offsets)  # the question's name, to point to
    counts = []
    for section in (answers, authority):
        counts.append(0)
        for record in section:
            encoded = b"" if truncated else _record(record, len(out), offsets)
            truncated = truncated or len(out) + len(encoded) + len(opt) > query.limit
            if not truncated:
                out += encoded
                counts[-1] += 1
    flags = _QR | query.flags & (_RD | _CD) | rcode & 0xF
    flags |= authoritative * _AA | recursion * _RA | truncated * _TC
    _HEADER.pack_into(out, 0, query.id, flags, 1, *counts, bool(opt))
    return bytes(out + opt)


def _record(record: Record, position: int, offsets: dict[Name, int]) -> bytes:
    out = _compressed(record.name, position, offsets)
    start = position + len(out) + _RECORD.size
    data = b""
    for part in record.data:
        data += part if isinstance(part, bytes) else _compressed(part, start + len(data), offsets)
    return out + _RECORD.pack(record.type, CLASS_IN, record.ttl, len(data)) + data


def _compressed(name: Name, position: int, offsets: dict[Name, int]) -> bytes:
    """`name` for a place in the message; `offsets` has the names before it and learns this one's."""
    out = b""
    for i, label in enumerate(name):
        if (offset := offsets.get(name[i:])) is not None:
            return out + (0xC000 | offset).to_bytes(2, "big")
        if position + len(out) < 0x4000:
            offsets[name[i:]] = position + len(out)
        out += bytes([len(label)]) + label
    return out + b"\0"
