"""Guest images: a Debian kernel and an initramfs of busybox, the NICs' modules and our init, built from packages.

Theory of operation.  A flavour names a kernel package and the modules it is to have.  Building takes the kernel,
those modules and all they depend on (read from the modules themselves: no depmod needed), and busybox, and writes
kernel and initramfs into the cache, in a folder named after the recipe.  The guest does nothing by itself: its
init asks for a script on the serial console (`console.py`), so one image serves every test.

Invariants:
1. The recipe is the flavour and the text of the files that make the image; when it changes, so does the folder.
2. A folder that has the final name is complete: it is filled under another name and then renamed.
3. One process builds at a time; the others wait and find it done.
4. What the guest would unpack is unpacked here where its emulator allows: under emulation it costs seconds.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .cpio import Archive
from .packages import Apt, unpack

_HERE = Path(__file__).resolve().parent
CACHE = _HERE.parents[1] / ".cache" / "guests"
_RECIPE = ("cpio.py", "image.py", "init.sh", "lease.sh", "packages.py")


@dataclass(frozen=True)
class Flavour:
    """A kind of guest: the metapackage of its kernel, its architecture, its modules by name, and whether its
    emulator takes a kernel that is unpacked already."""

    name: str
    kernel: str
    architecture: str
    modules: tuple[str, ...]
    unpacked: bool


# For QEMU: the kernel that has the NICs of old machines too (the cloud kernel knows virtio alone).
AMD64 = Flavour("amd64", "linux-image-amd64", "amd64", ("virtio_pci", "virtio_net", "ne2k-pci", "e1000"), True)
# For v86, a 32-bit machine without PAE.
I686 = Flavour("i686", "linux-image-686", "i386", ("virtio_pci", "virtio_net", "ne2k-pci"), False)
FLAVOURS = (AMD64, I686)

# What slows a boot under emulation and no test needs: the kernel's own crypto tests (1 s) and CPU mitigations.
KERNEL_OPTIONS = "console=ttyS0,115200 quiet panic=-1 tsc=reliable mitigations=off cryptomgr.notests"


@dataclass(frozen=True)
class Image:
    """A built image: the paths of kernel and initramfs, and the key that names this build."""

    kernel: Path
    initrd: Path
    key: str


def image(flavour: Flavour) -> Image:
    """The image of `flavour`, built now (10 s and a download of 50 to 70 MB) if it is not in the cache.

    Raises PackageError when the packages cannot be had.
    """
    key = _key(flavour)
    folder = CACHE / f"{flavour.name}-{key}"
    if not folder.exists():
        with locked("build"):
            if not folder.exists():
                discard(f"{flavour.name}-*")
                _build(flavour, folder)
    return Image(folder / "kernel", folder / "initrd", key)


def _key(flavour: Flavour) -> str:
    recipe = repr(flavour).encode() + b"".join((_HERE / name).read_bytes() for name in _RECIPE)
    return hashlib.sha256(recipe).hexdigest()[:16]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the cache's lock `name` against other processes and threads."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def discard(pattern: str) -> None:
    """Removes from the cache the folders that match `pattern`, left by older recipes."""
    for old in CACHE.glob(pattern):
        shutil.rmtree(old)


def _build(flavour: Flavour, folder: Path) -> None:
    apt = Apt(CACHE / "packages")
    kernel = unpack(apt.fetch(apt.depends(f"{flavour.kernel}:{flavour.architecture}")), _is_kernel_part)
    busybox = unpack(apt.fetch(f"busybox-static:{flavour.architecture}"), lambda path: path == "bin/busybox")
    partial = CACHE / f"partial-{folder.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    (partial / "initrd").write_bytes(_initramfs(busybox["bin/busybox"], kernel, flavour.modules))
    vmlinuz = next(data for path, data in kernel.items() if path.startswith("boot/"))
    (partial / "kernel").write_bytes(_vmlinux(vmlinuz) if flavour.unpacked else vmlinuz)
    partial.rename(folder)


def _vmlinux(vmlinuz: bytes) -> bytes:
    """The ELF kernel that a bzImage holds: QEMU starts it as it is, and 5 s of unpacking xz in the guest are saved."""
    return lzma.LZMADecompressor().decompress(vmlinuz[vmlinuz.index(b"\xfd7zXZ\0") :])


def _is_kernel_part(path: str) -> bool:
    return bool(re.match(r"boot/vmlinuz|lib/modules/[^/]+/kernel/(drivers/(net|virtio)|net/core|lib)/.*\.ko$", path))


def _initramfs(busybox: bytes, kernel: dict[str, bytes], wanted: tuple[str, ...]) -> bytes:
    archive = Archive()
    for path in ("bin", "dev", "etc", "etc/udhcpc", "lib", "lib/modules", "proc", "run", "sys", "tmp"):
        archive.folder(path)
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("init", (_HERE / "init.sh").read_bytes(), 0o755)
    archive.file("etc/udhcpc/default.script", (_HERE / "lease.sh").read_bytes(), 0o755)
    # A static busybox resolves names only when told where to look.
    archive.file("etc/nsswitch.conf", b"hosts: files dns\n")
    archive.file("etc/hosts", b"127.0.0.1 localhost\n")
    _add_modules(archive, kernel, wanted)
    return archive.bytes()


def _add_modules(archive: Archive, kernel: dict[str, bytes], wanted: tuple[str, ...]) -> None:
    """Adds the modules, modules.dep as depmod(8) writes it, and the list of those that init is to load."""
    modules = {Path(path).stem: (path, data) for path, data in kernel.items() if path.endswith(".ko")}
    needs = {name: _depends(data) for name, (_, data) in modules.items()}
    release = next(iter(modules.values()))[0].split("/")[2]
    folder = f"lib/modules/{release}"
    archive.folder(folder)
    dependencies = ""
    for name in _closure(wanted, needs):
        archive.file(f"{folder}/{name}.ko", modules[name][1])
        # modprobe loads from the end of the line to its start: nearest need first, deepest last.
        chain = [need for need in reversed(_closure((name,), needs)) if need != name]
        dependencies += f"{name}.ko:" + "".join(f" {need}.ko" for need in chain) + "\n"
    archive.file(f"{folder}/modules.dep", dependencies.encode())
    archive.file("etc/modules", " ".join(wanted).encode())


def _depends(module: bytes) -> list[str]:
    """The modules that one needs, as its .modinfo section says."""
    found = re.search(rb"\0depends=([^\0]*)", module)
    return found[1].decode().split(",") if found and found[1] else []


def _closure(wanted: tuple[str, ...], needs: dict[str, list[str]]) -> list[str]:
    """`wanted` and all they need, each after what it needs."""
    order: list[str] = []

    def visit(name: str) -> None:
        for need in needs[name]:
            visit(need)
        if name not in order:
            order.append(name)

    for name in wanted:
        visit(name)
    return order
