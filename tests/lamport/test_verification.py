"""Verifying a stored log: a sound one has no findings, and whatever is altered on the disk is found and named."""

import asyncio
import functools
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from lamport.healing import heal
from lamport.sqlite import DATABASE_NAME, TOKEN_NAME, SqliteDisk
from lamport.stream_check import Finding
from lamport.tags import Tag
from lamport.verification import Progress, Verification
from tests.lamport.keys import Author, Member, drafts, member, open_log, read_all

FLIPS = 300

OWN, BOB = member(), member("bob")


def author() -> Author:
    return Author(BOB)


@functools.cache
def image(ranges: int) -> dict[str, bytes]:
    """A log and its token: events of this node (local stream 0), and sealed ranges of another's (local stream 1)."""

    async def fill(folder: Path) -> None:
        bob = author()
        async with open_log(folder) as log:
            for number in range(ranges):
                await log.receive(bob.count(50, tags=("said", f"part:{number}")))
                await log.publish(drafts(3, "own", "both"))

    with TemporaryDirectory() as folder:
        asyncio.run(fill(Path(folder)))
        execute(Path(folder), "PRAGMA wal_checkpoint(TRUNCATE)")
        return {name: (Path(folder) / name).read_bytes() for name in (DATABASE_NAME, TOKEN_NAME)}


def filled(folder: Path, ranges: int = 20) -> None:
    for name, data in image(ranges).items():
        (folder / name).write_bytes(data)


def looked_at(folder: Path, keys: Member = OWN) -> tuple[list[Finding], Verification, list[int]]:
    async def look() -> tuple[list[Finding], Verification, list[int]]:
        reader = await SqliteDisk(folder).open_reader()
        try:
            look = Verification(reader, keys)
            steps = [step async for step in look.run()]
        finally:
            await reader.close()
        findings = [step for step in steps if isinstance(step, Finding)]
        return findings, look, [step.done for step in steps if isinstance(step, Progress)]

    return asyncio.run(look())


def findings(folder: Path, keys: Member = OWN) -> list[Finding]:
    return looked_at(folder, keys)[0]


def execute(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def healed(folder: Path) -> list[str]:
    """Heal what a look found; returns what was cut."""
    _, look, _ = looked_at(folder)

    async def mend() -> list[str]:
        writer = await SqliteDisk(folder).open_writer()
        try:
            return [str(cut) for cut in await heal(writer, look, OWN)]
        finally:
            await writer.close()

    return asyncio.run(mend())


def test_a_sound_log_has_no_findings_and_tells_its_progress(tmp_path: Path) -> None:
    filled(tmp_path)
    found, look, progress = looked_at(tmp_path)
    assert found == []
    assert (look.events, look.seals, progress) == (1_060, 40, [1_000, 1_060])
    assert all(not check.damaged for check in look.streams.values())
    assert all(check.sound == check.told for check in look.streams.values())


def test_an_empty_log_is_sound(tmp_path: Path) -> None:
    async def make() -> None:
        async with open_log(tmp_path):
            pass

    asyncio.run(make())
    assert looked_at(tmp_path)[0] == []


def test_a_log_is_verified_beside_its_writer(tmp_path: Path) -> None:
    async def beside() -> list[object]:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(5, "a"))
            reader = await SqliteDisk(tmp_path).open_reader()
            run = Verification(reader, OWN).run()
            first = await anext(run)
            await log.publish(drafts(5, "a"))
            rest = [step async for step in run]
            await reader.close()
            return [first, *rest]

    assert asyncio.run(beside()) == [Progress(5, 5)]


def test_every_flipped_bit_of_every_events_bytes_is_found(tmp_path: Path) -> None:
    """In the file itself, one bit at a time, at random places within the events."""
    filled(tmp_path, ranges=2)
    path = tmp_path / DATABASE_NAME
    sound = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        events = [row[0] for row in connection.execute("SELECT bytes FROM events")]
    places = [place for data in events if (place := sound.find(data)) >= 0]
    randomness = random.Random(4)
    missed = []
    for _ in range(FLIPS):
        number = randomness.randrange(len(events))
        place = places[number] + randomness.randrange(len(events[number]))
        bit = 1 << randomness.randrange(8)
        path.write_bytes(sound[:place] + bytes([sound[place] ^ bit]) + sound[place + 1 :])
        if not findings(tmp_path):
            missed.append((place, bit))
    assert len(places) == len(events)
    assert missed == []


