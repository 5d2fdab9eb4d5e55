"""A guest in v86, a 32-bit PC in WebAssembly, under node: what runs in a browser, with its NIC behind a WebSocket.

Theory of operation.  Booting takes 15 to 40 s, so it is done once for each kind of NIC: when init asks for its
orders, the machine's state goes to a file (45 MB) in the cache, and every guest goes on from there, ready within a
second.  The drivers are loaded by then, but none has looked at its device (see init.sh): that happens when `nic`, at
the head of the orders, tells the kernel to probe.  So each guest has the MAC address its emulator drew (random,
00:22:15:...), though all come from one state, and several can share a network.

How time behaves: the guest's clocks follow node's, and stand still between saving and going on: uptime continues
where the state was saved, and the date is set by the orders.  v86 sleeps between events, and all code is compiled
anew after going on, so the first time of anything is slow: on a busy host a `sleep 0.5` takes up to 0.9 s.

A fault of v86's (0.5.462, met in one upload out of ten): it gives up a NIC's interrupt that is withdrawn before the
processor takes it (as the ne2k driver does when it masks its NIC to send), yet keeps the cascade between the two
interrupt controllers marked as in service: the NIC is never heard of again, "transmit queue 0 timed out".  Setting
the cascade to level mode (port 4D0h, bit 2) has v86 withdraw the cascade too; the orders do so.

The relay is connected when the guest sends its first frame; up to 128 frames wait meanwhile; a relay that is gone is
tried again every 10 s.

Invariants:
1. A state's name has the key of all that it depends on: image, emulator, firmware, our boot program, NIC.
2. A state with its final name is complete (`v86_boot.mjs` renames it).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Literal

from .clock import keep_steady
from .console import Guest, GuestError
from .image import CACHE, I686, KERNEL_OPTIONS, Image, image, locked
from .packages import Apt, unpack

Nic = Literal["ne2k", "virtio"]

_BOOT = Path(__file__).with_name("v86_boot.mjs")
# ws is what gives node before version 22 a WebSocket.
_NPM = {"v86": "0.5.462", "ws": "8.23.0"}
# See "A fault of v86's".
_LEVEL_CASCADE = r"printf '\004' | dd of=/dev/port bs=1 seek=1232 conv=notrunc 2>/dev/null"
_MEMORY = 128 << 20
_BOOT_SECONDS = 300


class V86Guest(Guest):
    """Runs `script` in a guest of v86's whose NIC ("ne2k" or "virtio") is connected to `relay` (a ws:// URL).

    mac: an address for the NIC instead of its random one. See `Guest` for how to use it.
    """

    def __init__(self, script: str, *, relay: str, nic: Nic = "ne2k", mac: str = "") -> None:
        config = {**_machine(nic), "relay": relay, "state": str(state(nic))}
        orders = f"date -s @{int(time.time())} >/dev/null\n{_LEVEL_CASCADE}\nnic {mac}\n{script}"
        super().__init__(["node", str(_BOOT), json.dumps(config)], orders)


def state(nic: Nic) -> Path:
    """The file with the state of a machine that waits for its orders, made now (15 to 40 s) if it is not there."""
    built, machine = image(I686), _machine(nic)
    inputs = [built.key, json.dumps({**machine, "npm": _NPM}), _BOOT.read_text()]
    key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    path = CACHE / f"v86-{nic}-{key}.state"
    if not path.exists():
        with locked(f"v86-{nic}"):
            if not path.exists():
                for old in CACHE.glob(f"v86-{nic}-*"):
                    old.unlink()
                _save(path, built, machine)
    return path


def _save(path: Path, built: Image, machine: dict[str, str | int]) -> None:
    config = {
        **machine,
        "kernel": str(built.kernel),
        "initrd": str(built.initrd),
        "cmdline": KERNEL_OPTIONS,
        "relay": "ws://127.0.0.1:9/",
        "save": str(path),
    }
    # Standard input stays open: the program ends when it does.
    with subprocess.Popen(
        [*keep_steady(), "node", str(_BOOT), json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as node:
        try:
            node.wait(_BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            node.kill()
        assert node.stdout
        said = node.stdout.read()
    if not path.exists():
        raise GuestError(f"v86 did not come to its prompt within {_BOOT_SECONDS} s:\n{said[-3000:]}")


def _machine(nic: Nic) -> dict[str, str | int]:
    firmware = _firmware()
    return {
        "modules": str(_modules()),
        "bios": str(firmware / "bios.bin"),
        "vgabios": str(firmware / "vgabios-stdvga.bin"),
        "memory": _MEMORY,
        "nic": nic,
    }


def _firmware() -> Path:
    """The folder with SeaBIOS, from Debian's package."""
    folder = CACHE / "seabios"
    with locked("seabios"):
        if not folder.exists():
            partial = CACHE / "partial-seabios"
            partial.mkdir(exist_ok=True)
            wanted = ("usr/share/seabios/bios.bin", "usr/share/seabios/vgabios-stdvga.bin")
            for path, content in unpack(Apt(CACHE / "packages").fetch("seabios:all"), wanted.__contains__).items():
                (partial / Path(path).name).write_bytes(content)
            partial.rename(folder)
    return folder


def _modules() -> Path:
    """The folder of node's modules with v86 in it, installed by npm if it is not there."""
    folder = CACHE / "npm"
    with locked("npm"):
        for name, version in _NPM.items():
            package = folder / "node_modules" / name / "package.json"
            if not package.exists() or not json.loads(package.read_text())["version"].startswith(version):
                _npm_install(folder)
                break
    return folder / "node_modules"


def _npm_install(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": _NPM}))
    done = subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise GuestError(f"npm could not install v86: {done.stderr.strip()}")
