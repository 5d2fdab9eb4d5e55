"""PyTCP behind a TAP device, a program of its own: ``python -m benchmarks.pytcp``.

It does what :mod:`benchmarks.traffic` does with lwipy, with the same addresses and words, but as often as it is told to
by a line on its standard input, ``sink SECONDS`` or ``source SECONDS``: it takes five seconds to start. The package is
`pmd-pytcp`, PyTCP for today's Pythons. What has come when the time is over counts: the rest may take it minutes.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from pmd_net_addr import Ip4IfAddr, MacAddress
from pmd_pytcp import socket, stack

from benchmarks.traffic import OURS, PORT, THEIRS

CHUNK = 64 * 1024


async def sink(seconds: float) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((OURS, PORT))
    listener.listen()
    print("ready", flush=True)
    connection: Any = (await listener.accept())[0]
    await connection.recv(CHUNK)
    started, total = time.perf_counter(), 0
    while (passed := time.perf_counter() - started) < seconds:
        try:
            data = await connection.recv(CHUNK, timeout=seconds - passed)
        except TimeoutError:
            break
        if not data:
            break
        total += len(data)
    print(json.dumps({"bytes": total, "seconds": time.perf_counter() - started}), flush=True)
    connection.abort()
    listener.close()


async def source(seconds: float) -> None:
    connection: Any = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    await connection.connect((THEIRS, PORT))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        await connection.send(bytes(CHUNK))
        await asyncio.sleep(0.001)
    await asyncio.sleep(max(0.0, end - time.perf_counter()))
    connection.abort()
    print("done", flush=True)


async def main() -> None:
    stack.LOG__CHANNEL.clear()
    stack.init(sysctls={"arp.probe_num": 1, "arp.announce_wait": 1})
    device = stack.initialize_interface__tap("tap0", mac_address=MacAddress("02:00:00:00:00:01"))
    stack.add_interface(**device, ip4_host=Ip4IfAddr(f"{OURS}/24"), ip6_support=False)
    subprocess.run(["ip", "address", "add", f"{THEIRS}/24", "dev", "tap0"], check=True)
    subprocess.run(["ip", "link", "set", "tap0", "up"], check=True)
    await stack.start()
    while not stack.local_ip4_unicast():  # it asks whether the address is somebody else's
        await asyncio.sleep(0.05)
    print("started", flush=True)
    while words := (await asyncio.to_thread(sys.stdin.readline)).split():
        await {"sink": sink, "source": source}[words[0]](float(words[1]))


if __name__ == "__main__":
    asyncio.run(main())
