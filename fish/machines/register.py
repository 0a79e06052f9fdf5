"""All instances by address, as a value that is cheap to change: the next one shares almost all of the last.

Addresses are spread over shelves by a checksum, which is the same everywhere, and the shelves stand in racks. To put an
instance in, its shelf and its rack are copied, and no other: with ten thousand instances that is some seventy entries
instead of all.
"""

import functools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fish.machines.addresses import KNOWN_ADDRESSES
from fish.machines.instance import Instance

RACKS, SHELVES = 16, 16
"""Racks, and shelves in each: both are copied for every change. More would cost small systems, fewer large ones."""

Shelf = Mapping[str, Instance]
Rack = tuple[Shelf, ...]

_EMPTY: Shelf = {}
_EMPTY_RACKS: tuple[Rack, ...] = ((_EMPTY,) * SHELVES,) * RACKS


@dataclass(frozen=True, slots=True)
class Register(Mapping[str, Instance]):
    """Instances by address. Immutable; `put` gives the next one."""

    racks: tuple[Rack, ...] = ()

    def put(self, instances: Mapping[str, Instance]) -> "Register":
        """With these instances in place of those of the same addresses."""
        racks = list(self.racks or _EMPTY_RACKS)
        for address, instance in instances.items():
            number, place = _place(address)
            rack = list(racks[number])
            rack[place] = {**rack[place], address: instance}
            racks[number] = tuple(rack)
        return Register(tuple(racks))

    def changed_since(self, before: "Register") -> Iterator[tuple[str, Instance | None]]:
        """The addresses whose instances are other objects than before, with what stands there now."""
        for old, new in _pairs(before.racks, self.racks):
            if old is not new:
                yield from ((name, one) for name, one in new.items() if old.get(name) is not one)
                yield from ((name, None) for name in old if name not in new)

    def get(self, address: str, default: Any = None) -> Any:
        """The instance at an address; the fold asks for each event, so without a detour."""
        if not self.racks:
            return default
        number, place = _place(address)
        return self.racks[number][place].get(address, default)

    def __getitem__(self, address: str) -> Instance:
        found: Instance | None = self.get(address)
        if found is None:
            raise KeyError(address)
        return found

    def __iter__(self) -> Iterator[str]:
        for rack in self.racks:
            for shelf in rack:
                yield from shelf

    def __len__(self) -> int:
        return sum(len(shelf) for rack in self.racks for shelf in rack)


@functools.lru_cache(maxsize=KNOWN_ADDRESSES)
def _place(address: str) -> tuple[int, int]:
    return divmod(zlib.crc32(address.encode()) % (RACKS * SHELVES), SHELVES)


def _pairs(old: tuple[Rack, ...], new: tuple[Rack, ...]) -> Iterator[tuple[Shelf, Shelf]]:
    """The shelves of two registers side by side, without those in racks that are the same."""
    for mine, others in zip(old or _EMPTY_RACKS, new or _EMPTY_RACKS, strict=True):
        if mine is not others:
            yield from zip(mine, others, strict=True)
