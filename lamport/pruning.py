"""Retention at work: the author's policies decide horizons, and this disk follows every horizon it hears of.

The log's writer asks `next_step` when it is idle (and, where a limit was passed, behind a commit) and runs the step it
is given: announce a horizon of an own stream, give up what lies behind an announced one, or delete the next few events
there. Each is one transaction of a bounded size, so that nobody waits for long.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from lamport.chain import Keys, Seal
from lamport.codec import StoredEvent, decode_event
from lamport.commit import Commit
from lamport.errors import DamagedRange
from lamport.ids import StreamId
from lamport.reader import Reader
from lamport.retention import Block, Ledger, due_horizon
from lamport.routes import Policy, Routes
from lamport.seams import WallClock, Work
from lamport.store import Store

AGE_CHECK_S = 60.0
"""How often an idle log looks whether something has become too old."""

MIN_PIECES = 64
"""A ledger is read from the disk in about so many blocks or more, so that what is pruned first is no great part."""

MAX_READ = 1_000
"""Most events of such a block."""

Step = Callable[[], Awaitable[None]]

_log = logging.getLogger("shoal.log")


class Pruning:
    """Policies and horizons of one log."""

    def __init__(
        self, store: Store, keys: Keys, routes: Routes, wall_clock: WallClock, work: Work
    ) -> None:
        self._store = store
        self._reader = Reader(store)
        self._keys = keys
        self._policies = {n: p for n, p in routes.policies.items() if not p.keeps_all}
        self._wall_clock = wall_clock
        self._work = work
        self._ledgers: dict[StreamId, Ledger] = {}
        self._broken: set[StreamId] = set()
        self._lagging = dict.fromkeys(store.horizons)

    @property
    def idle_s(self) -> float | None:
        """After how long an idle log asks again; None where only a commit brings something to do."""
        return AGE_CHECK_S if any(one.max_age_s for one in self._policies.values()) else None

    @property
    def backlog(self) -> int:
        """How many events are to be given up, and are still to be deleted."""
        return sum(self._behind(stream) for stream in self._lagging)

    def _behind(self, stream: StreamId) -> int:
        known, head = self._store.horizons[stream], self._store.head(stream).offset
        return max(min(known.announced, head), known.first) - known.cleared

    def note(self, commit: Commit) -> None:
        """Take note of what a commit changed."""
        known = self._store.horizons
        moved = [stream for stream in commit.heads if stream in known]
        self._lagging |= dict.fromkeys([*moved, *commit.horizons])
        for seal in commit.seals:
            ledger = self._ledgers.get(seal.stream)
            if ledger is not None:
                _extend(ledger, seal, commit.events)

    def next_step(self, *, may_announce: bool) -> Step | None:
        """What is to be done next; None where nothing is."""
        if may_announce:
            for stream, policy in self._limited():
                step = self._step_of(stream, policy)
                if step is not None:
                    return step
        for stream in list(self._lagging):
            step = self._following(stream)
            if step is not None:
                return step
            del self._lagging[stream]
        return None

    def _limited(self) -> Iterator[tuple[StreamId, Policy]]:
        """The own streams that have limits."""
        for name, policy in self._policies.items():
            stream = self._store.own.of(name)
            if stream not in self._broken and not self._is_forked(stream):
                yield stream, policy

    def _step_of(self, stream: StreamId, policy: Policy) -> Step | None:
        """Read on what there is of an own stream, or announce that some of it is given up."""
        known = self._store.horizons.get(stream)
        announced = 0 if known is None else known.announced
        ledger = self._ledgers.setdefault(stream, Ledger(announced))
        ledger.drop(announced)
        if ledger.next <= self._store.head(stream).offset:
            return partial(self._read, stream, ledger)
        horizon = due_horizon(policy, ledger, self._wall_clock())
        return partial(self._announce, stream, horizon) if horizon > ledger.first else None

    def _is_forked(self, stream: StreamId) -> bool:
        """Whether two histories of a stream are proven: nothing of it is pruned any more."""
        return stream.base in self._store.branches.base_rows

    def _following(self, stream: StreamId) -> Step | None:
        """What is next on the way to a horizon; None where it is reached, or lies beyond all that is held."""
        known, head = self._store.horizons[stream], self._store.head(stream).offset
        if known.cleared < known.first:
            return partial(self._store.clear, stream, self._work)
        # The head and its seal always stay: they say how far the stream is held.
        if known.first < known.announced <= head:
            return partial(self._give_up, stream, known.announced)
        if self._is_forked(stream) and known.first < head < known.announced:
            return partial(self._give_up, stream, head)  # whose histories begin behind it
        return None

    async def _read(self, stream: StreamId, ledger: Ledger) -> None:
        """Enter the next events of an own stream into its ledger."""
        head = self._store.head(stream).offset
        limit = max(1, min(MAX_READ, (head + 1 - ledger.first) // MIN_PIECES))
        try:
            sealed = await self._reader.sealed_range(stream, ledger.next, limit)
        except DamagedRange as error:
            _log.error("nothing of stream %s is pruned: %s", stream, error)
            self._broken.add(stream)
            return
        assert sealed is not None, "every head has a seal"
        events = [decode_event(stream, 0, data) for data in sealed.events]
        size, newest = sum(map(len, sealed.events)), max(event.timestamp for event in events)
        ledger.add(Block(sealed.seal.offset, size, newest))

    async def _announce(self, stream: StreamId, horizon: int) -> None:
        builder = self._store.new_commit(self._keys)
        builder.prune(stream, horizon)
        commit = builder.build()
        await self._store.commit(commit)
        self.note(commit)
        _log.info("stream %s is kept from offset %d on", stream, horizon)

    async def _give_up(self, stream: StreamId, horizon: int) -> None:
        try:
            base = await self._reader.hash_at(stream, horizon - 1)
        except DamagedRange as error:
            _log.error("stream %s is not pruned: %s", stream, error)
            base = None
        if base is None:
            self._lagging.pop(stream)
        else:
            await self._store.give_up(stream, horizon, base)


def _extend(ledger: Ledger, seal: Seal, events: Sequence[StoredEvent]) -> None:
    """Enter what ends in this seal, unless something before it is not read yet."""
    part = [
        one
        for one in events
        if one.event.stream == seal.stream and ledger.next <= one.event.offset <= seal.offset
    ]
    if part and part[0].event.offset == ledger.next:
        newest = max(one.event.timestamp for one in part)
        ledger.add(Block(seal.offset, sum(len(one.data) for one in part), newest))
