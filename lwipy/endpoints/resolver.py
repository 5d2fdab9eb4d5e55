"""Names to addresses: numbers, the stack's hosts table, then lwIP's DNS client.

Theory of operation. A lookup asks for both families that are wanted, one query endpoint each, and is done when all
have answered. Waiting is the drivers' business: a lookup calls back once, from whoever dispatches the stack's events.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lwipy._native import check, ffi, lib
from lwipy.addresses import pack, parse_ip, unpack
from lwipy.endpoints.base import Endpoint, Event

if TYPE_CHECKING:
    from lwipy.stack import Stack


class Query(Endpoint):
    """One question to the DNS servers: a name in one family."""

    def __init__(self, stack: Stack, name: str, family: int) -> None:
        out = ffi.new("lwipy_handle *")
        try:
            encoded = name.encode("ascii") if name.isascii() else name.encode("idna")
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is not a host name") from None
        labels = encoded.removesuffix(b".").split(b".")
        if len(encoded) > 254 or b"\0" in encoded or not all(0 < len(label) < 64 for label in labels):
            raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is not a host name")
        result = lib.lwipy_dns_query(stack._core, encoded, family, out)
        if result == lib.LWIPY_EWOULDBLOCK:
            raise socket.gaierror(socket.EAI_AGAIN, "too many names are being resolved")
        if result == lib.LWIPY_ENONAME:
            raise socket.gaierror(socket.EAI_AGAIN, f"{name!r} cannot be resolved: the stack has no DNS server")
        super().__init__(stack, family, int(out[0]) if check(stack._core, result) == 0 else 0)
        stack._after()

    def answer(self) -> str | None:
        """The address, or None when there is none. BlockingIOError while the answer is still to come."""
        out = ffi.new("lwipy_address *")
        result = lib.lwipy_dns_answer(self._stack._core, self._handle, out)
        if result == 0:
            raise BlockingIOError("the name is still being resolved")
        return str(unpack(out)) if result > 0 else None


class Lookup:
    """A name being resolved. `done(addresses)` is called once, with [] when the name has none."""

    def __init__(self, stack: Stack, name: str, families: Sequence[int], done: Callable[[list[str]], None]) -> None:
        self._lock = threading.Lock()  # of the answers; nothing that could tell an event is called with it
        self._answers: dict[int, str | None] = {}
        self._families = families
        self._done = done
        self._queries: list[Query] = []
        try:
            for family in families:
                self._queries.append(Query(stack, name, family))
        except BaseException:
            self.cancel()
            raise
        for query in self._queries:
            query.on_event = lambda event, query=query: self._answered(query, event)
            self._answered(query, Event(0))

    def _answered(self, query: Query, event: Event) -> None:
        with self._lock:
            if query.family in self._answers:
                return  # told twice: by the event, and by the look when it was asked, maybe in two threads at once
            try:
                # A stack that is closed meanwhile closes its queries: no answer will come.
                self._answers[query.family] = None if query.closed else query.answer()
            except BlockingIOError:
                return
            is_last = len(self._answers) == len(self._families)
        query.close()
        if is_last:
            found = [self._answers[family] for family in self._families]
            self._done([address for address in found if address is not None])

    def cancel(self) -> None:
        """Forgets the queries; an answer that still comes is dropped."""
        for query in self._queries:
            query.close()


def local_answer(stack: Stack, name: str) -> list[str] | None:
    """What needs no query: a numeric address, the unspecified one for "", localhost, an entry of the hosts table."""
    if not name:
        return ["::", "0.0.0.0"]
    try:
        return [str(parse_ip(name))]
    except ValueError:
        pass
    key = name.rstrip(".").lower()
    if key in stack.hosts:
        return list(stack.hosts[key])
    if key == "localhost" or key.endswith(".localhost"):
        return ["127.0.0.1", "::1"]
    return None


class DnsServers(Sequence[str]):
    """The servers that lwIP's resolver asks, at most three. Assign a list to :attr:`Stack.dns_servers`."""

    LIMIT = 3

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def _all(self) -> list[str]:
        out = ffi.new("lwipy_address *")
        found = []
        for index in range(self.LIMIT):
            check(self._stack._core, lib.lwipy_dns_get_server(self._stack._core, index, out))
            if out.family:
                found.append(str(unpack(out)))
        return found

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (list(other) if isinstance(other, Sequence) else other)

    def __repr__(self) -> str:
        return repr(self._all())

    def replace(self, servers: Sequence[str | ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
        if isinstance(servers, str):
            raise TypeError(f"expected a list of addresses, not {servers!r}")
        if len(servers) > self.LIMIT:
            raise ValueError(f"{len(servers)} DNS servers: lwIP asks at most {self.LIMIT}")
        parsed = [parse_ip(server) for server in servers]
        for index in range(self.LIMIT):
            address = pack(parsed[index] if index < len(parsed) else None, 0, self._stack._scopes)
            check(self._stack._core, lib.lwipy_dns_set_server(self._stack._core, index, address))
