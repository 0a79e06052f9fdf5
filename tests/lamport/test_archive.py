"""Archives: what went in comes out; what is truncated, altered or foreign is refused with its first bad position."""

import asyncio
import io
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from lamport.archive import MAX_RECORD_BYTES, ArchiveWriter, read_archive
from lamport.chain import SealedRange
from lamport.codec import MAX_PAYLOAD_BYTES, EncodedDraft, encode_event
from lamport.errors import CorruptArchive, StoreFull
from lamport.exchange import Imported, export_archive, import_archive
from lamport.ids import MIN_DRAWN_STREAM_NUMBER
from lamport.leaps import MAX_LEAP
from lamport.log import EventLog
from lamport.offsets import OffsetMap, OffsetRange, missing
from tests.lamport.keys import (
    NOW_US,
    Author,
    Member,
    drafts,
    event_bytes,
    member,
    open_log,
    read_all,
)
from tests.lamport.test_store import SmallDisk

OWN = member()


def written(*ranges: SealedRange, swarm: bytes = OWN.swarm) -> bytes:
    file = io.BytesIO()
    writer = ArchiveWriter(file, swarm)
    for sealed in ranges:
        writer.add(sealed)
    writer.end()
    return file.getvalue()


def bobs(*counts: int) -> Iterator[SealedRange]:
    bob = Author(member("bob"))
    return (bob.count(count) for count in counts)


def imported(folder: Path, data: bytes, keys: Member = OWN) -> Imported:
    async def run() -> Imported:
        async with open_log(folder, keys) as log:
            return await import_archive(log, keys, io.BytesIO(data))

    return asyncio.run(run())


def refused(folder: Path, data: bytes, *parts: str, keys: Member = OWN) -> int:
    """Import what must be refused, and store nothing; returns the position that is told."""

    async def run() -> int:
        async with open_log(folder, keys) as log:
            before = await read_all(log), log.offsets, log.lamport
            with pytest.raises(CorruptArchive) as refusal:
                await import_archive(log, keys, io.BytesIO(data))
            assert (await read_all(log), log.offsets, log.lamport) == before
            for part in (*parts, f"at byte {refusal.value.position}"):
                assert part in str(refusal.value)
            return refusal.value.position

    return asyncio.run(run())


def test_an_import_that_fills_the_disk_tells_what_it_stored_and_goes_on_there(
    tmp_path: Path,
) -> None:
    data = io.BytesIO(written(*bobs(600, 600, 600)))

    async def run() -> None:
        disk = SmallDisk(tmp_path)
        async with open_log(tmp_path, OWN, disk=disk) as log:
            await disk.resize(await disk.pages() + 24)
            with pytest.raises(StoreFull, match="import it again") as refusal:
                await import_archive(log, OWN, data)
            stored = len(await read_all(log))
            assert 0 < stored < 1800
            assert f"full: {stored} events of the archive were stored, and stay" in str(
                refusal.value
            )
            await disk.resize(10_000)
            data.seek(0)
            assert (await import_archive(log, OWN, data)).added == 1800 - stored

    asyncio.run(run())


def test_what_is_exported_is_imported_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    carol = member("carol")

    async def export() -> tuple[bytes, list[object]]:
        async with open_log(tmp_path / "a") as log:
            await log.publish(drafts(2_500, "own"))
            for sealed in bobs(7, 900):
                await log.receive(sealed)
            await log.publish(drafts(1, "own"))
            file = io.BytesIO()
            done = await export_archive(log.store, OWN, missing(OffsetMap(), log.offsets), file)
            assert (done.streams, done.events) == (2, 3_408)
            return file.getvalue(), list(await read_all(log))

    async def read() -> list[object]:
        async with open_log(tmp_path / "b", carol) as log:
            return list(await read_all(log))

    data, events = asyncio.run(export())
    assert imported(tmp_path / "b", data, carol) == Imported(2, 3_408, 3_408)
    assert asyncio.run(read()) == events
    assert imported(tmp_path / "b", data, carol) == Imported(2, 3_408, 0)
    assert imported(tmp_path / "a", data) == Imported(2, 3_408, 0)


def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    assert imported(tmp_path, written()) == Imported(0, 0, 0)


def test_what_is_held_in_part_is_completed(tmp_path: Path) -> None:
    first, second = bobs(5, 5)

    async def hold() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(first)

    asyncio.run(hold())
    assert imported(tmp_path, written(first, second)) == Imported(1, 10, 5)


