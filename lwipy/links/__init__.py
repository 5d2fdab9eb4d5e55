"""Links: where an interface's frames come from and go to."""

from lwipy.links.base import Link

__all__ = ["Link"]
