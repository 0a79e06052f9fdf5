"""The log: concurrent publishers share commits, and followers miss nothing and see nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lamport.commit
import lamport.follower
import lamport.leaps
import lamport.log
import lamport.reader
from lamport.errors import (
    CorruptRange,
    InvalidInput,
    LimitExceeded,
    LogClosed,
    Overloaded,
    QuarantinedRange,
    StoreFailed,
    UnknownAuthor,
)
from lamport.event import Draft, Event, draft
from lamport.ids import MAX_LAMPORT
from lamport.leaps import MAX_LEAP
from lamport.log import MAX_WAITING, EventLog
from lamport.offsets import OffsetMap
from lamport.seams import Connection, Statement
from lamport.sqlite import SqliteDisk
from lamport.tags import ALL_EVENTS, Tag, Tags, Where
from tests.lamport.keys import (
    NOW_US,
    Author,
    drafts,
    drained,
    event_bytes,
    member,
    offsets_per_stream,
    open_log,
    open_store,
    read_all,
)


class WatchedConnection:
    """A real connection whose transactions are counted, and can be held back or made to fail."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.transactions = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.reached = asyncio.Event()

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._connection.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        self.transactions += 1
        self.reached.set()
        await self.gate.wait()
        await self._connection.transact(statements)

    async def close(self) -> None:
        await self._connection.close()

    def hold(self) -> None:
        """Hold transactions back from now on, and note when one has come."""
        self.gate.clear()
        self.reached.clear()


class WatchedDisk:
    def __init__(self, folder: Path) -> None:
        self._disk = SqliteDisk(folder)
        self.writers: list[WatchedConnection] = []

    async def open_writer(self) -> WatchedConnection:
        self.writers.append(WatchedConnection(await self._disk.open_writer()))
        return self.writers[-1]

    async def open_reader(self) -> Connection:
        return await self._disk.open_reader()

    async def read_token(self) -> bytes:
        return await self._disk.read_token()

    async def write_token(self, token: bytes) -> None:
        await self._disk.write_token(token)


@asynccontextmanager
async def watched_log(folder: Path) -> AsyncIterator[tuple[EventLog, WatchedConnection]]:
    disk = WatchedDisk(folder)
    async with open_log(folder, disk=disk) as log:
        [writer] = disk.writers
        writer.transactions = 0
        yield log, writer


async def collected(subscription: AsyncIterator[Event], count: int) -> list[Event]:
    return [await anext(subscription) for _ in range(count)]


async def to_the_end(log: EventLog, *subscriptions: AsyncIterator[Event]) -> list[list[Event]]:
    """Close the log and take whatever is still handed over."""
    log.close()
    return [[event async for event in one] for one in subscriptions]


