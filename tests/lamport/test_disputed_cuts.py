"""A cut on one history of a copied device's stream: what counts is the same in whichever order all of it arrives."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamport.chain import Seal, SealedRange
from lamport.errors import DivergedStream
from lamport.event import Event
from lamport.forks import ForkProof, make_proof
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.offsets import OffsetMap
from lamport.revocation import revocation_of
from lamport.seams import INLINE
from lamport.sqlite import SqliteDisk
from lamport.stream_check import Finding
from lamport.verification import Verification
from tests.lamport.keys import Author, drafts, member, open_log, read_all

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


async def verified(folder: Path) -> list[str]:
    """What verifying a log's database finds."""
    connection = await SqliteDisk(folder).open_reader()
    try:
        looked = Verification(connection, member())
        return [str(one) async for one in looked.run() if isinstance(one, Finding)]
    finally:
        await connection.close()


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
        assert await verified(folder) == []

    asyncio.run(go())
