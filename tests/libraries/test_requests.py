"""requests: sessions over plain HTTP and HTTPS."""

from __future__ import annotations

import requests

from .conftest import CONTENT, NAME, Ends, Tls, blocking, plain_and_tls
from .site import site


@plain_and_tls
def test_requests(ends: Ends, tls: Tls, secure: bool) -> None:
    url = f"https://{NAME}/" if secure else f"http://{NAME}/"
    with site(ends.server, tls.server if secure else None) as server:
        with blocking(ends.client), requests.Session() as session:
            session.verify = tls.authority
            response = session.post(url, data=CONTENT)
            assert response.content == CONTENT.upper()
            assert session.get(url + "path").text == "/path"
            assert server.accepted == 1
