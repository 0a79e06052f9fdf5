"""What was just written is sent from memory: the very range that would be read from the disk."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lamport.chain import SealedRange
from lamport.errors import DamagedRange
from lamport.event import draft
from lamport.ids import StreamId
from lamport.latest import MAX_KEPT_EVENTS, MAX_KEPT_STREAMS
from lamport.log import EventLog
from lamport.reader import Reader
from lamport.routes import Policy, Route, Routes
from lamport.sqlite import SqliteDisk
from lamport.store import Store
from lamport.tags import Tag
from tests.lamport.keys import Author, member, open_log

BOB = member("bob")
FEW = Routes([Route(Tag("few"), "few", Policy(max_events=4))])

ATTEMPTS = 20
"""Pruning makes fewer steps for what is written here."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.sampled_from(["few", "all"]), min_size=1)),
        st.tuples(st.just("receive"), st.integers(1, 4)),
        st.tuples(st.just("give up"), st.integers(1, 8)),
    ),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
@example([("publish", ["few"] * 9), ("publish", ["few"]), ("publish", ["few"])])
@example([("publish", ["all"]), ("publish", ["all"] * (MAX_KEPT_EVENTS + 1))])
@example([("receive", 4), ("give up", 3), ("receive", 1)])
def test_what_is_kept_in_memory_is_what_stands_on_the_disk(steps: list[tuple[str, object]]) -> None:
    async def go(folder: Path) -> None:
        bob = Author(BOB)
        async with open_log(folder, routes=FEW) as log:
            for kind, given_ in steps:
                await done(log, bob, kind, given_)
                await answered_alike(log, folder)

    with TemporaryDirectory() as folder:
        asyncio.run(go(Path(folder)))


async def done(log: EventLog, bob: Author, kind: str, given_: object) -> None:
    if isinstance(given_, list):
        await log.publish([draft([tag], None) for tag in given_])
    elif isinstance(given_, int) and kind == "receive":
        await log.receive(bob.count(given_))
    elif isinstance(given_, int) and bob.horizon < given_ <= bob.head.offset:
        await log.follow_horizon(bob.give_up(given_))


def questions(log: EventLog) -> Iterator[tuple[StreamId, int, int]]:
    """At the beginnings of all streams, and around their ends."""
    for stream, head in list(log.store.heads.items()):
        yield stream, 0, 100
        for back in range(4):
            for limit in (1, 3, 100):
                yield stream, max(0, head.offset - back), limit


async def answered_alike(log: EventLog, folder: Path) -> None:
    """Hold what is pushed against the disk; while a horizon moves, the disk may know of it before the log does."""
    differing: object = None
    for _ in range(ATTEMPTS):
        asked = list(questions(log))
        told = [await log.serving.pushed_range(*one) for one in asked]
        with suppress(DamagedRange):  # so it looks to who reads beside a writer that prunes
            stored = await on_disk(folder, asked)
            if told == stored:
                return
            differing = told, stored
    raise AssertionError(f"{differing}"[:500])


async def on_disk(
    folder: Path, asked: Sequence[tuple[StreamId, int, int]]
) -> list[SealedRange | None]:
    store = await Store.open_to_read(SqliteDisk(folder), member())
    try:
        return [await Reader(store).sealed_range(*one) for one in asked]
    finally:
        await store.close()


def reads_of(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the disk from now on."""
    asked: list[str] = []
    fetch = log.store.reader.fetch

    async def noted(sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        asked.append(sql)
        return await fetch(sql, parameters)

    monkeypatch.setattr(log.store.reader, "fetch", noted)
    return asked


def test_what_was_just_published_is_sent_without_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            asked = reads_of(log, monkeypatch)
            await log.publish([draft(["one"], 1)])
            assert await log.serving.pushed_range(log.stream, 0, 1) is not None
            assert asked == []
            await log.publish([draft(["many"], n) for n in range(MAX_KEPT_EVENTS + 1)])
            assert await log.serving.pushed_range(log.stream, 1, 1_000) is not None
            assert asked != [], "so much is not kept"

    asyncio.run(go())


def test_of_more_streams_than_are_kept_the_latest_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            authors = [Author(member(f"{n}")) for n in range(MAX_KEPT_STREAMS + 1)]
            for author in authors:
                await log.receive(author.count(1))
            asked = reads_of(log, monkeypatch)
            for author in authors[1:]:
                await log.serving.pushed_range(author.stream, 0, 1)
            assert asked == []
            await log.serving.pushed_range(authors[0].stream, 0, 1)
            assert asked != []

    asyncio.run(go())
