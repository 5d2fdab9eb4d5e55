"""One TCP stream at MTU 1500, lwipy behind its TAP beside what else there is: the kernel's veth, slirp4netns, PyTCP.

Every side has a guest in a namespace of its own, which is the kernel's TCP; the host is what is compared. "Up" is from
the guest to the host. slirp4netns gives the guest libslirp's network, and a port of its host leads into the guest.
There is no figure of gvisor-tap-vsock and smoltcp: they come as sources in Go and Rust, not as packages to install.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks import tap
from benchmarks.figures import Case, MissingError, Sample, attempt
from benchmarks.namespace import Namespace
from benchmarks.traffic import OURS, PORT

SECONDS: Final = 0.5
SLOWLY: Final = 1.0  # PyTCP's
GATEWAY: Final = "10.0.2.2"  # libslirp's name for its host
GUEST: Final = "10.0.2.100"


def _gigabits(result: dict[str, float]) -> float:
    return result["bytes"] * 8 / result["seconds"] / 1e9


class Programs:
    """The two ends of a transfer."""

    def __init__(self, exits: contextlib.ExitStack) -> None:
        self._exits = exits

    def start(self, namespace: Namespace, *words: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", *words]
        with namespace.entered():
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
        self._exits.enter_context(process)
        self._exits.callback(process.kill)
        return process


def hear(process: subprocess.Popen[str]) -> Any:
    """Its next line: "ready", or what it measured."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait()}")
    return json.loads(line) if line.startswith("{") else line


def kernel_or_stack(host: str) -> Callable[[str], float]:
    return lambda way: tap.run(tap.Case(host, way), SECONDS)["gbit_per_s"]


# -- slirp4netns ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def slirp(host: Namespace, guest: Namespace, *, forward: bool) -> Iterator[None]:
    """libslirp between the two, if need be with the host's PORT forwarded to the guest's."""
    if shutil.which("slirp4netns") is None:
        raise MissingError("slirp4netns is not installed (Debian: slirp4netns)")
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder, "control")
        command = ["slirp4netns", "--configure", "--mtu=1500", f"--api-socket={control}", "--netns-type=path"]
        with host.entered():
            process = subprocess.Popen(
                [*command, f"/run/netns/{guest.name}", "tap0"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        try:
            _ask(control, {"execute": "list_hostfwd"})
            if forward:
                ports = {"proto": "tcp", "host_addr": "127.0.0.1", "host_port": PORT, "guest_port": PORT}
                _ask(control, {"execute": "add_hostfwd", "arguments": {**ports, "guest_addr": GUEST}})
            yield
        finally:
            process.kill()
            process.wait()


def _ask(control: Path, request: dict[str, Any]) -> None:
    deadline = time.monotonic() + 10
    with socket.socket(socket.AF_UNIX) as sock:
        while sock.connect_ex(str(control)) != 0:
            if time.monotonic() > deadline:
                raise MissingError("slirp4netns does not run here")
            time.sleep(0.02)
        sock.sendall(json.dumps(request).encode())
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(1 << 16)
        if b'"error"' in answer:
            raise MissingError(f"slirp4netns: {answer.decode()}")


def slirp4netns(way: str) -> float:
    with contextlib.ExitStack() as exits:
        host, guest = Namespace(), Namespace(route=False)
        exits.callback(host.close)
        exits.callback(guest.close)
        exits.enter_context(slirp(host, guest, forward=way == "down"))
        programs = Programs(exits)
        listens, connects, address = (host, guest, GATEWAY) if way == "up" else (guest, host, "127.0.0.1")
        listener = programs.start(listens, "benchmarks.traffic", "kernel", "sink", "", "1", str(SECONDS))
        assert hear(listener) == "ready"
        programs.start(connects, "benchmarks.traffic", "kernel", "source", address, "1", str(SECONDS))
        return _gigabits(hear(listener))


# -- PyTCP ------------------------------------------------------------------------------------------------------------


class PyTcp:
    """PyTCP, started by the first transfer and kept for the others."""

    def __init__(self) -> None:
        self._exits = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._namespace: Namespace | None = None

    def _start(self) -> tuple[subprocess.Popen[str], Namespace]:
        if self._process is None or self._namespace is None:
            if importlib.util.find_spec("pmd_pytcp") is None:
                raise MissingError("PyTCP is not installed: pip install 'lwipy[bench]'")
            self._namespace = Namespace(route=False)
            self._exits.callback(self._namespace.close)
            self._process = Programs(self._exits).start(self._namespace, "benchmarks.pytcp", stdin=subprocess.PIPE)
            assert hear(self._process) == "started"
        return self._process, self._namespace

    def __call__(self, way: str) -> float:
        process, namespace = self._start()
        assert process.stdin is not None
        task = "sink" if way == "up" else "source"
        with contextlib.ExitStack() as exits:
            if way == "down":
                with namespace.entered():
                    server = exits.enter_context(socket.create_server(("", PORT)))
            process.stdin.write(f"{task} {SLOWLY}\n")
            process.stdin.flush()
            if way == "down":
                result = _drain(server)
                assert hear(process) == "done"
            else:
                assert hear(process) == "ready"
                words = ("benchmarks.traffic", "kernel", "source", OURS, "1", str(SLOWLY))
                Programs(exits).start(namespace, *words, stderr=subprocess.DEVNULL)  # it is reset when time is over
                result = hear(process)
        return _gigabits(result)

    def close(self) -> None:
        self._exits.close()
        self._process = None


def _drain(server: socket.socket) -> dict[str, float]:
    """What comes until the connection is reset."""
    server.settimeout(30)
    connection, _ = server.accept()
    started = last = time.perf_counter()
    total = -len(connection.recv(1))
    with connection, contextlib.suppress(ConnectionResetError):
        connection.settimeout(10)
        while data := connection.recv(1 << 16):
            total += len(data)
            last = time.perf_counter()
    return {"bytes": max(total, 0), "seconds": last - started}


SIDES: Final[dict[str, Callable[[str], float]]] = {
    "lwipy, TAP with offload": kernel_or_stack("tap"),
    "lwipy, plain TAP": kernel_or_stack("plain"),
    "kernel, veth with offload": kernel_or_stack("veth"),
    "kernel, veth without": kernel_or_stack("veth-plain"),
    "slirp4netns (libslirp)": slirp4netns,
    "PyTCP, TAP": PyTcp(),
}


class Run:
    """One round; what was kept for all of them ends with close()."""

    def __call__(self) -> Iterator[Sample]:
        if lack := tap.lacks():
            raise MissingError(f"this needs {', '.join(lack)}")
        for way in ("up", "down"):
            for name, side in SIDES.items():
                for sample in attempt(f"{name}, {way}", lambda side=side, way=way: side(way)):  # type: ignore[misc]
                    yield Sample(sample.name, sample.value, sample.missing, way)

    def close(self) -> None:
        for side in SIDES.values():
            if isinstance(side, PyTcp):
                side.close()


CASES = [
    Case(
        "peers",
        "one TCP stream, MTU 1500",
        "Gbit/s",
        Run(),
        reference="kernel, veth with offload",
        drawn=True,
    )
]
