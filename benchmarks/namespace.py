"""A network namespace of the kernel's for its side of a measurement, with Linux's default congestion control.

What is made inside the ``with`` block by the thread that entered it, sockets and processes, belongs to the namespace
and stays in it. Where another controller than CUBIC is the machine's default, BBR say, the peers whose sockets are not
ours to set would be measured with its pacing, which on loopback stalls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator
from typing import Final

_CLONE_NEWNET: Final = 0x40000000


def ip(*words: str) -> None:
    """Runs iproute2's `ip`."""
    subprocess.run(["ip", *words], check=True)


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Namespace:
    """A namespace with a loopback interface, and a default `route` that leads nowhere: passt looks for one."""

    def __init__(self, *, route: bool = True) -> None:
        self.name = f"lwipy-{uuid.uuid4().hex[:8]}"
        ip("netns", "add", self.name)
        try:
            ip("-n", self.name, "link", "set", "lo", "up")
            if route:
                self._lead_nowhere()
            for local in ("127.0.0.0/8", "127.0.0.1"):  # by routes: not every machine lets a namespace set its default
                words = ("dev", "lo", "scope", "host", "src", "127.0.0.1", "congctl", "cubic")
                ip("-n", self.name, "route", "replace", "table", "local", "local", local, *words)
        except BaseException:
            self.close()
            raise

    def _lead_nowhere(self) -> None:
        ip("-n", self.name, "link", "add", "nowhere", "type", "veth", "peer", "name", "nobody")
        ip("-n", self.name, "address", "add", "192.0.2.1/24", "dev", "nowhere")
        ip("-n", self.name, "link", "set", "nowhere", "up")
        ip("-n", self.name, "link", "set", "nobody", "up")
        ip("-n", self.name, "route", "add", "default", "via", "192.0.2.254")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is in it."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _enter(inside)
            try:
                yield
            finally:
                _enter(outside)
        finally:
            os.close(inside)
            os.close(outside)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False)
