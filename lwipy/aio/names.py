"""Names to addresses, without blocking the loop."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from lwipy.addresses import parse_port
from lwipy.aio.addresses import SocketAddress
from lwipy.aio.driver import ensure_driven
from lwipy.blocking import names as functions
from lwipy.endpoints import Lookup
from lwipy.endpoints.resolver import local_answer
from lwipy.errors import StackClosedError

if TYPE_CHECKING:
    from lwipy.stack import Stack

_PROTOCOLS: Final[dict[int, int]] = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}

#: An IntFlag's own & costs a microsecond.
_CANONNAME: Final = int(socket.AI_CANONNAME)

AddressInfo: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]


async def getaddrinfo(
    stack: Stack,
    host: str | bytes | None,
    port: int | str | bytes | None,
    *,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """As loop.getaddrinfo, by the stack's own names: numbers, the hosts table, lwIP's DNS client.

    socket.gaierror when the name has no address in the wanted family, or nobody could be asked.
    """
    ensure_driven(stack)
    name = host.decode() if isinstance(host, bytes) else host
    if proto in (0, _PROTOCOLS.get(type)) and (literal := numeric(name, port, family, type, flags)) is not None:
        return [literal]
    if not name or local_answer(stack, name) is not None or flags & socket.AI_NUMERICHOST:
        return functions.getaddrinfo(stack, name, port, family, type, proto, flags)
    if stack.use_host_resolver:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, functions.getaddrinfo, stack, name, port, family, type, proto, flags)
    return functions.answered(stack, name, await _ask(stack, name, family), port, family, type, proto, flags)


def numeric(host: str | None, port: Any, family: int, type: int, flags: int) -> AddressInfo | None:
    """What getaddrinfo() would find at once, where that is a numeric address and nothing else; else None."""
    if host and isinstance(port, int) and type in _PROTOCOLS and not int(flags) & _CANONNAME:
        return _literal(host, port, family, type)
    return None


@functools.lru_cache(maxsize=256, typed=True)
def _literal(host: str, port: Any, family: int, type: int) -> AddressInfo | None:
    """The shortest way for what most connections are given: a numeric address without scope, of a fitting family."""
    own = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        packed = socket.inet_pton(own, host)
    except (OSError, ValueError):
        return None
    if family not in (0, own):
        return None
    text, kind = socket.inet_ntop(own, packed), socket.SocketKind(type)
    parse_port(port)
    address: SocketAddress = (text, port) if own == socket.AF_INET else (text, port, 0, 0)
    return own, kind, _PROTOCOLS[kind], "", address


async def _ask(stack: Stack, name: str, family: int) -> list[str]:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str]) -> None:
        if not answer.done():
            answer.set_result(addresses)

    def done(addresses: list[str]) -> None:
        loop.call_soon_threadsafe(settle, addresses)

    lookup = Lookup(stack, name, functions._families(stack, family), done)
    try:
        addresses = await answer
    finally:
        lookup.cancel()
    if stack.closed:
        raise StackClosedError
    return addresses
