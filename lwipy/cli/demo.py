"""``lwipy demo``: the main job without a guest. A second stack in this process plays it."""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwipy.stack import Stack


def add_parser(commands: Any) -> None:
    parser = commands.add_parser("demo", help="share a folder with a guest that a second stack plays")
    parser.add_argument("--size", type=int, default=20, help="megabytes to move each way (default 20)")
    parser.add_argument("--pcap", type=Path, default=Path("demo.pcap"), help="where the frames go (demo.pcap)")
    parser.set_defaults(run=run)


def _request(stack: Stack, method: str, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("host.lwipy")
    connection.sock = stack.create_connection(("host.lwipy", 80), timeout=30)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        content = response.read()
        if response.status >= 300:
            raise OSError(f"{method} {path}: {response.status} {response.reason}")
        return content
    finally:
        connection.close()


def _timed(what: str, size: int, action: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = action()
    seconds = max(time.perf_counter() - started, 1e-6)
    print(f"  {what}: {size} bytes in {seconds:.2f} s, {size / seconds / 1e6:.1f} MB/s")
    return result


def _same(what: str, one: bytes, other: bytes) -> None:
    sums = [hashlib.sha256(data).hexdigest() for data in (one, other)]
    if sums[0] != sums[1]:
        raise OSError(f"{what}: the sums differ: {sums[0]} and {sums[1]}")
    print(f"  {what}: sums agree, sha256 {sums[0][:16]}...")


def _lease(guest: Stack) -> None:
    """The guest's network settings, from the gateway's DHCP server."""
    nic = guest.interfaces["guest"]
    nic.start_dhcp("demo-guest")
    deadline = time.monotonic() + 10
    while not nic.has_lease:
        if time.monotonic() > deadline:
            raise TimeoutError("no lease within 10 seconds")
        time.sleep(0.01)
    print(f"  lease: {nic.ipv4}, router {nic.gateway}, DNS {', '.join(guest.dns_servers)}")


def run(options: argparse.Namespace) -> int:
    import lwipy
    from lwipy.gateway import Gateway

    if options.size < 1:
        raise ValueError(f"--size {options.size} is too little: expected at least 1 megabyte")
    size = options.size * 1_000_000
    with tempfile.TemporaryDirectory(prefix="lwipy-demo-") as name:
        folder = Path(name)
        content = os.urandom(size)
        (folder / "download.bin").write_bytes(content)
        gateway = Gateway(None, folder=folder, writable=True, prepare=lambda nic: nic.capture(options.pcap))
        with gateway as host, lwipy.Stack() as guest:
            print("a guest on a wire:")
            lwipy.wire(host.interface, guest.add_interface(name="guest"))
            _lease(guest)
            print(f"  host.lwipy is {guest.getaddrinfo('host.lwipy', 80)[0][4][0]}")
            got = _timed("download", size, lambda: _request(guest, "GET", "/download.bin"))
            _same("download", content, got)
            _timed("upload", size, lambda: _request(guest, "PUT", "/upload.bin", content))
            _same("upload", content, (folder / "upload.bin").read_bytes())
    print(f"  capture: {options.pcap} ({options.pcap.stat().st_size} bytes), opens in Wireshark")
    return 0
