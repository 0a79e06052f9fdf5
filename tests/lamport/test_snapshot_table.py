"""Snapshots of fish in the database: several are kept by one transaction, and others go with it."""

import asyncio
from pathlib import Path

from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.snapshot_table import KEPT_SNAPSHOTS
from lamport.snapshots import StoredSnapshot
from tests.lamport.keys import member, open_log

STREAM = StreamId(member().node, 7)


def at(lamport: int, version: int = 1) -> StoredSnapshot:
    key, offsets = EventKey(lamport, STREAM), OffsetMap({STREAM: lamport})
    return StoredSnapshot("fish", version, "definition", key, offsets, None, lamport, b"state")


async def kept(log: EventLog, version: int = 1) -> list[StoredSnapshot]:
    return await log.load_snapshots("fish", version, "definition")


def test_all_snapshots_of_one_writing_are_found_newest_first_and_the_thinned_are_gone(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            await log.save_snapshots([at(1), at(2), at(3)])
            await log.save_snapshots([at(4), at(6)], [at(1).key, at(3).key])
            assert await kept(log) == [at(6), at(4), at(2)]

    asyncio.run(act())


def test_the_newest_few_stay_and_none_of_lower_versions(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            await log.save_snapshots([at(1)])
            every = [at(number, version=2) for number in range(1, KEPT_SNAPSHOTS + 3)]
            await log.save_snapshots(every)
            assert await kept(log, version=2) == every[:1:-1]
            assert await kept(log) == []

    asyncio.run(act())
