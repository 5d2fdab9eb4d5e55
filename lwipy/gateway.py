"""A gateway: one interface with the services a guest expects, as one object.

    async with Gateway(QemuStream("/tmp/guest.sock"), folder=Path("files"), writable=True) as gateway:
        await asyncio.Event().wait()

The guest gets its address by DHCP, finds the gateway as ``host.lwipy`` and by the names of other guests, and the
folder at ``http://host.lwipy/``. Nothing else of the host can be reached through it. A plain ``with`` does the same
for code without asyncio: the gateway then runs in a loop and a thread of its own.

Invariants: the gateway owns its stack, which the running loop drives; services end before the stack does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
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
        prepare: Callable[[Interface], object] | None = None,
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
        self._thread: _LoopThread | None = None
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
        # The host's side asks the same server, so that it finds guests by name too.
        assert self.interface.ipv4 is not None
        self.stack.dns_servers = [self.interface.ipv4.ip]

    async def _start_share(self, cleanup: contextlib.AsyncExitStack, folder: Path) -> None:
        from lwipy.services import share

        application = share.application(folder, writable=self._writable, observer=self._observer)
        cleanup.push_async_callback(await share.serve(application, self.stack, self._port))

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    def __enter__(self) -> Self:
        self._thread = _LoopThread(self)
        self._thread.begin()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._thread is not None
        self._thread.end()


class _LoopThread:
    """A thread with a loop in which a gateway lives."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._started: Future[None] = Future()
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="lwipy-gateway")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with self._gateway:
                self._started.set_result(None)
                await self._stop.wait()
        except BaseException as error:
            if self._started.done():
                raise
            self._started.set_exception(error)

    def begin(self) -> None:
        """Returns when the gateway serves; raises what kept it from that."""
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self._thread.join()
            raise

    def end(self) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
