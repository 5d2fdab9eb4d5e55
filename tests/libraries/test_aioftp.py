"""aioftp, and files moved by its client and by ftplib."""

from __future__ import annotations

import ftplib
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aioftp

from .conftest import CONTENT, HOST, NAME, Ends, Tls, blocking, plain_and_tls, run, serving


@plain_and_tls
def test_aioftp(ends: Ends, tls: Tls, secure: bool, tmp_path: Path) -> None:
    folder, here = tmp_path / "server", tmp_path / "client"
    folder.mkdir()
    here.write_bytes(CONTENT)

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        user = aioftp.User("guest", "secret", base_path=folder)
        server = aioftp.Server([user], ssl=tls.server if secure else None)
        await server.start(HOST, 21)
        yield
        await server.close()

    async def client() -> None:
        context = tls.client if secure else None
        async with aioftp.Client.context(NAME, 21, "guest", "secret", ssl=context) as client:
            await client.upload(here, "file", write_into=True)
            assert [str(path) async for path, _ in client.list()] == ["file"]
            await client.download("file", str(tmp_path / "back"), write_into=True)

    with serving(ends.server, server):
        run(ends.client, client)
        assert (folder / "file").read_bytes() == (tmp_path / "back").read_bytes() == CONTENT
        if not secure:
            with blocking(ends.client), ftplib.FTP(NAME, "guest", "secret") as ftp:
                came = io.BytesIO()
                ftp.retrbinary("RETR file", came.write)
                assert came.getvalue() == CONTENT
