"""The states of fish that are kept across restarts: a cache in the database, never a source of truth."""

import json
from collections.abc import Sequence

from lamport.ids import EventKey
from lamport.offsets import OffsetMap
from lamport.seams import Reserve, Statement
from lamport.snapshots import StoredSnapshot
from lamport.sqlite_errors import translated_errors
from lamport.store import Store

KEPT_SNAPSHOTS = 32
"""Most snapshots kept per fish and version: the newest, and one for each power of two behind it."""


class SnapshotTable:
    """Saves, finds and drops snapshots of fish."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def save(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> None:
        """Keep snapshots of one fish and version, at least one; all of them, or nothing is done.

        Those go that stand at the keys `thinned`, that are beyond the bound, and those of lower versions.
        """
        name, version = snapshots[0].fish, snapshots[0].version
        await self._store.write(
            Statement(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                list(map(_row, snapshots)),
            ),
            Statement("DELETE FROM snapshots WHERE fish = ? AND version < ?", [(name, version)]),
            Statement(
                "DELETE FROM snapshots WHERE fish = ? AND version = ? AND key = ?",
                [(name, version, str(key)) for key in thinned],
            ),
            Statement(
                "DELETE FROM snapshots WHERE fish = ? AND version = ? AND key NOT IN (SELECT key FROM"
                " snapshots WHERE fish = ? AND version = ? ORDER BY key DESC LIMIT ?)",
                [(name, version, name, version, KEPT_SNAPSHOTS)],
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
    """A log's way to the snapshots of its fish."""

    def __init__(self, table: SnapshotTable, reserve: Reserve) -> None:
        self._snapshots = table
        self._reserve = reserve

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> None:
        """See `SnapshotTable.save`; on a full disk it is left out, for it only saves time."""
        if await self._reserve.stands():
            await self._snapshots.save(snapshots, thinned)

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