def test_a_hundred_publishers_share_commits_and_get_distinct_rising_timestamps(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            results = await asyncio.gather(*(log.publish(drafts(3, f"by {n}")) for n in range(100)))
            lamports = [event.lamport for events in results for event in events]
            assert sorted(lamports) == list(range(1, 301))
            assert all([*events] == sorted(events) for events in results)
            assert writer.transactions <= 2

    asyncio.run(run())


def test_what_waits_while_a_commit_is_under_way_is_the_next_commit(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer), asyncio.TaskGroup() as tasks:
            writer.hold()
            first = tasks.create_task(log.publish(drafts(1)))
            await writer.reached.wait()
            others = [tasks.create_task(log.publish(drafts(1))) for _ in range(50)]
            await asyncio.sleep(0)
            assert not first.done()
            assert await read_all(log) == []
            writer.gate.set()
            await asyncio.gather(first, *others)
            assert writer.transactions == 2

    asyncio.run(run())


def test_published_events_are_there_after_reopening(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            published = await log.publish(
                [draft(["b", "a"], {"x": [1, None]}, "app"), draft((), 1)]
            )
        async with open_log(tmp_path) as log:
            assert await read_all(log) == list(published)
            assert log.offsets == OffsetMap({log.stream: 1})

    asyncio.run(run())


def test_a_failing_request_does_not_touch_the_others_of_its_group(tmp_path: Path) -> None:
    bob, eve = Author(member("bob")), Author(member("eve"))
    damaged = eve.say(1, 2)
    damaged = replace(damaged, events=(damaged.events[0], event_bytes(3)))
    altered = replace((foreign := Author(member()).say(5, 6)), events=(foreign.events[0], b"x"))

    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            own = log.stream
            results = await asyncio.gather(
                log.publish(drafts(2)),
                log.receive(damaged),
                log.receive(bob.say(4)),
                log.receive(altered),
                log.publish(drafts(1)),
                return_exceptions=True,
            )
            added = [one for one in results if isinstance(one, tuple)]
            assert [len(events) for events in added] == [2, 1, 1]
            assert all(isinstance(results[refused], CorruptRange) for refused in (1, 3))
            assert writer.transactions == 1
            assert await read_all(log) == sorted(event for events in added for event in events)
            assert log.offsets == OffsetMap({own: 2, bob.stream: 0})

    asyncio.run(run())


def test_a_commit_of_nothing_but_failures_writes_nothing(tmp_path: Path) -> None:
    unknown = replace(Author(member("bob")).say(1), certificate=b"")

    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            with pytest.raises(UnknownAuthor):
                await log.receive(unknown)
            assert await log.publish([]) == ()
            assert writer.transactions == 0
            assert log.lamport == 0

    asyncio.run(run())


def test_a_certificate_is_needed_once_per_author(tmp_path: Path) -> None:
    bob, keys = Author(member("bob")), member("bob")
    other = Author(keys, 77)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(bob.say(1))
            assert len(await log.receive(replace(bob.say(2), certificate=b""))) == 1
            assert len(await log.receive(replace(other.say(1), certificate=b""))) == 1

    asyncio.run(run())


def test_one_bad_draft_refuses_all_of_its_call(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(LimitExceeded):
                await log.publish([draft("a", 1), draft("a", 2**63)])
            with pytest.raises(InvalidInput):
                await log.publish([draft("a", 1), Draft(("",), 1)])
            assert await read_all(log) == []

    asyncio.run(run())


def test_a_call_publishes_at_most_10000_events(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(InvalidInput, match="at most 10000 events, not 10001"):
                await log.publish(drafts(1) * 10_001)
            assert len(await log.publish(drafts(1) * 10_000)) == 10_000

    asyncio.run(run())


@pytest.mark.parametrize(("where", "count"), [(ALL_EVENTS, 14), (Tag("a"), 8), (Tag("no"), 0)])
def test_a_subscriber_sees_every_matching_event_once_from_history_to_live(
    tmp_path: Path, where: Where, count: int
) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(3, "a"))
            await log.receive(bob.say(1, 2, 3, tags=["b"]))
            subscription = log.subscribe(where)
            seen = await collected(subscription, min(count, 1))
            await log.publish(drafts(5, "a"))
            await log.receive(bob.say(4, 50, 60, tags=["b"]))
            [rest] = await to_the_end(log, subscription)
            seen += rest
            assert len(seen) == count
            assert len({event.key for event in seen}) == count
            for offsets in offsets_per_stream(seen).values():
                assert offsets == sorted(offsets)

    asyncio.run(run())


def test_history_comes_in_key_order(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(5))
            await log.receive(bob.say(2, 4))
            held = await read_all(log)
            [seen] = await to_the_end(log, log.subscribe(ALL_EVENTS))
            assert seen == held == sorted(held)

    asyncio.run(run())


def test_a_subscriber_that_lags_behind_what_memory_keeps_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.follower, "KEPT_BATCHES", 2)
    monkeypatch.setattr(lamport.reader, "PAGE_EVENTS", 3)
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1))
            subscriptions = log.subscribe(ALL_EVENTS), log.subscribe(Tag("said"))
            seen = await collected(subscriptions[0], 1)
            for _ in range(7):
                await log.publish(drafts(2))
                await log.receive(bob.count(1))
            seen += await collected(subscriptions[0], 4)
            for _ in range(7):
                await log.publish(drafts(1))
                await log.receive(bob.count(2))
            rest, said = await to_the_end(log, *subscriptions)
            assert sorted([*seen, *rest]) == await read_all(log)
            assert [event.offset for event in said] == list(range(21))

    asyncio.run(run())


def test_subscribers_do_not_take_events_from_each_other(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(2))
            early = log.subscribe(ALL_EVENTS)
            first = await collected(early, 2)
            await log.publish(drafts(3))
            late = log.subscribe(ALL_EVENTS)
            both = [*first, *await collected(early, 1)], await collected(late, 1)
            rest = await to_the_end(log, early, late)
            held = await read_all(log)
            assert [[*a, *b] for a, b in zip(both, rest, strict=True)] == [held, held]

    asyncio.run(run())


