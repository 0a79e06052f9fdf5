"""Taking back what revoked nodes wrote beyond their cuts, on one disk, for good.

Nothing is deleted: the bytes stay where they are, for they may be evidence. What changes is the picture that all
reading goes by (`lamport.cuts`): heads move back to the cut, so that nothing beyond is queried, folded, counted, served
or told of; retractions that stand beyond hide nothing any more; and whoever followed the log hears which of the events
that it was handed are gone (`withdrawn_page`), and which are back (`restored_since`).

The way of a datum: a notice comes in, the limits of all parts of that node's streams are worked out (`lamport.reach`)
and written in one transaction with the notice; from there the picture is exchanged for the new one in one step. What a
later commit tells of the histories of a stream (`behind`), or told just before the power went (`begin`), is worked out
in the same way. By that a part that was disputed may count further than before; followers hear of that, too.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from lamport.chain import Keys, Seal
from lamport.commit import Commit
from lamport.cuts import Cuts, Limit
from lamport.errors import CorruptRange, DamagedRange, InvalidInput, StoreRefused
from lamport.event import Event
from lamport.ids import EventKey, StreamId
from lamport.leaps import decode_release
from lamport.notice_table import inserted_limits, inserted_notice, inserted_seals
from lamport.notices import Notice, NoticeKind
from lamport.offsets import NOTHING, OffsetMap
from lamport.reach import Limits, Reach
from lamport.reader import Bounds, Order, Reader
from lamport.revocation import Revocation, decode_revocation
from lamport.seams import Statement
from lamport.store import Store
from lamport.tags import ALL_EVENTS

WITHDRAWN_PAGE = 10_000
"""Offsets of which a follower is told at once that they are withdrawn."""


def checked_notice(notice: Notice, keys: Keys) -> Revocation | None:
    """The revocation that a notice is, if it is one.

    Raises:
        CorruptRange: it is not the admin's, or says nothing that can be read.
    """
    if not notice.is_signed(keys):
        raise CorruptRange("a notice is not signed by this swarm's admin")
    try:
        if notice.kind == NoticeKind.RELEASE:
            decode_release(notice.body)
        return decode_revocation(notice.body) if notice.kind == NoticeKind.REVOCATION else None
    except InvalidInput as error:
        raise CorruptRange(str(error)) from error


def learn_epoch(notice: Notice, keys: Keys) -> None:
    """Let the keys take note of a notice; raise `CorruptRange` where it says nothing that can be read."""
    try:
        keys.learn([notice])
    except InvalidInput as error:
        raise CorruptRange(str(error)) from error


class WithdrawnPage(NamedTuple):
    """Events that do not count any more, and the position of whoever was handed them, without them."""

    events: tuple[Event, ...]
    offsets: OffsetMap


class Withdrawals:
    """The notices of one log, and its cuts at work. The picture changes between commits only."""

    def __init__(
        self, store: Store, reader: Reader, keys: Keys, changed: Callable[[], None]
    ) -> None:
        """`changed` is called whenever a notice was taken in, or other events count than before."""
        self.turn = asyncio.Lock()
        """Held by whoever commits, or changes the picture."""
        self._store = store
        self._reader = reader
        self._keys = keys
        self._changed = changed
        self._reach = Reach(store)
        self._changes = 0
        self._restored: dict[EventKey, int] = {}
        """What was hidden by retractions that do not count any more, and the change with which it came back last.

        No more than are retracted at all, of which each node has a bounded number (`lamport.retraction`).
        """
        self._unwritten: set[StreamId] = set()
        """Parts whose limits are shown, and that the disk had no room for."""

    @property
    def count(self) -> int:
        """How often the picture has changed since the start."""
        return self._changes

    async def learn(self, notice: Notice) -> bool:
        """Keep a notice for good, and go by it if it is a revocation; returns whether it is news.

        Raises:
            CorruptRange: it is not the admin's, or says nothing that can be read.
            LimitExceeded: no more are kept.
            StoreFull: there is no room.
        """
        notices = self._store.notices
        if notice.id in notices:
            return False
        revocation = checked_notice(notice, self._keys)
        async with self.turn:
            if notice.id in notices:
                return False
            notices.require_room()
            learn_epoch(notice, self._keys)
            if revocation is not None:
                await self._withdraw(notice, revocation)
            else:
                await self._store.write(inserted_notice(notice))
            notices.add(notice)
            self._store.leaps.learn([notice])
        self._changed()
        return True

    def renamed(self, offsets: OffsetMap) -> OffsetMap:
        """A position in this log, of what does not count any more, too, under the names that its parts bear now."""
        return self._store.branches.renamed(offsets)

    def counts(self, event: Event) -> bool:
        """Whether no revocation withdraws an event."""
        return self._store.counts(event.stream, event.offset)

    async def begin(self) -> None:
        """Work out what a power cut left undone."""
        async with self.turn:
            cuts = self._store.cuts
            await self._work_out(cuts, self._reach.streams(cuts, cuts.revoked), {})

    async def behind(self, commit: Commit) -> bool:
        """Look whether a commit tells in which history a cut stands; False where no revoked node wrote any of it."""
        store, cuts = self._store, self._store.cuts
        if not cuts.revoked:
            return False
        forked = {
            one.origin.stream for one in commit.forks if one.origin.stream.node in cuts.revoked
        }
        grown = {part: store.end(part).offset for part in commit.heads if part.node in cuts.revoked}
        for event, _ in commit.events if grown else ():
            if event.stream in grown:
                grown[event.stream] = min(grown[event.stream], event.offset - 1)
        if not (forked or grown):
            return False
        cuts.clip_heads(store.heads, store.ends, grown)
        told = self._reach.told_by(cuts, grown | dict.fromkeys(forked, NOTHING))
        await self._work_out(cuts, told, None if forked else grown)
        return True

    async def vouched(self, seal: Seal) -> None:
        """A seal has come that stands in what is held: a disputed part may count as far as that."""
        store, part = self._store, seal.stream
        is_known = store.row_of(part) is not None and store.is_disputed(part)
        if not is_known or seal.offset <= store.head(part).offset:
            return
        async with self.turn:
            if await self._reach.bears(seal):
                cuts = store.cuts
                told = replace(cuts, seals={**cuts.seals, part: seal})
                await self._work_out(told, [part.base], {})

    async def _withdraw(self, notice: Notice, revocation: Revocation) -> None:
        """Keep a revocation, and from then on count no more than it leaves."""
        cuts = self._store.cuts.with_revocation(revocation)
        found = await self._reach.limits(cuts, self._reach.streams(cuts, (revocation.node,)))
        cuts = cuts.with_limits(found)
        await self._write(cuts, self._unwritten | found.keys(), inserted_notice(notice))
        await self._show(cuts, found, None)

    async def _work_out(
        self, told: Cuts, bases: Iterable[StreamId], held: Mapping[StreamId, int] | None
    ) -> None:
        """Go by the limits that these streams have now, by what is `told` here of seals; see `_show` for `held`.

        The picture follows from what is stored, so that it is shown even where the disk has no room for it: then it
        is worked out again at the next start.
        """
        known = self._store.cuts
        found = await self._reach.limits(told, bases)
        news = {part: one for part, one in found.items() if one != known.limit(part)}
        if not news:
            return
        cuts = known.with_limits(news)
        self._unwritten |= {part for part in news if cuts.limits[part] != known.limits.get(part)}
        with suppress(StoreRefused):
            await self._write(cuts, self._unwritten)
        if await self._show(cuts, news, held):
            self._changed()

    async def _write(self, cuts: Cuts, parts: Iterable[StreamId], *more: Statement) -> None:
        """Make limits durable, with the seals on which parts end from now on: whoever serves them needs one there."""
        limits = {part: cuts.limits[part] for part in sorted(parts)}
        if not (limits or more):
            return
        rows = [
            (row, cuts.seals[part])
            for part in limits
            if part in cuts.seals and (row := self._store.row_of(part)) is not None
        ]
        await self._store.write(*more, inserted_limits(limits), inserted_seals(rows))
        self._unwritten = set()

    async def _show(self, cuts: Cuts, news: Limits, held: Mapping[StreamId, int] | None) -> bool:
        """Go by this picture from now on; returns whether it is another one for whoever was shown the one before.

        `held` is how far parts were stored before the commit that is told of here; None where parts bear other names
        since, or a node was revoked.
        """
        store, known = self._store, self._store.cuts
        is_other = held is None or any(
            self._counts_otherwise(part, one, held) for part, one in news.items()
        )
        rises = any(
            one.offset > before
            for part, one in news.items()
            if (before := known.of(part)) is not None
        )
        is_cut = any(one.offset < store.end(part).offset for part, one in news.items())
        hidden = store.retracted
        all_hidden = await store.all_retracted() if rises else hidden
        store.cuts = cuts
        cuts.clip_heads(store.heads, store.ends, news)
        if rises or is_cut:
            store.retracted = all_hidden.only(store.counts)
        if is_other:
            self._changes += 1
            back = (key for key in hidden if key not in store.retracted)
            self._restored |= dict.fromkeys(back, self._changes)
        return is_other

    def _counts_otherwise(self, part: StreamId, limit: Limit, held: Mapping[StreamId, int]) -> bool:
        """Whether less or more counts of what was held of a part."""
        end, before = held.get(part, self._store.end(part).offset), self._store.cuts.of(part)
        return min(end, end if before is None else before) != min(end, limit.offset)

    async def seal_up_to(self, part: StreamId, offset: int) -> Seal | None:
        """The last seal of a part at or before an offset; None where there is none. There a cut can be placed."""
        row = self._store.row_of(part)
        return None if row is None else await self._reader.seal_up_to(part, row, offset)

    async def withdrawn_page(self, handed: OffsetMap) -> WithdrawnPage | None:
        """Of what was handed out up to these offsets, some that does not count any more; None where all of it does."""
        for part, last in sorted(handed.items()):
            limit = self._store.cuts.of(part)
            if limit is not None and last > limit:
                first = max(limit + 1, last + 1 - WITHDRAWN_PAGE)
                rest = {one: offset for one, offset in handed.items() if one != part}
                if first > 0:
                    rest[part] = first - 1
                return WithdrawnPage(await self._stored(part, first, last), OffsetMap(rest))
        return None

    async def _stored(self, part: StreamId, first: int, last: int) -> tuple[Event, ...]:
        lower = OffsetMap({part: first - 1} if first else {})
        bounds = Bounds(OffsetMap({part: last}), lower)
        found: list[Event] = []
        try:
            async for page in self._reader.read(ALL_EVENTS, bounds, Order.PER_STREAM):
                found += page
        except DamagedRange:
            pass  # it can be shown to nobody, and was not
        return tuple(sorted(found, key=lambda event: event.key))

    async def restored_since(self, count: int, handed: OffsetMap) -> tuple[Event, ...]:
        """Events up to these offsets that were hidden when the picture had changed so often, and are not now."""
        hides = self._store.retracted.hides
        keys = [key for key, at in self._restored.items() if at > count and not hides(key)]
        if not keys:
            return ()
        found = await self._reader.events_at(keys)
        held = [one for one in found if one.offset <= handed.of(one.stream)]
        return tuple(sorted(held, key=lambda event: event.key))
