"""hypercorn with a Quart application; HTTP/2 by h2 where there is TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import hypercorn.asyncio
import quart

from .conftest import CONTENT, HOST, NAME, Ends, Tls, plain_and_tls, run, serving


@plain_and_tls
def test_hypercorn(ends: Ends, tls: Tls, secure: bool) -> None:
    app = quart.Quart(__name__)

    @app.post("/")
    async def upper() -> str | bytes:
        return (await quart.request.get_data(as_text=False)).upper()

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        config = hypercorn.Config()
        config.bind = [f"{HOST}:8000"]
        config.loglevel = "WARNING"
        if secure:
            config.certfile, config.keyfile = tls.certificate, tls.key
        enough = asyncio.Event()
        task = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=enough.wait))
        yield
        enough.set()
        await task

    async def client() -> None:
        async with httpx.AsyncClient(verify=tls.client, http2=True) as client:
            url = f"{'https' if secure else 'http'}://{NAME}:8000/"
            answers = await asyncio.gather(*[client.post(url, content=CONTENT) for _ in range(4)])
            assert [answer.content for answer in answers] == [CONTENT.upper()] * 4
            assert answers[0].http_version == ("HTTP/2" if secure else "HTTP/1.1")

    with serving(ends.server, server):
        run(ends.client, client)
