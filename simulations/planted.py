"""Bugs planted on purpose: the proof that the laws bite.

Each replaces one function of the production code by one with a mistake that somebody could make. It must be found by
the ordinary laws on ordinary seeds; nothing in the production code knows of this.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import lamport.commit
import lamport.compaction
import lamport.event_table
import lamport.horizon_table
import lamport.log
import lamport.reader
import lamport.retraction
import lamport.sqlite_errors
import lamport.store
import transport.liveness
from fish.effects import EffectQueue
from fish.observation import Observation
from fish.running import RunningFish
from fish.snapshots import Snapshot, SnapshotShelf
from fish.timeline import Timeline
from fish.work import WorkIds
from lamport.chain import CheckedRange, Head, VerifiedRange
from lamport.clock import LamportClock
from lamport.commit import Commit, CommitBuilder
from lamport.cuts import Cuts
from lamport.errors import StoreFull
from lamport.event_table import Part
from lamport.follower import Follower
from lamport.ids import NodeId
from lamport.lineage import Lineage
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.reader import Reader
from lamport.repair import Repair
from lamport.retraction import Retracted
from lamport.seams import Statement
from lamport.store import Store
from lamport.tag_index import TagIndex
from lamport.withdrawal import Withdrawals
from shoal.keys import IdentityKeys
from simulations.plan import draw_plan
from simulations.play import Outcome, play
from transport.errors import ForgedEvents
from transport.membership import Membership
from transport.peers import Peers
from transport.repairs import Repairs
from transport.session import Session
from transport.spreading import Spreading


@dataclass(frozen=True, slots=True)
class Bug:
    """A mistake: whose attribute is replaced by what. `make` gets the right one and gives the wrong one."""

    name: str
    owner: Any
    attribute: str
    make: Callable[[Any], Any]


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Plant a bug while the context is open."""
    right = bug.owner.__dict__[bug.attribute]
    setattr(bug.owner, bug.attribute, bug.make(right))
    try:
        yield
    finally:
        setattr(bug.owner, bug.attribute, right)


def hunt(bug: Bug, seeds: range) -> Outcome | None:
    """The first seed that finds the bug; None where none of them does."""
    with planted(bug):
        outcomes = (play(draw_plan(seed)) for seed in seeds)
        return next((outcome for outcome in outcomes if outcome.failure), None)


def _acknowledged_too_early(right: Any) -> Any:
    async def commit(self: Store, commit: Commit) -> None:
        writer = self._writer
        hasty: Any = _HastyWriter(writer)
        self._writer = hasty
        try:
            await right(self, commit)
        finally:
            self._writer = writer

    return commit


