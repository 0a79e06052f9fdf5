"""A cut on one history of a copied device's stream: what counts is the same in whichever order all of it arrives."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.chain import Head, Seal, SealedRange
from lamport.cuts import Cuts, Limit
from lamport.errors import CorruptRange, DivergedStream, StoreFull
from lamport.event import Event
from lamport.forks import ForkProof, make_proof
from lamport.ids import EventKey, NodeId, StreamId
from lamport.log import EventLog
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.offsets import OffsetMap
from lamport.retraction import RETRACT_TAG
from lamport.revocation import revocation_of
from lamport.seams import INLINE, Connection, Statement
from lamport.sqlite import DATABASE_NAME, SqliteDisk
from tests.lamport.keys import Author, drafts, event_bytes, findings, member, open_log, read_all

ADA, BOB = member("ada"), member("bob")

Item = SealedRange | ForkProof | Notice


def revoked(*cuts: Seal) -> Notice:
    body = revocation_of(BOB.node, cuts).encode()
    data = signed_bytes(ADA.swarm, NoticeKind.REVOCATION, body)
    return Notice(NoticeKind.REVOCATION, body, ADA.admin.sign(data))


def split(author: Author) -> Author:
    """Somebody else who goes on writing where this one stands now."""
    other = Author(author.keys, author.stream.number)
    other.head = author.head
    return other


def joined(ranges: Sequence[SealedRange]) -> SealedRange:
    """The same events under the last seal alone, as whoever has packed them serves them."""
    events = tuple(event for one in ranges for event in one.events)
    return SealedRange(ranges[0].first, events, ranges[-1].seal, ranges[0].certificate)


@dataclass(frozen=True)
class Copied:
    """A stream of a copied device: what both wrote before, and the two histories behind that."""

    common: tuple[SealedRange, ...]
    named: tuple[SealedRange, ...]
    other: tuple[SealedRange, ...]

    @property
    def proof(self) -> ForkProof:
        before = self.common[-1].seal.hash if self.common else Author(BOB).head.hash
        return make_proof(before, self.named[0], self.other[0])

    def counted(self, cut: Seal) -> list[tuple[int, str]]:
        """What counts once all is known: the history that the cut names, up to it."""
        before, behind = (
            sum(len(one.events) for one in part) for part in (self.common, self.named)
        )
        tags = ["common"] * before + ["named"] * behind
        return list(enumerate(tags))[: cut.offset + 1]


def copied(common: Sequence[int], named: Sequence[int], other: Sequence[int]) -> Copied:
    original = Author(BOB)
    begun = tuple(original.count(size, ["common"]) for size in common)
    copy = split(original)
    return Copied(
        begun,
        tuple(original.count(size, ["named"]) for size in named),
        tuple(copy.count(size, ["other"]) for size in other),
    )


async def take(log: EventLog, item: Item) -> None:
    """Take in what a peer sends; one that sends what does not fit is asked for something else."""
    try:
        if isinstance(item, Notice):
            await log.learn(item)
        elif isinstance(item, ForkProof):
            await log.forks.learn(item)
        else:
            await log.receive(item)
    except DivergedStream:
        pass


async def theirs(log: EventLog) -> list[Event]:
    return [event for event in await read_all(log) if event.stream.node == BOB.node]


async def shown(log: EventLog) -> list[tuple[int, str]]:
    return sorted((event.offset, event.tags[0]) for event in await theirs(log))


class Watcher:
    """Somebody who follows a log from where it begins, and keeps the books of what counts."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._follower = log.follow(OffsetMap())
        self._known: Counter[tuple[EventKey, str]] = Counter()

    async def catch_up(self) -> None:
        """Hear all that there is to hear: up to a mark that is the last thing in the log."""
        [end] = await self._log.publish(drafts(1, "mark"))
        while not self._known[_entry(end)]:
            batch = await self._follower.next()
            self._known.subtract(map(_entry, batch.retracted))
            self._known.update(map(_entry, batch.events))

    def books(self) -> list[tuple[EventKey, str]]:
        """What it was told of and counts, each as often as it does."""
        return sorted((one for one in self._known.elements() if one[1] != "mark"), key=str)


def _entry(event: Event) -> tuple[EventKey, str]:
    return EventKey(event.key.lamport, event.key.stream.base), event.tags[0]


