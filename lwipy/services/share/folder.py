"""The walk through the shared folder that never leaves it.

Theory of operation. A path is walked one name at a time from the root, each directory opened relative to
the one before it (`openat`) and never through a link (`O_NOFOLLOW`). A link met on the way is read and its
target takes its place among the names still to be walked; `..`, which only targets hold, starts again from
the root with one name fewer. So the walk itself decides where a link leads, not the kernel, and there is no
moment between a check and a use: what is swapped for a link meanwhile is met as a link or refused by
O_NOFOLLOW. The last name is opened, renamed or removed relative to the directory reached. At most two
directories are open at a time, however deep the path.

Where the host has no `openat` (Windows), directories are known by path: a link is resolved the same way,
anything else that redirects (a junction) is caught by comparing real paths at the end of the walk, and a
file is compared with what lies at its real path after it was opened. That is sound against guests, who
cannot make links, but not against a process of the host that swaps directories at that very moment.

1. No entry is reached that does not lie below the root, mount points and hard links counting as being where
   they are.
2. A name starting with PARTIAL (uploads that are not whole) is never reached.
3. Only regular files and directories are opened: a FIFO or a device is refused unopened, and never waited
   for.
4. Everything a function opened is closed when it raises; a Directory or Found given out is closed by `with`.

Everything here blocks: it is called in threads. Errors are OSErrors as the host gives them, and Outside.
"""

# pathlib cannot say "relative to an open directory".
# ruff: noqa: PTH100, PTH116, PTH117, PTH118, PTH208

import errno
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PARTIAL = ".lwipy-partial-"
MAX_LINKS = 40  # as Linux has it (path_resolution(7))
BY_DESCRIPTOR = {
    os.open,
    os.stat,
    os.readlink,
    os.mkdir,
    os.rmdir,
    os.unlink,
    os.rename,
} <= os.supports_dir_fd

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_DIRECTORY = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
READ = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | getattr(os, "O_BINARY", 0)

Check = Callable[[os.stat_result | None], None]  # raises to forbid changing an entry that has this status


class Outside(PermissionError):
    """A link leads out of the shared folder."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "leads out of the shared folder")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing: size in bytes, modified in seconds since 1970."""

    name: str
    is_directory: bool
    size: int
    modified: float


