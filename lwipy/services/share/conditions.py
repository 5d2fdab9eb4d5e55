"""Conditions and ranges of a request, judged by what lies in the folder (RFC 9110, sections 13 and 14)."""

import os
from collections.abc import Iterable
from datetime import datetime
from email.utils import formatdate

from aiohttp import ETag, web

ANY = "*"


def etag(status: os.stat_result) -> str:
    """The entity tag of a file, unquoted: another one after every change that the file system can tell."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def http_date(seconds: float) -> str | None:
    """Seconds since 1970 as an HTTP date; None where there is none (a file may be of the year 300000)."""
    try:
        return formatdate(int(seconds), usegmt=True)
    except (ValueError, OverflowError, OSError):
        return None


def validators(status: os.stat_result) -> dict[str, str]:
    """The headers by which a client asks for the same file again."""
    date = http_date(status.st_mtime)
    return {"ETag": f'"{etag(status)}"', **({"Last-Modified": date} if date else {})}


def judge(request: web.Request, status: os.stat_result | None) -> None:
    """Raises HTTPPreconditionFailed (412) or HTTPNotModified (304) if the request's conditions are not met.

    `status` is that of the file (or directory) that is there, None for nothing. Order and meaning: section
    13.2.2.
    """
    tag = None if status is None else etag(status)
    reading = request.method in ("GET", "HEAD")

    if request.if_match is not None:
        if not _matches(tag, (e for e in request.if_match if not e.is_weak)):
            raise web.HTTPPreconditionFailed(text="If-Match: the file has changed\n")
    elif _later(status, request.if_unmodified_since):
        raise web.HTTPPreconditionFailed(text="If-Unmodified-Since: the file has changed\n")

    if request.if_none_match is not None:
        known = _matches(tag, request.if_none_match)
    else:
        known = reading and request.if_modified_since is not None and not _later(status, request.if_modified_since)
    if known and status is not None:
        if reading:
            raise web.HTTPNotModified(headers=validators(status))
        raise web.HTTPPreconditionFailed(text="If-None-Match: the file is there\n")


def byte_range(request: web.Request, status: os.stat_result) -> range | None:
    """The one range of bytes asked for, None for the whole file. HTTPRequestRangeNotSatisfiable past it.

    Several ranges, other units and what cannot be read are ignored, as section 14.2 lets a server do: the
    client gets the whole file and sees so. If-Range is compared strictly, or a resumed download would be
    sewn from two files.
    """
    wanted = request.headers.get("If-Range")
    if request.method != "GET" or (wanted is not None and wanted.strip() not in validators(status).values()):
        return None
    try:
        span = request.http_range
    except ValueError:
        return None
    if span.start is None:
        return None
    size = status.st_size
    start, stop, _ = span.indices(size)
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(
            headers={"Content-Range": f"bytes */{size}"}, text=f"the file has {size} bytes\n"
        )
    return range(start, stop)


def _matches(tag: str | None, wanted: Iterable[ETag]) -> bool:
    return tag is not None and any(e.value in (ANY, tag) for e in wanted)


def _later(status: os.stat_result | None, date: datetime | None) -> bool:
    """Whether the file has changed after `date`, in whole seconds as HTTP dates are."""
    return status is not None and date is not None and int(status.st_mtime) > date.timestamp()