@dataclass(frozen=True)
class Case:
    """A stream with two histories, a cut on one of them, and in which order all that arrives at a node."""

    stream: Copied
    cut: Seal
    order: tuple[Item, ...]
    restarts: frozenset[int]
    packings: frozenset[int]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    sizes = st.lists(st.integers(1, 4), min_size=1, max_size=3)
    stream = copied(draw(st.lists(st.integers(1, 4), max_size=2)), draw(sizes), draw(sizes))
    cut = draw(st.sampled_from(stream.named)).seal
    line = [*stream.common, *stream.other]
    other = [joined(line)] if draw(st.booleans()) else line
    items: list[Item] = [*stream.common, *stream.named, *other, stream.proof, revoked(cut)]
    order = tuple(draw(st.permutations(items)))
    places = st.frozensets(st.integers(0, len(order) - 1), max_size=2)
    return Case(stream, cut, order, draw(places), draw(places))


@settings(deadline=None, max_examples=150)
@given(cases())
def test_what_counts_follows_from_the_cut_in_whichever_order_all_of_it_arrives(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("log")
    rest = iter(enumerate(case.order))

    async def run_on() -> bool:
        """Run until the next restart; returns whether there was none."""
        async with open_log(folder) as log:
            watcher = Watcher(log)
            for number, item in rest:
                await take(log, item)
                await watcher.catch_up()
                if number in case.packings:
                    await log.store.merge_events(INLINE)
                if number in case.restarts:
                    return False
            for _ in range(4):  # peers send what is asked for until nothing is missing
                for item in case.order:
                    await take(log, item)
            await watcher.catch_up()
            assert await shown(log) == case.stream.counted(case.cut)
            assert watcher.books() == sorted(map(_entry, await theirs(log)), key=str)
            return True

    async def go() -> None:
        while not await run_on():
            pass
        async with open_log(folder) as log:
            assert await shown(log) == case.stream.counted(case.cut)
        assert await findings(folder) == []

    asyncio.run(go())


async def told(log: EventLog, items: Sequence[Item]) -> None:
    for item in items:
        await take(log, item)


def test_another_history_than_that_of_the_cut_counts_up_to_its_last_seal_before(
    tmp_path: Path,
) -> None:
    stream = copied([3], [4], [1, 1, 4])
    cut = stream.named[-1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [*stream.common, *stream.other])
            await log.learn(revoked(cut))
            await shows_up_to_the_seal(log)
        async with open_log(tmp_path) as log:
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2, 3, 4]
            await log.publish(drafts(1, "x"))  # whoever writes has begun
            await shows_up_to_the_seal(log)
            assert await log.receive(stream.named[0])
            assert await shown(log) == stream.counted(cut)
            assert log.forks.alarmed.is_set()

    async def shows_up_to_the_seal(log: EventLog) -> None:
        assert [offset for offset, _ in await shown(log)] == [0, 1, 2, 3, 4]
        base = stream.common[0].stream
        head, seal = log.store.head(base), stream.other[1].seal
        assert (head.offset, head.hash) == (seal.offset, seal.hash)
        served = await log.served_range(base, 0, 100)
        assert served is not None
        assert served.seal == seal
        assert log.store.is_disputed(base)
        assert not log.store.grows(base)

    asyncio.run(go())


def test_what_both_histories_have_in_common_counts_again_once_they_are_told_apart(
    tmp_path: Path,
) -> None:
    stream = copied([3], [2, 2], [6])
    cut = stream.named[-1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(joined([*stream.common, *stream.other]))
            watcher, late = Watcher(log), log.follow()
            await watcher.catch_up()
            assert len(watcher.books()) == 9
            await log.learn(revoked(cut))
            await watcher.catch_up()
            assert (await shown(log), watcher.books()) == ([], [])
            await told(log, [*stream.common, *stream.named])
            await watcher.catch_up()
            assert await shown(log) == stream.counted(cut)
            assert [tag for _, tag in watcher.books()] == ["common"] * 3 + ["named"] * 4
            while not (batch := await late.next()).offsets.covers(log.offsets):
                assert {event.stream.node for event in batch.events} <= {BOB.node, ADA.node}

    asyncio.run(go())


def test_a_retraction_in_what_counts_again_hides_again(tmp_path: Path) -> None:
    original = Author(BOB)
    beginning = original.count(2, ["common"])
    names = [str(EventKey(1, original.stream))]
    raw = event_bytes(3, [RETRACT_TAG], {"keys": names, "reason": "a slip"})
    common = (beginning, original.write(raw, lamport=3))
    copy = split(original)
    named, other = original.count(2, ["named"]), copy.count(4, ["other"])

    async def hidden(log: EventLog) -> list[int]:
        return [key.lamport for key in log.retracted]

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(joined([*common, other]))
            watcher = Watcher(log)
            await watcher.catch_up()
            assert await hidden(log) == [1]
            await log.learn(revoked(named.seal))
            assert await hidden(log) == []
            await watcher.catch_up()
            await told(log, [*common, named])
            assert await hidden(log) == [1]
            await watcher.catch_up()
            assert [key.lamport for key, _ in watcher.books()] == [2, 3, 4, 5]
            assert [event.lamport for event in await theirs(log)] == [2, 3, 4, 5]
        async with open_log(tmp_path) as log:
            assert await hidden(log) == [1]

    asyncio.run(go())


def test_a_seal_that_others_hold_lets_more_of_a_disputed_stream_count(tmp_path: Path) -> None:
    stream = copied([3], [5], [1, 2, 4])
    whole = [*stream.common, *stream.other]

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(joined(whole))
            await log.learn(revoked(stream.named[-1].seal))
            assert await shown(log) == []
            await told(log, stream.common)
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2]
            await told(log, whole)
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2, 3, 4, 5]
            forged = joined([stream.common[0], stream.named[0]])
            with pytest.raises(CorruptRange):
                await log.receive(replace(forged, seal=replace(forged.seal, clock=99)))
        async with open_log(tmp_path) as log:
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2, 3, 4, 5]

    asyncio.run(go())