def test_a_subscriber_begins_behind_its_lower_bound(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(4))
            behind = log.subscribe(ALL_EVENTS, lower=OffsetMap({log.stream: 1}))
            ahead = log.subscribe(ALL_EVENTS, lower=OffsetMap({log.stream: 5}))
            seen = await collected(behind, 2)
            waiting = asyncio.ensure_future(anext(ahead))
            await asyncio.sleep(0)
            await log.publish(drafts(4))
            first = await waiting
            rest, later = await to_the_end(log, behind, ahead)
            assert [event.offset for event in (*seen, *rest)] == [2, 3, 4, 5, 6, 7]
            assert [event.offset for event in (first, *later)] == [6, 7]

    asyncio.run(run())


def test_a_follower_may_start_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.reader, "PAGE_EVENTS", 2)
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(5))
            await log.receive(bob.say(1, 2, 3))
            follower = log.follow(OffsetMap({log.stream: 2, bob.stream: 0}))
            await log.publish(drafts(2))
            seen = await drained(follower, log.offsets)
            assert offsets_per_stream(sorted(seen)) == {
                bob.stream: [1, 2],
                log.stream: [3, 4, 5, 6],
            }
            assert follower.offsets == log.offsets

    asyncio.run(run())


def test_a_follower_starts_behind_the_present_by_default(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(3))
            follower = log.follow()
            published = await log.publish(drafts(2))
            batch = await follower.next()
            assert batch.events == published
            assert batch.offsets == log.offsets == follower.offsets

    asyncio.run(run())


def test_a_follower_whose_wait_was_cancelled_misses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.reader, "PAGE_EVENTS", 2)

    async def cancelled_after(log: EventLog, turns: int) -> list[Event]:
        follower = log.follow(OffsetMap())
        waiting = asyncio.ensure_future(follower.next())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        early: list[Event] = []
        with suppress(asyncio.CancelledError):
            early.extend((await waiting).events)
        await log.publish(drafts(1))
        return early + await drained(follower, log.offsets)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(6))
            for turns in range(4):
                seen = await cancelled_after(log, turns)
                assert seen == await read_all(log), f"cancelled after {turns} turns"

    asyncio.run(run())


def test_events_are_observed_only_when_they_are_durable(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer), asyncio.TaskGroup() as tasks:
            follower = log.follow()
            writer.hold()
            publishing = tasks.create_task(log.publish(drafts(1)))
            following = tasks.create_task(follower.next())
            await writer.reached.wait()
            await asyncio.sleep(0)
            assert not publishing.done()
            assert not following.done()
            assert log.offsets == OffsetMap()
            writer.gate.set()
            assert (await following).events == await publishing

    asyncio.run(run())


def test_publishing_after_the_close_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1))
            log.close()
            with pytest.raises(LogClosed):
                await log.publish(drafts(1))
            with pytest.raises(LogClosed):
                await log.receive(Author(member("bob")).say(1))
        with pytest.raises(LogClosed):
            await log.publish(drafts(1))
        async with open_log(tmp_path) as log:
            assert len(await read_all(log)) == 1

    asyncio.run(run())


def test_what_was_submitted_before_the_close_is_written(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer), asyncio.TaskGroup() as tasks:
            writer.hold()
            waiting = [tasks.create_task(log.publish(drafts(2))) for _ in range(2)]
            await writer.reached.wait()
            waiting.append(tasks.create_task(log.publish(drafts(1))))
            await asyncio.sleep(0)
            log.close()
            writer.gate.set()
            assert [len(events) for events in await asyncio.gather(*waiting)] == [2, 2, 1]
        async with open_log(tmp_path) as log:
            assert len(await read_all(log)) == 5

    asyncio.run(run())


def test_a_follower_gets_everything_before_it_hears_of_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            follower = log.follow()
            published = await log.publish(drafts(2))
            log.close()
            assert (await follower.next()).events == published
            for _ in range(2):
                with pytest.raises(LogClosed):
                    await follower.next()

    asyncio.run(run())


async def cancel_a_publisher(log: EventLog, writer: WatchedConnection, turns: int) -> int:
    """Cancel a publisher of five events some turns of the loop after it began; return how many are there."""
    writer.hold()
    tag = f"turn {turns}"
    publishing = asyncio.ensure_future(log.publish(drafts(5, tag)))
    for _ in range(turns):
        await asyncio.sleep(0)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    writer.gate.set()
    await log.publish(drafts(1))
    return len(await read_all(log, Tag(tag)))


