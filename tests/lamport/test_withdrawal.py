"""Revocations: what a revoked node wrote beyond its cuts counts nowhere, whatever came first, and for good."""

import asyncio
import random
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.chain import Seal, SealedRange
from lamport.cuts import NO_CUTS
from lamport.errors import CorruptRange, InvalidInput, NodeRevoked
from lamport.event import Event
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.notices import Notice, NoticeKind, decode_notice, signed_bytes
from lamport.offsets import OffsetMap
from lamport.reach import Reach
from lamport.reader import Order
from lamport.retraction import RETRACT_TAG
from lamport.revocation import Revocation, decode_revocation, revocation_of
from lamport.seams import INLINE
from lamport.sqlite import DATABASE_NAME
from lamport.tags import ALL_EVENTS
from tests.lamport.keys import (
    Author,
    Member,
    drafts,
    drained,
    event_bytes,
    member,
    open_log,
    read_all,
)

ADA, BOB = member("ada"), member("bob")


def signed(revocation: Revocation, keys: Member = ADA) -> Notice:
    """The notice of a revocation, with the admin's signature."""
    body = revocation.encode()
    data = signed_bytes(keys.swarm, NoticeKind.REVOCATION, body)
    return Notice(NoticeKind.REVOCATION, body, keys.admin.sign(data))


def revoked(*cuts: Seal) -> Notice:
    return signed(revocation_of(BOB.node, cuts))


def split(author: Author) -> Author:
    """Somebody else who goes on writing where this one stands now."""
    other = Author(author.keys, author.stream.number)
    other.head = author.head
    return other


def parts(*sizes: int, number: int = 2**20) -> list[SealedRange]:
    """A stream of Bob's, in ranges of so many events."""
    author = Author(BOB, number)
    return [author.count(size) for size in sizes]


async def lamports(log: EventLog, order: Order = Order.ASCENDING) -> list[int]:
    return [event.lamport for event in await read_all(log, order=order)]


async def receive(log: EventLog, ranges: Iterable[SealedRange]) -> None:
    for one in ranges:
        await log.receive(one)


def stored(folder: Path) -> int:
    """How many events stand in the database, whether or not they count."""
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        [(count,)] = connection.execute(
            "SELECT (SELECT count(*) FROM events) + (SELECT total(count) FROM blocks)"
        ).fetchall()
    return int(count)


@pytest.mark.parametrize("packed", [False, True])
def test_what_lies_beyond_the_cut_is_gone_from_all_that_is_handed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, packed: bool
) -> None:
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr("lamport.compaction.IDLE_ROWS", 1)
    ranges = parts(3, 2, 4)
    stream = ranges[0].stream

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, ranges)
            if packed:  # in one block: the seal at the cut is gone
                await log.store.merge_events(INLINE)
            assert await log.learn(revoked(ranges[1].seal))
            assert not await log.learn(revoked(ranges[1].seal))
            await shows_five(log)
        async with open_log(tmp_path) as log:
            await shows_five(log)
        assert stored(tmp_path) == 9

    async def shows_five(log: EventLog) -> None:
        for order in Order:
            assert len(await lamports(log, order)) == 5
        assert log.offsets == OffsetMap({stream: 4})
        assert (await read_all(log, upper=OffsetMap({stream: 8})))[-1].offset == 4
        assert log.store.head(stream).hash == ranges[1].seal.hash
        assert not log.store.grows(stream)
        assert await log.hash_at(stream, 5) is None
        assert await log.served_range(stream, 5, 10) is None
        served = await log.served_range(stream, 0, 100)
        assert served is not None
        assert served.seal.offset == 4
        assert await log.receive(ranges[2]) == ()

    asyncio.run(go())


def test_a_range_that_reaches_beyond_the_cut_is_taken_up_to_it(tmp_path: Path) -> None:
    author = Author(BOB)
    beginning = author.count(3)
    rest = author.count(4)
    long = SealedRange(0, (*beginning.events, *rest.events), rest.seal, rest.certificate)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.learn(revoked(beginning.seal))
            assert len(await log.receive(long)) == 3
            served = await log.served_range(author.stream, 0, 100)
            assert served is not None
            assert (served.events, served.seal) == (beginning.events, beginning.seal)

    asyncio.run(go())


