"""Reading an endpoint to the end at each of its events, which are edge-triggered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lwipy.endpoints.udp import Datagram, UdpEndpoint
    from lwipy.stack import Stack


def on_datagram(stack: Stack, endpoint: UdpEndpoint, handle: Callable[[Datagram], None]) -> None:
    """Have `handle` called, in the stack's driver, with every datagram that comes to the endpoint.

    An exception of `handle` goes to the driver; the datagrams behind it are handled at its next turn.
    """

    def drain(_: object = None) -> None:
        while True:
            try:
                datagram = endpoint.receive()
            except OSError as error:
                if isinstance(error, BlockingIOError) or endpoint.closed:
                    return
                raise
            try:
                handle(datagram)
            except BaseException:
                stack.call_later(0.0, drain)
                raise

    endpoint.on_event = drain
