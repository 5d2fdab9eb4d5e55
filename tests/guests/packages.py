"""Debian packages for the guests, fetched and unpacked without root.

Theory of operation.  apt keeps its knowledge in folders that can all be named on the command line, so a private
set of them below the cache gives a second apt: any architecture, no root, nothing of the machine's own state read
or changed.  Where packages come from is derived from the machine's own sources; only the release is ours, so that
every machine builds the same guests.

Invariants:
1. Nothing outside the cache folder is written.
2. Packages come from the Debian release `RELEASE`, signed by Debian's own keys, whatever the machine runs.
3. A package file that is there is not fetched again.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

RELEASE = "bookworm"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class PackageError(Exception):
    """apt or dpkg could not do what was asked; the text has its own words."""


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise PackageError(f"{' '.join(command[:1] + command[-2:])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _repositories() -> list[str]:
    """The machine's own Debian repositories (their addresses), asked of apt."""
    codename = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    targets = _run(["apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"])
    rows = [row.split(maxsplit=2) for row in targets.splitlines()]
    found = {row[2] for row in rows if codename and len(row) == 3 and row[:2] == [codename[1], "main"]}
    if not found:
        raise PackageError("apt's sources name no Debian repository to fetch guest packages from")
    return sorted(found)


class Apt:
    """A private apt below `folder`, for packages of amd64 and i386 (named as apt does: NAME:ARCHITECTURE)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = folder / "files"
        for needed in ("lists/partial", "cache/archives/partial", "files"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        options = {
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "APT::Architecture": "amd64",
            "APT::Architectures::": "i386",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        self._options = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._updated = False

    def _update(self) -> None:
        if self._updated:
            return
        sources = "".join(f"deb [signed-by={KEYRING}] {uri} {RELEASE} main\n" for uri in _repositories())
        (self._folder / "sources.list").write_text(sources)
        _run(["apt-get", *self._options, "update"])
        self._updated = True

    def depends(self, package: str) -> str:
        """The one package that the metapackage `package` stands for, architecture included."""
        self._update()
        shown = _run(["apt-cache", *self._options, "depends", package])
        found = re.search(r"Depends: (\S+)", shown)
        if not found:
            raise PackageError(f"{package} depends on nothing: {shown!r}")
        return f"{found[1].partition(':')[0]}:{package.partition(':')[2]}"

    def fetch(self, package: str) -> Path:
        """The .deb of `package`, downloaded and checked by apt."""
        name, _, architecture = package.partition(":")
        there = list(self._files.glob(f"{name}_*_{architecture}.deb"))
        if not there:
            self._update()
            _run(["apt-get", *self._options, "download", package], cwd=self._files)
            there = list(self._files.glob(f"{name}_*_*.deb"))
        return there[0]


def unpack(deb: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The contents of those files of a package whose path (no leading ./) is `wanted`, without unpacking the rest."""
    files: dict[str, bytes] = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as dpkg:
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as tar:
            for member in tar:
                path = member.name.removeprefix("./")
                content = tar.extractfile(member) if member.isfile() and wanted(path) else None
                if content:
                    files[path] = content.read()
    if dpkg.returncode:
        raise PackageError(f"dpkg-deb could not read {deb}")
    return files