class Directory:
    """An open directory below the root: by descriptor, or by path where the host has no openat."""

    __slots__ = ("descriptor", "path")

    def __init__(self, path: str, descriptor: int | None) -> None:
        self.path = path
        self.descriptor = descriptor

    def at(self, name: str) -> str:
        """What to hand to an `os` function together with `dir_fd=self.descriptor`."""
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def child(self, name: str) -> "Directory":
        """The directory `name` in this one, never through a link: NotADirectoryError or OSError (ELOOP)."""
        path = os.path.join(self.path, name)
        if self.descriptor is None:
            return Directory(path, None)
        return Directory(path, os.open(name, _DIRECTORY, dir_fd=self.descriptor))

    def status(self, name: str) -> os.stat_result:
        """`lstat` of an entry."""
        return os.stat(self.at(name), dir_fd=self.descriptor, follow_symlinks=False)

    def target(self, name: str) -> str:
        """What the link `name` says; `name` itself if it is no link any more, to be looked at again."""
        try:
            return os.readlink(self.at(name), dir_fd=self.descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return name

    def open(self, name: str, flags: int) -> int:
        """A descriptor of the file `name`, never through a link."""
        descriptor = os.open(self.at(name), flags, 0o666, dir_fd=self.descriptor)
        if self.descriptor is None:
            try:
                _require_real(self.at(name))
                if not os.path.samestat(os.fstat(descriptor), os.stat(self.at(name))):
                    raise Outside
            except OSError:
                os.close(descriptor)
                raise
        return descriptor

    def replace(self, old: str, new: str) -> None:
        """Renames `old` to `new`, in one step in place of what `new` was."""
        os.replace(self.at(old), self.at(new), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def unlink(self, name: str) -> None:
        """Removes the entry of a file or link."""
        os.unlink(self.at(name), dir_fd=self.descriptor)

    def names(self) -> list[str]:
        """All names in this directory, in no order."""
        return os.listdir(self.path if self.descriptor is None else self.descriptor)

    def close(self) -> None:
        """Idempotent."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path leads: the entry `name` of the open directory `parent`, status None if there is none yet.

    The name "" stands for `parent` itself (the root has no parent to be an entry of).
    """

    parent: Directory
    name: str
    status: os.stat_result | None

    @property
    def is_directory(self) -> bool:
        """Whether there is a directory."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)

    def regular(self) -> os.stat_result:
        """The status of the regular file that this is, or an OSError as `require_regular` raises."""
        return require_regular(self.status)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parent.close()


class Folder:
    """The shared folder. `changing` is held while an entry is checked and changed: both are one step."""

    def __init__(self, root: Path, *, by_descriptor: bool = BY_DESCRIPTOR) -> None:
        if not root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "the folder to share is no directory", str(root))
        self.root = os.path.realpath(root)
        self._given = os.path.abspath(root)
        self._by_descriptor = by_descriptor
        self.changing = threading.Lock()

    def find(self, names: Sequence[str], *, follow: bool = True) -> Found:
        """Walks to the last of `names`, which need not exist; through it if it is a link and `follow` is set.

        FileNotFoundError or NotADirectoryError for a parent that is none, Outside, OSError (ELOOP) for
        links in a ring.
        """
        here = self._open_root()
        walked: list[str] = []
        ahead = deque(names)
        links = 0
        try:
            while ahead:
                name = ahead.popleft()
                if name == "..":
                    if not walked:
                        raise Outside
                    ahead.extendleft(reversed(walked[:-1]))
                    here, walked = self._instead(here, self._open_root()), []
                    continue
                if name.casefold().startswith(PARTIAL):
                    raise PermissionError(errno.EPERM, "the name is kept for uploads under way")
                status = _status_or_none(here, name) if not ahead else here.status(name)
                if status is not None and stat.S_ISLNK(status.st_mode) and (ahead or follow):
                    links += 1
                    if links > MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    absolute, steps = self._steps(here.target(name))
                    ahead.extendleft(reversed(steps))
                    if absolute:
                        here, walked = self._instead(here, self._open_root()), []
                    continue
                if not ahead:
                    if here.descriptor is None:
                        _require_real(here.path)
                    return Found(here, name, status)
                here = self._instead(here, here.child(name))
                walked.append(name)
            # Only an empty path or a link to a directory above itself ends here.
            return Found(here, "", os.stat(here.path if here.descriptor is None else here.descriptor))
        except BaseException:
            here.close()
            raise

    def directory(self, names: Sequence[str]) -> Directory:
        """Opens a directory. NotADirectoryError if it is something else."""
        with self.find(names) as found:
            if found.status is None:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            # "." is the directory itself, for which there is no entry to go by.
            directory = found.parent.child(found.name or ".")
        if directory.descriptor is None:
            _require_real(directory.path)
        return directory

    def is_directory(self, names: Sequence[str]) -> bool:
        """Whether there is a directory; False too where there is nothing."""
        try:
            with self.find(names) as found:
                return found.is_directory
        except (FileNotFoundError, NotADirectoryError):
            return False

    def entries(self, names: Sequence[str]) -> list[Entry]:
        """What a guest may see in a directory: files and directories, links as what they lead to.

        Left out is what could not be fetched: uploads under way, special files, links that lead outside or
        nowhere.
        """
        with self.directory(names) as directory:
            return sorted(
                self._visible(directory, names),
                key=lambda entry: (not entry.is_directory, entry.name.casefold(), entry.name),
            )

    def make_directory(self, names: Sequence[str]) -> None:
        """FileExistsError if there is something already, FileNotFoundError if the parent is missing."""
        with self.find(names, follow=False) as found:
            if found.status is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            os.mkdir(found.parent.at(found.name), dir_fd=found.parent.descriptor)

    def delete(self, names: Sequence[str], check: Check) -> None:
        """Removes a file, a link (not what it leads to) or a directory; ENOTEMPTY if it is not empty."""
        with self.find(names, follow=False) as found, self.changing:
            if not found.name:
                raise PermissionError(errno.EPERM, "the shared folder itself stays")
            status = found.parent.status(found.name)
            check(status)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(found.parent.at(found.name), dir_fd=found.parent.descriptor)
            else:
                found.parent.unlink(found.name)

    def _open_root(self) -> Directory:
        return Directory(self.root, os.open(self.root, _DIRECTORY) if self._by_descriptor else None)

    @staticmethod
    def _instead(old: Directory, new: Directory) -> Directory:
        old.close()
        return new

    def _steps(self, target: str) -> tuple[bool, list[str]]:
        """A link's target: (from the root?, names). Outside for an absolute one that is not below it."""
        absolute = os.path.isabs(target)
        if absolute:
            below = next((b for r in (self.root, self._given) if (b := _below(target, r)) is not None), None)
            if below is None:
                raise Outside
            target = below
        return absolute, [step for step in target.replace(os.sep, "/").split("/") if step not in ("", ".")]

    def _visible(self, directory: Directory, names: Sequence[str]) -> Iterator[Entry]:
        for name in directory.names():
            try:
                status: os.stat_result | None = directory.status(name)
                if status is not None and stat.S_ISLNK(status.st_mode):
                    with self.find([*names, name]) as found:
                        status = found.status
            except OSError:
                continue
            if status is None or name.casefold().startswith(PARTIAL):
                continue
            if stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                yield Entry(name, stat.S_ISDIR(status.st_mode), status.st_size, status.st_mtime)


def require_regular(status: os.stat_result | None) -> os.stat_result:
    """`status` if it is a regular file's; else FileNotFoundError, IsADirectoryError, PermissionError."""
    if status is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise PermissionError(errno.EACCES, "not a regular file")
    return status


def _status_or_none(directory: Directory, name: str) -> os.stat_result | None:
    try:
        return directory.status(name)
    except FileNotFoundError:
        return None


def _below(path: str, root: str) -> str | None:
    """`path` relative to `root` if its text lies below it, "" for the root itself."""
    if path == root:
        return ""
    prefix = root if root.endswith(os.sep) else root + os.sep
    return path[len(prefix) :] if os.path.normcase(path).startswith(os.path.normcase(prefix)) else None


def _require_real(path: str) -> None:
    """Outside if something on the way to `path` redirects it: a junction, a link not there a moment ago."""
    if os.path.normcase(os.path.realpath(path)) != os.path.normcase(os.path.normpath(path)):
        raise Outside
