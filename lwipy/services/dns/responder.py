"""The DNS server without I/O: a packet in, at most one response out.

Theory of operation.  Questions of our names are answered at once and with authority. Questions of others'
names go, as they came, to `fallback`, which answers now or later or never; without one they are refused.

1. A packet gets at most one response, whatever the fallback does; and none at all if it is itself a response.
2. Asking for everything (ANY, zone transfers) or for another class than IN is refused (RFC 8482).
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection

from lwipy.services.dns.message import CLASS_IN, Query, Rcode, Type, Unanswerable, decode, encode
from lwipy.services.dns.zone import Address, Zone

_log = logging.getLogger(__name__)

Send = Callable[[bytes], None]
# Takes a query as it came, and what to call with the response to it, once, in the stack's driver.
Fallback = Callable[[bytes, Send], object]


class Responder:
    """A DNS server that does no I/O. `counters` has queries, responses by code, and drops by reason."""

    def __init__(self, zone: Zone, fallback: Fallback | None = None) -> None:
        self.counters: Counter[str] = Counter()
        self._zone = zone
        self._fallback = fallback

    def receive(self, data: bytes, send: Send, near: Collection[Address] = ()) -> None:
        """Answer a packet by calling `send`. `near`: addresses of ours to tell first.

        What the fallback raises comes through, an OSError excepted; the client hears SERVFAIL either way.
        """
        try:
            query = decode(data)
        except Unanswerable as reason:
            self.counters[f"dropped_{reason}"] += 1
            _log.debug("no question: %s", reason)
            if reason.response is not None:
                send(reason.response)
            return
        self.counters["query"] += 1
        if query.edns and query.edns.version:
            return self._refuse(query, Rcode.BADVERS, send)
        if query.rclass != CLASS_IN or Type.FIRST_QUERY_ONLY <= query.type <= Type.ANY:
            return self._refuse(query, Rcode.REFUSED, send)
        answer = self._zone.lookup(query.name, query.type, near)
        if answer is None:
            return self._forward(query, data, send)
        self.counters[answer.rcode.name.lower()] += 1
        recursion = self._fallback is not None
        send(encode(query, *answer, authoritative=True, recursion=recursion))

    def _refuse(self, query: Query, rcode: Rcode, send: Send) -> None:
        self.counters[rcode.name.lower()] += 1
        send(encode(query, rcode, recursion=self._fallback is not None))

    def _forward(self, query: Query, data: bytes, send: Send) -> None:
        if self._fallback is None:
            return self._refuse(query, Rcode.REFUSED, send)
        self.counters["forwarded"] += 1
        answered = False

        def relay(response: bytes) -> None:
            nonlocal answered
            if answered:
                return
            answered = True
            if len(response) < 12 or response[:2] != data[:2] or not response[2] & 0x80:
                _log.warning("the fallback's response to %r is none", query.name)
                self._refuse(query, Rcode.SERVFAIL, send)
            elif len(response) > query.limit:
                send(encode(query, Rcode.NOERROR, recursion=True, truncated=True))
            else:
                send(response)

        try:
            self._fallback(data, relay)
        except Exception as error:
            if not answered:
                answered = True
                self._refuse(query, Rcode.SERVFAIL, send)
            if not isinstance(error, OSError):
                raise
            _log.warning("the fallback failed for %r: %s", query.name, error)