def test_a_stream_that_no_cut_names_counts_for_nothing(tmp_path: Path) -> None:
    named, other = parts(3), parts(3, number=2**20 + 1)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, (*named, *other))
            await log.learn(revoked(named[0].seal))
            assert log.offsets == OffsetMap({named[0].stream: 2})
            assert await log.receive(parts(2, number=2**20 + 2)[0]) == ()

    asyncio.run(go())


def test_the_lowest_cut_wins(tmp_path: Path) -> None:
    ranges = parts(2, 2, 2)
    stream = ranges[0].stream

    async def go(order: tuple[int, ...], folder: Path) -> None:
        async with open_log(folder) as log:
            await receive(log, ranges)
            for number in order:
                await log.learn(revoked(ranges[number].seal))
            assert log.offsets == OffsetMap({stream: 1})
            await log.learn(revoked())
            assert log.offsets == OffsetMap()
        async with open_log(folder) as log:
            assert log.offsets == OffsetMap()

    async def events_last(order: tuple[int, ...], folder: Path) -> None:
        async with open_log(folder) as log:
            for number in order:
                await log.learn(revoked(ranges[number].seal))
            await receive(log, ranges)
            assert log.offsets == OffsetMap({stream: 1})

    for order in ((0, 1), (1, 0)):
        folder = tmp_path / f"{order[0]} first"
        folder.mkdir()
        asyncio.run(go(order, folder))
        folder = tmp_path / f"{order[0]} first, then events"
        folder.mkdir()
        asyncio.run(events_last(order, folder))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    cut=st.integers(-1, 4),
    draw=st.randoms(use_true_random=False),
)
def test_equal_streams_and_revocations_leave_equal_events_whatever_came_first(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cut: int, draw: random.Random
) -> None:
    ranges = parts(*sizes)
    seal = ranges[min(cut, len(ranges) - 1)].seal if cut >= 0 else None
    notice = revoked(*([seal] if seal else []))
    items: list[SealedRange | Notice] = list(ranges)
    items.insert(draw.randint(0, len(items)), notice)
    folder = tmp_path_factory.mktemp("log")

    async def take(log: EventLog, item: SealedRange | Notice) -> None:
        if isinstance(item, Notice):
            await log.learn(item)
        else:
            await log.receive(item)

    async def go() -> None:
        async with open_log(folder) as log:
            for item in items:
                await take(log, item)
            left = [event.offset for event in await read_all(log)]
            assert left == list(range(seal.offset + 1 if seal else 0))
        async with open_log(folder) as log:
            assert [event.offset for event in await read_all(log)] == left

    asyncio.run(go())


def test_a_follower_is_told_once_of_what_it_was_handed_and_is_withdrawn(tmp_path: Path) -> None:
    ranges = parts(3, 4)
    stream = ranges[0].stream

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(ranges[0])
            before, present = log.follow(OffsetMap()), log.follow()
            await before.next()
            await log.receive(ranges[1])
            assert [event.offset for event in (await present.next()).events] == [3, 4, 5, 6]
            await log.learn(revoked(replace(ranges[0].seal)))
            told = await present.next()
            assert [event.offset for event in told.retracted] == [3, 4, 5, 6]
            assert told.renamed
            assert (await present.next()).retracted == ()
            assert present.offsets == OffsetMap({stream: 2})
            late = await before.next()
            assert (late.events, late.retracted) == ((), ())
            [event] = await log.publish(drafts(1, "x"))
            for follower in (present, before):
                while not (batch := await follower.next()).events:
                    assert not batch.retracted
                assert batch.events == (event,)
                assert follower.offsets == log.offsets

    asyncio.run(go())


def test_a_subscription_that_begins_beyond_the_cut_is_told_what_is_gone(tmp_path: Path) -> None:
    ranges = parts(3, 4)
    gone: list[Event] = []

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, ranges)
            position = log.offsets
            await log.learn(revoked(ranges[0].seal))
            [event] = await log.publish(drafts(1, "x"))
            events = log.subscribe(ALL_EVENTS, lower=position, on_retracted=gone.append)
            assert await anext(events) == event
            [other] = await log.publish(drafts(1, "x"))
            assert await anext(events) == other
            assert [one.offset for one in gone] == [3, 4, 5, 6]

    asyncio.run(go())


