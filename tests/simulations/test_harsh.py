"""The harsh disk: what was synced stays, all else is at the mercy of the seed, and SQLite keeps its promise on it."""

import gc
import random
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import pytest

from lamport.event import Event
from lamport.seams import Statement
from simulations.disk import MemoryPlatter, Platter, SimulatedDisk
from simulations.errors import PowerLost
from simulations.harsh import SECTOR, HarshFile, HarshPlatter
from simulations.loop import run_simulated
from tests.lamport.keys import drafts, open_log, read_all

PARTS = 4
"""Rows of one transaction in these tests: none of them without the others."""

TABLE = "CREATE TABLE rows (number INTEGER, part INTEGER, data BLOB, PRIMARY KEY (number, part))"


def platter_of(seed: int, pages: int = 1_000) -> HarshPlatter:
    return HarshPlatter(random.Random(seed), pages)


def open_database(platter: Platter, synchronous: str = "FULL") -> None:
    """As production does it."""
    platter.fetch("PRAGMA journal_mode = WAL")
    platter.fetch(f"PRAGMA synchronous = {synchronous}")
    if not platter.fetch("SELECT 1 FROM sqlite_schema"):
        platter.transact([Statement(TABLE)])


def opened(seed: int, pages: int = 1_000, synchronous: str = "FULL") -> HarshPlatter:
    platter = platter_of(seed, pages)
    open_database(platter, synchronous)
    return platter


def rows_of(number: int) -> list[tuple[int, int, bytes]]:
    size = 150 + 613 * number % 3_000
    return [(number, part, bytes([number % 251, part]) * size) for part in range(PARTS)]


def write(platter: Platter, number: int) -> None:
    platter.transact([Statement("INSERT INTO rows VALUES (?, ?, ?)", rows_of(number))])


def held(platter: Platter) -> list[int]:
    """The transactions that are there, after a look whether each is whole and the database sound.

    Damage is no comparison of rows: where pytest shows differences in full, it would look at megabytes for hours.
    """
    sound = platter.fetch("PRAGMA integrity_check") == [("ok",)]
    assert sound
    if not platter.fetch("SELECT 1 FROM sqlite_schema"):
        return []
    rows = platter.fetch("SELECT number, part, data FROM rows ORDER BY number, part")
    numbers = sorted({number for number, _, _ in rows})
    whole = rows == [row for number in numbers for row in rows_of(number)]
    assert whole
    return numbers


def live(platter: HarshPlatter, acknowledged: list[int], transactions: int) -> None:
    """A whole life from the empty disk on; what was acknowledged is noted."""
    open_database(platter)
    for number in range(transactions):
        write(platter, number)
        acknowledged.append(number)


def unsynced_file(seed: int, change: Callable[[HarshFile], None]) -> bytes:
    """What a power cut leaves of a file of eight sectors full of ones after a change without a sync."""
    file = HarshFile(b"\1" * SECTOR * 8)
    change(file)
    return bytes(file.after_power_cut(random.Random(seed)).content)


def test_a_write_without_a_sync_arrives_whole_torn_or_not_at_all_by_sectors() -> None:
    left = {
        unsynced_file(seed, lambda file: file.write(0, b"\2" * SECTOR * 8)) for seed in range(99)
    }
    sectors = {
        tuple(one[start : start + SECTOR] for start in range(0, len(one), SECTOR)) for one in left
    }
    assert all(sector in {b"\1" * SECTOR, b"\2" * SECTOR} for one in sectors for sector in one)
    assert {len(set(one)) for one in sectors} == {1, 2}
    assert {b"\1" * SECTOR * 8, b"\2" * SECTOR * 8} < left


def test_a_torn_write_leaves_the_bytes_beside_it_alone() -> None:
    for seed in range(99):
        content = unsynced_file(seed, lambda file: file.write(700, b"\2" * 900))
        assert content[:700] + content[1_600:] == b"\1" * (SECTOR * 8 - 900)
        assert {len(set(content[700:1_024])), len(set(content[1_024:1_536]))} == {1}


def test_later_writes_may_arrive_without_earlier_ones() -> None:
    def two(file: HarshFile) -> None:
        file.write(0, b"\2")
        file.write(SECTOR, b"\3")

    left = {(one[0], one[SECTOR]) for one in (unsynced_file(seed, two) for seed in range(99))}
    assert left == {(1, 1), (2, 1), (1, 3), (2, 3)}


