"""The states of fish that are kept across restarts: a cache in the database, never a source of truth."""

import asyncio
import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.seams import Reserve, Statement
from lamport.snapshots import StoredSnapshot
from lamport.sqlite_errors import translated_errors
from lamport.store import Store

KEPT_SNAPSHOTS = 32
"""Most snapshots kept per fish and version: the newest, and one for each power of two behind it."""

COMMIT_BYTES = 4 * 1024 * 1024
"""Encoded states that share a commit: an append waits behind no more than these, or one writing that is larger."""


@dataclass(slots=True, eq=False)
class Writing:
    """Snapshots of one fish and version, at least one, and the keys of those that go with them."""

    snapshots: Sequence[StoredSnapshot]
    thinned: Sequence[EventKey]
    is_over: bool = False
    error: Exception | None = None

    @property
    def bytes(self) -> int:
        """What its states take."""
        return sum(len(one.state) for one in self.snapshots)


class SnapshotTable:
    """Saves, finds and drops snapshots of fish."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def save(self, writings: Sequence[Writing]) -> None:
        """Keep the snapshots of some writings by one transaction.

        Of their fish those go that are thinned, that are beyond the bound, and those of lower versions.
        """
        fish = [(one.snapshots[0].fish, one.snapshots[0].version) for one in writings]
        await self._store.write(
            Statement(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [_row(snapshot) for one in writings for snapshot in one.snapshots],
            ),
            Statement("DELETE FROM snapshots WHERE fish = ? AND version < ?", fish),
            Statement(
                "DELETE FROM snapshots WHERE fish = ? AND version = ? AND key = ?",
                [
                    (*its, str(key))
                    for its, one in zip(fish, writings, strict=True)
                    for key in one.thinned
                ],
            ),
            Statement(
                "DELETE FROM snapshots WHERE fish = ? AND version = ? AND key NOT IN (SELECT key FROM"
                " snapshots WHERE fish = ? AND version = ? ORDER BY key DESC LIMIT ?)",
                [(*its, *its, KEPT_SNAPSHOTS) for its in fish],
            ),
        )

    async def load(self, fish: str, version: int, definition: str) -> list[StoredSnapshot]:
        """The snapshots of exactly this version and definition, newest key first."""
        with translated_errors():
            rows = await self._store.reader.fetch(
                "SELECT key, offsets, horizon, count, state FROM snapshots"
                " WHERE fish = ? AND version = ? AND definition = ? ORDER BY key DESC",
                (fish, version, definition),
            )
        return [
            StoredSnapshot(
                fish=fish,
                version=version,
                definition=definition,
                key=EventKey.parse(key),
                offsets=OffsetMap.from_json(json.loads(offsets)),
                horizon=EventKey.parse(horizon) if horizon else None,
                count=count,
                state=state,
            )
            for key, offsets, horizon, count, state in rows
        ]

    async def definitions(self, fish: str, version: int) -> list[str]:
        """The definitions of which there are snapshots of this version, sorted."""
        with translated_errors():
            rows = await self._store.reader.fetch(
                "SELECT DISTINCT definition FROM snapshots WHERE fish = ? AND version = ? ORDER BY 1",
                (fish, version),
            )
        return [definition for (definition,) in rows]

    async def drop(self, fish: str, from_key: EventKey | None) -> None:
        """Drop the fish's snapshots at or above a key, of any version; None drops all."""
        await self._store.write(
            Statement(
                "DELETE FROM snapshots WHERE fish = ? AND key >= ?",
                [(fish, from_key.address if from_key else "")],
            )
        )


class KeptSnapshots:
    """A log's way to the snapshots of its fish. What comes meanwhile shares a commit."""

    def __init__(self, table: SnapshotTable, reserve: Reserve) -> None:
        self._snapshots = table
        self._reserve = reserve
        self._to_keep: list[Writing] = []
        self._keeping = asyncio.Lock()

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        """Keep snapshots of one fish, and say whether they are stored: on a full disk they are left out."""
        if not await self._reserve.stands():
            return False
        writing = Writing(snapshots, thinned)
        self._to_keep.append(writing)
        try:
            async with self._keeping:
                while not writing.is_over:
                    await self._keep_some()
        finally:
            writing.is_over = True
        if writing.error is not None:  # each who shared the commit raises one of his own
            raise copy.copy(writing.error) from writing.error
        return True

    async def _keep_some(self) -> None:
        """Save for those who wait, first come, first served, as far as a commit goes.

        Whoever is cancelled at it leaves the others to the next of them.
        """
        writings = self._next()
        error: Exception | None = None
        try:
            await self._snapshots.save(writings)
        except asyncio.CancelledError:
            self._to_keep = [*writings, *self._to_keep]
            raise
        except Exception as failed:  # noqa: BLE001 - it is raised to all of them
            error = failed
        for one in writings:
            one.is_over, one.error = True, error

    def _next(self) -> list[Writing]:
        """Take at least one writing, and of the others those that fit in its commit."""
        waiting = [one for one in self._to_keep if not one.is_over]
        sizes = accumulate(one.bytes for one in waiting)
        fitting = max(1, sum(size <= COMMIT_BYTES for size in sizes))
        self._to_keep = waiting[fitting:]
        return waiting[:fitting]

    async def load_snapshots(
        self, fish: str, version: int, definition: str
    ) -> list[StoredSnapshot]:
        """See `SnapshotTable.load`."""
        return await self._snapshots.load(fish, version, definition)

    async def snapshot_definitions(self, fish: str, version: int) -> list[str]:
        """See `SnapshotTable.definitions`."""
        return await self._snapshots.definitions(fish, version)

    async def drop_snapshots(self, fish: str, from_key: EventKey | None) -> None:
        """See `SnapshotTable.drop`."""
        await self._snapshots.drop(fish, from_key)


def _row(snapshot: StoredSnapshot) -> tuple[object, ...]:
    return (
        snapshot.fish,
        snapshot.version,
        snapshot.key.address,
        snapshot.definition,
        json.dumps(snapshot.offsets.to_json()),
        snapshot.horizon.address if snapshot.horizon else None,
        snapshot.count,
        snapshot.state,
    )
