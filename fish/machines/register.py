"""All instances by address, as a value that is cheap to change: the next one shares almost all of the last.

Addresses are spread over shelves by a checksum, which is the same everywhere. To put an instance in, its shelf is
copied, and no other: with ten thousand instances that is some hundred and sixty entries instead of all.
"""

import functools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fish.machines.instance import Instance

SHELVES = 64
"""As many entries are copied for the shelves themselves; more would cost small systems, fewer large ones."""

KNOWN_ADDRESSES = 16_384
"""Addresses whose shelf is remembered: those that events name again and again."""

_EMPTY: Mapping[str, Instance] = {}


@dataclass(frozen=True, slots=True)
class Register(Mapping[str, Instance]):
    """Instances by address. Immutable; `put` gives the next one."""

    shelves: tuple[Mapping[str, Instance], ...] = ()

    def put(self, instances: Mapping[str, Instance]) -> "Register":
        """With these instances in place of those of the same addresses."""
        shelves = list(self.shelves) or [_EMPTY] * SHELVES
        for address, instance in instances.items():
            number = _shelf(address)
            shelves[number] = {**shelves[number], address: instance}
        return Register(tuple(shelves))

    def changed_since(self, before: "Register") -> Iterator[tuple[str, Instance | None]]:
        """The addresses whose instances are other objects than before, with what stands there now."""
        for old, new in _pairs(before.shelves, self.shelves):
            if old is not new:
                yield from ((name, one) for name, one in new.items() if old.get(name) is not one)
                yield from ((name, None) for name in old if name not in new)

    def __getitem__(self, address: str) -> Instance:
        if not self.shelves:
            raise KeyError(address)
        return self.shelves[_shelf(address)][address]

    def __iter__(self) -> Iterator[str]:
        for shelf in self.shelves:
            yield from shelf

    def __len__(self) -> int:
        return sum(map(len, self.shelves))


@functools.lru_cache(maxsize=KNOWN_ADDRESSES)
def _shelf(address: str) -> int:
    return zlib.crc32(address.encode()) % SHELVES


def _pairs(
    old: tuple[Mapping[str, Instance], ...], new: tuple[Mapping[str, Instance], ...]
) -> Iterator[tuple[Mapping[str, Instance], Mapping[str, Instance]]]:
    return zip(old or (_EMPTY,) * SHELVES, new or (_EMPTY,) * SHELVES, strict=True)