def test_a_retraction_beyond_the_cut_hides_nothing_any_more(tmp_path: Path) -> None:
    author = Author(BOB)
    beginning = author.count(2)
    names = [str(EventKey(1, author.stream))]
    raw = event_bytes(3, [RETRACT_TAG], {"keys": names, "reason": "to cover it up"})
    hiding = author.write(raw, lamport=3)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, [beginning, hiding])
            follower = log.follow()
            assert await lamports(log) == [2, 3]
            await log.learn(revoked(beginning.seal))
            assert await lamports(log) == [1, 2]
            assert [event.lamport for event in (await follower.next()).retracted] == [3]
            assert [event.lamport for event in (await follower.next()).events] == [1]
        async with open_log(tmp_path) as log:
            assert await lamports(log) == [1, 2]

    asyncio.run(go())


def test_who_lags_behind_is_not_told_of_a_retraction_that_hides_nothing_any_more(
    tmp_path: Path,
) -> None:
    author = Author(BOB)
    beginning = author.count(2)
    names = [str(EventKey(1, author.stream))]
    raw = event_bytes(3, [RETRACT_TAG], {"keys": names, "reason": "to cover it up"})
    hiding = author.write(raw, lamport=3)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(beginning)
            follower = log.follow()
            await log.receive(hiding)
            await log.learn(revoked(beginning.seal))
            [last] = await log.publish(drafts(1, "own"))
            told = [await follower.next()]
            while last not in told[-1].events:
                told.append(await follower.next())
            assert [event for batch in told for event in batch.retracted] == []

    asyncio.run(go())


def test_what_a_revoked_node_says_of_its_horizon_later_deletes_nothing(tmp_path: Path) -> None:
    author = Author(BOB)
    beginning = author.count(4)
    later = author.give_up(4)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(beginning)
            await log.learn(revoked(beginning.seal))
            await log.follow_horizon(later)
            assert log.store.announced(author.stream) is None
            assert await lamports(log) == [1, 2, 3, 4]
            resealed = replace(beginning, seal=later)
            other = tmp_path / "other"
            other.mkdir()
            async with open_log(other) as late:
                await late.learn(revoked(beginning.seal))
                await late.receive(resealed)
                assert late.store.announced(author.stream) is None
                await late.receive(beginning)
                assert await lamports(late) == [1, 2, 3, 4]

    asyncio.run(go())


@pytest.mark.parametrize("first", ["fork", "revocation"])
def test_the_cut_says_which_history_of_a_forked_stream_counts(tmp_path: Path, first: str) -> None:
    one = Author(BOB)
    beginning = one.count(3)
    other = split(one)
    good, beyond = one.count(4, ["good"]), one.count(2, ["beyond"])
    evil = other.count(2, ["evil"])
    notice = revoked(good.seal)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, [beginning, good, beyond])
            if first == "revocation":
                await log.learn(notice)
            await log.receive(evil)
            if first == "fork":
                assert len(await lamports(log)) == 11
                await log.learn(notice)
            await shows_good(log)
        async with open_log(tmp_path) as log:
            await shows_good(log)

    async def shows_good(log: EventLog) -> None:
        assert [(e.lamport, e.tags) for e in await read_all(log) if e.offset > 2] == [
            (lamport, ("good",)) for lamport in (4, 5, 6, 7)
        ]

    asyncio.run(go())


def test_the_wrong_history_is_withdrawn_when_the_right_one_reaches_the_cut(tmp_path: Path) -> None:
    one = Author(BOB)
    beginning = one.count(3)
    other = split(one)
    good, better = one.count(2, ["good"]), one.count(2, ["good"])
    evil = other.count(2, ["evil"])

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.learn(revoked(better.seal))
            await receive(log, [beginning, evil, good])
            await log.receive(better)
            left = [event.tags for event in await read_all(log) if event.offset > 2]
            assert left == [("good",)] * 4

    asyncio.run(go())


def test_a_node_that_was_revoked_itself_writes_nothing_more(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path, BOB) as log:
            [event] = await log.publish(drafts(1, "x"))
            sealed = await log.sealed_range(event.stream, 0, 1)
            assert sealed is not None
            await log.publish(drafts(3, "x"))
            await log.learn(revoked(sealed.seal))
            assert len(await read_all(log)) == 1
            with pytest.raises(NodeRevoked, match="counts nowhere"):
                await log.publish(drafts(1, "x"))
        async with open_log(tmp_path, BOB) as log:
            with pytest.raises(NodeRevoked):
                await log.publish(drafts(1, "x"))
            assert len(await read_all(log)) == 1

    asyncio.run(go())