def test_a_file_may_grow_or_shrink_without_its_content_or_not_at_all() -> None:
    longer = [
        unsynced_file(seed, lambda file: file.write(4_096, b"\2" * 512)) for seed in range(99)
    ]
    assert {one[4_096:] for one in longer} == {b"", bytes(512), b"\2" * 512}
    shorter = {unsynced_file(seed, lambda file: file.resize(5)) for seed in range(99)}
    assert shorter == {b"\1" * 5, b"\1" * 4_096}


def test_what_was_synced_stays() -> None:
    def synced(file: HarshFile) -> None:
        file.write(100, b"\2" * 5_000)
        file.resize(3_000)
        file.sync()

    assert {unsynced_file(seed, synced) for seed in range(99)} == {b"\1" * 100 + b"\2" * 2_900}


@pytest.mark.parametrize("seed", range(60))
def test_acknowledged_transactions_survive_every_power_cut(seed: int) -> None:
    platter = platter_of(seed, pages=1 + seed % 20)
    numbers = iter(count())
    acknowledged: list[int] = []
    for _ in range(5):
        open_database(platter)
        for number in (next(numbers) for _ in range(1 + seed % 7)):
            write(platter, number)
            acknowledged.append(number)
        platter.power_cut()
        assert held(platter) == acknowledged


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_at_any_operation_leaves_all_or_nothing_of_a_transaction(seed: int) -> None:
    """From the empty disk over the first log, checkpoints and logs begun again: at every single step."""
    outcomes = set()
    for operations in count():
        platter = platter_of(seed * 1_000 + operations, pages=8)
        platter.cut_after_operations = operations
        acknowledged: list[int] = []
        try:
            live(platter, acknowledged, transactions=8)
        except PowerLost:
            found = held(platter)
        else:
            break
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1
        outcomes.add(len(found) - len(acknowledged))
        open_database(platter)
        write(platter, 100)
        platter.power_cut()
        assert held(platter) == [*found, 100]
    assert operations > 100
    assert outcomes == {0, 1}


def test_the_power_goes_after_exactly_the_given_count_and_once() -> None:
    measured, spared, cut = (opened(1) for _ in range(3))
    measured.cut_after_operations = 1_000
    write(measured, 1)
    assert measured.cut_after_operations is not None
    used = 1_000 - measured.cut_after_operations
    spared.cut_after_operations = used
    write(spared, 1)
    assert spared.cut_after_operations == 0
    cut.cut_after_operations = used - 1
    with pytest.raises(PowerLost):
        write(cut, 1)
    assert held(cut) in ([], [1])
    for number in range(2, 20):
        write(cut, number)


def end_of(seed: int, synchronous: str) -> str:
    """What becomes of a dozen transactions when the power goes behind them."""
    platter = opened(seed, pages=4 + seed % 40, synchronous=synchronous)
    for number in range(12):
        write(platter, number)
    platter.power_cut()
    try:
        found = held(platter)
    except (sqlite3.DatabaseError, AssertionError):
        return "damaged"
    if found == list(range(12)):
        return "whole"
    return "shorter" if found == list(range(len(found))) else "with gaps"


@pytest.mark.parametrize(
    ("synchronous", "ends"),
    [
        ("FULL", {"whole"}),
        ("NORMAL", {"whole", "shorter"}),
        ("OFF", {"whole", "shorter", "damaged"}),
    ],
)
def test_fewer_syncs_lose_what_sqlite_says_they_lose(synchronous: str, ends: set[str]) -> None:
    """The control: were these disks kind, all other tests would be worth nothing."""
    assert {end_of(seed, synchronous) for seed in range(200)} == ends


@pytest.mark.parametrize("synchronous", ["FULL", "OFF"])
def test_a_crash_of_the_process_loses_nothing_that_was_written(synchronous: str) -> None:
    platter = opened(1, pages=5, synchronous=synchronous)
    for number in range(30):
        write(platter, number)
        if number % 4 == 0:
            before = platter.contents()
            platter.crash()
            assert platter.contents() == before
            open_database(platter, synchronous)
    platter.crash()
    assert held(platter) == list(range(30))


def test_a_crash_is_no_sync_and_loses_none() -> None:
    ends = []
    for seed in range(80):
        platter = opened(seed)
        platter.fetch("PRAGMA synchronous = OFF")
        write(platter, 1)
        platter.crash()
        platter.power_cut()
        ends.append(held(platter))
    assert [] in ends
    assert [1] in ends


def names_left(prepare: Callable[[HarshPlatter], object]) -> set[tuple[str, ...]]:
    """Which files there can be after a power cut."""
    left = set()
    for seed in range(80):
        platter = platter_of(seed)
        prepare(platter)
        platter.power_cut()
        left.add(tuple(name.removeprefix("log.sqlite") for name in platter.contents()))
    return left


