"""The kernel's initramfs format: a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/
buffer-format.rst of Linux), written without root, device nodes included."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field


@dataclass
class Archive:
    """Entries in the order added; a folder must come before what is in it."""

    _parts: list[bytes] = field(default_factory=list)

    def _add(self, path: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        name = path.encode() + b"\0"
        inode = len(self._parts) + 1
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in fields)
        self._parts.append(_padded(header + name) + _padded(content))

    def folder(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int) -> None:
        self._add(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def bytes(self) -> bytes:
        """The whole archive with its trailer."""
        ending = Archive()
        ending._add("TRAILER!!!", 0)
        return b"".join(self._parts + ending._parts)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