class _HastyWriter:
    """Says at once that a transaction is through."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    async def transact(self, statements: Iterable[Statement]) -> None:
        asyncio.ensure_future(self._writer.transact(list(statements))).add_done_callback(_forgotten)


def _forgotten(task: "asyncio.Future[None]") -> None:
    if not task.cancelled():
        task.exception()


def _unsorted(_right: Any) -> Any:
    def decoded(
        self: Reader, found: Any, where: Any, bounds: Any, cut: Any, *, descending: bool
    ) -> Any:
        row_of = self._store.row_of
        return sorted(
            self._admitted(found, where, bounds, cut),
            key=lambda event: (event.lamport, row_of(event.stream)),
            reverse=descending,
        )

    return decoded


def _shifted(right: Any) -> Any:
    async def sealed_range(self: Reader, stream: Any, first: int, limit: int) -> Any:
        return await right(self, stream, first + 1, limit)

    return sealed_range


def _deaf_every_seventh(right: Any) -> Any:
    def pulse(self: EventLog) -> None:
        if self._recent.sequence % 7:
            right(self)

    return pulse


def _doubled(right: Any) -> Any:
    def from_memory(self: Follower, sequence: int) -> Any:
        batch = right(self, sequence)
        if batch is not None and len(batch.events) > 1:
            return batch._replace(events=(batch.events[0], *batch.events))
        return batch

    return from_memory


def _unchained(_right: Any) -> Any:
    def connect_range(checked: CheckedRange, head: Head) -> VerifiedRange | None:
        received, seal = checked.range, checked.range.seal
        if received.first > head.offset + 1 or seal.offset <= head.offset:
            return None
        known = head.offset + 1 - received.first
        reached = Head(seal.stream, seal.offset, seal.hash, checked.events[-1].lamport)
        data, events = received.events[known:], checked.events[known:]
        return VerifiedRange(reached, events, data, seal, received.certificate)

    return connect_range


def _certificate_only(_right: Any) -> Any:
    def verify(self: IdentityKeys, node: NodeId, _signature: bytes, _data: bytes) -> bool:
        return len(node) == len(self.node)

    return verify


def _refusal_swallowed(right: Any) -> Any:
    async def commit(self: Store, commit: Commit) -> None:
        with suppress(StoreFull):
            await right(self, commit)

    return commit


def _only_the_first_answered(right: Any) -> Any:
    def settle(group: Any, results: Any) -> None:
        right(list(group)[:1], results[:1])

    return settle


def _clock_of_own_events(right: Any) -> Any:
    async def load(self: Store) -> None:
        await right(self)
        own = self.heads.get(self.own.default)
        self.clock = LamportClock(own.lamport if own is not None else 0)

    return load


def _oldest_forgotten(right: Any) -> Any:
    def from_memory(self: Follower, sequence: int) -> Any:
        batches = self._recent.since(sequence)
        return right(self, sequence + 1 if batches is not None and len(batches) > 1 else sequence)

    return from_memory


def _first_tag_only(right: Any) -> Any:
    def entries(commit: Commit, row_of: Any) -> list[int]:
        found: list[int] = right(commit, row_of)
        return found[:2]

    return entries


def _without_certificate(right: Any) -> Any:
    def serve(self: Session, want: Any, sealed: Any, *, diverged: bool = False) -> Any:
        return right(self, replace(want, certificate=False), sealed, diverged=diverged)

    return serve


def _covers_too_much(right: Any) -> Any:
    def stored(self: SnapshotShelf[Any], snapshot: Snapshot[Any]) -> Any:
        return right(self, replace(snapshot, offsets=self._log.offsets))

    return stored


def _page_without_its_last(right: Any) -> Any:
    async def page(self: Reader, *arguments: Any, **named: Any) -> Any:
        found = await right(self, *arguments, **named)
        if found.reached is None or not found:
            return found
        *before, (block, places) = found.parts or [(None, ())]
        parts = [*before, Part(block, places[:-1])] if places else ()
        return replace(found, rows=found.rows[:-1], parts=parts)

    return page


def _last_of_a_block_forgotten(right: Any) -> Any:
    def pack_events(row: int, offset: int, events: Any, dictionary: Any) -> Any:
        for packed in right(row, offset, events, dictionary):
            kept = events[packed.offset - offset :][: max(packed.events - 1, 1)]
            yield next(iter(right(row, packed.offset, kept, dictionary)))

    return pack_events


def _written_twice(right: Any) -> Any:
    def append(self: CommitBuilder, drafts: Any, timestamp: int) -> Any:
        return right(self, [*drafts, drafts[-1]], timestamp)[: len(drafts)]

    return append


def _full_now_and_then(right: Any) -> Any:
    async def publish(self: EventLog, drafts: Any, **named: Any) -> Any:
        if self.lamport % 7 == 3:  # noqa: PLR2004 - now and then
            raise StoreFull("there is no room")
        return await right(self, drafts, **named)

    return publish


def _told_three_times(right: Any) -> Any:
    def deliver(self: Observation[Any]) -> None:
        if self._called < 3:  # noqa: PLR2004 - three times
            right(self)

    return deliver


def _whatever_state(right: Any) -> Any:
    async def covering(self: RunningFish[Any], _offsets: Any) -> Any:
        return await right(self, OffsetMap())

    return covering


def _one_effect_a_wake(_right: Any) -> Any:
    async def work(self: EffectQueue[Any]) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._waiting:
                await self._settle(self._waiting[0])
                self._waiting.popleft()

    return work


def _as_far_as_now(right: Any) -> Any:
    async def from_store(self: Follower) -> Any:
        batch = await right(self)
        if batch is None:
            self._sequence = self._recent.sequence
        return batch

    return from_store


def _everybody_banned(right: Any) -> Any:
    def note_end(self: Peers, node: NodeId, ended: Any) -> None:
        right(self, node, ended)
        if isinstance(ended, ForgedEvents):
            self._bans.until.update(dict.fromkeys(self._links, self._bans.until[node]))

    return note_end


def _both_links_kept(_right: Any) -> Any:
    def register(self: Peers, node: NodeId, link: Any) -> None:
        self._links[node] = link
        self._errors.pop(node, None)
        self._note_change()

    return register


def _part_of_a_group(_right: Any) -> Any:
    def whole_groups(reached: int, _low: int, _high: int, descending: bool) -> int:  # noqa: FBT001 - as the right one
        return reached - 1 if descending else reached + 1

    return whole_groups


def _one_too_many(right: Any) -> Any:
    def deletion(row: int, end: int) -> Any:
        return right(row, end + 1)

    return deletion


def _settled_at_once(_right: Any) -> Any:
    async def settle(self: Peers) -> None:
        self._log.settle()

    return settle


def _forgotten_retractions(_right: Any) -> Any:
    async def load_retracted(_connection: Any) -> Retracted:
        return Retracted()

    return load_retracted


def _hidden_by_the_latest_known(right: Any) -> Any:
    def hides(self: Retracted, key: Any, _as_of: Any = None) -> Any:
        return right(self, key)

    return hides


def _one_further(right: Any) -> Any:
    def named(self: Cuts, part: Any) -> Any:
        return right(self, part) + 1

    return named


def _never_clipped(_right: Any) -> Any:
    def clip_heads(self: Cuts, heads: Any, ends: Any, *parts: Any) -> None:
        del self, heads, ends, parts

    return clip_heads


def _kept_to_itself(_right: Any) -> Any:
    async def learn(self: Membership, notice: Any) -> bool:
        return await self._log.learn(notice)

    return learn


def _never(value: Any) -> Callable[[Any], Any]:
    """A function that always gives this."""
    return lambda _right: lambda *_args, **_named: value


def _never_async(value: Any) -> Callable[[Any], Any]:
    def make(_right: Any) -> Any:
        async def nothing(*_args: Any, **_named: Any) -> Any:
            return value

        return nothing

    return make


def _instead(value: Any) -> Callable[[Any], Any]:
    """Another value in the place of a constant."""
    return lambda _right: value


UNSYNCED = tuple(
    p.replace("synchronous = FULL", "synchronous = OFF") for p in lamport.store._DURABLE
)

ROWS_BY_KEY = lamport.event_table._BY_KEY.partition("UNION ALL")[0]

BUGS: tuple[Bug, ...] = (
    Bug("acknowledged before the commit", Store, "commit", _acknowledged_too_early),
    Bug("no clock raise on receive", LamportClock, "raised", lambda _: lambda self, _lamport: self),
    Bug("ties broken by arrival", Reader, "_decoded", _unsorted),
    Bug("range off by one", Reader, "sealed_range", _shifted),
    Bug("lost wake-up of followers", EventLog, "_pulse", _deaf_every_seventh),
    Bug("an event handed over twice", Follower, "_from_memory", _doubled),
    Bug("stale snapshot kept", SnapshotShelf, "_spoilt_from", _never_async(None)),
    Bug("late events folded at the end", Timeline, "late", _never(None)),
    Bug("resets ignored", Timeline, "_resets", _never(False)),  # noqa: FBT003 - the value that is always given
    Bug("relayed events told to nobody", Session, "committed", _never(None)),
    Bug("a stop ends all work", WorkIds, "closed", lambda _: lambda _self, _keys: WorkIds()),
    Bug("a silent peer is waited for", transport.liveness, "SILENCE_LIMIT_S", _instead(3_600.0)),
    Bug("a dialler that waits for a minute", Peers, "_backoff_s", _never(60.0)),
    Bug("no heads told at the beginning", Session, "_take_heads", _never(None)),
    Bug("news forgotten after the first", Spreading, "run", _never_async(None)),
    Bug("an offset is taken without its hash", lamport.commit, "connect_range", _unchained),
    Bug("seals are not verified", IdentityKeys, "verify", _certificate_only),
    Bug("a full disk answers as if it had room", Store, "commit", _refusal_swallowed),
    Bug(
        "a full disk is taken for a broken one",
        lamport.sqlite_errors,
        "_FULL",
        _instead(frozenset()),
    ),
    Bug("a commit answers its first request only", lamport.log, "settle", _only_the_first_answered),
    Bug("a restart forgets the clock", Store, "_load", _clock_of_own_events),
    Bug("merged commits lose the oldest", Follower, "_from_memory", _oldest_forgotten),
    Bug("one tag of a commit is indexed", lamport.store, "tag_entries", _first_tag_only),
    Bug("nothing is synced", lamport.store, "_DURABLE", _instead(UNSYNCED)),
    Bug("no certificates are handed on", Session, "serve", _without_certificate),
    Bug("a snapshot covers what it never saw", SnapshotShelf, "_stored", _covers_too_much),
    Bug("a draft is written twice", CommitBuilder, "append", _written_twice),
    Bug("an honest disk says it is full", EventLog, "publish", _full_now_and_then),
    Bug("observers are told three times", Observation, "deliver", _told_three_times),
    Bug("effects see whatever state there is", RunningFish, "covering", _whatever_state),
    Bug("one effect for each wake-up", EffectQueue, "work", _one_effect_a_wake),
    Bug("a lagging follower skips what came meanwhile", Follower, "_from_store", _as_far_as_now),
    Bug("one liar, and everybody is banned", Peers, "_note_end", _everybody_banned),
    Bug("a replaced link lives on", Peers, "_register", _both_links_kept),
    Bug("a merge forgets the tails", TagIndex, "tails", _never_async({})),
    Bug(
        "a block forgets its last event",
        lamport.compaction,
        "pack_events",
        _last_of_a_block_forgotten,
    ),
    Bug("only rows are read by key", lamport.event_table, "_BY_KEY", _instead(ROWS_BY_KEY)),
    Bug("pages skip or repeat an event", lamport.reader, "_whole_groups", _part_of_a_group),
    Bug("what is damaged is asked of nobody", Repairs, "_fetch", _never_async(value=False)),
    Bug("what a peer gives back is not written", Repair, "replace", _never_async(0)),
    Bug("the token is not looked at", Lineage, "agrees", _never_async(value=True)),
    Bug("the own head is not asked for", Peers, "_settle", _settled_at_once),
    Bug("a retraction does not rewind", Timeline, "holds", _never(False)),  # noqa: FBT003 - as above
    Bug(
        "a stored snapshot keeps what was retracted",
        SnapshotShelf,
        "_retracted_since",
        _never_async([]),
    ),
    Bug(
        "a restart forgets what is hidden", lamport.store, "load_retracted", _forgotten_retractions
    ),
    Bug(
        "a state leaves out what is retracted later",
        Retracted,
        "hides",
        _hidden_by_the_latest_known,
    ),
    Bug("retracted by anybody", lamport.retraction, "_is_admins", _never(True)),  # noqa: FBT003 - as above
    Bug("one event too many is pruned", lamport.horizon_table, "_deletion", _one_too_many),
    Bug("a full page loses its last row", Reader, "_page", _page_without_its_last),
    Bug("a cut leaves one event too many", Cuts, "named", _one_further),
    Bug("heads stay beyond the cut", Cuts, "clip_heads", _never_clipped),
    Bug("a notice is kept to itself", Membership, "learn", _kept_to_itself),
    Bug("whoever was revoked is let in", Membership, "is_revoked", _never(False)),  # noqa: FBT003 - as above
    Bug("followers are not told what is withdrawn", Withdrawals, "count", _instead(0)),
)