def test_a_third_history_is_that_of_the_cut(tmp_path: Path) -> None:
    original = Author(BOB)
    common = original.count(2, ["common"])
    one, other = split(original), split(original)
    items = [common, one.count(4, ["one"]), other.count(5, ["other"])]
    named = original.count(3, ["named"])

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, items)
            await log.learn(revoked(named.seal))
            assert [tag for _, tag in await shown(log)] == ["common"] * 2
            await log.receive(named)
            expected = ["common"] * 2 + ["named"] * 3
            assert [tag for _, tag in await shown(log)] == expected
        async with open_log(tmp_path) as log:
            assert [tag for _, tag in await shown(log)] == expected

    asyncio.run(go())


def test_a_branch_that_turns_out_to_be_another_history_is_not_counted_any_more(
    tmp_path: Path,
) -> None:
    stream = copied([1], [1, 1], [1, 1])
    cut = stream.named[-1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [*stream.common, stream.named[0], stream.other[0], revoked(cut)])
            assert [offset for offset, _ in await shown(log)] == [0, 1, 1]
            await told(log, [stream.other[1]])
            assert [tag for _, tag in await shown(log)] == ["common", "named"]
            assert log.offsets == log.store.offsets
            await told(log, [stream.named[1]])
            assert await shown(log) == stream.counted(cut)

    asyncio.run(go())


