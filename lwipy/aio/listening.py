"""Listening endpoints for all addresses of a name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lwipy.aio.addresses import from_socket
from lwipy.blocking.names import AddressInfo
from lwipy.endpoints import TcpEndpoint

if TYPE_CHECKING:
    from lwipy.stack import Stack


def listen_on(stack: Stack, infos: Iterable[AddressInfo], backlog: int) -> list[TcpEndpoint]:
    """A listening endpoint for each address, the caller's own; port 0 takes a free one, the same for all.

    OSError EADDRINUSE, EADDRNOTAVAIL, naming the address; then none is left.
    """
    with contextlib.ExitStack() as undo:
        endpoints: list[TcpEndpoint] = []
        for sockaddr in dict.fromkeys(info[4] for info in infos):
            version, (host, port) = from_socket(sockaddr)
            endpoint = stack.tcp(version)
            undo.callback(endpoint.close)
            try:
                endpoint.bind((host, port or (endpoints[0].address[1] if endpoints else 0)), reuse=True)
                endpoint.listen(backlog)
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                raise OSError(error.errno, f"{reason} (while attempting to bind on {sockaddr!r})") from None
            endpoints.append(endpoint)
        undo.pop_all()
        return endpoints
