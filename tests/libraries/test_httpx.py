"""httpx: blocking and asynchronous, against http.server."""

from __future__ import annotations

import httpx

from .conftest import CONTENT, NAME, Ends, Tls, blocking, plain_and_tls, run
from .site import site


@plain_and_tls
def test_httpx(ends: Ends, tls: Tls, secure: bool) -> None:
    url = f"https://{NAME}/" if secure else f"http://{NAME}/"
    with site(ends.server, tls.server if secure else None) as server:
        with blocking(ends.client), httpx.Client(verify=tls.client) as client:
            assert client.post(url, content=CONTENT).content == CONTENT.upper()
            assert client.get(url + "path").text == "/path"
        assert server.accepted == 1


@plain_and_tls
def test_httpx_in_asyncio(ends: Ends, tls: Tls, secure: bool) -> None:
    url = f"https://{NAME}/" if secure else f"http://{NAME}/"

    async def main() -> None:
        async with httpx.AsyncClient(verify=tls.client) as client:
            assert (await client.post(url, content=CONTENT)).content == CONTENT.upper()
            assert (await client.get(url + "path")).text == "/path"

    with site(ends.server, tls.server if secure else None) as server:
        run(ends.client, main)
        assert server.accepted == 1