def test_a_disputed_stream_counts_up_to_a_lower_cut_that_it_bears(tmp_path: Path) -> None:
    stream = copied([3, 1], [4], [4])
    notices = [revoked(stream.named[-1].seal), revoked(stream.common[0].seal)]

    async def go(folder: Path, order: Sequence[Notice]) -> None:
        async with open_log(folder) as log:
            await log.receive(joined([*stream.common, *stream.other]))
            await told(log, order)
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2]

    for number, order in enumerate((notices, notices[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        asyncio.run(go(folder, order))


def test_what_the_power_left_undone_is_worked_out_at_the_next_start(tmp_path: Path) -> None:
    stream = copied([3], [2, 2], [6])
    cut = stream.named[-1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(joined([*stream.common, *stream.other]))
            await log.learn(revoked(cut))
            await told(log, [*stream.common, *stream.named])
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            connection.execute("DELETE FROM cuts WHERE branch != x''")
            connection.execute('UPDATE cuts SET "offset" = -1')
            connection.commit()
        async with open_log(tmp_path) as log:
            [*_] = await log.publish(drafts(1, "x"))
            assert await shown(log) == stream.counted(cut)

    asyncio.run(go())


class TightConnection:
    """A real connection that counts its transactions, and refuses those that keep limits for want of room."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.transactions = 0
        self.is_full = False

    async def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._connection.fetch(sql, parameters)

    async def transact(self, statements: Iterable[Statement]) -> None:
        listed = list(statements)
        if self.is_full and any("INTO cuts" in one.sql for one in listed):
            raise StoreFull("the disk is full")
        self.transactions += 1
        await self._connection.transact(listed)

    async def close(self) -> None:
        await self._connection.close()


class TightDisk(SqliteDisk):
    """A real disk on which room for limits may be wanting."""

    writer: TightConnection

    async def open_writer(self) -> TightConnection:  # type: ignore[override]  # wraps it
        self.writer = TightConnection(await super().open_writer())
        return self.writer


def test_what_does_not_count_is_not_shown_where_the_disk_has_no_room_for_that(
    tmp_path: Path,
) -> None:
    stream = copied([3], [5], [5])
    cut = stream.named[0].seal

    async def go() -> None:
        disk = TightDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            watcher = Watcher(log)
            await told(log, [*stream.common, *stream.named, revoked(cut)])
            await watcher.catch_up()
            disk.writer.is_full = True
            await told(log, [stream.proof])
            assert await shown(log) == stream.counted(cut)
            await watcher.catch_up()
            assert watcher.books() == sorted(map(_entry, await theirs(log)), key=str)
        async with open_log(tmp_path) as log:
            assert not [one for one in await shown(log) if one[1] == "other"]
            await log.publish(drafts(1, "x"))
            assert await shown(log) == stream.counted(cut)

    asyncio.run(go())


def test_what_the_disk_had_no_room_for_is_kept_with_the_next_limits(tmp_path: Path) -> None:
    stream = copied([3], [5], [5])
    cut = stream.named[0].seal
    beside = [Author(BOB, 2**20 + 1).count(2), Author(BOB, 2**20 + 2).count(2)]

    async def go() -> None:
        disk = TightDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            notice = revoked(cut, *(one.seal for one in beside))
            await told(log, [*stream.common, *stream.named, notice])
            disk.writer.is_full = True
            await told(log, [stream.proof])
            disk.writer.is_full = False
            await told(log, beside)
            limits = dict(log.store.cuts.limits)
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            kept = connection.execute('SELECT node, number, branch, "offset" FROM cuts').fetchall()
        assert limits == {
            StreamId(NodeId(node), number, branch): offset for node, number, branch, offset in kept
        }

    asyncio.run(go())


def test_a_seal_that_is_not_stored_counts_as_long_as_it_is_known(tmp_path: Path) -> None:
    stream = copied([3], [5], [1, 2, 4])
    whole = [*stream.common, *stream.other]

    async def go() -> None:
        disk = TightDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            await log.receive(joined(whole))
            await log.learn(revoked(stream.named[-1].seal))
            disk.writer.is_full = True
            await told(log, stream.common)
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2]
            disk.writer.is_full = False
            later = [one.seal for one in (*stream.named, Author(BOB, 2**20 + 1).count(1))]
            await log.learn(revoked(*later))
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2]

    asyncio.run(go())


def test_a_range_of_a_disputed_part_that_comes_again_writes_nothing(tmp_path: Path) -> None:
    original = Author(BOB)
    common = original.count(2, ["common"])
    one, other = split(original), split(original)
    ranges = [common, one.count(1, ["one"]), other.count(1, ["other"]), other.count(5, ["other"])]
    cut = original.count(5, ["named"]).seal

    async def go() -> None:
        disk = TightDisk(tmp_path)
        async with open_log(tmp_path, disk=disk) as log:
            await told(log, [*ranges, revoked(cut)])
            again = [
                replace(ranges[2], seal=replace(ranges[2].seal, stream=part))
                for part in sorted(log.store.branches.known)
            ]
            before = disk.writer.transactions
            for _ in range(3):
                await told(log, again)
            assert disk.writer.transactions == before

    asyncio.run(go())


def test_nothing_counts_again_because_what_tells_it_is_damaged(tmp_path: Path) -> None:
    stream = copied([3], [4], [1, 1, 4])
    cut = stream.named[-1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [*stream.common, *stream.other])
            await log.learn(revoked(cut))
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as connection:
            connection.execute("UPDATE events SET bytes = x'00' WHERE \"offset\" = 6")
            connection.commit()
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1, "x"))
            assert [offset for offset, _ in await shown(log)] == [0, 1, 2, 3, 4]

    asyncio.run(go())


def test_a_part_that_was_told_apart_just_now_shows_nothing_beyond_its_cut() -> None:
    stream = copied([2], [2], [3])
    part, cut = stream.proof.branches[0], stream.named[0].seal
    cuts = Cuts((revocation_of(BOB.node, [cut]),))
    heads, ends = {part: Head(part, 9, bytes(32), 9)}, dict[StreamId, Head]()
    cuts.clip_heads(heads, ends)
    assert (heads, ends[part].offset) == ({}, 9)
    cuts.with_limits({part: Limit(cut.offset, cut)}).clip_heads(heads, ends)
    assert (heads[part].offset, heads[part].hash) == (cut.offset, cut.hash)
    cuts.with_limits({part: Limit(9)}).clip_heads(heads, ends)
    assert (heads[part].offset, ends) == (9, {})


def test_the_cuts_of_a_revocation_stand_in_one_order_whatever_a_run_draws() -> None:
    histories = [Author(BOB) for _ in range(6)]
    cuts = [one.count(1, [f"copy {number}"]).seal for number, one in enumerate(histories)]
    named = revocation_of(BOB.node, cuts).cuts
    assert [one.hash for one in named] == sorted(one.hash for one in cuts)
