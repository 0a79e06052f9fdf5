"""Taking entries out of the tag index, for events that are deleted.

The index is written in bulk, so what is taken out is taken out of the bulk: runs, tails and blocks that hold some of it
are written anew without it. `plan_removal` reads and works out the statements; they belong into the transaction that
deletes the events, and `TagIndex.replace_runs` follows it. Nothing else may change the index in between.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from lamport.errors import DamagedIndex
from lamport.postings import (
    pack_block,
    pack_numbers,
    pack_tail,
    unpack_block,
    unpack_numbers,
    unpack_tail,
)
from lamport.seams import Connection, Statement, Work
from lamport.tag_index import Run, TagIndex

Entries = set[tuple[int, int]]
"""Pairs of a tag's hash and an event's key."""


class Removal(NamedTuple):
    """What takes entries out: statements for the tables, and the runs that are in memory afterwards."""

    statements: tuple[Statement, ...]
    runs: Sequence[Run]


async def plan_removal(
    connection: Connection, tags: TagIndex, entries: Entries, work: Work
) -> Removal:
    """Work out how these entries leave the index; nothing changes yet."""
    fresh = {one for one in entries if tags.is_fresh(*one)}
    runs = await work.run(_runs_without, tags.runs, fresh) if fresh else tags.runs
    changed = [
        (run.entries, run.id) for run, old in zip(runs, tags.runs, strict=True) if run != old
    ]
    gone: defaultdict[int, list[int]] = defaultdict(list)
    for tag, key in sorted(entries - fresh):
        gone[tag].append(key)
    tails = await tags.tails(gone)
    blocks = [block for tag in gone for block in await _blocks_with(connection, tag, gone[tag])]
    found = await work.run(_without, gone, tails, blocks)
    written = Statement("UPDATE tag_runs SET entries = ? WHERE id = ?", changed)
    return Removal((written, *found), runs)


def _runs_without(runs: Sequence[Run], gone: Entries) -> list[Run]:
    return [Run(run.id, _run_without(run.entries, gone)) for run in runs]


def _run_without(entries: bytes, gone: Entries) -> bytes:
    numbers = unpack_numbers(entries)
    kept = [one for one in zip(numbers[::2], numbers[1::2], strict=True) if one not in gone]
    return pack_numbers([number for one in kept for number in one])


async def _blocks_with(connection: Connection, tag: int, keys: Sequence[int]) -> list[Any]:
    """The blocks of a tag that may hold some of these keys."""
    places = await connection.fetch(
        "SELECT rowid, first, last FROM tag_blocks WHERE tag = ? AND first <= ? AND last >= ?",
        (tag, keys[-1], keys[0]),
    )
    found: list[Any] = []
    for rowid, first, last in places:
        place = bisect_left(keys, first)
        if place < len(keys) and keys[place] <= last:
            found += await connection.fetch(
                "SELECT rowid, tag, keys FROM tag_blocks WHERE rowid = ?", (rowid,)
            )
    return found


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
