"""Open files of the folder, held so that nothing leaks whatever becomes of the request.

Theory of operation. Everything on files runs in threads, while the request that asked for it may be
cancelled in the event loop at any moment, a call in a thread still running. So a file is an object made
before it is opened; its calls take its lock one after another; `close` waits for the one under way, and a
call that comes after it does nothing. `held` calls close in every case.

1. A descriptor is closed exactly once, never under a call that uses it.
2. A Partial leaves either its whole file under the target's name or nothing: the bytes go to a hidden file
   beside the target, which is renamed over it in one step by `commit` and removed by `close` without it.
3. Two Partials of one target never mix; the one committed last is what stays.

A host process that is killed leaves its hidden files (PARTIAL in folder.py) behind; they are never served.
"""

import asyncio
import errno
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from .folder import CREATE, PARTIAL, READ, Check, Directory, Folder, require_regular
from .transfers import logger


class Reading:
    """A file being read. `status` is that of the very file that is open."""

    def __init__(self, folder: Folder, names: Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._closed = False
        self.status: os.stat_result

    def open(self) -> None:
        """Opens the file. FileNotFoundError, IsADirectoryError, PermissionError (special file, link out)."""
        with self._lock, self._folder.find(self._names) as found:
            found.regular()
            if self._closed:
                return
            self._descriptor = found.parent.open(found.name, READ)
            # Looked at again: what was a regular file may have been swapped for a FIFO just before the open.
            self.status = require_regular(os.fstat(self._descriptor))

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; b"" past the end."""
        with self._lock:
            if self._descriptor is None:
                return b""
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)


class Partial:
    """A file on its way into the folder.

    `check` is given the status of what is there, None for nothing, before the first byte and again when the
    file takes its place; what it raises goes through. `expected` is the number of bytes to come, or None.
    """

    def __init__(self, folder: Folder, names: Sequence[str], check: Check, expected: int | None) -> None:
        self._folder = folder
        self._names = names
        self._check = check
        self._expected = expected
        self._lock = threading.Lock()
        self._closed = False
        self._directory: Directory | None = None
        self._descriptor: int | None = None
        self._hidden: str | None = None
        self._target = ""
        self.status: os.stat_result

    def open(self) -> None:
        """Makes the hidden file. OSError: ENOSPC if `expected` bytes do not fit, EISDIR, ENOENT."""
        with self._lock:
            if self._closed:
                return
            found = self._folder.find(self._names)
            # Ours from here on: close() closes it.
            self._directory, self._target = found.parent, found.name
            self._check(found.status)
            if found.status is not None:
                found.regular()
            hidden = PARTIAL + secrets.token_hex(8)
            self._descriptor = self._directory.open(hidden, CREATE)
            self._hidden = hidden
            if found.status is not None and hasattr(os, "fchmod"):
                # A private or executable file stays that.
                os.fchmod(self._descriptor, stat.S_IMODE(found.status.st_mode) & 0o777)
            self._require_space(self._descriptor)

    def write(self, pieces: Sequence[bytes]) -> None:
        """Appends all of `pieces`, in order. OSError: ENOSPC, EFBIG, EDQUOT, EIO."""
        with self._lock:
            if self._descriptor is None:
                return
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]

    def commit(self) -> bool:
        """Puts the file in its place; True if there was none. The data may not be on the disk yet."""
        with self._lock:
            if self._directory is None or self._descriptor is None or self._hidden is None:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            self.status = os.fstat(self._descriptor)
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)  # before the rename: some file systems only now say that the disk is full
            with self._folder.changing:
                try:
                    there: os.stat_result | None = self._directory.status(self._target)
                except FileNotFoundError:
                    there = None
                self._check(there)
                if there is not None:
                    require_regular(there)
                self._directory.replace(self._hidden, self._target)
            self._hidden = None
            return there is None

    def close(self) -> None:
        """Removes what was not committed. Idempotent."""
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            hidden, self._hidden = self._hidden, None
            directory, self._directory = self._directory, None
            if descriptor is not None:
                with suppress(OSError):  # of a write long past, to a file that goes now
                    os.close(descriptor)
            if directory is None:
                return
            with directory:
                try:
                    if hidden is not None:
                        directory.unlink(hidden)
                except OSError as error:
                    logger.warning("a partial upload stays in %r as %s: %s", directory.path, hidden, error)

    def _require_space(self, descriptor: int) -> None:
        """Better to say no at once than to fill the host's disk first."""
        if self._expected is None or not hasattr(os, "fstatvfs"):
            return
        disk = os.fstatvfs(descriptor)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < self._expected:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Openable(Protocol):
    def open(self) -> None: ...
    def close(self) -> None: ...


@asynccontextmanager
async def held(file: _Openable) -> AsyncIterator[None]:
    """Opens `file` in a thread and closes it at the end, also when the task is cancelled in between."""
    try:
        await asyncio.to_thread(file.open)
        yield
    finally:
        # Submitted before anything is awaited: a second cancellation does not stop it.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, file.close))
