"""Reading: whatever is asked, the store answers like a list in memory would."""

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import lamport.commit
import lamport.reader
from lamport.chain import MAX_SEALED_BYTES, chained
from lamport.event import Event, draft
from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.tags import ALL_EVENTS, Tag, Tags, Where
from tests.lamport.keys import (
    Author,
    drafts,
    event_bytes,
    gapless,
    member,
    open_log,
    read_all,
    taken,
)

NAMES = ("a", "b", "c")
PEERS = 3


@dataclass(frozen=True)
class Step:
    """One event comes to be: ours, or a peer's so many ticks behind its last."""

    peer: int | None
    ticks: int
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked; bounds are given as how many events of each stream they cover."""

    where: Where
    order: Order
    lower: tuple[int, ...] | None
    upper: tuple[int, ...] | None
    after: int | None


EVENT_TAGS = st.sets(st.sampled_from(NAMES)).map(lambda tags: tuple(sorted(tags)))
STEPS = st.lists(
    st.builds(
        Step, st.none() | st.integers(0, PEERS - 1), st.sampled_from([1, 1, 1, 2, 5]), EVENT_TAGS
    ),
    max_size=24,
)
SELECTIONS = st.recursive(
    st.sampled_from([ALL_EVENTS, Tag("nobody"), *map(Tag, NAMES)]),
    lambda inner: (
        st.builds(lambda a, b: a & b, inner, inner)
        | st.builds(lambda a, b: a | b, inner, inner)
        | inner.map(lambda where: where.local())
    ),
    max_leaves=4,
)
COVERED = st.none() | st.tuples(*[st.integers(0, 9)] * (PEERS + 1))
QUESTIONS = st.lists(
    st.builds(
        Question,
        SELECTIONS,
        st.sampled_from(Order),
        COVERED,
        COVERED,
        st.none() | st.integers(0, 20),
    ),
    min_size=6,
    max_size=12,
)


async def fill(log: EventLog, steps: Sequence[Step]) -> list[Event]:
    """Let it all happen; return the events as a list in memory."""
    peers = [Author(member(f"peer {number}")) for number in range(PEERS)]
    events: list[Event] = []
    for step in steps:
        if step.peer is None:
            events.extend(await log.publish([draft(step.tags, None)]))
        else:
            author = peers[step.peer]
            sealed = author.say(author.head.lamport + step.ticks, tags=step.tags)
            events.extend(await log.receive(sealed))
    return events


def covering(streams: Sequence[StreamId], counts: tuple[int, ...] | None) -> OffsetMap | None:
    if counts is None:
        return None
    return OffsetMap({s: count - 1 for s, count in zip(streams, counts, strict=True) if count})


def expected(
    log: EventLog, events: Sequence[Event], question: Question, bounds: dict[str, Any]
) -> list[Event]:
    lower, upper, after = bounds["lower"] or OffsetMap(), bounds["upper"], bounds["after"]
    chosen = [
        event
        for event in events
        if question.where.matches(event.tags, is_local=event.stream.node == log.node)
        and event.offset > lower.of(event.stream)
        and (upper is None or event.offset <= upper.of(event.stream))
        and (after is None or event.key > after)
    ]
    if question.order is Order.PER_STREAM:
        return sorted(chosen, key=lambda event: (event.stream, event.offset))
    return sorted(chosen, key=lambda event: event.key, reverse=question.order is Order.DESCENDING)


# Examples are small as they come, and each costs commits: shrinking one would take minutes.
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(STEPS, QUESTIONS)
def test_every_answer_equals_a_list_in_memory(steps: list[Step], questions: list[Question]) -> None:
    async def run(folder: Path) -> None:
        async with open_log(folder) as log:
            events = await fill(log, steps)
            streams = [log.stream, *(Author(member(f"peer {n}")).stream for n in range(PEERS))]
            for question in questions:
                at = question.after
                bounds: dict[str, Any] = {
                    "lower": covering(streams, question.lower),
                    "upper": covering(streams, question.upper),
                    "after": events[at].key if at is not None and at < len(events) else None,
                }
                pages = log.read(question.where, order=question.order, **bounds)
                answer = [event async for page in pages for event in page]
                assert answer == expected(log, events, question, bounds)

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(lamport.reader, "PAGE_EVENTS", 3)
        asyncio.run(run(Path(folder)))


def test_more_than_a_page_of_events_is_read_in_pages_without_gap_or_double(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(2_500, "a"))
            pages = [page async for page in log.read(Tag("a"))]
            assert len(pages) > 1
            assert all(pages)
            assert [event for page in pages for event in page] == list(published)
            backwards = await read_all(log, Tag("a"), Order.DESCENDING)
            assert backwards == [*reversed(published)]
            assert await read_all(log, order=Order.PER_STREAM) == list(published)

    asyncio.run(run())


@pytest.mark.parametrize("order", [Order.ASCENDING, Order.DESCENDING])
@pytest.mark.parametrize("tags", ["aaaaabbbbb", "aabaaaabbb", "ababaaaaab"])
def test_alternatives_that_are_found_at_different_paces_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Order, tags: str
) -> None:
    monkeypatch.setattr(lamport.reader, "PAGE_EVENTS", 2)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish([draft(tag, None) for tag in tags])
            answer = await read_all(log, Tag("a") | Tag("b"), order)
            assert answer == sorted(published, reverse=order is Order.DESCENDING)

    asyncio.run(run())


@pytest.mark.parametrize("order", [Order.ASCENDING, Order.DESCENDING])
def test_a_thousand_equal_timestamps_are_one_group_in_stream_order(
    tmp_path: Path, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.commit, "MAX_STREAMS_OF_NODE", 2_000)
    authors = [Author(member("bob"), number) for number in range(1_100, 0, -1)]

    async def run() -> None:
        async with open_log(tmp_path) as log:
            received = await asyncio.gather(*(log.receive(one.say(5)) for one in authors))
            await asyncio.gather(*(log.receive(one.say(6)) for one in authors[:3]))
            await log.publish(drafts(2))
            answer = await read_all(log, ALL_EVENTS, order)
            keys = [event.key for event in answer]
            assert keys == sorted(keys, reverse=order is Order.DESCENDING)
            assert len(set(keys)) == len(keys) == len(received) + 3 + 2

    asyncio.run(run())


def test_what_arrives_meanwhile_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.reader, "PAGE_EVENTS", 2)
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(6))
            pages = log.read(ALL_EVENTS)
            answer = list(await anext(pages))
            await log.receive(bob.say(3, 4, 99))
            await log.publish(drafts(2))
            answer += [event async for page in pages for event in page]
            assert answer == list(published)

    asyncio.run(run())


def test_a_stream_that_the_upper_bound_does_not_name_is_left_out(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(2))
            await log.receive(bob.say(1, 2))
            answer = await read_all(log, upper=OffsetMap({bob.stream: 0}))
            assert [(event.stream, event.offset) for event in answer] == [(bob.stream, 0)]
            assert await read_all(log, upper=OffsetMap()) == []

    asyncio.run(run())


def test_bounds_may_name_streams_that_are_not_known(tmp_path: Path) -> None:
    unknown = Author(member("nobody")).stream

    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(2))
            for order in Order:
                upper = log.offsets.raised({unknown: 9})
                answer = await read_all(log, order=order, upper=upper)
                assert sorted(answer) == list(published)
                above = await read_all(log, order=order, lower=OffsetMap({unknown: 4}))
                assert sorted(above) == list(published)

    asyncio.run(run())


def test_more_tags_than_an_event_can_bear_select_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            names = [f"t{number}" for number in range(70)]
            await log.publish([draft(names[:32], None)])
            assert len(await read_all(log, Tags(*names[:32]))) == 1
            for count in (33, 70):
                assert await read_all(log, Tags(*names[:count])) == []

    asyncio.run(run())


def test_a_key_that_is_no_events_may_be_the_lower_bound(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(drafts(5))
            for after in (0, 2, 5, 9):
                key = EventKey(after, Author(member("zoe")).stream)
                answer = [event async for page in log.read(ALL_EVENTS, after=key) for event in page]
                assert answer == [event for event in published if event.key > key]

    asyncio.run(run())


def test_sealed_ranges_end_at_a_seal_within_the_limit_or_at_the_next(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            for count in (3, 2, 4):  # seals at 2, 4 and 8
                await log.publish(drafts(count))
            ends = {}
            for first, limit in [(0, 1), (0, 3), (0, 4), (0, 5), (0, 99), (1, 2), (3, 1), (8, 1)]:
                sealed = await log.sealed_range(log.stream, first, limit)
                assert sealed is not None
                assert (sealed.first, len(sealed.events)) == (first, sealed.seal.offset - first + 1)
                ends[first, limit] = sealed.seal.offset
            assert [*ends.values()] == [2, 2, 2, 4, 8, 2, 4, 8]
            assert await log.sealed_range(log.stream, 9, 5) is None
            assert await log.sealed_range(Author(member("nobody")).stream, 0, 5) is None

    asyncio.run(run())


def test_any_sealed_range_can_be_verified_by_a_peer_that_holds_what_is_before_it(
    tmp_path: Path,
) -> None:
    peer = member("peer")

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1_500))
            await log.publish([draft("big", "x" * 60_000) for _ in range(20)])
            head = log.store.genesis(log.stream)
            while head.offset < log.offsets[log.stream]:
                sealed = await log.sealed_range(log.stream, head.offset + 1, 1_000)
                assert sealed is not None
                assert sum(map(len, sealed.events)) <= MAX_SEALED_BYTES
                found = taken(sealed, head, peer)
                assert found is not None
                head = found.head
            assert head == log.store.head(log.stream)

    asyncio.run(run())


def test_received_ranges_are_served_on_as_they_came(tmp_path: Path) -> None:
    bob = Author(member("bob"))
    ranges = [bob.say(1, 2), bob.say(3), bob.say(7, 8, 9)]

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in ranges:
                await log.receive(sealed)
            for sealed in ranges:
                served = await log.sealed_range(bob.stream, sealed.first, len(sealed.events))
                assert served == sealed

    asyncio.run(run())


def test_the_hash_is_known_at_every_offset_held(tmp_path: Path) -> None:
    bob = Author(member("bob"))
    start = bob.head
    ranges = [bob.say(1, 2, 3), bob.write(event_bytes(4), lamport=4), bob.say(6, 7)]
    data = [one for sealed in ranges for one in sealed.events]

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in ranges:
                await log.receive(sealed)
            assert await log.hash_at(bob.stream, -1) == start.hash
            for offset in gapless(bob.head):
                chain = chained(start.hash, data[: offset + 1])
                assert await log.hash_at(bob.stream, offset) == chain
            assert await log.hash_at(bob.stream, bob.head.offset + 1) is None
            assert await log.hash_at(log.stream, 0) is None

    asyncio.run(run())


def test_others_have_their_turn_while_a_page_is_decoded(tmp_path: Path) -> None:
    """One page of the database holds all of these events: no fetch lets anybody run in between."""
    events, turns = 4 * lamport.reader.TURN_EVENTS, 0

    async def go_round() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> set[int]:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(events))
            await read_all(log)  # how many of these make a page is learnt
            others = asyncio.create_task(go_round())
            seen = {turns async for _ in log.read(ALL_EVENTS)}
            others.cancel()
        return seen

    assert len(asyncio.run(run())) == events // lamport.reader.TURN_EVENTS
