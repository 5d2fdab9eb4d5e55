"""Errors as answers: which exception a guest sees as which status, with a line of text that says why."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from .names import BadName, printable

# The disk, the quota, the largest file: there is no room (RFC 4918, 11.5).
_FULL = [errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])]

_STATUS: dict[int | None, type[web.HTTPException]] = {
    errno.ENOENT: web.HTTPNotFound,
    errno.ENOTDIR: web.HTTPNotFound,
    errno.ELOOP: web.HTTPNotFound,
    errno.EACCES: web.HTTPForbidden,
    errno.EPERM: web.HTTPForbidden,
    errno.EROFS: web.HTTPForbidden,
    errno.ENAMETOOLONG: web.HTTPBadRequest,
    errno.EINVAL: web.HTTPBadRequest,  # a name that this file system cannot have
    errno.EILSEQ: web.HTTPBadRequest,
    errno.EEXIST: web.HTTPConflict,
    errno.ENOTEMPTY: web.HTTPConflict,
    errno.EISDIR: web.HTTPConflict,
    errno.EBUSY: web.HTTPConflict,
    errno.EMFILE: web.HTTPServiceUnavailable,
    errno.ENFILE: web.HTTPServiceUnavailable,
    errno.ENOMEM: web.HTTPServiceUnavailable,
    **dict.fromkeys(_FULL, web.HTTPInsufficientStorage),
}

REFUSED = (web.HTTPException, web.RequestPayloadError, BadName, OSError)


def refusal(error: Exception) -> web.HTTPException:
    """The answer to one of REFUSED. A lost connection (ConnectionError) has none: it is raised again."""
    match error:
        case web.HTTPException():
            return error
        case BadName():
            return web.HTTPBadRequest(text=f"{error}\n")
        case web.RequestPayloadError():
            return web.HTTPBadRequest(text=f"the body is malformed: {printable(str(error))}\n")
        case OSError() if not isinstance(error, ConnectionError):
            # Never str(error): that names paths of the host.
            return _STATUS.get(error.errno, web.HTTPInternalServerError)(text=f"{error.strerror or 'failed'}\n")
    raise error


@contextmanager
def parent_missing() -> Iterator[None]:
    """409, as MKCOL has it (RFC 4918, 9.3.1), when it is the parent of what is to be made that is missing."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise web.HTTPConflict(text="the folder that it is to lie in is not there\n") from None
