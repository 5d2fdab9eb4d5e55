"""uvicorn with a FastAPI application; httpx asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import fastapi
import httpx
import uvicorn

from .conftest import HOST, NAME, Ends, Tls, plain_and_tls, run, serving


@plain_and_tls
def test_uvicorn(ends: Ends, tls: Tls, secure: bool) -> None:
    app = fastapi.FastAPI()

    @app.post("/upper/{times}")
    async def upper(times: int, request: fastapi.Request) -> dict[str, str | int]:
        return {"times": times, "text": (await request.body()).decode().upper() * times}

    files: dict[str, Any] = {"ssl_certfile": tls.certificate, "ssl_keyfile": tls.key} if secure else {}

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=8000, log_level="warning", **files))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield
        server.should_exit = True
        await task

    async def client() -> None:
        async with httpx.AsyncClient(verify=tls.client) as client:
            url = f"{'https' if secure else 'http'}://{NAME}:8000/upper/3"
            answer = await client.post(url, content="hello")
            assert answer.json() == {"times": 3, "text": "HELLOHELLOHELLO"}

    with serving(ends.server, server):
        run(ends.client, client)
