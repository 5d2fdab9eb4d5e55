"""A directory as a page, for the browsers of every decade, and as JSON.

The page is HTML 3.2 (W3C, 1997): a table, no style, no script, nothing to load. Uploading needs the file
field of RFC 1867, which browsers have had since 1996; making and deleting are plain forms. Hidden values
are percent-encoded names, which survive browsers that know no UTF-8.
"""

import json
import os
import time
from collections.abc import Iterable
from html import escape

from .folder import Entry
from .names import encoded

_PAGE = """\
<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">
<HTML>
<HEAD>
<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=utf-8">
<TITLE>{title}</TITLE>
</HEAD>
<BODY>
<H1>{title}</H1>
{body}
</BODY>
</HTML>
"""

_TABLE = """\
<TABLE BORDER=0 CELLPADDING=3>
<TR>{choice}<TH ALIGN=LEFT>Name</TH><TH ALIGN=RIGHT>Size</TH><TH ALIGN=LEFT>Changed (UTC)</TH></TR>
{rows}
</TABLE>
<P>{summary}</P>"""

_UPLOAD = """\
<HR>
<FORM METHOD="POST" ACTION="./" ENCTYPE="multipart/form-data">
<P>Upload files: <INPUT TYPE="FILE" NAME="file" MULTIPLE> <INPUT TYPE="SUBMIT" VALUE="Upload"></P>
</FORM>
<FORM METHOD="POST" ACTION="./">
<P>New folder: <INPUT TYPE="TEXT" NAME="mkdir" SIZE=30> <INPUT TYPE="SUBMIT" VALUE="Make"></P>
</FORM>"""


def page(names: list[str], entries: list[Entry], *, writable: bool) -> bytes:
    """The directory `names` as HTML, UTF-8."""
    rows = [_parent(writable)] if names else []
    rows += (_row(entry, writable) for entry in entries)
    choice = "<TH></TH>" if writable else ""
    body = _TABLE.format(choice=choice, rows="\n".join(rows), summary=_summary(entries))
    if writable:
        body = (
            f'<FORM METHOD="POST" ACTION="./">\n{body}\n'
            f'<P><INPUT TYPE="SUBMIT" VALUE="Delete what is ticked"></P>\n</FORM>\n{_UPLOAD}'
        )
    title = "Index of /" + "".join(_shown(name) + "/" for name in names)
    return _PAGE.format(title=title, body=body).encode()


def as_json(entries: Iterable[Entry]) -> bytes:
    """The directory as JSON: a list of {"name", "href", "directory", "size" (bytes), "modified" (Unix time)}.

    "href" is the name percent-encoded, exact even where "name" had to be mended because it is not UTF-8.
    """
    return json.dumps(
        [
            {
                "name": os.fsencode(entry.name).decode("utf-8", "replace"),
                "href": encoded(entry.name) + ("/" if entry.is_directory else ""),
                "directory": entry.is_directory,
                "size": None if entry.is_directory else entry.size,
                "modified": entry.modified,
            }
            for entry in entries
        ],
        indent=1,
    ).encode()


def _row(entry: Entry, writable: bool) -> str:
    slash = "/" if entry.is_directory else ""
    name = encoded(entry.name)
    choice = f'<TD><INPUT TYPE="CHECKBOX" NAME="delete" VALUE="{name}"></TD>' if writable else ""
    size = "-" if entry.is_directory else f"{entry.size:,}"
    return (
        f'<TR>{choice}<TD><A HREF="{name}{slash}">{_shown(entry.name)}{slash}</A></TD>'
        f"<TD ALIGN=RIGHT>{size}</TD><TD>{_date(entry.modified)}</TD></TR>"
    )


def _parent(writable: bool) -> str:
    choice = "<TD></TD>" if writable else ""
    return f'<TR>{choice}<TD><A HREF="../">../</A></TD><TD ALIGN=RIGHT>-</TD><TD></TD></TR>'


def _summary(entries: list[Entry]) -> str:
    files = [entry for entry in entries if not entry.is_directory]
    return f"{len(entries) - len(files)} folders, {len(files)} files, {sum(file.size for file in files):,} bytes"


def _shown(name: str) -> str:
    """A name as HTML text: escaped, bytes that are not UTF-8 as replacement characters."""
    return escape(os.fsencode(name).decode("utf-8", "replace"))


def _date(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "?"
