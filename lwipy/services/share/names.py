"""Names: from a URL or a form to one component of a path, and back to what a page or a terminal may show.

A name is a `str` as `os.fsdecode` makes it: bytes that are not UTF-8 are surrogates, so every file of the
host can be named and `os.fsencode` gives its very bytes back. A URL carries those bytes percent-encoded.
"""

import os
import re
from email.message import Message
from urllib.parse import quote, unquote_to_bytes

# What Windows cannot have in a name, or reads as something else: streams, drives, devices, dropped trailing
# dots.
_NOT_ON_WINDOWS = re.compile(
    r'[\\:*?"<>|\x00-\x1f]|[. ]$|^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\.|$)',
    re.IGNORECASE,
)


class BadName(ValueError):
    """A name that is no single component of a path; its text says which and why."""


def checked(name: str, *, windows: bool = os.name == "nt") -> str:
    """`name` if it can name one entry of a folder; BadName for "", "." and "..", a slash or a NUL in it."""
    if name in ("", ".", ".."):
        raise BadName(f"{name!r} names no entry of a folder")
    if "/" in name or "\0" in name:
        raise BadName(f"{printable(name)!r}: a name holds no slash and no NUL")
    if windows and _NOT_ON_WINDOWS.search(name):
        raise BadName(f"{printable(name)!r}: not a name that Windows can have")
    return name


def checked_new(name: str) -> str:
    """`checked`, for a name that a guest makes: no control characters, which could forge log lines."""
    if any(ord(character) < 32 or ord(character) == 127 for character in checked(name)):
        raise BadName(f"{printable(name)!r}: a new name holds no control characters")
    return name


def components(raw_path: str) -> list[str]:
    """The names in an undecoded URL path: "/a%20b//c/" is ["a b", "c"]. BadName for "..", %2F, %00.

    Each component is decoded once, after the split: what an encoding hides can neither part a name nor join
    two.
    """
    pieces = raw_path.encode("utf-8", "surrogateescape").split(b"/")
    return [checked(decoded(piece)) for piece in pieces if piece]


def decoded(quoted: str | bytes) -> str:
    """The name that percent-encoded bytes stand for; BadName where this host cannot hold it."""
    try:
        return os.fsdecode(unquote_to_bytes(quoted))
    except UnicodeDecodeError as error:
        raise BadName(f"{quoted!r}: not a name on this host") from error


def encoded(name: str) -> str:
    """`name` for a URL or a form field: ASCII, every byte but letters, digits and `_.-~` percent-encoded."""
    return quote(os.fsencode(name), safe="")


def url_path(names: list[str], *, directory: bool = False) -> str:
    """The absolute URL path of `names`, percent-encoded, one slash between two names."""
    path = "/" + "/".join(map(encoded, names))
    return path + "/" if directory and names else path


def printable(name: str) -> str:
    """`name` as text that is safe to print: undecodable bytes and control characters as \\xNN or \\uNNNN."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def printable_path(names: list[str]) -> str:
    """The path of `names` from the root of the share, as `printable` text for people."""
    return printable("/" + "/".join(names))


def file_name(disposition: str | None) -> str | None:
    """The base name of the file that a part's Content-Disposition names, None for no file (RFC 7578, 4.2).

    "" is what a browser sends for a field left empty. Browsers have sent whole paths of their own host
    (`C:\\x\\y.txt`, `../../x`): what stands after the last slash or backslash counts, and BadName says if
    that is no name. The standard library's parser is used because aiohttp's drops single backslashes, which
    would give `C:xy.txt`.
    """
    header = Message()
    # Raw bytes as Latin-1, so that the parser passes them through whatever their encoding.
    header["Content-Disposition"] = (disposition or "").encode("utf-8", "surrogateescape").decode("latin-1")
    value = header.get_param("filename", None, "content-disposition")
    if value is None:
        return None
    if isinstance(value, tuple):  # RFC 2231: charset, language, text
        try:
            given = value[2].encode("latin-1").decode(value[0] or "utf-8")
        except (UnicodeError, LookupError) as error:
            raise BadName(f"a file name in the unreadable encoding {value[0]!r}") from error
    else:
        given = os.fsdecode(value.encode("latin-1"))
    return checked_new(re.split(r"[/\\]", given)[-1]) if given else ""
