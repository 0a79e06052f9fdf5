"""The tag index: whatever is fresh, merged, cut into blocks or left by an older schema, the answers are the same."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import lamport.blocks
import lamport.compaction
import lamport.event_table
import lamport.postings
import lamport.reader
import lamport.tag_index
import lamport.tidying
from lamport.errors import DamagedIndex
from lamport.event import Event, draft
from lamport.log import EventLog
from lamport.postings import (
    merged,
    pack_block,
    pack_numbers,
    pack_tail,
    tag_hash,
    unpack_block,
    unpack_tail,
)
from lamport.reader import Order
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME
from lamport.tags import Tag
from tests.lamport.keys import Author, drafts, member, open_log, read_all
from tests.lamport.test_reader import (
    PEERS,
    QUESTIONS,
    STEPS,
    Question,
    Step,
    covering,
    expected,
)

SCHEMA_1 = Path(__file__).parent / "fixtures" / "schema-1.sqlite"
"""Seven events of ours and six of bob's, as a node of schema 1 left them: tags a, b, said, n:0, n:1, n:2."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Everything in twos and threes: a handful of events goes through all phases."""
    for module in (lamport.postings, lamport.tag_index):
        patch.setattr(module, "BLOCK_KEYS", 3)
    patch.setattr(lamport.tag_index, "MAX_RUN_ENTRIES", 2)
    patch.setattr(lamport.tag_index, "MAX_STEP_ENTRIES", 5)
    patch.setattr(lamport.tag_index, "NARROWING_BLOCKS", 2)
    patch.setattr(lamport.reader, "PAGE_EVENTS", 3)
    patch.setattr(lamport.tidying, "IDLE_S", 3_600.0)  # tests say when something is merged
    patch.setattr(lamport.blocks, "BLOCK_EVENTS", 2)
    patch.setattr(lamport.event_table, "BLOCK_EVENTS", 2)
    patch.setattr(lamport.event_table, "OPENED_BLOCKS", 2)
    patch.setattr(lamport.compaction, "IDLE_ROWS", 1)
    patch.setattr(lamport.compaction, "UNIT_EVENTS", 5)


@dataclass
class World:
    """A log, the peers it hears of, and its events as a list in memory."""

    peers: list[Author] = field(
        default_factory=lambda: [Author(member(f"peer {number}")) for number in range(PEERS)]
    )
    events: list[Event] = field(default_factory=list)

    async def happen(self, log: EventLog, step: Step) -> None:
        if step.peer is None:
            self.events.extend(await log.publish([draft(step.tags, None)]))
        else:
            author = self.peers[step.peer]
            sealed = author.say(author.head.lamport + step.ticks, tags=step.tags)
            self.events.extend(await log.receive(sealed))

    async def ask(self, log: EventLog, question: Question) -> None:
        streams = [log.stream, *(peer.stream for peer in self.peers)]
        at = question.after
        bounds: dict[str, Any] = {
            "lower": covering(streams, question.lower),
            "upper": covering(streams, question.upper),
            "after": self.events[at].key if at is not None and at < len(self.events) else None,
        }
        pages = log.read(question.where, order=question.order, **bounds)
        answer = [event async for page in pages for event in page]
        assert answer == expected(log, self.events, question, bounds)


# A part of a log's life: what happens, then how many steps of merging, then perhaps a restart, then questions.
LIVES = st.lists(st.tuples(STEPS, st.integers(0, 9), st.booleans(), QUESTIONS), max_size=4)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(LIVES)
def test_through_appends_receipts_merges_and_restarts_answers_equal_a_list_in_memory(
    lives: list[tuple[list[Step], int, bool, list[Question]]],
) -> None:
    async def live(folder: Path, world: World, parts: Iterator[Any]) -> bool:
        """Live until the next restart; whether there was one."""
        async with open_log(folder) as log:
            for steps, merges, restart, questions in parts:
                for step in steps:
                    await world.happen(log, step)
                for question in questions[:3]:
                    await world.ask(log, question)
                await merge(log, merges)
                for _ in range(merges):
                    await log.store.merge_events(INLINE)
                if restart:
                    return True
                for question in questions:
                    await world.ask(log, question)
        return False

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        make_small(patch)
        world, parts = World(), iter(lives)
        while asyncio.run(live(Path(name), world, parts)):
            pass


async def merge(log: EventLog, steps: int = 1_000) -> None:
    while steps and log.store.tags.entries:
        await log.store.merge_tags(INLINE)
        steps -= 1


