"""Host names as guests give them and as we hand them out (RFC 952, RFC 1123 section 2.1).

A guest's name is its own claim: what comes out of here is always one lower-case label of letters, digits
and inner hyphens, at most 63 long, or nothing.
"""

import re

# Names that mean something to other guests' software; whoever owned them could redirect its neighbours.
RESERVED = frozenset({"localhost", "wpad", "isatap"})

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_FOREIGN = re.compile(rb"[^a-z0-9-]+")


def hostname_from(raw: bytes) -> str | None:
    """The label to know a guest by that calls itself `raw` (DHCP option 12), or None if nothing is left.

    Only the first label of a full name counts; a run of foreign bytes becomes one hyphen.
    """
    if raw == b"(none)":  # what a Linux kernel is called that was never named
        return None
    first = raw.split(b"\0", 1)[0].split(b".", 1)[0].lower()
    label = _FOREIGN.sub(b"-", first).strip(b"-")[:63].strip(b"-").decode("ascii")
    return label if label and label not in RESERVED else None


def domain_from(text: str) -> str:
    """`text` as a domain in lower case without the last dot. ValueError if it is none."""
    domain = text.removesuffix(".").lower()
    if len(domain) > 189 or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        # 189: any host label of 63 bytes in front still makes a legal name of 253.
        raise ValueError(f"domain {text!r}: expected labels of letters, digits, hyphens, 189 bytes at most")
    return domain
