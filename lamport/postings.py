"""Postings: which events bear a tag, as lists of row keys.

A commit gives *entries*, pairs of a tag's hash and an event's row key; they are stored as they come, as one *run*. A
merge groups the entries of several runs by tag and hangs each group on the tag's *tail*, plain keys in the order they
came. A tail that has grown to a *block* or more is cut up: blocks are sorted, kept as differences, compressed, and
never written again. Pure functions.
"""

import struct
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import accumulate
from operator import sub
from typing import NamedTuple

from lamport.errors import DamagedIndex

BLOCK_KEYS = 256
"""Keys of a block: a million are four thousand rows; a tail, which each merge writes anew, has half as many."""

_KEY_BYTES = 8

_KEPT_TAG_HASHES = 65_536
_KEPT_TAG_LISTS = 4_096


@lru_cache(maxsize=_KEPT_TAG_HASHES)
def tag_hash(tag: str) -> int:
    """63 bits by which the tag index knows a tag. Two tags may share them; readers look at the event's own tags."""
    return int.from_bytes(blake2b(tag.encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=_KEPT_TAG_LISTS)
def tag_hashes(tags: tuple[str, ...]) -> tuple[int, ...]:
    """The hashes of an event's tags."""
    return tuple(map(tag_hash, tags))


class Block(NamedTuple):
    """A full block of one tag, a row of its table."""

    tag: int
    first: int
    last: int
    size: int
    keys: bytes


class Tail(NamedTuple):
    """The latest keys of one tag, a row of their table."""

    tag: int
    keys: bytes


class Merged(NamedTuple):
    """What a merge writes."""

    blocks: list[Block]
    tails: list[Tail]


_DAMAGED = "the tag index is damaged on this disk: stop the daemon and run `shoal verify --heal`"


def pack_numbers(numbers: Sequence[int]) -> bytes:
    """64-bit integers, little endian."""
    return struct.pack(f"<{len(numbers)}q", *numbers)


def unpack_numbers(data: bytes) -> tuple[int, ...]:
    """What `pack_numbers` packed."""
    return struct.unpack(f"<{len(data) // _KEY_BYTES}q", data)


def pack_block(tag: int, keys: Sequence[int]) -> Block:
    """A block of these keys, which are sorted."""
    return Block(tag, keys[0], keys[-1], len(keys), _compressed(keys))


def unpack_block(data: bytes) -> Sequence[int]:
    """The keys of a block, rising.

    Raises:
        DamagedIndex: the disk altered it.
    """
    try:
        return tuple(accumulate(unpack_numbers(zlib.decompress(data))))
    except (zlib.error, struct.error, TypeError) as error:
        raise DamagedIndex(_DAMAGED) from error


def pack_tail(keys: Sequence[int]) -> bytes:
    """The sorted keys of a tail; never a multiple of eight bytes, by which a tail of plain keys is told."""
    data = _compressed(keys) if keys else b""
    return data + b"\0" if keys and len(data) % _KEY_BYTES == 0 else data


def unpack_tail(data: bytes) -> Sequence[int]:
    """The keys of a tail, those that an older program wrote are plain; raises as `unpack_block` does."""
    return unpack_block(data) if len(data) % _KEY_BYTES else unpack_numbers(data)


def _compressed(keys: Sequence[int]) -> bytes:
    steps = [keys[0], *map(sub, keys[1:], keys)]
    return zlib.compress(pack_numbers(steps), 1)


def grouped(runs: Iterable[bytes]) -> dict[int, list[int]]:
    """The keys of each tag in these runs, in the order they came."""
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for run in runs:
        numbers = unpack_numbers(run)
        for tag, key in zip(numbers[::2], numbers[1::2], strict=True):
            groups[tag].append(key)
    return groups


def merged(groups: Mapping[int, Sequence[int]], tails: Mapping[int, bytes]) -> Merged:
    """Hang each group on its tag's tail, and cut blocks off; by tag, as the tables are ordered."""
    result = Merged([], [])
    for tag in sorted(groups):
        keys = sorted([*unpack_tail(tails.get(tag, b"")), *groups[tag]])
        whole = len(keys) - len(keys) % BLOCK_KEYS
        parts = range(0, whole, BLOCK_KEYS)
        result.blocks.extend(pack_block(tag, keys[at : at + BLOCK_KEYS]) for at in parts)
        result.tails.append(Tail(tag, pack_tail(keys[whole:])))
    return result
