"""Which method does what to the shared folder.

    GET, HEAD   a file, or a directory as a page (`?json` or Accept: application/json: as JSON)
    PUT         the body becomes the file at the path                          201 created, 200 replaced
    POST        to a directory: a form (files to upload; mkdir; delete)        303 back to the page
                to any other path: as PUT
    DELETE      a file or an empty directory                                   200
    MKCOL       a directory (RFC 4918, 9.3)                                    201
    OPTIONS     what is allowed                                                204

Everything but GET, HEAD and OPTIONS is 403 unless the share is writable. Errors are short plain text: 400 a
path or form that is none, 403 links out of the folder and special files, 404, 409 a missing parent, a
directory where a file should be or one that is not empty, 411 no length, 412 a condition not met, 413 above
max_bytes, 507 disk full.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.http import HttpVersion11

from . import listing
from .conditions import judge, validators
from .download import download
from .folder import Folder
from .names import checked, checked_new, components, decoded, printable, printable_path, url_path
from .refusals import REFUSED, parent_missing, refusal
from .transfers import Observer, Reporter, logger
from .upload import Stored, Uploads, anything, expectation, invite, require_plain, within

_Handler = Callable[[web.Request, list[str], bool], Awaitable[web.StreamResponse]]


def application(
    root: Path,
    *,
    writable: bool = False,
    observer: Observer | None = None,
    max_bytes: int | None = None,
    stall_timeout: float | None = 600.0,
) -> web.Application:
    """The folder `root` as an aiohttp application.

    writable        whether guests may upload, make and delete observer        called with every Event of
    transfers.py max_bytes       the most one uploaded file may have; None: what the disk takes
    stall_timeout   seconds after which a transfer is given up that has not moved one byte (an upload) or
    half a MiB (a download; the default leaves room for a serial line); None: never

    NotADirectoryError if `root` is no directory, ValueError for a limit that is not positive.
    """
    for name, limit in (("max_bytes", max_bytes), ("stall_timeout", stall_timeout)):
        if limit is not None and limit <= 0:
            raise ValueError(f"{name} is {limit!r}: expected a positive number, or None for no limit")
    share = _Share(Folder(root), writable, Reporter(observer), max_bytes, stall_timeout)
    app = web.Application()
    app.router.add_route("*", r"/{path:[\s\S]*}", share.handle, expect_handler=expectation)
    return app


class _Share:
    def __init__(
        self,
        folder: Folder,
        writable: bool,
        reporter: Reporter,
        max_bytes: int | None,
        stall_timeout: float | None,
    ) -> None:
        self._folder = folder
        self._reporter = reporter
        self._stall_timeout = stall_timeout
        self._uploads = Uploads(folder, reporter, max_bytes, stall_timeout)
        self._writable = writable
        reading: dict[str, _Handler] = {"GET": self._get, "HEAD": self._get, "OPTIONS": self._options}
        self._writing: dict[str, _Handler] = {
            "PUT": self._put, "POST": self._post, "DELETE": self._delete, "MKCOL": self._mkcol
        }  # fmt: skip
        self._handlers = reading | self._writing
        self._allowed = ", ".join(self._handlers if writable else reading)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request, errors included."""
        try:
            return await self._dispatch(request)
        except ConnectionError:
            # Nobody is left to answer, and Reporter has told; aiohttp finds it closed and is silent.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=400)
        except REFUSED as error:
            answer = refusal(error)
        log = logger.error if answer.status == 500 else logger.info
        why = answer.text or answer.status
        log("%s %s %s: %s", request.remote, request.method, printable(request.path), why)
        if "Expect" in request.headers:
            answer.force_close()  # whether the body follows all the same, only the client knows
        raise answer

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        handler = self._handlers.get(request.method)
        if handler is None:
            raise web.HTTPMethodNotAllowed(
                request.method, self._allowed.split(", "), text=f"{request.method} is not done here\n"
            )
        if request.method in self._writing and not self._writable:
            raise web.HTTPForbidden(
                headers={"Allow": self._allowed},
                text="this share is read-only (its owner can start it with --writable)\n",
            )
        raw = request.rel_url.raw_path
        return await handler(request, components(raw), raw.endswith("/"))

    async def _options(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        return web.Response(status=204, headers={"Allow": self._allowed, "Accept-Ranges": "bytes"})

    async def _get(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        if slash:
            return await self._list(request, names)
        try:
            return await download(request, self._folder, names, self._reporter, self._stall_timeout)
        except IsADirectoryError:
            query = f"?{request.query_string}" if request.query_string else ""
            raise web.HTTPFound(url_path(names, directory=True) + query) from None

    async def _list(self, request: web.Request, names: list[str]) -> web.StreamResponse:
        def listed() -> bytes:
            entries = self._folder.entries(names)
            return listing.as_json(entries) if json else listing.page(names, entries, writable=self._writable)

        json = "json" in request.query or "application/json" in request.headers.get("Accept", "")
        return web.Response(
            body=await asyncio.to_thread(listed),
            content_type="application/json" if json else "text/html",
            charset=None if json else "utf-8",
            headers={"Cache-Control": "no-cache", "Vary": "Accept"},
        )

    async def _put(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        if slash:
            raise web.HTTPConflict(text=f"{request.method} needs the path that the file is to have\n")
        with parent_missing():
            stored = await self._uploads.body(request, names)
        return web.Response(
            status=201 if stored.created else 200,
            text=_report([stored]),
            headers={
                **validators(stored.status),
                **({"Location": url_path(names)} if stored.created else {}),
            },
        )

    async def _post(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        if not slash and not await asyncio.to_thread(self._folder.is_directory, names):
            return await self._put(request, names, slash)
        if request.content_type == "multipart/form-data":
            report = await self._upload_form(request, names)
        elif request.content_type == "application/x-www-form-urlencoded":
            report = await self._change_form(request, names)
        else:
            raise web.HTTPUnsupportedMediaType(
                text="a directory takes multipart/form-data; a raw body goes to the path it is to have\n"
            )
        # 303 came with HTTP/1.1; older browsers follow a 302 the same way.
        status = 303 if request.version >= HttpVersion11 else 302
        return web.Response(status=status, headers={"Location": url_path(names, directory=True)}, text=report)

    async def _upload_form(self, request: web.Request, names: list[str]) -> str:
        stored: list[Stored] = []
        try:
            await self._uploads.form(request, names, stored)
            if not stored:
                raise web.HTTPBadRequest(text="no file was chosen\n")
            return _report(stored)
        except REFUSED as error:
            answer = _after(_report(stored), error)
        raise answer

    async def _change_form(self, request: web.Request, names: list[str]) -> str:
        """Does what the page's own forms say: mkdir holds a name, every delete a percent-encoded one."""
        require_plain(request)
        await invite(request)
        body = await within(self._stall_timeout, request.read())
        done = ""
        try:
            for field, value in parse_qsl(body.decode("utf-8", "surrogateescape"), errors="surrogateescape"):
                if field == "mkdir":
                    path = [*names, checked_new(value)]
                    await asyncio.to_thread(self._folder.make_directory, path)
                    done += f"made {printable_path(path)}/\n"
                elif field == "delete":
                    path = [*names, checked(decoded(value))]
                    await asyncio.to_thread(self._folder.delete, path, anything)
                    done += f"deleted {printable_path(path)}\n"
            if not done:
                raise web.HTTPBadRequest(text="nothing to do: a form here has the field mkdir or delete\n")
            logger.info("%s POST: %s", request.remote, done.rstrip())
            return done
        except REFUSED as error:
            answer = _after(done, error)
        raise answer

    async def _delete(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        await asyncio.to_thread(self._folder.delete, names, partial(judge, request))
        return self._done(request, 200, f"deleted {printable_path(names)}\n")

    async def _mkcol(self, request: web.Request, names: list[str], slash: bool) -> web.StreamResponse:
        if request.can_read_body:
            raise web.HTTPUnsupportedMediaType(text="MKCOL has no body here\n")
        if names:
            checked_new(names[-1])
        try:
            with parent_missing():
                await asyncio.to_thread(self._folder.make_directory, names)
        except FileExistsError:
            raise web.HTTPMethodNotAllowed(
                "MKCOL", self._allowed.split(", "), text="there is something already\n"
            ) from None
        return self._done(request, 201, f"made {printable_path(names)}/\n")

    def _done(self, request: web.Request, status: int, text: str) -> web.Response:
        logger.info("%s %s: %s", request.remote, request.method, text.rstrip())
        return web.Response(status=status, text=text)


def _report(stored: list[Stored]) -> str:
    return "".join(f"stored {printable_path(file.names)}: {file.status.st_size} bytes\n" for file in stored)


def _after(done: str, error: Exception) -> web.HTTPException:
    """The refusal of what failed, preceded by what was done before it."""
    answer = refusal(error)
    answer.text = done + (answer.text or "")
    return answer