def test_a_file_made_or_deleted_without_a_sync_may_be_there_or_not() -> None:
    deleted = names_left(lambda platter: platter.fetch("PRAGMA journal_mode = WAL"))
    assert deleted == {("",), ("", "-journal")}
    made = names_left(lambda platter: open_database(platter, "OFF"))
    assert made == {("",), ("", "-journal"), ("", "-wal"), ("", "-journal", "-wal")}


def test_the_first_sync_of_the_log_settles_which_files_there_are() -> None:
    assert names_left(open_database) == {("", "-wal")}


def full_error(platter: Platter, number: int) -> sqlite3.OperationalError:
    with pytest.raises(sqlite3.OperationalError, match="full") as refusal:
        write(platter, number)
    return refusal.value


def test_a_full_disk_refuses_and_later_takes_again() -> None:
    platter, kind = opened(1), MemoryPlatter()
    write(platter, 0)
    platter.full = kind.full = True
    errors = [full_error(platter, 1), full_error(kind, 1)]
    assert {error.sqlite_errorcode for error in errors} == {sqlite3.SQLITE_FULL}
    assert held(platter) == [0]
    platter.full = False
    write(platter, 1)
    platter.power_cut()
    assert held(platter) == [0, 1]


def test_a_commit_that_fits_counts_although_its_checkpoint_does_not() -> None:
    """The log is reused from its beginning, so it may have room where the database has none."""
    platter = opened(1, pages=40)
    for number in range(20):
        write(platter, number)
    platter.fetch("PRAGMA wal_checkpoint")
    before = len(platter.contents()["log.sqlite"])
    platter.full = True
    acknowledged = [*range(20), *filled(platter, range(20, 60))]
    assert len(acknowledged) > 25
    assert len(platter.contents()["log.sqlite"]) == before
    platter.power_cut()
    assert held(platter) == acknowledged


def filled(platter: Platter, numbers: Iterable[int]) -> Iterator[int]:
    """The transactions that still fit, written one after the other."""
    for number in numbers:
        try:
            write(platter, number)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                return
            raise
        yield number


def trail(seed: int, *, disturbed: bool = False) -> list[object]:
    """Everything there is to see of a hard life, with another disk in use beside it or not."""
    platter, other = platter_of(seed, pages=6), opened(99)
    trail: list[object] = []
    for number in range(25):
        open_database(platter, "OFF" if number < 2 else "FULL")
        write(platter, number)
        if disturbed:
            write(other, number)
        if number % 5 == 4:
            platter.power_cut()
        trail.append(platter.contents())
        trail.append(platter.fetch("SELECT random(), datetime('now')"))
    return [*trail, platter.image()]


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert trail(1) == trail(1, disturbed=True)
    assert trail(1) != trail(2)


def test_an_image_holds_what_is_only_in_the_log_and_fits_every_platter() -> None:
    platter = opened(1)
    write(platter, 1)
    image = platter.image()
    write(platter, 2)
    others: list[Platter] = [platter, platter_of(2), MemoryPlatter()]
    for other in others:
        other.restore(image)
        other.power_cut()
        assert held(other) == [1]
        open_database(other)
        write(other, 3)
        assert held(other) == [1, 3]


def test_a_file_that_is_no_database_is_told_as_sqlite3_tells_it() -> None:
    platter = platter_of(1)
    platter.restore(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError, match="not a database") as refusal:
        platter.fetch("PRAGMA application_id")
    assert refusal.value.sqlite_errorcode == sqlite3.SQLITE_NOTADB