def test_a_cancelled_publishers_events_are_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            counts = [await cancel_a_publisher(log, writer, turns) for turns in range(6)]
            assert set(counts) == {0, 5}
            [seen] = await to_the_end(log, log.subscribe(ALL_EVENTS))
            assert [event.offset for event in seen] == list(range(sum(counts) + len(counts)))

    asyncio.run(run())


def test_the_clock_is_raised_by_what_is_received(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1))
            await log.receive(bob.say(500, 700))
            assert log.lamport == 700
            [event] = await log.publish(drafts(1))
            assert event.lamport == 701
            await log.receive(Author(member("cyd")).say(3))
            assert log.lamport == 701
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1))
            assert event.lamport == 702

    asyncio.run(run())


def test_a_leap_of_the_clock_is_quarantined_and_harms_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(Author(member("bob")).say(7))
            with pytest.raises(QuarantinedRange, match="leap"):
                await log.receive(Author(member("cyd")).say(7 + MAX_LEAP + 1))
            assert log.lamport == 7
            await log.receive(Author(member("dee")).say(7 + MAX_LEAP))
            [event] = await log.publish(drafts(1))
            assert event.lamport == 7 + MAX_LEAP + 1

    asyncio.run(run())


def test_a_node_with_too_many_streams_is_quarantined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.commit, "MAX_STREAMS_OF_NODE", 2)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for number in (1, 2):
                await log.receive(Author(member("bob"), number).say(number))
            with pytest.raises(QuarantinedRange, match="more than 2 streams"):
                await log.receive(Author(member("bob"), 3).say(3))
            await log.receive(Author(member("cyd")).say(3))
            assert len(log.offsets) == 3

    asyncio.run(run())


def test_a_clock_at_its_end_refuses_appends_and_still_receives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.leaps, "MAX_LEAP", MAX_LAMPORT)
    bob = Author(member("bob"))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(bob.say(MAX_LAMPORT - 1))
            with pytest.raises(LimitExceeded):
                await log.publish(drafts(2))
            [event] = await log.publish(drafts(1))
            assert event.lamport == MAX_LAMPORT
            await log.receive(Author(member("cyd")).say(3))
            assert [one.lamport for one in await read_all(log)] == [3, 2**43 - 2, 2**43 - 1]

    asyncio.run(run())


def test_of_appends_that_share_a_commit_those_that_the_clock_has_room_for_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.leaps, "MAX_LEAP", MAX_LAMPORT)

    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            await log.receive(Author(member("bob")).say(MAX_LAMPORT - 3))
            before = writer.transactions
            sizes = (2, 3, 1, 1)
            results = await asyncio.gather(
                *(log.publish(drafts(size)) for size in sizes), return_exceptions=True
            )
            stored = [one if isinstance(one, LimitExceeded) else len(one) for one in results]  # type: ignore[arg-type] # else it fails
            assert [one for one in stored if isinstance(one, int)] == [2, 1]
            assert [isinstance(one, LimitExceeded) for one in results] == [False, True, False, True]
            assert writer.transactions == before + 1
            assert log.lamport == MAX_LAMPORT
            assert len(await read_all(log)) == 4

    asyncio.run(run())


def test_a_second_history_is_kept_beside_the_first(tmp_path: Path) -> None:
    keys = member("bob")
    one, other = Author(keys), Author(keys)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            held = await log.receive(one.say(1, 2))
            added = await log.receive(other.say(1, 3, 4))
            assert [event.lamport for event in added] == [3, 4]
            assert [event.lamport for event in await read_all(log)] == [1, 2, 3, 4]
            assert {str(event.stream) for event in [*held, *added]} == {str(one.stream)}
            assert len(await log.receive(one.say(5))) == 1

    asyncio.run(run())


def test_two_ranges_of_one_stream_may_share_a_commit(tmp_path: Path) -> None:
    bob = Author(member("bob"))

    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer):
            first, second = bob.say(1, 2), bob.say(3)
            added = await asyncio.gather(
                log.receive(first), log.receive(second), log.receive(first)
            )
            assert [len(events) for events in added] == [2, 1, 0]
            assert writer.transactions == 1
            assert log.offsets == OffsetMap({bob.stream: 2})

    asyncio.run(run())


