"""Snapshots of fish in the database: several are kept by one transaction, and others go with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lamport.errors import StoreFull
from lamport.ids import EventKey, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.seams import NO_RESERVE, NoReserve
from lamport.snapshot_table import (
    COMMIT_BYTES,
    KEPT_SNAPSHOTS,
    KeptSnapshots,
    SnapshotTable,
    Writing,
)
from lamport.snapshots import StoredSnapshot
from lamport.store import Store
from tests.lamport.keys import member, open_log

STREAM = StreamId(member().node, 7)


def at(lamport: int, version: int = 1, fish: str = "fish") -> StoredSnapshot:
    key, offsets = EventKey(lamport, STREAM), OffsetMap({STREAM: lamport})
    return StoredSnapshot(fish, version, "definition", key, offsets, None, lamport, b"state")


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


class Noted(SnapshotTable):
    """One that notes how many fish share each commit; the disk fails where it is told so."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.shared: list[int] = []
        self.fails = False

    async def save(self, writings: Sequence[Writing]) -> None:
        self.shared.append(len(writings))
        await asyncio.sleep(0)
        if self.fails:
            raise StoreFull("full")
        await super().save(writings)


def test_what_is_to_be_saved_while_something_is_being_saved_shares_a_commit(
    tmp_path: Path,
) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            table = Noted(log.store)
            keeper = KeptSnapshots(table, NO_RESERVE)
            names = [f"fish {number}" for number in range(10)]
            for lamport in (1, 2):
                saving = [keeper.save_snapshots([at(lamport, fish=one)]) for one in names]
                await asyncio.gather(*saving)
            assert table.shared == [1, 9] * 2
            for one in names:
                found = await log.load_snapshots(one, 1, "definition")
                assert found == [at(2, fish=one), at(1, fish=one)]

    asyncio.run(act())


def test_all_who_share_a_commit_hear_that_it_failed(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            table = Noted(log.store)
            table.fails = True
            keeper = KeptSnapshots(table, NO_RESERVE)
            saving = [keeper.save_snapshots([at(1, fish=f"fish {n}")]) for n in range(5)]
            results = await asyncio.gather(*saving, return_exceptions=True)
            assert [type(one) for one in results] == [StoreFull] * 5
            assert len({id(one) for one in results}) == 5, "each raises one of his own"
            table.fails = False
            await keeper.save_snapshots([at(1)])
            assert await kept(log) == [at(1)]

    asyncio.run(act())


def test_who_is_cancelled_while_he_saves_for_all_leaves_it_to_the_next(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            table = Noted(log.store)
            keeper = KeptSnapshots(table, NO_RESERVE)
            saving = [
                asyncio.ensure_future(keeper.save_snapshots([at(1, fish=f"fish {n}")]))
                for n in range(4)
            ]
            while table.shared != [1, 3]:  # noqa: ASYNC110 - it is another task that gets there
                await asyncio.sleep(0)
            saving[1].cancel()
            results = await asyncio.gather(*saving, return_exceptions=True)
            assert [type(one) for one in results if one is not True] == [asyncio.CancelledError]
            for n in (0, 2, 3):
                assert await log.load_snapshots(f"fish {n}", 1, "definition")

    asyncio.run(act())


def test_who_is_cancelled_while_another_saves_for_him_harms_nobody(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            table = Noted(log.store)
            keeper = KeptSnapshots(table, NO_RESERVE)

            def save(number: int) -> asyncio.Task[bool]:
                return asyncio.create_task(keeper.save_snapshots([at(1, fish=f"fish {number}")]))

            saving = [save(number) for number in range(3)]
            while table.shared != [1, 2]:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            saving += [save(3), save(4)]
            await asyncio.sleep(0)
            saving[2].cancel()
            await asyncio.gather(*saving, return_exceptions=True)
            for number in (0, 1, 3, 4):
                assert await log.load_snapshots(f"fish {number}", 1, "definition")

    asyncio.run(act())


class NoRoom(NoReserve):
    """A reserve that does not stand."""

    async def stands(self) -> bool:
        return False


def test_a_commit_takes_no_more_than_so_many_bytes(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            table = Noted(log.store)
            keeper = KeptSnapshots(table, NO_RESERVE)
            large = bytes(COMMIT_BYTES // 3)
            snapshots = [replace(at(1, fish=f"fish {n}"), state=large) for n in range(8)]
            snapshots[4] = replace(snapshots[4], state=bytes(2 * COMMIT_BYTES))
            saving = [keeper.save_snapshots([one]) for one in snapshots]
            assert all(await asyncio.gather(*saving))
            assert table.shared == [1, 3, 1, 3]
            for one in snapshots:
                assert await log.load_snapshots(one.fish, 1, "definition") == [one]

    asyncio.run(act())


def test_it_is_said_whether_snapshots_are_stored(tmp_path: Path) -> None:
    async def act() -> None:
        async with open_log(tmp_path) as log:
            assert not await KeptSnapshots(SnapshotTable(log.store), NoRoom()).save_snapshots(
                [at(1)]
            )
            assert await kept(log) == []
            assert await log.save_snapshots([at(1)])

    asyncio.run(act())
