"""``python -m benchmarks links``: two stacks, each driven by a thread, joined by a link with a descriptor.

One connection, 1 MB writes from Python, MTU 1500. Gbit/s of payload by the clock, and seconds of processor time that
both stacks and both programs used for each GB, which says more on a machine that has other things to do.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lwipy
from lwipy.links import Link, QemuDgram, QemuStream

BLOCK = bytes(1 << 20)


def _port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pairs(folder: Path) -> Iterator[tuple[str, Link, Link]]:
    """Each kind of link, joined."""
    stream, dgram = folder / "stream", folder / "dgram"
    yield "stream, unix", QemuStream(stream), QemuStream(stream, listen=False)
    listening = QemuStream(("127.0.0.1", 0))
    yield "stream, TCP", listening, QemuStream(listening.address, listen=False)
    other = dgram.with_suffix(".other")
    yield "dgram, unix", QemuDgram(dgram, other), QemuDgram(other, dgram)
    a, b = ("127.0.0.1", _port()), ("127.0.0.1", _port())
    yield "dgram, UDP", QemuDgram(a, b), QemuDgram(b, a)


def run(a: Link, b: Link, megabytes: int) -> tuple[float, float, int]:
    """Gbit/s, processor seconds for a GB, and frames that were dropped for want of room."""
    with lwipy.Stack() as here, lwipy.Stack() as there, ThreadPoolExecutor(1) as pool:
        nic_a = here.add_interface(a, ipv4="10.0.0.1/24")
        nic_b = there.add_interface(b, ipv4="10.0.0.2/24")
        while not (nic_a.link_up and nic_b.link_up):
            time.sleep(0.001)
        with here.create_server(("10.0.0.1", 80)) as server, there.create_connection(("10.0.0.1", 80)) as client:
            sink, _ = server.accept()

            def send() -> None:
                for _ in range(megabytes):
                    client.sendall(BLOCK)
                client.shutdown(socket.SHUT_WR)

            buffer, got = bytearray(1 << 20), 0
            started, used = time.perf_counter(), time.process_time()
            sending = pool.submit(send)
            while part := sink.recv_into(buffer):
                got += part
            seconds, used = time.perf_counter() - started, time.process_time() - used
            sending.result()
            sink.close()
        return got * 8 / seconds / 1e9, used / got * 1e9, nic_a.counters.tx_full + nic_b.counters.tx_full


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks links", description=__doc__)
    parser.add_argument("--rounds", "--runs", dest="runs", type=int, default=3, help="runs of each kind (default 3)")
    parser.add_argument("--megabytes", type=int, default=512, help="bytes moved in each run (default 512 MB)")
    options = parser.parse_args()
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            for name, a, b in pairs(Path(folder)):
                gigabits, used, dropped = run(a, b, options.megabytes)
                print(
                    f"{name:<13} {gigabits:>6.2f} Gbit/s  {used:>5.2f} s of processor per GB  {dropped} frames dropped"
                )


if __name__ == "__main__":
    main()