def test_random_damage_anywhere_in_the_file_never_breaks_the_look(tmp_path: Path) -> None:
    filled(tmp_path, ranges=2)
    path = tmp_path / DATABASE_NAME
    sound = path.read_bytes()
    randomness = random.Random(5)
    for _ in range(100):
        place = randomness.randrange(4096, len(sound))
        damage = randomness.randbytes(8)
        path.write_bytes(sound[:place] + damage + sound[place + 8 :])
        try:
            looked_at(tmp_path)
        except sqlite3.Error:
            raise AssertionError(place) from None


DISAGREES = "disagrees with the events"

DAMAGE: dict[str, tuple[str, str]] = {
    "bytes": (
        'UPDATE events SET bytes = zeroblob(length(bytes)) WHERE stream = 1 AND "offset" = 120',
        "offsets 100 to 149: the bytes are not those that the author sealed",
    ),
    "missing events": (
        'DELETE FROM events WHERE stream = 1 AND "offset" BETWEEN 120 AND 125',
        "offsets 120 to 125: these events are missing",
    ),
    "missing end": (
        'DELETE FROM events WHERE stream = 1 AND "offset" >= 990',
        "offsets 990 to 999: these events are missing",
    ),
    "offset": (
        'UPDATE events SET "offset" = 5000 WHERE stream = 1 AND "offset" = 120',
        "offsets 120 to 120: filed under the offset 5000",
    ),
    "key": (
        'UPDATE events SET key = key + 1048576 * 20 WHERE stream = 1 AND "offset" = 999',
        "offsets 999 to 999: its Lamport timestamp is",
    ),
    "stream column": (
        'UPDATE events SET stream = 77 WHERE stream = 1 AND "offset" = 120',
        "offsets 120 to 120: its row is damaged",
    ),
    "unknown stream": ("UPDATE streams SET row = 40 WHERE row = 1", "is of no stream"),
    "text for bytes": (
        "UPDATE events SET bytes = 'text' WHERE stream = 1 AND \"offset\" = 120",
        "offsets 120 to 120: its row is damaged",
    ),
    "signature": (
        'UPDATE seals SET signature = zeroblob(64) WHERE stream = 1 AND "offset" = 149',
        "offsets 149 to 149: the seal there is not its author's",
    ),
    "seal's clock": (
        'UPDATE seals SET clock = 1 WHERE stream = 1 AND "offset" = 149',
        "offsets 149 to 149: the seal there is not its author's",
    ),
    "seal of odd types": (
        "UPDATE seals SET hash = 'x', signature = 7, clock = 1.5 WHERE stream = 0",
        "the seal there is not its author's",
    ),
    "missing last seal": (
        'DELETE FROM seals WHERE stream = 1 AND "offset" = 999',
        "offsets 950 to 999: no seal vouches for these",
    ),
    "stray seal": ('UPDATE seals SET stream = 9 WHERE "offset" = 149', "1 seals stand where there"),
    "head": (
        "UPDATE streams SET head = 949 WHERE row = 1",
        "its head does not tell what is stored",
    ),
    "head's hash": (
        "UPDATE streams SET hash = zeroblob(32) WHERE row = 1",
        "its head does not tell what is stored",
    ),
    "head of odd type": ("UPDATE streams SET head = 'x' WHERE row = 1", "its head does not tell"),
    "stream's name": ("UPDATE streams SET node = x'00' WHERE row = 1", "has no readable name"),
    "other node": (
        "UPDATE streams SET node = zeroblob(32) WHERE row = 1",
        "there is no certificate of its author that holds",
    ),
    "certificate": (
        "UPDATE authors SET certificate = zeroblob(64)",
        "is not of this swarm",
    ),
    "author": ("DELETE FROM authors", "there is no certificate of its author that holds"),
    "clock": ("UPDATE facts SET value = 'x' WHERE name = 'clock'", "is no number"),
    "whose": ("UPDATE facts SET value = x'00' WHERE name = 'swarm'", "does not say that it is"),
    "tag gone": ("DELETE FROM tag_runs WHERE id = (SELECT max(id) FROM tag_runs)", DISAGREES),
    "tag added": ("INSERT INTO tag_tails VALUES (7, zeroblob(8))", DISAGREES),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(tmp_path: Path, name: str) -> None:
    statement, expected = DAMAGE[name]
    filled(tmp_path)
    execute(tmp_path, statement)
    found = [str(one) for one in findings(tmp_path)]
    assert any(expected in one for one in found), found


def test_behind_a_genuine_seal_a_stream_is_judged_anew(tmp_path: Path) -> None:
    filled(tmp_path)
    for offset in (120, 460):
        damage = "UPDATE events SET bytes = x'00' WHERE stream = 1 AND \"offset\" ="
        execute(tmp_path, f"{damage} {offset}")
    spans = [(one.first, one.last) for one in findings(tmp_path) if one.first is not None]
    assert spans == [(120, 120), (100, 149), (460, 460), (450, 499)]


def test_another_nodes_stream_is_cut_back_to_what_is_sound_and_comes_again(tmp_path: Path) -> None:
    filled(tmp_path)
    execute(tmp_path, "UPDATE events SET bytes = x'00' WHERE stream = 1 AND \"offset\" = 120")
    assert healed(tmp_path) == [f"stream {author().stream}: cut back from offset 999 to 99"]
    assert findings(tmp_path) == []

    async def again() -> int:
        bob = author()
        async with open_log(tmp_path) as log:
            before = len(await read_all(log, Tag("said")))
            for number in range(20):
                await log.receive(bob.count(50, tags=("said", f"part:{number}")))
            assert before == 100
            assert len(await read_all(log, Tag("part:19"))) == 50
            return len(await read_all(log))

    assert asyncio.run(again()) == 1_060
    assert findings(tmp_path) == []


@pytest.mark.parametrize("is_told", [True, False])
def test_the_clock_stays_above_what_was_cut(tmp_path: Path, *, is_told: bool) -> None:
    """What is published next sorts behind all that was known here, damaged or not; a flipped bit does not set it."""
    filled(tmp_path)

    async def lamport(*lamports: int) -> int:
        async with open_log(tmp_path) as log:
            bob = author()
            for number in range(20):
                bob.count(50, tags=("said", f"part:{number}"))
            for one in lamports:
                await log.receive(bob.say(one))
            return log.lamport

    assert asyncio.run(lamport(70_000, 80_000)) == 80_000
    execute(tmp_path, "UPDATE events SET bytes = x'00' WHERE stream = 1 AND \"offset\" = 120")
    if not is_told:
        execute(tmp_path, "UPDATE streams SET lamport = 1 << 42 WHERE row = 1")
    assert len(healed(tmp_path)) == 1
    assert findings(tmp_path) == []
    assert asyncio.run(lamport()) == 80_000


@pytest.mark.parametrize("name", sorted(DAMAGE.keys() - {"seal of odd types", "whose"}))
def test_every_damage_to_what_others_wrote_is_healed(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    execute(tmp_path, DAMAGE[name][0])
    healed(tmp_path)
    assert findings(tmp_path) == []

    async def own() -> int:
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1, "after"))
            return event.offset

    assert asyncio.run(own()) == 60


def test_this_nodes_own_stream_is_never_cut(tmp_path: Path) -> None:
    filled(tmp_path)
    execute(tmp_path, "UPDATE events SET bytes = x'00' WHERE stream = 0 AND \"offset\" = 30")
    before = findings(tmp_path)
    assert healed(tmp_path) == []
    assert [one for one in findings(tmp_path) if one.stream] == [
        one for one in before if one.stream
    ]


def test_healing_a_sound_log_changes_nothing_that_is_said(tmp_path: Path) -> None:
    filled(tmp_path)
    assert healed(tmp_path) == []
    assert findings(tmp_path) == []
