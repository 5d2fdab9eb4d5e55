"""A gateway: one interface with the services a guest expects, as one object.

    async with Gateway(QemuStream("/tmp/guest.sock"), folder=Path("files"), writable=True) as gateway:
        await asyncio.Event().wait()

The guest gets its address by DHCP, finds the gateway as ``host.lwipy`` and by the names of other guests, and the
folder at ``http://host.lwipy/``. Nothing else of the host can be reached through it.

Invariants: the gateway owns its stack, which the running loop drives; services end before the stack does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lwipy import aio
from lwipy.services.dhcp import DhcpServer
from lwipy.services.dns import DnsServer
from lwipy.stack import Stack

if TYPE_CHECKING:
    from typing import Self

    from lwipy.interface import Interface
    from lwipy.links.base import Link
    from lwipy.services.dhcp import Lease
    from lwipy.services.share import Observer


class Gateway:
    """See the module's text. Entered as an async context manager, in the loop that is to drive it.

    `ipv4` is the gateway's address and the guests' network; `pool` the first and last address for them (default: all
    others). `folder` is served over HTTP on `port` when given (extra ``lwipy[share]``). `prepare` gets the interface
    before the first frame, for pacing, capture and the like. `on_lease` hears of guests, `observer` of transfers.
    """

    def __init__(
        self,
        link: Link | None,
        *,
        ipv4: str = "10.0.0.1/24",
        ipv6: str | None = "fd00::1/64",
        mtu: int = 1500,
        domain: str = "lwipy",
        pool: tuple[str, str] | None = None,
        folder: Path | None = None,
        writable: bool = False,
        port: int = 80,
        prepare: Callable[[Interface], None] | None = None,
        on_lease: Callable[[Lease], object] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._link = link
        self._addresses: dict[str, Any] = {"ipv4": ipv4, "ipv6": ipv6, "mtu": mtu}
        self._domain = domain
        self._pool = pool
        self._folder = folder
        self._writable = writable
        self._port = port
        self._prepare = prepare
        self._on_lease = on_lease
        self._observer = observer
        self._exit = contextlib.AsyncExitStack()
        self.stack: Stack
        self.interface: Interface
        self.dhcp: DhcpServer
        self.dns: DnsServer

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as cleanup:
            self.stack = Stack()
            cleanup.callback(self.stack.close)
            await cleanup.enter_async_context(aio.driving(self.stack))
            # The link comes last: the first frame finds everything in its place.
            self.interface = self.stack.add_interface(**self._addresses)
            self._start_services(cleanup)
            if self._folder is not None:
                await self._start_share(cleanup, self._folder)
            if self._prepare is not None:
                self._prepare(self.interface)
            if self._link is not None:
                self.interface.attach(self._link)
            self._exit = cleanup.pop_all()
        return self

    def _start_services(self, cleanup: contextlib.AsyncExitStack) -> None:
        self.dhcp = DhcpServer(self.interface, range=self._pool, domain=self._domain, on_lease=self._on_lease)
        cleanup.callback(self.dhcp.close)
        self.dns = DnsServer(self.stack, domain=self._domain, leases=self.dhcp)
        cleanup.callback(self.dns.close)

    async def _start_share(self, cleanup: contextlib.AsyncExitStack, folder: Path) -> None:
        from aiohttp import web

        from lwipy.services import share

        application = share.application(folder, writable=self._writable, observer=self._observer)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        cleanup.push_async_callback(runner.cleanup)
        assert runner.server is not None
        server = await aio.create_server(self.stack, runner.server, None, self._port)
        cleanup.push_async_callback(_closed, server)

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()


async def _closed(server: asyncio.AbstractServer) -> None:
    server.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(server.wait_closed(), 1.0)
