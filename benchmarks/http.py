"""aiohttp on lwipy beside aiohttp on the kernel: requests per second for a file of 1 KiB over 16 connections.

The same server, in a process of its own; the same client, a program in a network namespace that keeps one request in
flight on each connection, through the kernel's sockets. Only what is between them differs: a TAP, and lwipy's event
loop on a stack; or a veth pair, and asyncio's own loop. The kernel's sockets use cubic, whatever the machine's default
is: BBR holds back on a way without length.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.figures import Case, MissingError, Sample

CONNECTIONS: Final = 16
SECONDS: Final = 1.5

SERVER: Final = """
import asyncio, socket, sys, tempfile
from pathlib import Path
from aiohttp import web
kind, device = sys.argv[1:]
async def main():
    folder = Path(tempfile.mkdtemp()); (folder / "file").write_bytes(bytes(1024))
    app = web.Application(); app.router.add_static("/", folder)
    runner = web.AppRunner(app, access_log=None); await runner.setup()
    await site(runner).start()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await runner.cleanup()
    (folder / "file").unlink(); folder.rmdir()
def site(runner):
    if kind != "kernel":
        return web.TCPSite(runner, "10.77.0.1", 80)
    sock = socket.create_server(("10.77.0.1", 80))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    return web.SockSite(runner, sock)
if kind == "kernel":
    asyncio.run(main())
else:
    import lwipy
    from lwipy.aio import StackEventLoop
    from lwipy.links import Tap
    stack = lwipy.Stack()
    stack.add_interface(Tap(device), ipv4="10.77.0.1/24")
    print("device", flush=True); sys.stdin.readline()
    with asyncio.Runner(loop_factory=lambda: StackEventLoop(stack)) as runner:
        runner.run(main())
    stack.close()
"""

CLIENT: Final = """
import asyncio, socket, sys
connections, seconds = int(sys.argv[1]), float(sys.argv[2])
REQUEST = b"GET /file HTTP/1.1\\r\\nHost: bench\\r\\n\\r\\n"
class Client(asyncio.Protocol):
    done = 0
    def connection_made(self, transport): self.transport, self.got = transport, b""; transport.write(REQUEST)
    def data_received(self, data):
        self.got += data
        head = self.got.find(b"\\r\\n\\r\\n")
        if head >= 0 and len(self.got) >= head + 4 + 1024:
            assert self.got.startswith(b"HTTP/1.1 200"), self.got[:100]
            self.got = b""; Client.done += 1; self.transport.write(REQUEST)
def connected():
    sock = socket.socket()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    sock.connect(("10.77.0.1", 80))
    sock.setblocking(False)
    return sock
async def main():
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(Client, sock=connected()) for _ in range(connections)]
    await asyncio.sleep(0.3)
    before = Client.done
    await asyncio.sleep(seconds)
    print((Client.done - before) / seconds, flush=True)
    for transport, _ in made: transport.abort()
asyncio.run(main())
"""


def check() -> None:
    """MissingError says what this machine lacks."""
    if os.geteuid() != 0 or shutil.which("ip") is None or not Path("/dev/net/tun").exists():
        raise MissingError("a network namespace and a TAP need root, ip (iproute2) and /dev/net/tun")
    try:
        import aiohttp  # noqa: F401
    except ImportError:
        raise MissingError("aiohttp is not installed: pip install 'lwipy[share]'") from None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextlib.contextmanager
def namespace() -> Iterator[str]:
    name = f"lwipy-{uuid.uuid4().hex[:8]}"
    _ip("netns", "add", name)
    try:
        yield name
    finally:
        _ip("netns", "delete", name)


def requests(kind: str) -> float:
    """Requests per second of one run."""
    device = f"lw{uuid.uuid4().hex[:8]}"
    with namespace() as space:
        if kind == "kernel":
            _ip("link", "add", device, "type", "veth", "peer", "name", device, "netns", space)
            _ip("address", "add", "10.77.0.1/24", "dev", device)
            _ip("link", "set", device, "up")
        command = [sys.executable, "-c", SERVER, kind, device]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdin is not None
            assert server.stdout is not None
            if kind != "kernel":
                _hear(server.stdout.readline(), "device")
                _ip("link", "set", device, "netns", space)
            _ip("-n", space, "address", "add", "10.77.0.2/24", "dev", device)
            _ip("-n", space, "link", "set", device, "up")
            if kind != "kernel":
                print(file=server.stdin, flush=True)
            _hear(server.stdout.readline(), "ready")
            client = ["ip", "netns", "exec", space, sys.executable, "-c", CLIENT, str(CONNECTIONS), str(SECONDS)]
            done = subprocess.run(client, capture_output=True, text=True, timeout=60, check=False)
            print(file=server.stdin, flush=True)
        if done.returncode != 0:
            raise RuntimeError(f"the client failed: {done.stderr[-500:]}")
        return float(done.stdout)


def _hear(line: str, expected: str) -> None:
    if line.strip() != expected:
        raise RuntimeError(f"the server did not start: said {line!r}, expected {expected!r}")


def run() -> Iterator[Sample]:
    check()
    yield Sample("kernel (veth)", requests("kernel"))
    yield Sample("lwipy (TAP)", requests("lwipy"))


CASES = [Case("http", "aiohttp, a file of 1 KiB, 16 connections", "requests/s", run, reference="kernel")]
