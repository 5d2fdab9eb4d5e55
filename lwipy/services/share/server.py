"""The application on a stack: aiohttp's server behind a listener of ours.

aiohttp closes a connection as soon as the guest has sent FIN. A guest may do that right behind its request (``nc``
does, and so did HTTP/1.0's clients) and still wait for the answer, so the protocol here keeps the other half open until
the answer is out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from lwipy import aio

if TYPE_CHECKING:
    from lwipy.stack import Stack

#: Seconds an idle connection is kept for the guest's next request.
KEEPALIVE: Final = 75.0

# aiohttp logs a traceback for every malformed request; what a guest can repeat at will must not fill the terminal.
_quiet = logging.getLogger("lwipy.share.http")
_quiet.setLevel(logging.CRITICAL)


class HalfClosing(RequestHandler):
    """A connection whose guest may end its side before it has the answer (RFC 9112 section 9.6)."""

    __slots__ = ()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps our side open: the request is whole, and its answer still to come."""
        if self._messages:
            body = self._messages[-1][1]  # parsed, not yet handled
        elif self._current_request is not None:
            body = self._current_request.content
        else:
            return None
        if not body.is_eof():
            return None
        self.close()
        return True


async def serve(application: web.Application, stack: Stack, port: int) -> Callable[[], Awaitable[None]]:
    """Listens on every address of `stack`; the answer ends it, within about a second."""
    # A guest that goes ends its transfers: their handlers are cancelled.
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    server = runner.server
    assert server is not None
    loop = asyncio.get_running_loop()

    def protocol() -> HalfClosing:
        return HalfClosing(server, loop=loop, keepalive_timeout=KEEPALIVE, access_log=_quiet, logger=_quiet)

    listener = await aio.create_server(stack, protocol, None, port)

    async def end() -> None:
        listener.close()
        await server.shutdown(1.0)
        await runner.cleanup()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.wait_closed(), 1.0)

    return end
