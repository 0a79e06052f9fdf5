"""Entries leave the tag index: exactly those, whatever else it holds, and only what held some of them is read."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.postings import Block, pack_block, pack_tail, unpack_block, unpack_tail
from lamport.seams import INLINE, Connection, Statement
from lamport.store import Store
from lamport.tag_removal import plan_removal
from tests.lamport.keys import member, open_store

HIGHEST = 2**63 - 1
NUMBERS = st.one_of(
    st.integers(0, 20), st.integers(2**53, 2**53 + 20), st.integers(HIGHEST - 20, HIGHEST)
)
"""Those at the edges and those that JSON's readers elsewhere round among them."""

Entries = dict[int, tuple[list[list[int]], list[int]]]
"""For each tag the keys of its blocks, and those of its tail."""

KEYS = st.lists(NUMBERS, min_size=1, max_size=6, unique=True)
INDEXES = st.dictionaries(
    NUMBERS, st.tuples(st.lists(KEYS.map(sorted), max_size=4), KEYS), max_size=4
)


class Counting:
    """A connection that counts the bytes of what is read through it."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner
        self.read = 0

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        rows = await self._inner.fetch(sql, parameters)
        self.read += sum(len(one) for row in rows for one in row if isinstance(one, bytes))
        return rows

    async def transact(self, statements: Any) -> None:
        await self._inner.transact(statements)

    async def close(self) -> None:
        """It is the store's to close."""


async def fill(store: Store, entries: Entries) -> None:
    blocks = [pack_block(tag, one) for tag, (parts, _) in entries.items() for one in parts]
    tails = [(tag, pack_tail(keys)) for tag, (_, keys) in entries.items()]
    await store.write(
        Statement("INSERT INTO tag_blocks VALUES (?, ?, ?, ?, ?)", [tuple(one) for one in blocks]),
        Statement("INSERT INTO tag_tails VALUES (?, ?)", tails),
    )


async def held(store: Store) -> set[tuple[int, int]]:
    """All entries of blocks and tails; blocks tell the truth about themselves."""
    found: set[tuple[int, int]] = set()
    rows = await store.reader.fetch("SELECT tag, first, last, size, keys FROM tag_blocks")
    for block in (Block(*row) for row in rows):
        keys = unpack_block(block.keys)
        assert (keys[0], keys[-1], len(keys)) == (block.first, block.last, block.size)
        found |= {(block.tag, key) for key in keys}
    for tag, data in await store.reader.fetch("SELECT tag, keys FROM tag_tails"):
        found |= {(tag, key) for key in unpack_tail(data)}
    return found


def every(entries: Entries) -> set[tuple[int, int]]:
    return {
        (tag, key)
        for tag, (parts, tail) in entries.items()
        for keys in (*parts, tail)
        for key in keys
    }


@settings(max_examples=60, deadline=None)
@given(INDEXES, st.sets(st.tuples(NUMBERS, NUMBERS), max_size=6), st.randoms())
def test_exactly_what_is_named_leaves_the_index(
    entries: Entries, strange: set[tuple[int, int]], randomness: Any
) -> None:
    there = every(entries)
    gone = {one for one in sorted(there) if randomness.random() < 0.5} | strange

    async def run(folder: Path) -> None:
        async with open_store(folder, member()) as store:
            await fill(store, entries)
            planned = await plan_removal(store.reader, store.tags, gone, INLINE)
            await store.write(*(one for one in planned if one.rows != []))
            assert await held(store) == there - gone

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def test_blocks_between_those_that_hold_what_leaves_are_not_read(tmp_path: Path) -> None:
    """A slow stream beside a busy one with the same tags: between its events there is any number of blocks."""

    async def run() -> None:
        parts = [list(range(at * 1_000, at * 1_000 + 999, 3)) for at in range(50)]
        async with open_store(tmp_path, member()) as store:
            await fill(store, {7: (parts, [60_000])})
            counting = Counting(store.reader)
            gone = {(7, parts[0][5]), (7, parts[-1][5])}
            planned = await plan_removal(counting, store.tags, gone, INLINE)
            ends = (pack_block(7, parts[0]), pack_block(7, parts[-1]))
            assert counting.read == sum(len(one.keys) for one in ends)
            await store.write(*(one for one in planned if one.rows != []))
            assert await held(store) == every({7: (parts, [60_000])}) - gone

    asyncio.run(run())
