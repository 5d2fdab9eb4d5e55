"""The hosts table of a stack."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence

from lwipy.addresses import IPAddress, parse_ip


class Hosts(MutableMapping[str, list[str]]):
    """A hosts table: names without regard to case to lists of numeric addresses."""

    def __init__(self) -> None:
        self._table: dict[str, list[str]] = {}

    @staticmethod
    def _key(name: str) -> str:
        return name.rstrip(".").lower()

    def __getitem__(self, name: str) -> list[str]:
        return self._table[self._key(name)]

    def __setitem__(self, name: str, addresses: Sequence[str | IPAddress] | str) -> None:
        several = [addresses] if isinstance(addresses, str) else list(addresses)
        self._table[self._key(name)] = [str(parse_ip(address)) for address in several]

    def __delitem__(self, name: str) -> None:
        del self._table[self._key(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __repr__(self) -> str:
        return repr(self._table)