def test_past_a_failed_disk_nothing_is_acknowledged(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(ExceptionGroup) as ended:  # noqa: PT012 - the context raises at its end
            async with watched_log(tmp_path) as (log, writer):
                await writer.transact([Statement("DROP TABLE seals")])
                for _ in range(2):
                    with pytest.raises(LogClosed):
                        await log.publish(drafts(1))
                with pytest.raises(LogClosed):
                    await log.changed()
        assert ended.group_contains(StoreFailed)

    asyncio.run(run())


def test_tags_are_found_by_every_combination(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish([draft(["a", "b"], 1), draft(["a"], 2), draft(["b"], 3)])
            both = await read_all(log, Tags("a", "b"))
            either = await read_all(log, Tag("a") | Tag("b"))
            assert [event.payload for event in both] == [1]
            assert [event.payload for event in either] == [1, 2, 3]

    asyncio.run(run())


def test_who_asks_not_to_wait_is_told_at_once_where_one_too_many_wait(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched_log(tmp_path) as (log, writer), asyncio.TaskGroup() as tasks:
            writer.hold()
            waiting = [
                tasks.create_task(log.publish(drafts(1, "waiting"))) for _ in range(MAX_WAITING - 1)
            ]
            await writer.reached.wait()
            last = tasks.create_task(log.publish(drafts(1, "last"), wait=False))
            await asyncio.sleep(0)
            assert not last.done()  # it is the last that is let in
            with pytest.raises(Overloaded, match="nothing was stored"):
                await log.publish(drafts(1, "refused"), wait=False)
            patient = tasks.create_task(log.publish(drafts(1, "patient")))
            await asyncio.sleep(0)
            writer.gate.set()
            await asyncio.gather(*waiting, last, patient)
            assert len(await log.publish(drafts(1, "again"), wait=False)) == 1
            stored = [event.tags for event in await read_all(log)]
            assert len(stored) == MAX_WAITING + 2
            assert ("refused",) not in [tuple(tags) for tags in stored]

    asyncio.run(run())


def test_who_asks_not_to_wait_does_not_wait_for_peers_behind_a_start(tmp_path: Path) -> None:
    async def run() -> None:
        keys = member()
        async with open_store(tmp_path, keys) as store, asyncio.TaskGroup() as tasks:
            log = EventLog(store, keys, lambda: NOW_US, settling=True)
            tasks.create_task(log.write())
            with pytest.raises(Overloaded):
                await log.publish(drafts(1), wait=False)
            log.settle()
            assert len(await log.publish(drafts(1), wait=False)) == 1
            log.close()

    asyncio.run(run())


async def let_run() -> None:
    """Let everything come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_log_is_written_to_its_end_though_what_waited_last_was_withdrawn(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_store(tmp_path, member()) as store:
            log = EventLog(store, member(), lambda: NOW_US)
            async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
                while log._tidying.more_s is not None:  # noqa: SLF001 - it does not wake the writer up
                    await log._tidying.step()  # noqa: SLF001 - the same
                tasks.create_task(log.write())
                await let_run()
                waiting = tasks.create_task(log.publish(drafts(1)))
                await asyncio.sleep(0)
                log.close()
                waiting.cancel()
            assert not log.offsets

    asyncio.run(story())


def test_what_waits_while_a_notice_is_learnt_is_answered_though_the_writer_ends(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        async with open_store(tmp_path, member()) as store:
            log = EventLog(store, member(), lambda: NOW_US)
            writer = asyncio.create_task(log.write())
            await log.publish(drafts(1))
            async with log.withdrawals.turn:
                waiting = asyncio.create_task(log.publish(drafts(1)))
                await let_run()
                writer.cancel()
                with pytest.raises(LogClosed, match="nothing was stored"):
                    async with asyncio.timeout(10):
                        await waiting

    asyncio.run(story())


def test_what_is_withdrawn_while_a_notice_is_learnt_is_not_stored(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1))
            async with log.withdrawals.turn:
                waiting = asyncio.create_task(log.publish(drafts(1, "withdrawn")))
                await let_run()
                waiting.cancel()
                kept = asyncio.create_task(log.publish(drafts(1, "kept")))
                await let_run()
            await kept
            assert [event.tags for event in await read_all(log)] == [(), ("kept",)]

    asyncio.run(story())
