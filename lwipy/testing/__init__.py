"""Tools for tests of programs that use lwipy; its own tests use the same."""

from lwipy.testing.failure import fail
from lwipy.testing.time import VirtualTime

__all__ = ["VirtualTime", "fail"]