def test_a_notice_that_the_admin_has_not_signed_is_refused(tmp_path: Path) -> None:
    revocation = revocation_of(BOB.node, ())
    forged = replace(signed(revocation), signature=bytes(64))
    elsewhere = signed(revocation, member("ada", "another swarm"))
    other_kind = replace(signed(revocation), kind=NoticeKind.EPOCH)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            for notice in (forged, elsewhere, other_kind):
                with pytest.raises(CorruptRange, match="admin"):
                    await log.learn(notice)
            assert len(log.store.notices) == 0

    asyncio.run(go())


def test_a_notice_that_comes_while_a_start_is_worked_out_is_not_forgotten(tmp_path: Path) -> None:
    cat = Author(member("cat"))
    ranges = [parts(3, number=2**20 + number)[0] for number in range(60)]
    other = cat.count(3)
    body = revocation_of(cat.stream.node, ()).encode()
    data = signed_bytes(ADA.swarm, NoticeKind.REVOCATION, body)
    notice = Notice(NoticeKind.REVOCATION, body, ADA.admin.sign(data))

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, (*ranges, other))
            await log.learn(revoked(*(one.seal for one in ranges)))
        async with open_log(tmp_path) as log:
            await asyncio.sleep(0)  # whoever writes has begun
            assert await log.learn(notice)
            await log.publish(drafts(1, "x"))
            assert cat.stream.node in log.store.cuts.revoked
            assert cat.stream not in log.offsets

    asyncio.run(go())


def test_a_first_limit_that_takes_nothing_back_is_no_news_to_followers(tmp_path: Path) -> None:
    streams = [parts(3, 2, number=2**20 + number) for number in range(4)]

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.learn(revoked(*(last.seal for _, last in streams)))
            follower, shown = log.follow(OffsetMap()), log.withdrawals.count
            for ranges in streams:
                await receive(log, ranges)
            assert log.withdrawals.count == shown
            assert len(await drained(follower, log.offsets)) == 20
            assert log.offsets == log.store.offsets

    asyncio.run(go())


def test_a_commit_tells_of_a_cut_only_when_it_comes_to_one(tmp_path: Path) -> None:
    first, second, last = parts(3, 2, 4)
    part = first.stream

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.learn(revoked(second.seal))
            reach = Reach(log.store)
            await log.receive(first)
            cuts = log.store.cuts
            assert reach.told_by(cuts, {part: 0}) == []
            assert reach.told_by(NO_CUTS.with_revocation(cuts.revocations[0]), {part: 0}) == [part]
            assert cuts.seals == {}
            await receive(log, (second, last))
            assert reach.told_by(cuts, {part: 2}) == [part]
            assert reach.told_by(cuts, {part: 4}) == []
            assert log.store.cuts.seals == {part: second.seal}

    asyncio.run(go())


def test_a_commit_of_others_asks_nothing_about_limits(tmp_path: Path) -> None:
    cat = Author(member("cat"))

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, parts(3))
            await log.learn(revoked())
            cuts = log.store.cuts
            [event] = await log.publish(drafts(1, "x"))
            await log.receive(cat.count(2))
            assert log.store.cuts is cuts
            assert log.offsets == log.store.offsets
            assert set(log.offsets) == {event.stream, cat.stream}

    asyncio.run(go())


def test_a_notice_of_an_unknown_kind_is_kept(tmp_path: Path) -> None:
    data = signed_bytes(ADA.swarm, 200, b"later")
    notice = Notice(200, b"later", ADA.admin.sign(data))

    async def go() -> None:
        async with open_log(tmp_path) as log:
            assert await log.learn(notice)
        async with open_log(tmp_path) as log:
            assert log.store.notices.get(notice.id) == notice

    asyncio.run(go())


def test_a_revocation_names_cuts_of_that_node_alone() -> None:
    foreign = Author(ADA).count(1).seal
    with pytest.raises(InvalidInput, match="another node's"):
        revocation_of(BOB.node, [foreign])


@given(st.binary(max_size=200))
def test_whatever_is_no_notice_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_notice(data)
    with pytest.raises(InvalidInput):
        decode_revocation(data)


def test_notices_come_back_from_their_bytes() -> None:
    ranges = parts(2, 2)
    notice = revoked(ranges[0].seal)
    assert decode_notice(notice.encode()) == notice
    assert decode_revocation(notice.body).of(ranges[0].stream) == (ranges[0].seal,)