def test_an_archive_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    data = written(*bobs(3, 4))
    for size in range(0, len(data), 7):
        assert refused(tmp_path, data[:size]) <= size


def test_every_altered_byte_is_found_at_or_before_the_end(tmp_path: Path) -> None:
    data = written(*bobs(3, 4))
    randomness = random.Random(8)
    starts = [one.position for one in read_archive(io.BytesIO(data), OWN.swarm)]
    for _ in range(300):
        place = randomness.randrange(len(data))
        altered = (
            data[:place] + bytes([data[place] ^ 1 << randomness.randrange(8)]) + data[place + 1 :]
        )
        position = refused(tmp_path, altered)
        if starts[1] > place >= starts[0] + 4:
            assert position == starts[0]


def test_something_behind_the_end_is_refused_where_it_begins(tmp_path: Path) -> None:
    data = written(*bobs(3))
    assert refused(tmp_path, data + b"x", "behind its end") == len(data)


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    other = Author(member("bob", "other swarm"))
    sealed = other.count(3)
    refused(tmp_path, written(sealed, swarm=other.keys.swarm), "of another swarm")
    refused(tmp_path, written(sealed), "certificate is not of this swarm")
    refused(tmp_path, b"PK\x03\x04" + bytes(100), "no archive")
    refused(tmp_path, b"", "no archive")


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    data = written().replace(b"\x93\x00\x01", b"\x93\x00\x02", 1)
    refused(tmp_path, data, "its format is 2")


def test_ranges_begin_at_the_beginning_and_have_no_gap(tmp_path: Path) -> None:
    first, second, third = bobs(2, 2, 2)
    refused(tmp_path, written(second), "offset 0 is due")
    refused(tmp_path, written(first, third), "offset 2 is due")
    refused(tmp_path, written(first, first), "offset 2 is due")


def exported(folder: Path, *ranges: OffsetRange) -> bytes:
    """The parts of a log's streams in an archive."""

    async def run() -> bytes:
        async with open_log(folder) as log:
            file = io.BytesIO()
            await export_archive(log.store, OWN, ranges, file)
            return file.getvalue()

    return asyncio.run(run())


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """A log that holds three ranges of five events of Bob's, and one that holds the first of them."""
    folders = tmp_path / "all", tmp_path / "some"

    async def hold(folder: Path, count: int) -> None:
        async with open_log(folder) as log:
            for sealed in list(bobs(5, 5, 5))[:count]:
                await log.receive(sealed)

    for folder in folders:
        folder.mkdir()
    asyncio.run(hold(folders[0], 3))
    asyncio.run(hold(folders[1], 1))
    return folders


BOBS = Author(member("bob")).stream


@pytest.mark.parametrize("first", range(15))
def test_a_part_is_taken_in_exactly_where_it_connects(parts: tuple[Path, Path], first: int) -> None:
    data = exported(parts[0], OffsetRange(BOBS, first, 14))
    if first <= 5:
        assert imported(parts[1], data) == Imported(1, 15 - first, 10)
        assert imported(parts[1], data) == Imported(1, 15 - first, 0)
    else:
        refused(parts[1], data, f"is taken up at offset {first}", "up to 4", "from 5 on")
        assert imported(parts[0], data) == Imported(1, 15 - first, 0)


@pytest.mark.parametrize(("last", "reached"), [(0, 4), (4, 4), (5, 9), (13, 14)])
def test_a_part_reaches_to_the_seal_at_its_end_or_behind(
    parts: tuple[Path, Path], last: int, reached: int
) -> None:
    data = exported(parts[0], OffsetRange(BOBS, 0, last))
    ranges = [one.range for one in read_archive(io.BytesIO(data), OWN.swarm)]
    assert ranges[-1].seal.offset == reached


