"""Bodies from the guest into the folder: one raw body, or the files of a form.

A file has its name only when it is whole (see files.py): a body that ends early, says another length than
it has, stalls, or does not fit leaves what was there before. Nothing is held in memory but what is between
the connection and the disk, and the connection waits for the disk.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aiohttp import BodyPartReader, MultipartReader, web
from aiohttp.http import HttpVersion11
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import BadContentDispositionHeader, BadContentDispositionParam

from .conditions import judge
from .files import Partial, held
from .folder import Check, Folder
from .names import BadName, file_name, printable, printable_path
from .transfers import Reporter

T = TypeVar("T")
CHUNK = 256 * 1024  # bytes of a form read at a time
BATCH = 512 * 1024  # bytes gathered before a thread writes them: handing over costs as much as writing 100 KB

# What aiohttp's reader raises for a form that is none (the warnings: where they are turned into errors).
MALFORMED = (
    ValueError,
    AssertionError,
    RuntimeError,
    HttpProcessingError,
    BadContentDispositionHeader,
    BadContentDispositionParam,
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A file that has its name. `created`: there was none before; `status`: of what is there now."""

    names: list[str]
    created: bool
    status: os.stat_result


class Uploads:
    """Takes bodies in. max_bytes bounds one file; stall_timeout is in seconds without a byte."""

    def __init__(self, folder: Folder, reporter: Reporter, max_bytes: int | None, stall_timeout: float | None) -> None:
        self._folder = folder
        self._reporter = reporter
        self._max_bytes = max_bytes
        self._stall_timeout = stall_timeout

    async def body(self, request: web.Request, names: list[str]) -> Stored:
        """Stores the request's body under `names`. OSError as Partial raises, or an HTTP error."""
        require_plain(request)
        length = request.content_length
        if length is None and "Transfer-Encoding" not in request.headers:
            raise web.HTTPLengthRequired(text="say how long the body is: Content-Length, or chunked\n")
        self._require_small(length or 0)

        async def chunks() -> AsyncGenerator[bytes, None]:
            await invite(request)
            received = 0
            while data := await request.content.readany():
                received += len(data)
                yield data
            if length is not None and received != length:
                raise ConnectionResetError(f"{received} of {length} bytes came")

        return await self._store(request, names, chunks(), partial(judge, request), length)

    async def form(self, request: web.Request, directory: list[str], stored: list[Stored]) -> None:
        """Stores the files of a form (RFC 7578) in `directory`, adding each to `stored` as it gets its name.

        Form fields that are no files and file fields left empty are passed over. HTTPBadRequest for a form
        that is none or that ends early, BadName for a file name that is none, else as `body`.
        """
        require_plain(request)
        await invite(request)
        try:
            reader = MultipartReader(request.headers, request.content)
            while (part := await within(self._stall_timeout, reader.next())) is not None:
                if not isinstance(part, BodyPartReader):
                    raise web.HTTPBadRequest(text="a form within a form is not taken\n")
                encoding = part.headers.get("Content-Transfer-Encoding", "binary").lower()
                if encoding not in ("binary", "8bit", "7bit"):
                    raise web.HTTPUnsupportedMediaType(text=f"send the file as it is, not as {encoding!r}\n")
                if name := file_name(part.headers.get("Content-Disposition")):
                    stored.append(await self._store(request, [*directory, name], _chunks(part), anything, None))
                else:
                    await self._pass_over(part)
        except BadName:
            raise
        except MALFORMED as error:
            raise web.HTTPBadRequest(text=f"not a whole multipart form: {printable(str(error))}\n") from error

    async def _store(
        self,
        request: web.Request,
        names: list[str],
        chunks: AsyncGenerator[bytes, None],
        check: Check,
        expected: int | None,
    ) -> Stored:
        upload = Partial(self._folder, names, check, expected)
        path = printable_path(names)
        with self._reporter.transfer(request.remote or "?", request.method, path, expected) as moved:
            async with held(upload), aclosing(chunks):
                total = 0
                batch: list[bytes] = []
                while data := await within(self._stall_timeout, anext(chunks, b"")):
                    total += len(data)
                    self._require_small(total)
                    batch.append(data)
                    if sum(map(len, batch)) >= BATCH:
                        # Meanwhile the next data gathers in aiohttp's bounded buffer.
                        await asyncio.to_thread(upload.write, batch)
                        batch = []
                    moved(len(data))
                await asyncio.to_thread(upload.write, batch)
                created = await asyncio.to_thread(upload.commit)
                return Stored(names, created, upload.status)

    async def _pass_over(self, part: BodyPartReader) -> None:
        while not part.at_eof():
            await within(self._stall_timeout, part.read_chunk(CHUNK))

    def _require_small(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            raise web.HTTPRequestEntityTooLarge(
                max_size=self._max_bytes,
                actual_size=size,
                text=f"a file may have {self._max_bytes} bytes here\n",
            )


async def within(seconds: float | None, awaitable: Awaitable[T]) -> T:
    """The result of `awaitable`; HTTPRequestTimeout (408) if there is none in that time."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"nothing came for {seconds} s\n") from None


def require_plain(request: web.Request) -> None:
    """HTTP errors for bodies that would be stored as something else than the file they stand for.

    A part of a file (Content-Range, RFC 9110 section 14.5) would take the place of the whole; a compressed
    body (Content-Encoding) would arrive unpacked, at any size.
    """
    if "Content-Range" in request.headers:
        raise web.HTTPBadRequest(text="a part of a file cannot be stored: send the whole file\n")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise web.HTTPUnsupportedMediaType(
            headers={"Accept-Encoding": "identity"},
            text=f"send the file as it is, without Content-Encoding {encoding!r}\n",
        )


async def expectation(request: web.Request) -> None:
    """aiohttp's expect_handler: HTTPExpectationFailed for the unknown; 100 Continue waits for `invite`."""
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() != "100-continue":
        raise web.HTTPExpectationFailed(text=f"unknown Expect: {request.headers['Expect']!r}\n")


async def invite(request: web.Request) -> None:
    """Tells a client that waits (Expect: 100-continue) to send its body: nothing speaks against it now."""
    if request.version >= HttpVersion11 and "Expect" in request.headers:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # aiohttp counts the answer proper


async def _chunks(part: BodyPartReader) -> AsyncGenerator[bytes, None]:
    while not part.at_eof():
        if data := await part.read_chunk(CHUNK):
            yield bytes(data)


def anything(status: os.stat_result | None) -> None:
    """The check of what has no conditions, as forms have none: whatever is there may be replaced."""
