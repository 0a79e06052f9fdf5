"""Retention on a disk: the author prunes by its policy, all follow its horizon, and nobody else's word counts."""

import asyncio
import io
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.chain import SealedRange, Start
from lamport.errors import CorruptRange
from lamport.event import Event, draft
from lamport.exchange import export_archive, import_archive
from lamport.healing import heal
from lamport.ids import EventKey, StreamId
from lamport.lineage import MARK_AS_COPY
from lamport.log import EventLog
from lamport.offsets import OffsetMap, OffsetRange
from lamport.reader import Order
from lamport.retention import MICROSECONDS
from lamport.routes import Policy, Route, Routes
from lamport.sqlite import DATABASE_NAME, SqliteDisk
from lamport.stream_check import Finding
from lamport.tags import Tag
from lamport.verification import Verification
from tests.lamport.keys import NOW_US, Author, findings, member, open_log, read_all
from tests.lamport.test_tag_index import make_small

BOB = member("bob")
SENSOR, NOTE = Tag("sensor"), Tag("note")
TEN = Routes([Route(SENSOR, "sensors", Policy(max_events=10))])
"""Keeps the last ten: pruned once there are twelve."""
KEPT = Route(SENSOR, "sensors", Policy())


def story(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        async def limited() -> None:
            async with asyncio.timeout(20):
                await test(tmp_path)

        asyncio.run(limited())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def folders(root: Path, names: str) -> list[Path]:
    made = [root / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


async def publish(log: EventLog, *tags: str, count: int = 1) -> list[Event]:
    """Publish so many events, each in a commit and under a seal of its own."""
    return [(await log.publish([draft(list(tags), number)]))[0] for number in range(count)]


async def followed(log: EventLog, stream: StreamId, horizon: int) -> None:
    """Wait until a stream is kept from an offset on and all before it is deleted."""
    while log.horizons.get(stream, 0) < horizon or not log.store.horizons[stream].is_followed:
        await log.changed()
    assert log.horizons[stream] == horizon


async def hand_over(source: EventLog, target: EventLog, stream: StreamId, first: int = 0) -> int:
    """Give all of a stream from an offset on, in ranges; returns how many events were new."""
    added = 0
    while first <= source.offsets.of(stream):
        sealed = await source.served_range(stream, first, 7)
        assert sealed is not None
        added += len(await target.receive(sealed))
        first = sealed.seal.offset + 1
    return added


def stored(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        rows = connection.execute(sql).fetchall()
        connection.commit()
        return rows


def payloads(events: Sequence[Event]) -> list[Any]:
    return [event.payload for event in events]


@story
async def test_events_go_where_their_tags_lead_in_the_order_of_the_call(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        tags = ["note"], ["sensor"], ["note", "sensor"], ["note"]
        events = await log.publish([draft(one, None) for one in tags])
        sensors = log.own_streams.of("sensors")
        assert [event.stream for event in events] == [log.stream, sensors, sensors, log.stream]
        assert [event.offset for event in events] == [0, 0, 1, 1]
        assert [event.lamport for event in events] == [1, 2, 3, 4]
        assert await read_all(log) == list(events)
        assert await read_all(log, SENSOR.local()) == [events[1], events[2]]
    assert await findings(tmp_path, member()) == []


@story
async def test_a_named_stream_keeps_its_number_and_others_get_theirs(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        await publish(log, "sensor")
        before = log.own_streams
    more = Routes([*TEN, Route(NOTE, "notes")])
    async with open_log(tmp_path, routes=more) as log:
        assert log.own_streams.default == before.default
        assert log.own_streams.of("sensors") == before.of("sensors")
        [note] = await publish(log, "note")
        assert note.stream == log.own_streams.of("notes") not in before
    async with open_log(tmp_path) as log:
        [sensor] = await publish(log, "sensor")
        assert (sensor.stream, note.stream in log.own_streams) == (before.default, True)


@story
async def test_a_restored_copy_draws_all_its_streams_anew(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        await publish(log, "sensor")
        await publish(log, "note")
        before = set(log.own_streams)
    stored(tmp_path, MARK_AS_COPY.sql)
    async with open_log(tmp_path, routes=TEN) as log:
        assert not before & set(log.own_streams)
        [event] = await publish(log, "sensor")
        assert (event.stream, event.offset) == (log.own_streams.of("sensors"), 0)
        after = log.own_streams
    async with open_log(tmp_path, routes=TEN) as log:
        assert log.own_streams == after


@story
async def test_the_author_prunes_what_its_policy_gives_up_and_nothing_else(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        notes = await publish(log, "note", "both", count=20)
        sensors = await publish(log, "sensor", "both", count=40)
        stream = sensors[0].stream
        await followed(log, stream, 30)
        kept = [*notes, *sensors[30:]]
        assert log.offsets == OffsetMap({log.stream: 19, stream: 39})
        for order in Order:
            found = await read_all(log, Tag("both"), order)
            assert sorted(found) == kept
        assert await read_all(log) == kept
        assert await read_all(log, lower=OffsetMap({stream: 5})) == kept
        assert await log.hash_at(stream, 28) is None
        sealed = await log.sealed_range(stream, 0, 5)
        assert sealed is not None
        assert (sealed.first, len(sealed.events)) == (30, 5)
        assert sealed.start is not None
        assert sealed.start.hash == await log.hash_at(stream, 29)
    assert await findings(tmp_path, member()) == []
    assert stored(tmp_path, "SELECT count(*) FROM events") == [(30,)]
    assert stored(tmp_path, "SELECT count(*) FROM seals") == [(30,)]


@story
async def test_the_horizon_stands_in_the_next_seal(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        [*_, last] = await publish(log, "sensor", count=12)
        await followed(log, last.stream, 2)
        await publish(log, "sensor")
        sealed = await log.sealed_range(last.stream, 12, 1)
        assert sealed is not None
        assert sealed.seal.horizon == 2


@story
async def test_one_commit_is_one_block_and_the_last_is_never_pruned(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        [event, *_] = await log.publish([draft("sensor", number) for number in range(50)])
        await publish(log, "note", count=3)
        assert log.horizons == {}
        await publish(log, "sensor", count=10)
        await followed(log, event.stream, 50)


@story
async def test_what_is_too_old_by_the_authors_clock_is_pruned(tmp_path: Path) -> None:
    now = [NOW_US]
    routes = Routes([Route(SENSOR, "sensors", Policy(max_age_s=80))])
    async with open_log(tmp_path, routes=routes, wall_clock=lambda: now[0]) as log:
        [*_, old] = await publish(log, "sensor", count=5)
        now[0] += 60 * MICROSECONDS
        [young] = await publish(log, "sensor")
        now[0] += 29 * MICROSECONDS
        await publish(log, "sensor")
        assert log.horizons == {}
        now[0] += 2 * MICROSECONDS
        await publish(log, "note")
        await followed(log, old.stream, young.offset)


@story
async def test_a_restart_goes_on_with_what_was_given_up(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        await publish(log, "sensor", count=11)
        stream = log.own_streams.of("sensors")
        assert log.horizons == {}
    async with open_log(tmp_path, routes=Routes([Route(SENSOR, "sensors")])) as log:
        await publish(log, "sensor", count=10)
    async with open_log(tmp_path, routes=TEN) as log:
        await followed(log, stream, 11)
        assert payloads(await read_all(log)) == list(range(10))
    async with open_log(tmp_path) as log:
        assert (log.horizons, len(await read_all(log))) == ({stream: 11}, 10)
        assert log.store.horizons[stream].announced == 11


@story
async def test_a_crash_between_the_steps_does_no_harm(tmp_path: Path) -> None:
    """Announced only; given up only; cleared in part: the next start goes on from each."""
    [a, b] = folders(tmp_path, "ab")
    async with open_log(a, routes=TEN) as log:
        await publish(log, "sensor", count=40)
        stream = log.own_streams.of("sensors")
        await followed(log, stream, 30)
        seal = log.store.announced(stream)
        ranges = [await log.sealed_range(stream, first, 5) for first in (30, 35)]
    assert seal is not None
    async with open_log(b, BOB) as log:
        for one in ranges:
            assert one is not None
            await log.receive(one)
        await log.follow_horizon(seal)
        await followed(log, stream, 30)
    stored(b, "UPDATE horizons SET cleared = 7")
    async with open_log(b, BOB) as log:
        await followed(log, stream, 30)
    stored(b, "UPDATE horizons SET cleared = 0, base = x''")
    stored(b, "UPDATE streams SET horizon = 0")
    async with open_log(b, BOB) as log:
        assert log.horizons == {}


async def sensors_of(folder: Path, count: int, then: Callable[[EventLog, StreamId], Any]) -> None:
    async with open_log(folder, routes=TEN) as log:
        await publish(log, "sensor", count=count)
        await then(log, log.own_streams.of("sensors"))


@story
async def test_a_follower_prunes_as_the_author_does(tmp_path: Path) -> None:
    [a, b] = folders(tmp_path, "ab")

    async def follow(log: EventLog, stream: StreamId) -> None:
        async with open_log(b, BOB) as other:
            await hand_over(log, other, stream)
            await publish(log, "sensor", count=30)
            await followed(log, stream, 30)
            seal = log.store.announced(stream)
            assert seal is not None
            assert await hand_over(log, other, stream, 11) == 11  # the rest of it is gone
            await other.follow_horizon(seal)
            await followed(other, stream, 30)
            assert await read_all(other) == await read_all(log)
            await other.follow_horizon(seal)

    await sensors_of(a, 11, follow)
    assert await findings(b, BOB) == []
    assert stored(b, "SELECT count(*) FROM events") == [(11,)]


@story
async def test_a_newcomer_starts_at_the_horizon_and_hands_on_what_it_got(tmp_path: Path) -> None:
    [a, b, c] = folders(tmp_path, "abc")
    carol = member("carol")

    async def come(log: EventLog, stream: StreamId) -> None:
        await followed(log, stream, 30)
        async with open_log(b, BOB) as other, open_log(c, carol) as third:
            assert await hand_over(log, other, stream) == 10
            assert other.horizons == {stream: 30}
            assert await hand_over(other, third, stream) == 10
            assert await read_all(third) == await read_all(log)
            [more] = await publish(log, "sensor")
            assert await hand_over(log, third, stream, more.offset) == 1

    await sensors_of(a, 40, come)
    for folder, keys in ((b, BOB), (c, carol)):
        assert await findings(folder, keys) == []


@story
async def test_one_that_was_away_jumps_over_what_is_gone(tmp_path: Path) -> None:
    [a, b] = folders(tmp_path, "ab")

    async def jump(log: EventLog, stream: StreamId) -> None:
        async with open_log(b, BOB) as other:
            await hand_over(log, other, stream)
            await publish(log, "sensor", count=40)
            while log.horizons.get(stream, 0) < 40:
                await log.changed()
            follower = other.follow()
            assert await hand_over(log, other, stream, 11) == 11
            await followed(other, stream, 40)
            assert await read_all(other) == await read_all(log)
            assert [one.offset for one in (await follower.next()).events] == list(range(40, 51))

    await sensors_of(a, 11, jump)
    assert await findings(b, BOB) == []


def whole(*counts: int) -> tuple[Author, list[SealedRange]]:
    bob = Author(BOB)
    return bob, [bob.count(count) for count in counts]


def begun(sealed: SealedRange, before: SealedRange, author: Author, horizon: int) -> SealedRange:
    """A range for whoever has nothing before it."""
    return replace(sealed, start=Start(before.seal.hash, author.give_up(horizon)))


@story
async def test_a_range_behind_a_gap_needs_its_authors_word(tmp_path: Path) -> None:
    bob, [first, second, third] = whole(5, 5, 5)
    good = begun(third, second, bob, 10)
    assert good.start is not None
    assert good.start.seal is not None
    seal = good.start.seal
    bad = [
        replace(good, start=replace(good.start, hash=first.seal.hash)),
        replace(good, start=replace(good.start, hash=b"short")),
        replace(good, start=replace(good.start, seal=replace(seal, horizon=11))),
        replace(good, start=replace(good.start, seal=bob.give_up(9))),
        replace(good, start=replace(good.start, seal=bob.give_up(16))),
        replace(good, start=replace(good.start, seal=replace(seal, stream=Author(BOB, 7).stream))),
    ]
    async with open_log(tmp_path) as log:
        for one in bad:
            with pytest.raises(CorruptRange):
                await log.receive(one)
        assert await log.receive(replace(good, start=None)) == ()
        assert await log.receive(replace(good, start=Start(good.start.hash))) == ()
        assert (log.offsets, log.horizons) == (OffsetMap(), {})
        assert len(await log.receive(good)) == 5
        assert (log.offsets, log.horizons) == (OffsetMap({bob.stream: 14}), {bob.stream: 10})


@story
async def test_the_authors_word_is_enough_even_where_it_came_earlier(tmp_path: Path) -> None:
    bob, [first, second, third] = whole(5, 5, 5)
    async with open_log(tmp_path) as log:
        await log.receive(first)
        await log.follow_horizon(bob.give_up(10))
        assert log.horizons == {}  # what is held lies behind it, and is all there is
        assert len(await log.receive(replace(third, start=Start(second.seal.hash)))) == 5
        assert log.horizons == {bob.stream: 10}
        assert [event.offset for event in await read_all(log)] == list(range(10, 15))


@story
async def test_a_forged_horizon_is_refused_and_one_that_goes_back_changes_nothing(
    tmp_path: Path,
) -> None:
    bob, ranges = whole(5, 5, 5)
    async with open_log(tmp_path) as log:
        for one in ranges:
            await log.receive(one)
        high, low = bob.give_up(10), bob.give_up(5)
        for forged in (
            replace(high, horizon=12),
            replace(high, signature=bytes(64)),
            bob.give_up(16),
            bob.give_up(2**53),
        ):
            with pytest.raises(CorruptRange):
                await log.follow_horizon(forged)
        assert log.store.horizons == {}
        bob.horizon = 5
        await log.follow_horizon(high)
        await followed(log, bob.stream, 10)
        await log.follow_horizon(low)
        await log.receive(bob.count(1))
        assert log.store.horizons[bob.stream].seal == high


@story
async def test_a_range_whose_seal_gives_up_more_than_was_written_is_refused(
    tmp_path: Path,
) -> None:
    bob = Author(BOB)
    bob.horizon = 3
    async with open_log(tmp_path) as log:
        with pytest.raises(CorruptRange, match="horizon 3 lies beyond"):
            await log.receive(bob.count(2))
        assert log.offsets == OffsetMap()


@story
async def test_the_head_and_its_seal_stay_whatever_the_author_says(tmp_path: Path) -> None:
    bob, [first, second] = whole(5, 5)
    async with open_log(tmp_path) as log:
        await log.receive(first)
        await log.receive(second)
        await log.follow_horizon(bob.give_up(10))
        await publish(log, "note")
        assert len(await read_all(log)) == 11
        await log.receive(bob.count(1))
        await followed(log, bob.stream, 10)
    assert await findings(tmp_path, member()) == []


@story
async def test_a_horizon_of_another_history_is_not_followed(tmp_path: Path) -> None:
    bob, ranges = whole(5, 5)
    other = Author(BOB)
    other.say(100, 101, 102, 103, 104, 105)
    async with open_log(tmp_path) as log:
        for one in ranges:
            await log.receive(one)
        await log.follow_horizon(other.give_up(5))
        assert log.store.horizons == {}
        assert bob.stream == other.stream


@story
async def test_an_archive_of_a_pruned_stream_begins_at_its_horizon(tmp_path: Path) -> None:
    [a, b] = folders(tmp_path, "ab")
    file = io.BytesIO()

    async def export(log: EventLog, stream: StreamId) -> None:
        await followed(log, stream, 30)
        whole = OffsetRange(stream, 0, log.offsets.of(stream))
        exported = await export_archive(log.store, member(), [whole], file)
        assert (exported.streams, exported.events) == (1, 10)

    await sensors_of(a, 40, export)
    async with open_log(b, BOB) as log:
        for added in (10, 0):
            file.seek(0)
            found = await import_archive(log, BOB, file)
            assert (found.streams, found.events, found.added) == (1, 10, added)
        assert payloads(await read_all(log)) == list(range(30, 40))
    assert await findings(b, BOB) == []


@story
async def test_a_damaged_horizon_is_found(tmp_path: Path) -> None:
    async def prune(log: EventLog, stream: StreamId) -> None:
        await followed(log, stream, 30)

    await sensors_of(tmp_path, 40, prune)
    for change, text in (
        ("signature = zeroblob(64)", "does not hold"),
        ("base = zeroblob(32)", "not those that the author sealed"),
        ("base = 7", "not those that the author sealed"),
        ("horizon = 31", "does not hold"),
    ):
        image = (tmp_path / DATABASE_NAME).read_bytes()
        stored(tmp_path, f"UPDATE horizons SET {change}")  # noqa: S608 - the cases above
        assert any(text in str(one) for one in await findings(tmp_path, member())), change
        (tmp_path / DATABASE_NAME).write_bytes(image)
    assert await findings(tmp_path, member()) == []


@story
async def test_a_horizon_whose_numbers_became_text_is_followed_when_it_is_heard_again(
    tmp_path: Path,
) -> None:
    [a, b] = folders(tmp_path, "ab")

    async def prune(log: EventLog, stream: StreamId) -> None:
        async with open_log(b, BOB) as other:
            await hand_over(log, other, stream)
        await followed(log, stream, 30)
        seal = log.store.announced(stream)
        assert seal is not None
        for column in ("offset", "hash", "clock", "horizon", "signature", "base", "cleared"):
            async with open_log(b, BOB) as other:
                await other.follow_horizon(seal)
                await followed(other, stream, 30)
                await publish(other, "own")
            stored(b, f"UPDATE horizons SET \"{column}\" = 'text'")  # noqa: S608 - the cases above
        async with open_log(b, BOB) as other:
            await other.follow_horizon(seal)
            await followed(other, stream, 30)

    await sensors_of(a, 40, prune)


@story
async def test_a_pruned_stream_that_is_damaged_is_cut_and_given_back(tmp_path: Path) -> None:
    [a, b] = folders(tmp_path, "ab")

    async def mend(log: EventLog, stream: StreamId) -> None:
        await followed(log, stream, 30)
        async with open_log(b, BOB) as other:
            await hand_over(log, other, stream)
        stored(b, 'UPDATE events SET bytes = zeroblob(9) WHERE "offset" = 31')
        writer = await SqliteDisk(b).open_writer()
        look = Verification(writer, BOB)
        assert [step async for step in look.run() if isinstance(step, Finding)]
        [cut] = await heal(writer, look, BOB)
        await writer.close()
        assert (cut.told, cut.kept) == (39, -1)
        assert await findings(b, BOB) == []
        async with open_log(b, BOB) as other:
            assert (other.offsets, other.horizons) == (OffsetMap(), {})
            assert await hand_over(log, other, stream) == 10
            assert other.horizons == {stream: 30}

    await sensors_of(a, 40, mend)


@pytest.mark.parametrize("patience", [10_000, 0])
def test_what_a_large_commit_leaves_to_be_pruned_is_in_nobodys_way_unless_it_is_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr("lamport.tidying.MAX_UNPRUNED", patience)
    for module in ("tidying", "horizon_table"):
        monkeypatch.setattr(f"lamport.{module}.MAX_CLEARED", 3)

    async def go() -> None:
        async with asyncio.timeout(20), open_log(tmp_path, routes=Routes([KEPT])) as log:
            sensors = log.own_streams.of("sensors")
            await publish(log, "sensor", count=300)
        async with asyncio.timeout(20), open_log(tmp_path, routes=TEN) as log:
            await publish(log, "note", count=100)  # by then it is known what is there
            await log.publish([draft(["note"], number) for number in range(3_000)])
            await publish(log, "note", count=1)
            assert (log.store.horizons[sensors].cleared < 288) == bool(patience)
            await followed(log, sensors, 288)  # it was read in pieces of four

    asyncio.run(go())


@pytest.mark.parametrize("hash_alone", [False, True])
def test_what_is_pruned_while_it_is_being_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, hash_alone: bool
) -> None:
    monkeypatch.setattr("lamport.tidying.IDLE_S", 0.001)

    async def go() -> None:
        bob = Author(BOB)
        async with asyncio.timeout(20), open_log(tmp_path) as log:
            for _ in range(10):
                await log.receive(bob.count(2 + 3 * hash_alone))
            fetch = log.store.reader.fetch

            async def meanwhile(sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
                monkeypatch.setattr(log.store.reader, "fetch", fetch)
                await log.follow_horizon(bob.give_up(15))
                await followed(log, bob.stream, 15)
                return await fetch(sql, parameters)

            monkeypatch.setattr(log.store.reader, "fetch", meanwhile)
            if hash_alone:
                assert await log.hash_at(bob.stream, 3) is None
            else:
                sealed = await log.sealed_range(bob.stream, 0, 100)
                assert sealed is not None
                assert (sealed.first, sealed.start is None) == (15, False)
            assert not log.damages.spans

    asyncio.run(go())


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.sampled_from(["sensor", "note"]), max_size=6)),
        st.tuples(st.just("receive"), st.integers(1, 4)),
        st.tuples(st.just("give up"), st.integers(0, 12)),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_whatever_happens_queries_find_what_is_kept_and_the_disk_holds_no_more(
    steps: list[tuple[str, Any]],
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        patch.setattr("lamport.tidying.IDLE_S", 0.001)
        patch.setattr("lamport.horizon_table.MAX_CLEARED", 3)
        asyncio.run(_played(Path(folder), steps))


async def _played(folder: Path, steps: list[tuple[str, Any]]) -> None:
    routes = Routes([Route(SENSOR, "sensors", Policy(max_events=3))])
    bob, written = Author(BOB), list[Event]()
    remaining = iter(steps)
    is_over = False
    while not is_over:
        is_over = True
        async with open_log(folder, routes=routes) as log:
            for kind, amount in remaining:
                if kind == "restart":
                    is_over = False
                    break
                written += await _done(log, bob, kind, amount)
                await _check(log, written)
            await _tidied(log)
            await _check(log, written)
        assert await findings(folder, member()) == []
        rest = 'events e JOIN horizons h ON h.stream = e.stream WHERE e."offset" < h.cleared'
        assert stored(folder, f"SELECT count(*) FROM {rest}") == [(0,)]  # noqa: S608 - a constant
        rest = 'blocks e JOIN horizons h ON h.stream = e.stream WHERE e."offset" + e.count <= h.cleared'
        assert stored(folder, f"SELECT count(*) FROM {rest}") == [(0,)]  # noqa: S608 - a constant


async def _tidied(log: EventLog) -> None:
    """Wait until no horizon is left to follow; the head's block stays, whatever its author says."""
    heads, horizons = log.store.heads, log.store.horizons
    while not all(
        one.cleared == one.first and (one.is_followed or one.announced > heads[stream].offset)
        for stream, one in horizons.items()
    ):
        await log.changed()


async def _done(log: EventLog, bob: Author, kind: str, amount: Any) -> Sequence[Event]:
    if kind == "publish":
        return await log.publish([draft([one, "both"], 0) for one in amount])
    if kind == "receive":
        return await log.receive(bob.count(amount, tags=("both", "said")))
    if 0 < amount <= bob.head.offset + 1:
        await log.follow_horizon(bob.give_up(max(amount, bob.horizon)))
    return ()


async def _check(log: EventLog, written: list[Event]) -> None:
    """Hold every answer against the list in memory; a horizon may move while the question is asked."""
    for tag in ("both", "sensor", "note", "said"):
        for order in (Order.ASCENDING, Order.DESCENDING):
            before = _kept(log, written, tag)
            found = [one.key for one in await read_all(log, Tag(tag), order)]
            assert _kept(log, written, tag) <= set(found) <= before
            assert found == sorted(found, reverse=order is Order.DESCENDING)
    before = _kept(log, written)
    found = [one.key for one in await read_all(log)]
    assert _kept(log, written) <= set(found) <= before
    for order in Order:
        before = _kept(log, written)
        lower = OffsetMap({log.stream: 0})  # of which all counts but the first event
        found = [one.key for one in await read_all(log, order=order, lower=lower)]
        first = {one.key for one in written if (one.stream, one.offset) == (log.stream, 0)}
        assert _kept(log, written) - first <= set(found) <= before


def _kept(log: EventLog, written: list[Event], tag: str = "both") -> set[EventKey]:
    kept = [one for one in written if one.offset >= log.horizons.get(one.stream, 0)]
    return {one.key for one in kept if tag in one.tags}


@story
async def test_damage_right_behind_a_horizon_is_mended_from_what_peers_keep(tmp_path: Path) -> None:
    async with open_log(tmp_path, routes=TEN) as log:
        await publish(log, "sensor", count=12)
        stream = log.own_streams.of("sensors")
        await followed(log, stream, 2)
        kept = await log.served_range(stream, 2, 1)
        assert kept is not None
    stored(tmp_path, 'UPDATE events SET bytes = zeroblob(9) WHERE "offset" = 2')
    async with open_log(tmp_path, routes=TEN) as log:
        piece = await log.repair.piece(OffsetRange(stream, 2, 2))
        assert piece is not None
        assert (piece.first, piece.last.offset) == (2, 2)
        mending = log.repair.mending(piece)
        assert mending.add(kept)
        assert await log.repair.replace(mending) == 1
        assert await log.repair.piece(OffsetRange(stream, 2, 2)) is None
        assert payloads(await read_all(log)) == list(range(2, 12))
