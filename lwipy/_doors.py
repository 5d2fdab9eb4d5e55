"""A stack's doors to the room above: the names of the socket module, for code that blocks.

Only the names of the contract reach up, and only when they are used.
"""

from __future__ import annotations

import importlib
import socket
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lwipy.blocking.socket import Socket


def _blocking() -> ModuleType:
    return importlib.import_module("lwipy.blocking")


class Doors:
    """The part of :class:`lwipy.Stack` that makes sockets and knows names as the socket module does."""

    def socket(
        self,
        family: int = socket.AF_INET,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        fileno: int | None = None,
    ) -> Socket:
        """As :class:`socket.socket`; `fileno` is what a stack's socket gave by fileno() or detach()."""
        sock: Socket = _blocking().Socket(self, family, type, proto, fileno)
        return sock

    def create_connection(self, address: tuple[str | None, int], *arguments: Any, **keywords: Any) -> Socket:
        """As :func:`socket.create_connection`."""
        sock: Socket = _blocking().create_connection(self, address, *arguments, **keywords)
        return sock

    def create_server(self, address: tuple[str, int], **keywords: Any) -> Socket:
        """As :func:`socket.create_server`."""
        sock: Socket = _blocking().create_server(self, address, **keywords)
        return sock

    def getaddrinfo(
        self, host: str | bytes | None, port: int | str | bytes | None, *arguments: Any, **keywords: Any
    ) -> list[Any]:
        """As :func:`socket.getaddrinfo`."""
        found: list[Any] = _blocking().getaddrinfo(self, host, port, *arguments, **keywords)
        return found

    def gethostbyname(self, hostname: str) -> str:
        """As :func:`socket.gethostbyname`: the first IPv4 address."""
        return str(_blocking().gethostbyname(self, hostname))

    def gethostbyname_ex(self, hostname: str) -> tuple[str, list[str], list[str]]:
        """As :func:`socket.gethostbyname_ex`: name, aliases and IPv4 addresses."""
        found: tuple[str, list[str], list[str]] = _blocking().gethostbyname_ex(self, hostname)
        return found

    def gethostbyaddr(self, ip_address: str) -> tuple[str, list[str], list[str]]:
        """As :func:`socket.gethostbyaddr`, by the hosts table."""
        found: tuple[str, list[str], list[str]] = _blocking().gethostbyaddr(self, ip_address)
        return found

    def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """As :func:`socket.getnameinfo`, by the hosts table."""
        found: tuple[str, str] = _blocking().getnameinfo(self, sockaddr, flags)
        return found
