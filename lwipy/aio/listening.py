"""Endpoints bound to all addresses of a name, and listening there."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lwipy.aio.addresses import SocketAddress, from_socket
from lwipy.blocking.names import AddressInfo
from lwipy.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from lwipy.stack import Stack


@contextlib.contextmanager
def naming(address: object) -> Iterator[None]:
    """Has an OSError say for which address. A port that another socket listens on may be told by listen() only."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or errno.EINVAL).lower()
        raise OSError(error.errno, f"error while attempting to bind on address {address!r}: {reason}") from None


def bind_all(stack: Stack, addresses: Iterable[SocketAddress], *, reuse: bool = True) -> list[TcpEndpoint]:
    """An endpoint for each address, the caller's own; port 0 takes a free one, the same for all.

    OSError EADDRINUSE, EADDRNOTAVAIL, naming the address; then none is left.
    """
    with contextlib.ExitStack() as undo:
        endpoints: list[TcpEndpoint] = []
        for address in addresses:
            version, (host, port) = from_socket(address)
            endpoint = stack.tcp(version)
            undo.callback(endpoint.close)
            with naming(address):
                endpoint.bind((host, port or (endpoints[0].address[1] if endpoints else 0)), reuse=reuse)
            endpoints.append(endpoint)
        undo.pop_all()
        return endpoints


def listen_on(stack: Stack, infos: Iterable[AddressInfo], backlog: int) -> list[TcpEndpoint]:
    """The same for what getaddrinfo() found, listening already."""
    endpoints = bind_all(stack, dict.fromkeys(info[4] for info in infos))
    try:
        for endpoint in endpoints:
            with naming(endpoint.address):
                endpoint.listen(backlog)
    except BaseException:
        for endpoint in endpoints:
            endpoint.close()
        raise
    return endpoints
