"""wsgidav served by cheroot: a WebDAV folder, with requests as its client."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import requests
from cheroot.ssl.builtin import BuiltinSSLAdapter
from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp

from .conftest import CONTENT, HOST, NAME, Ends, Tls, blocking, plain_and_tls, service


@plain_and_tls
def test_wsgidav(ends: Ends, tls: Tls, secure: bool, tmp_path: Path) -> None:
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(tmp_path)},
            "simple_dc": {"user_mapping": {"*": True}},
            "logging": {"enable": False},
            "verbose": 0,
        }
    )

    def server(ready: Callable[[Callable[[], object]], None]) -> None:
        server = Server((HOST, 80), app)
        if secure:
            server.ssl_adapter = BuiltinSSLAdapter(tls.certificate, tls.key)
        server.prepare()
        ready(server.stop)
        server.serve()

    url = f"https://{NAME}:80/" if secure else f"http://{NAME}/"
    with service(ends.server, server), blocking(ends.client), requests.Session() as session:
        session.verify = tls.authority
        assert session.request("MKCOL", url + "folder").status_code == 201
        assert session.put(url + "folder/file", data=CONTENT).status_code == 201
        assert (tmp_path / "folder" / "file").read_bytes() == CONTENT
        listing = session.request("PROPFIND", url + "folder", headers={"Depth": "1"})
        assert listing.status_code == 207
        assert "/folder/file" in listing.text
        assert session.get(url + "folder/file").content == CONTENT