def stored(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        return [value for (value,) in connection.execute(sql)]


@pytest.mark.usefixtures("small")
def test_a_merge_moves_runs_into_blocks_and_tails(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(7, "a", "b"))
            assert stored(tmp_path, "SELECT count(*) FROM tag_runs") == [7]
            await merge(log)
            assert await read_all(log, Tag("a") & Tag("b")) == list(published)

    asyncio.run(run())
    assert stored(tmp_path, "SELECT count(*) FROM tag_runs") == [0]
    assert stored(tmp_path, "SELECT size FROM tag_blocks") == [3, 3, 3, 3]
    assert [len(unpack_tail(keys)) for keys in stored(tmp_path, "SELECT keys FROM tag_tails")] == [
        1,
        1,
    ]


def test_a_commit_larger_than_a_run_is_cut(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(3_000, "a", "b"))

    asyncio.run(run())
    assert stored(tmp_path, "SELECT length(entries) / 16 FROM tag_runs") == [4_096, 1_904]


@pytest.mark.usefixtures("small")
def test_a_busy_log_merges_behind_its_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.tag_index, "MAX_FRESH", 10)
    monkeypatch.setattr(lamport.tag_index, "MAX_BACKLOG", 20)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(60, "a"))
            published += await log.publish(drafts(1, "a"))
            assert log.store.tags.entries <= 21
            assert await read_all(log, Tag("a")) == list(published)

    asyncio.run(run())


@pytest.mark.usefixtures("small")
def test_an_idle_log_merges_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lamport.tag_index, "IDLE_ENTRIES", 1)
    monkeypatch.setattr(lamport.tidying, "IDLE_S", 0.0)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(20, "a"))
            async with asyncio.timeout(60):
                while log.store.tags.entries:
                    await read_all(log, Tag("a"))
            assert await read_all(log, Tag("a")) == list(published)

    asyncio.run(run())


@pytest.mark.usefixtures("small")
def test_what_is_merged_while_a_page_is_read_is_neither_lost_nor_doubled(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(40, "a", "b"))
            for order in (Order.ASCENDING, Order.DESCENDING):
                seen: list[Event] = []
                async for page in log.read(Tag("a") & Tag("b"), order=order):
                    seen += page
                    await merge(log, 1)
                assert sorted(seen) == list(published)

    asyncio.run(run())


@pytest.mark.parametrize("step", [3, 16_384])
def test_a_database_of_schema_1_is_migrated_and_answers(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.tag_index, "MAX_STEP_ENTRIES", step)
    shutil.copy(SCHEMA_1, tmp_path / DATABASE_NAME)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            everything = await read_all(log)
            assert len(everything) == 13
            for name, count in [("a", 10), ("b", 4), ("said", 6), ("n:1", 1), ("c", 0)]:
                found = await read_all(log, Tag(name))
                assert found == [event for event in everything if name in event.tags]
                assert len(found) == count

    for _ in range(2):
        asyncio.run(run())
    assert stored(tmp_path, "SELECT count(*) FROM sqlite_schema WHERE name = 'tags'") == [0]


KEYS = st.sets(st.integers(0, 2**63 - 1), min_size=1).map(sorted)


@given(KEYS)
def test_a_block_gives_its_keys_back(keys: list[int]) -> None:
    block = pack_block(7, keys)
    assert (block.first, block.last, block.size) == (keys[0], keys[-1], len(keys))
    assert list(unpack_block(block.keys)) == keys


@given(KEYS, KEYS, st.sampled_from([pack_numbers, pack_tail]))
def test_a_tail_grows_and_blocks_are_cut_off(
    before: list[int], more: list[int], pack: Callable[[list[int]], bytes]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lamport.postings, "BLOCK_KEYS", 4)
        found = merged({7: more}, {7: pack(sorted(before))})
    keys = [key for block in found.blocks for key in unpack_block(block.keys)]
    tail = unpack_tail(found.tails[0].keys)
    assert len(keys) % 4 == 0
    assert len(tail) < 4
    assert sorted([*keys, *tail]) == sorted([*before, *more])
    assert keys == sorted(keys)


def test_a_tag_hash_has_63_bits_and_stays_what_it_was() -> None:
    assert tag_hash("a") == 2340832890917691671
    assert all(0 <= tag_hash(f"tag {n}") < 2**63 for n in range(1_000))


def test_a_tail_that_the_disk_altered_is_told_and_no_answer_is_made_of_it(tmp_path: Path) -> None:
    async def run(act: Callable[[EventLog], Awaitable[object]]) -> None:
        async with open_log(tmp_path) as log:
            await act(log)

    async def fill(log: EventLog) -> None:
        await log.publish(drafts(7, "a"))
        await log.store.merge_tags(INLINE)

    async def ask(log: EventLog) -> None:
        with pytest.raises(DamagedIndex, match="verify --heal"):
            await read_all(log, Tag("a"))
        assert len(await read_all(log)) == 7
        await log.publish(drafts(1, "b"))

    asyncio.run(run(fill))
    with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection, connection:
        connection.execute("UPDATE tag_tails SET keys = CAST(keys || x'00' AS BLOB)")
        connection.execute("UPDATE tag_tails SET keys = CAST(substr(keys, 5) AS BLOB)")
    asyncio.run(run(ask))
