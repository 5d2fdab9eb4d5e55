"""urllib3: a pool keeps its connection."""

from __future__ import annotations

import urllib3

from .conftest import CONTENT, NAME, Ends, Tls, blocking, plain_and_tls
from .site import site


@plain_and_tls
def test_urllib3(ends: Ends, tls: Tls, secure: bool) -> None:
    url = f"https://{NAME}/" if secure else f"http://{NAME}/"
    with site(ends.server, tls.server if secure else None) as server:
        with blocking(ends.client), urllib3.PoolManager(ca_certs=tls.authority) as pool:
            for _ in range(20):
                assert pool.request("POST", url, body=CONTENT).data == CONTENT.upper()
            assert server.accepted == 1
