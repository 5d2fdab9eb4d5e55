"""Debian's servers in a namespace of the kernel's, which a TAP joins to a stack."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kernel_peer import namespace, need

import lwipy
from lwipy.links import Tap

ADDRESS = "10.0.0.1"


@contextmanager
def real_server(stack: lwipy.Stack, *command: str, port: int) -> Iterator[None]:
    """Runs the program in a namespace, at 10.0.0.1; the stack, driven by the caller, is 10.0.0.2 there."""
    need()
    if not shutil.which(command[0]):
        text = f"{command[0]} is not installed"
        pytest.fail(text, pytrace=False) if os.environ.get("CI") else pytest.skip(text)
    with namespace() as kernel:
        tap = Tap()
        stack.add_interface(tap, ipv4="10.0.0.2/24")
        kernel.take(tap.name, f"{ADDRESS}/24")
        process = subprocess.Popen(["ip", "netns", "exec", kernel.name, *command], stdout=subprocess.DEVNULL)
        try:
            for _ in range(1000):
                try:
                    kernel.inside(lambda: socket.create_connection((ADDRESS, port), 30)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            yield
        finally:
            process.terminate()
            process.wait()
