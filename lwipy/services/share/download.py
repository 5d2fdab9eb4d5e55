"""A file of the folder to the guest.

Not by `aiohttp.web.FileResponse`: that opens a path by name, after everything was checked, answers with
`NAME.gz` where NAME was asked for, honours a Range whatever entity tag If-Range names, and its sendfile
reports no progress (and is no sendfile on a transport that is not a kernel socket).
"""

import asyncio
import mimetypes
from collections.abc import Callable

from aiohttp import web

from .conditions import byte_range, judge, validators
from .files import Reading, held
from .folder import Folder
from .names import printable_path
from .transfers import Reporter

CHUNK = 512 * 1024  # bytes read, and handed to the connection, at a time

_ARCHIVES = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


async def download(
    request: web.Request, folder: Folder, names: list[str], reporter: Reporter, stall_timeout: float | None
) -> web.StreamResponse:
    """Answers GET and HEAD for a file. OSError as `Reading.open` raises; HTTP errors by conditions.py.

    ConnectionAbortedError, for which the connection is to be cut, if the guest needs more than
    `stall_timeout` seconds for CHUNK bytes or the file shrinks on the way: it must not pass for whole.
    """
    file = Reading(folder, names)
    async with held(file):
        judge(request, file.status)
        part = byte_range(request, file.status)
        size = file.status.st_size
        response = web.StreamResponse(
            status=200 if part is None else 206,
            headers={"Accept-Ranges": "bytes", "Cache-Control": "no-cache", **validators(file.status)},
        )
        response.content_type = content_type(names[-1])
        if part is not None:
            response.headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
        else:
            part = range(size)
        response.content_length = len(part)
        await response.prepare(request)
        if request.method == "GET":
            with reporter.transfer(request.remote or "?", "GET", printable_path(names), len(part)) as moved:
                try:
                    await _send(response, file, part, moved, stall_timeout)
                except ConnectionError:
                    raise
                except (OSError, EOFError) as error:
                    # The head is out: another answer would pass for content, so the connection has to end.
                    raise ConnectionAbortedError(str(error)) from error
    return response


async def _send(
    response: web.StreamResponse,
    file: Reading,
    part: range,
    moved: Callable[[int], None],
    stall_timeout: float | None,
) -> None:
    offset = part.start
    while offset < part.stop:
        data = await asyncio.to_thread(file.read, offset, min(CHUNK, part.stop - offset))
        if not data:
            raise EOFError("the file became shorter while it was sent")
        try:
            async with asyncio.timeout(stall_timeout):
                await response.write(data)
        except TimeoutError:
            raise TimeoutError(f"the guest needs more than {stall_timeout} s for {len(data)} bytes") from None
        offset += len(data)
        moved(len(data))
    await response.write_eof()


def content_type(name: str) -> str:
    """The media type by a file's name; a compressed file is that, whatever is in it."""
    kind, encoding = mimetypes.guess_type("x" + name)  # a name such as "data:..." would be read as a URL
    if encoding is not None:
        return _ARCHIVES.get(encoding, "application/octet-stream")
    return kind or "application/octet-stream"
