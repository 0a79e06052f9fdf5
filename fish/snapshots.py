"""A fish's state at an event key, and its way to the log and back.

`Snapshot` is what the pond hands out. `SnapshotShelf` keeps snapshots of one fish in the log, so that a restart folds
only what is new: it encodes and saves, and it finds the newest one that still tells the truth. A snapshot does so if
every matching event it does not cover sorts behind it, or before its reset, where nothing matters, and no event in it
was retracted since. Whatever is wrong
with a snapshot is never an error: the fish replays more, and ends in the same state.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Generic

from fish.definition import Fish, State, State_co
from fish.errors import StateCodecError
from fish.log import Log
from fish.states import decode_state, encode_state
from lamport.errors import StoreRefused
from lamport.event import Event
from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.snapshots import StoredSnapshot

_LOGGER = logging.getLogger("shoal.fish")


@dataclass(frozen=True, slots=True)
class Snapshot(Generic[State_co]):
    """A state, the key of the newest event in it (None: no event yet), and the offsets it covers.

    Covered means considered: every matching event up to these offsets is in the state. `horizon` is the key of the
    newest reset event, `count` says how many events the state is made of since then.
    """

    state: State_co
    key: EventKey | None
    offsets: OffsetMap
    horizon: EventKey | None
    count: int


class SnapshotShelf(Generic[State]):
    """The stored snapshots of one fish. For one task at a time."""

    def __init__(self, fish: Fish[State], log: Log) -> None:
        self._fish = fish
        self._log = log
        self._definition = fish.definition_with(log.upcasters)
        self._is_foreign = False
        self._is_encodable = True

    async def newest(self, target: OffsetMap) -> Snapshot[State] | None:
        """The newest snapshot that holds for a log with these offsets; drops those found not to.

        Raises:
            LogError: the log cannot be read.
        """
        fish = self._fish
        stored = await self._log.load_snapshots(fish.name, fish.version, self._definition)
        self._is_foreign = not stored
        for one in stored:
            spoilt_from = await self._spoilt_from(one, target)
            if spoilt_from is None:
                snapshot = self._opened(one)
                if snapshot is not None:
                    return snapshot
                spoilt_from = one.key
            await self.drop(spoilt_from)
        return None

    async def save(self, snapshot: Snapshot[State]) -> None:
        """Keep a snapshot, if its state can be encoded and the disk has room.

        Raises:
            LogError: the log failed otherwise.
        """
        stored = self._stored(snapshot)
        if stored is None:
            return
        try:
            if self._is_foreign:
                # Snapshots of other code under this name: the log keeps the newest few, and these could fill that.
                await self._log.drop_snapshots(stored.fish, None)
                self._is_foreign = False
            await self._log.save_snapshot(stored)
        except StoreRefused as error:
            _LOGGER.warning("fish %r: no snapshot was kept: %s", stored.fish, error)

    async def drop(self, from_key: EventKey) -> None:
        """Drop what stands at or above an event that arrived late.

        Raises:
            LogError: the log failed.
        """
        try:
            await self._log.drop_snapshots(self._fish.name, from_key)
        except StoreRefused as error:
            # It stays, and is found not to hold when it is next looked at.
            _LOGGER.warning("fish %r: old snapshots were not dropped: %s", self._fish.name, error)

    def _stored(self, snapshot: Snapshot[State]) -> StoredSnapshot | None:
        state = self._encoded(snapshot.state)
        if state is None or snapshot.key is None:
            return None
        return StoredSnapshot(
            fish=self._fish.name,
            version=self._fish.version,
            definition=self._definition,
            key=snapshot.key,
            offsets=snapshot.offsets,
            horizon=snapshot.horizon,
            count=snapshot.count,
            state=state,
        )

    def _encoded(self, state: State) -> bytes | None:
        if not self._is_encodable:
            return None
        try:
            return encode_state(state, ordered=True)
        except StateCodecError as error:
            self._is_encodable = False
            _LOGGER.info("fish %r is replayed at every start: %s", self._fish.name, error)
            return None

    def _opened(self, stored: StoredSnapshot) -> Snapshot[State] | None:
        try:
            state = decode_state(stored.state)
        except StateCodecError as error:
            _LOGGER.info("fish %r: a snapshot cannot be read: %s", stored.fish, error)
            return None
        return Snapshot(state, stored.key, stored.offsets, stored.horizon, stored.count)

    async def _spoilt_from(self, stored: StoredSnapshot, target: OffsetMap) -> EventKey | None:
        """The key from which on snapshots do not hold, seen from this one; None if this one holds."""
        if not target.covers(stored.offsets):
            return stored.key
        first = await self._first_uncovered(stored, target)
        keys = [] if first is None or first >= stored.key else [first]
        return min([*keys, *await self._retracted_since(stored, target)], default=None)

    async def _retracted_since(self, stored: StoredSnapshot, target: OffsetMap) -> list[EventKey]:
        """The keys of events that are in a snapshot and were retracted since."""
        hidden = await self._log.newly_retracted(stored.offsets, target)
        return [
            one.key
            for one in hidden
            if self._fish.concerns(one, self._log.node)
            and one.key <= stored.key
            and (stored.horizon is None or one.key >= stored.horizon)
        ]

    async def _first_uncovered(self, stored: StoredSnapshot, target: OffsetMap) -> EventKey | None:
        pages = self._log.read(
            self._fish.where, after=stored.horizon, lower=stored.offsets, upper=target, as_of=target
        )
        async with closing(pages):
            async for page in pages:
                if page:
                    return page[0].key
        return None


@asynccontextmanager
async def closing(pages: AsyncIterator[Sequence[Event]]) -> AsyncIterator[None]:
    """End a reading that may be left early now, and not when the garbage collector comes by."""
    try:
        yield
    finally:
        close: Any = getattr(pages, "aclose", None)
        if close is not None:
            await close()
