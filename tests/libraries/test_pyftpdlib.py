"""pyftpdlib, whose loop polls descriptors, and ftplib: active and passive."""

from __future__ import annotations

import ftplib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import CONTENT, HOST, NAME, Ends, blocking, service

with warnings.catch_warnings(action="ignore"):  # asyncore is deprecated
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.servers import FTPServer


@pytest.mark.parametrize("passive", [True, False], ids=["passive", "active"])
def test_pyftpdlib(ends: Ends, passive: bool, tmp_path: Path) -> None:
    class Handler(FTPHandler):  # type: ignore[misc]
        use_sendfile = False  # the kernel cannot send from a file to a stack
        authorizer = DummyAuthorizer()

    Handler.authorizer.add_user("guest", "secret", str(tmp_path), perm="elradfmw")

    def server(ready: Callable[[Callable[[], object]], None]) -> None:
        with FTPServer((HOST, 21), Handler) as server:
            ready(lambda: server.ioloop.call_later(0, server.close_all))
            server.serve_forever(handle_exit=False, timeout=0.05)

    with service(ends.server, server), blocking(ends.client):
        with ftplib.FTP(NAME, "guest", "secret") as ftp:
            ftp.set_pasv(passive)
            ftp.storbinary("STOR file", io.BytesIO(CONTENT))
            assert ftp.nlst() == ["file"]
            came = io.BytesIO()
            ftp.retrbinary("RETR file", came.write)
            assert came.getvalue() == CONTENT