def test_a_part_of_another_history_is_refused(parts: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()

    async def hold() -> None:
        async with open_log(tmp_path / "other") as log:
            await log.receive(Author(member("bob")).say(*range(2, 8)))

    asyncio.run(hold())
    data = exported(parts[0], OffsetRange(BOBS, 5, 14))
    refused(tmp_path / "other", data, "another history")


def test_a_part_whose_hash_before_it_was_altered_is_refused(parts: tuple[Path, Path]) -> None:
    [first, second, third] = bobs(5, 5, 5)
    file = io.BytesIO()
    writer = ArchiveWriter(file, OWN.swarm)
    writer.add(second, bytes(32))
    writer.add(third)
    writer.end()
    refused(parts[1], file.getvalue(), "another history")
    assert first.seal.hash in exported(parts[0], OffsetRange(BOBS, 5, 14))


def test_one_bad_range_among_many_keeps_all_of_them_out(tmp_path: Path) -> None:
    ranges = list(bobs(*[5] * 10))
    bad = replace(ranges[8], events=(*ranges[8].events[:-1], event_bytes(45, ["forged"])))
    data = written(*ranges[:8], bad, ranges[9])
    positions = [one.position for one in read_archive(io.BytesIO(data), OWN.swarm)]
    assert refused(tmp_path, data, "do not chain to the seal") == positions[8]


def test_another_history_than_the_one_held_is_refused(tmp_path: Path) -> None:
    async def hold() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(Author(member("bob")).say(1, 2, 3))

    asyncio.run(hold())
    for others in ((4, 5), (4, 5, 6)):
        refused(tmp_path, written(Author(member("bob")).say(*others)), "another history")
    longer = Author(member("bob")).say(4, 5, 6, 7)
    refused(tmp_path, written(longer), "offsets 3 to 3 do not chain to the seal")


def test_more_of_this_nodes_own_stream_than_it_holds_is_refused(tmp_path: Path) -> None:
    own = Author(OWN, MIN_DRAWN_STREAM_NUMBER)
    refused(tmp_path, written(own.count(3)), "this node's own")


def test_a_leap_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    bob, carol = Author(member("bob")), Author(member("carol"))
    fine, edge = carol.count(1), bob.say(1 + MAX_LEAP)
    assert imported(tmp_path, written(fine, edge)).added == 2
    beyond = Author(member("dave")).say(2 + 2 * MAX_LEAP)
    refused(tmp_path, written(*[Author(member("erin")).count(1)], beyond), "leap ahead")


def test_limits_are_those_of_every_other_way_in(tmp_path: Path) -> None:
    """A payload at the limit passes, one byte more does not (two layers: a text takes three bytes of header)."""
    for size, fits in ((MAX_PAYLOAD_BYTES - 3, True), (MAX_PAYLOAD_BYTES - 2, False)):
        payload = msgpack.packb("x" * size)
        packed = msgpack.packb(["a"]) + msgpack.packb("app") + payload
        rest = EncodedDraft(packed, ("a",), "app", "x" * size)
        sealed = Author(member(f"bob {size}")).write(encode_event(1, NOW_US, rest), lamport=1)
        if fits:
            assert imported(tmp_path, written(sealed)).added == 1
        else:
            refused(tmp_path, written(sealed), f"at most {MAX_PAYLOAD_BYTES} bytes encoded")


def test_a_record_is_measured_before_it_is_read(tmp_path: Path) -> None:
    head = written()[: len(b"shoal archive\n") + 4 + 37]
    size = MAX_RECORD_BYTES + 1
    refused(tmp_path, head + size.to_bytes(4, "big") + b"x", f"1 to {MAX_RECORD_BYTES} bytes")


@pytest.mark.parametrize(
    "record",
    [
        [9],
        [1],
        [1, b"short", 1, b""],
        [1, bytes(32), 2**53, b""],
        [2, 0, [], []],
        [2, 0, [b""], [0, bytes(32), 0, 0, bytes(64)]],
        [3],
        [3, 0, 0, bytes(32)],
        [],
        "text",
        {"a": 1},
    ],
    ids=str,
)
def test_malformed_records_are_refused(tmp_path: Path, record: object) -> None:
    head = written()[: len(b"shoal archive\n") + 4 + 37]
    data = msgpack.packb(record)
    assert refused(tmp_path, head + len(data).to_bytes(4, "big") + data) == len(head)


def test_the_log_goes_on_after_a_refusal(tmp_path: Path) -> None:
    async def run() -> int:
        async with open_log(tmp_path) as log:
            with pytest.raises(CorruptArchive):
                await import_archive(log, OWN, io.BytesIO(b"bread"))
            return await published(log)

    assert asyncio.run(run()) == 0


async def published(log: EventLog) -> int:
    [event] = await log.publish(drafts(1))
    return event.offset