VALUES = (None, 0, -(2**63), 2**63 - 1, 1.5, "", "größer ✓", b"", bytes(range(256)), True)


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?", VALUES),
        ("SELECT typeof(?), typeof(?), typeof(?), typeof(?)", (b"", "", 1.0, True)),
        ("SELECT ?", [bytearray(b"bytes")]),
        ("SELECT number, length(data) FROM rows ORDER BY part DESC", ()),
        ("SELECT number FROM rows WHERE number > ?", (100,)),
        ("PRAGMA application_id", ()),
        ("PRAGMA user_version", ()),
        ("SELECT count(*), max(part), sum(number) / 3.0 FROM rows", ()),
    ],
)
def test_rows_are_those_that_sqlite3_gives(sql: str, parameters: Sequence[Any]) -> None:
    platters: list[Platter] = [opened(1), MemoryPlatter()]
    answers = []
    for platter in platters:
        open_database(platter)
        write(platter, 1)
        rows = platter.fetch(sql, parameters)
        assert type(rows) is list
        assert all(type(row) is tuple for row in rows)
        answers.append([[(type(value), value) for value in row] for row in rows])
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    "statement",
    [
        Statement("INSERT INTO rows VALUES (?, ?, ?)", [(5, 1, b""), (1, 1, b"")]),
        Statement("INSERT INTO nowhere VALUES (1)"),
        Statement("nonsense"),
        Statement("INSERT INTO rows VALUES (?, ?, ?)", [(5, 1)]),
        Statement("INSERT INTO rows VALUES (?, ?, ?)", [(5, 1, 2**63)]),
        Statement("BEGIN"),
    ],
)
def test_a_refused_transaction_is_refused_as_by_sqlite3_and_leaves_nothing(
    statement: Statement,
) -> None:
    platters: list[Platter] = [opened(1), MemoryPlatter()]
    refusals = []
    for platter in platters:
        open_database(platter)
        write(platter, 1)
        with pytest.raises((sqlite3.Error, OverflowError)) as refusal:
            platter.transact(
                [Statement("INSERT INTO rows VALUES (?, ?, ?)", rows_of(2)), statement]
            )
        code = getattr(refusal.value, "sqlite_errorcode", None)
        name = getattr(refusal.value, "sqlite_errorname", None)
        refusals.append((refusal.type, code, name))
        assert held(platter) == [1]
        write(platter, 2)
    assert refusals[0] == refusals[1]


def test_temporary_files_work_and_leave_no_name() -> None:
    platter = opened(1)
    for pragma in ("temp_store = FILE", "cache_size = 10", "cache_spill = 5"):
        platter.fetch(f"PRAGMA {pragma}")
    platter.transact(
        [
            Statement("CREATE TEMP TABLE t (x)"),
            Statement(
                "INSERT INTO t VALUES (?)", [(f"{n * 7_919 % 20_011:300}",) for n in range(5_000)]
            ),
        ]
    )
    rows = platter.fetch("SELECT x FROM t ORDER BY x")
    assert len(rows) == 5_000
    assert rows == sorted(rows)
    assert set(platter.contents()) <= {"log.sqlite", "log.sqlite-wal", "log.sqlite-journal"}


def test_a_platter_that_is_let_go_leaves_nothing_behind() -> None:
    gc.collect()
    before = apsw.vfs_names(), apsw.memory_used()
    for seed in range(50):
        platter = opened(seed)
        write(platter, 1)
        platter.full = seed % 2 == 0
        if seed % 3 == 0:
            platter.power_cut()
            held(platter)
        del platter
    gc.collect()
    assert (apsw.vfs_names(), apsw.memory_used()) == before


def test_a_closed_platter_can_be_used_again() -> None:
    platter = opened(1)
    write(platter, 1)
    platter.close()
    platter.close()
    assert held(platter) == [1]


def disk_on(platter: Platter) -> SimulatedDisk:
    return SimulatedDisk(platter, random.Random(7), 0.004, lambda _statements: None, lambda: None)


async def publish_all(platter: Platter, acknowledged: list[Event], commits: int) -> None:
    async with open_log(Path(), disk=disk_on(platter)) as log:
        for number in range(commits):
            acknowledged.extend(await log.publish(drafts(1 + number % 5, "a", f"n{number}")))


async def find_all(platter: Platter) -> list[Event]:
    async with open_log(Path(), disk=disk_on(platter)) as log:
        return await read_all(log)


def publish_until_cut(platter: HarshPlatter, acknowledged: list[Event]) -> bool:
    """Whether all could be published before the power went."""
    try:
        run_simulated(publish_all(platter, acknowledged, 6), random.Random(1))
    except* PowerLost:
        in_time = False
    else:
        in_time = True
    return in_time


def test_a_log_finds_all_acknowledged_events_after_a_power_cut() -> None:
    for seed in range(10):
        platter, acknowledged = platter_of(seed), list[Event]()
        for _ in range(3):
            assert publish_until_cut(platter, acknowledged)
            platter.power_cut()
            found = run_simulated(find_all(platter), random.Random(2))
            assert found == acknowledged


def test_a_log_finds_all_acknowledged_events_wherever_the_power_goes() -> None:
    acknowledged: list[Event] = []
    operations = 0
    for operations in range(0, 1_000, 3):
        platter, acknowledged = platter_of(operations, pages=10), []
        platter.cut_after_operations = operations
        if publish_until_cut(platter, acknowledged):
            break
        found = run_simulated(find_all(platter), random.Random(2))
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) - len(acknowledged) <= 5
    assert 50 < operations < 900
    assert len(acknowledged) == 16
