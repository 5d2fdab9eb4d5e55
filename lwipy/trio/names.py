"""Names to addresses, without blocking trio."""

from __future__ import annotations

import functools
import socket
from typing import TYPE_CHECKING

import trio

from lwipy.blocking import names as functions
from lwipy.blocking.names import AddressInfo
from lwipy.endpoints import Lookup
from lwipy.endpoints.resolver import local_answer
from lwipy.errors import StackClosedError
from lwipy.trio.driver import check_driven

if TYPE_CHECKING:
    from lwipy.stack import Stack


async def getaddrinfo(
    stack: Stack,
    host: str | bytes | None,
    port: int | str | bytes | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """As :func:`trio.socket.getaddrinfo`, by the stack's own names: numbers, the hosts table, lwIP's DNS client.

    socket.gaierror when the name has no address in the wanted family, or nobody could be asked.
    """
    name = host.decode() if isinstance(host, bytes) else host
    if not name or local_answer(stack, name) is not None or flags & socket.AI_NUMERICHOST:
        await trio.lowlevel.checkpoint()
        return functions.getaddrinfo(stack, name, port, family, type, proto, flags)
    if stack.use_host_resolver:
        ask = functools.partial(functions.getaddrinfo, stack, name, port, family, type, proto, flags)
        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
    check_driven(stack)
    return functions.answered(stack, name, await _ask(stack, name, family), port, family, type, proto, flags)


async def _ask(stack: Stack, name: str, family: int) -> list[str]:
    token = trio.lowlevel.current_trio_token()
    answered = trio.Event()
    found: list[str] = []

    def done(addresses: list[str]) -> None:
        found.extend(addresses)
        try:
            token.run_sync_soon(answered.set)
        except trio.RunFinishedError:
            pass  # nobody waits any more

    lookup = Lookup(stack, name, functions._families(stack, family), done)
    try:
        await answered.wait()
    finally:
        lookup.cancel()
    if stack.closed:
        raise StackClosedError
    return found
