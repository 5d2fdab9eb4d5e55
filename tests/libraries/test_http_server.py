"""http.server and urllib of the standard library."""

from __future__ import annotations

import urllib.request

from .conftest import CONTENT, NAME, Ends, Tls, blocking, plain_and_tls
from .site import site


@plain_and_tls
def test_http_server(ends: Ends, tls: Tls, secure: bool) -> None:
    url = f"https://{NAME}/" if secure else f"http://{NAME}/"
    with site(ends.server, tls.server if secure else None) as server:
        with blocking(ends.client):
            for path in ("one", "two"):
                with urllib.request.urlopen(url + path, context=tls.client if secure else None) as response:
                    assert response.read() == b"/" + path.encode()
            with urllib.request.urlopen(url, data=CONTENT, context=tls.client if secure else None) as response:
                assert response.read() == CONTENT.upper()
        assert server.accepted == 3
