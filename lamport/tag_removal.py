"""Taking entries out of the tag index, for events that are deleted.

The index is written in bulk, so what is taken out is taken out of the bulk: tails and blocks that hold some of it are
written anew without it. Entries that no merge has taken yet stay. `plan_removal` reads and works out the statements;
they belong into the transaction that deletes the events. Nothing else may change the index in between.
"""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from lamport.errors import DamagedIndex
from lamport.postings import (
    pack_block,
    pack_tail,
    unpack_block,
    unpack_tail,
)
from lamport.seams import Connection, Statement, Work
from lamport.tag_index import TagIndex

_NEAR = """
SELECT b.rowid, b.tag, b.first, b.last FROM json_each(?) AS span
JOIN tag_blocks AS b ON b.tag = json_extract(span.value, '$[0]')
AND b.first <= json_extract(span.value, '$[2]') AND b.last >= json_extract(span.value, '$[1]')
"""
"""Where the blocks of each tag are that overlap the keys from its first to its last: the index alone tells."""

_BLOCKS = "SELECT rowid, tag, keys FROM tag_blocks WHERE rowid IN (SELECT value FROM json_each(?))"

Entries = set[tuple[int, int]]
"""Pairs of a tag's hash and an event's key."""


async def plan_removal(
    connection: Connection, tags: TagIndex, entries: Entries, work: Work
) -> Sequence[Statement]:
    """Work out how these entries leave the index; nothing changes yet."""
    gone: defaultdict[int, list[int]] = defaultdict(list)
    for tag, key in sorted(entries):
        gone[tag].append(key)
    tails = await tags.tails(gone)
    spans = json.dumps([(tag, keys[0], keys[-1]) for tag, keys in gone.items()])
    # Two questions: hundreds would take as long as all the rest. A slow stream's keys may have any number of blocks
    # between them, so that only those are read that may hold some.
    near = await connection.fetch(_NEAR, (spans,))
    wanted = [one for one, tag, first, last in near if _may_hold(first, last, gone[tag])]
    blocks = await connection.fetch(_BLOCKS, (json.dumps(wanted),))
    return await work.run(_without, gone, tails, blocks)


def _may_hold(first: int, last: int, keys: Sequence[int]) -> bool:
    """Whether a block from one key to another may hold some of these keys."""
    place = bisect_left(keys, first)
    return place < len(keys) and keys[place] <= last


def _without(
    gone: Mapping[int, Sequence[int]], tails: Mapping[int, bytes], blocks: Sequence[Any]
) -> list[Statement]:
    return [*_tails_without(gone, tails), *_blocks_without(gone, blocks)]


def _tails_without(
    gone: Mapping[int, Sequence[int]], tails: Mapping[int, bytes]
) -> Iterator[Statement]:
    kept: dict[int, list[int]] = {}
    for tag, keys in tails.items():
        with suppress(DamagedIndex):  # as below
            kept[tag] = _kept(unpack_tail(keys), gone[tag])
    yield Statement(
        "UPDATE tag_tails SET keys = ? WHERE tag = ?",
        [(pack_tail(keys), tag) for tag, keys in kept.items() if keys],
    )
    yield Statement(
        "DELETE FROM tag_tails WHERE tag = ?", [(tag,) for tag, keys in kept.items() if not keys]
    )


def _blocks_without(
    gone: Mapping[int, Sequence[int]], blocks: Sequence[Any]
) -> Iterator[Statement]:
    changed: list[Any] = []
    emptied: list[Any] = []
    for rowid, tag, data in blocks:
        try:
            kept = _kept(unpack_block(data), gone[tag])
        except DamagedIndex:
            continue  # damaged on the disk: `verify --heal` makes the index anew
        if kept:
            block = pack_block(tag, kept)
            changed.append((block.first, block.last, block.size, block.keys, rowid))
        else:
            emptied.append((rowid,))
    yield Statement(
        "UPDATE tag_blocks SET first = ?, last = ?, size = ?, keys = ? WHERE rowid = ?", changed
    )
    yield Statement("DELETE FROM tag_blocks WHERE rowid = ?", emptied)


def _kept(keys: Sequence[int], gone: Sequence[int]) -> list[int]:
    leaving = set(gone)
    return [key for key in keys if key not in leaving]
