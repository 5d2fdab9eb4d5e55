"""A folder of the host served over HTTP, both ways: list, download, upload, make and delete.

    application = share.application(Path("/srv/files"), writable=True, observer=print)

`application` gives an ordinary `aiohttp.web.Application`: it knows nothing of lwipy's core and runs on any
asyncio transport. HTTP itself is aiohttp's; here are the folder, the pages and the transfers:

    service.py      which method does what; `application`
    server.py       aiohttp's server on a stack; `serve`
    download.py     a file to the guest         conditions.py   ETag, dates, ranges (RFC 9110)
    upload.py       bodies from the guest       listing.py      the page, for browsers old and new
    files.py        open files, held safely     transfers.py    events: what moves
    folder.py       the walk that never leaves  names.py        names from URLs and forms
"""

try:
    import aiohttp as _aiohttp  # noqa: F401
except ImportError as error:
    raise ImportError("lwipy.services.share needs aiohttp, which is not installed: pip install lwipy[share]") from error

from .server import serve
from .service import application
from .transfers import Event, Finished, Observer, Progress, Started

__all__ = ["Event", "Finished", "Observer", "Progress", "Started", "application", "serve"]
