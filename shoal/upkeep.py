"""What an operator does to a data folder's log: look whether it is sound, mend it, back it up, put a backup back.

Looking and backing up go on beside a running daemon, through a connection that only reads. Mending and restoring need
the folder's lock. A backup is the database alone: the node's key stays in `identity.json`, and whatever tells a running
log from a restored one stays in its own file, which is neither copied nor made here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

from lamport.backup import copy_database, mark_as_copy, settle
from lamport.errors import InvalidInput, StoreMismatch
from lamport.exchange import Exported, Imported, export_archive, import_archive
from lamport.healing import Cut, heal
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT, NodeId, StreamId
from lamport.log import EventLog
from lamport.notice_table import load_notices
from lamport.offsets import OffsetMap, OffsetRange
from lamport.schema import require_readable
from lamport.seams import Connection
from lamport.sqlite import DATABASE_NAME, SqliteDisk
from lamport.sqlite_errors import translated_errors
from lamport.store import Store
from lamport.stream_check import Finding
from lamport.verification import Progress, Verification, damaged_heads
from shoal.client import Client
from shoal.control import awaited_control
from shoal.errors import DaemonUnreachable, FolderError
from shoal.folder import is_locked, locked_folder, read_folder
from shoal.keys import IdentityKeys
from shoal.newfile import new_file, sync_folder
from shoal.system import ThreadWork, wall_clock

MAX_TOLD = 1_000
"""Findings that are kept; of a disk that is damaged all over nobody reads more."""

RESTORING_NAME = f".{DATABASE_NAME}.restoring"

_SIDE_FILES = ("-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a whole log came to. `count` is that of all findings, of which the first are kept."""

    events: int
    seals: int
    streams: int
    findings: tuple[Finding, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Healed:
    """What was mended, and what a second look came to."""

    cuts: tuple[Cut, ...]
    verdict: Verdict


async def verify_folder(folder: Path, told: Callable[[Progress], None]) -> Verdict:
    """Look at everything in a folder's log, beside its daemon if one runs.

    Raises:
        FolderError: there is no log.
        StoreMismatch: it is no log that this program reads.
    """
    keys = IdentityKeys(read_folder(folder))
    async with _reading(folder) as connection:
        return (await _looked(connection, keys, told))[0]


async def report_damage(folder: Path, findings: Sequence[Finding]) -> bool:
    """Tell a folder's daemon what was found damaged; returns whether there was one, and something for it to do."""
    ranges = [
        {"stream": one.stream.address, "first": one.first, "last": one.last, "fault": str(one)}
        for one in findings
        if one.stream is not None and one.first is not None
    ]
    with suppress(DaemonUnreachable):
        if ranges and is_locked(folder):
            async with Client(await awaited_control(folder)) as client:
                await client.report_damage(ranges)
            return True
    return False


async def heal_folder(folder: Path, told: Callable[[Progress], None]) -> Healed:
    """Look at everything, mend what can be mended, and look again. Raises as `verify_folder`, and `FolderInUse`."""
    keys = IdentityKeys(read_folder(folder))
    with locked_folder(folder):
        async with _reading(folder) as connection:
            verdict, looked = await _looked(connection, keys, told)
        if not verdict.count:
            return Healed((), verdict)
        writer = await SqliteDisk(folder).open_writer()
        try:
            cuts = await heal(writer, looked, keys)
        finally:
            await writer.close()
        async with _reading(folder) as connection:
            return Healed(cuts, (await _looked(connection, keys, told))[0])


async def back_up(folder: Path, target: Path) -> list[Finding]:
    """Copy a folder's log into a new file; returns what a quick check of the copy found.

    Raises:
        FileTaken: the file exists already, or cannot be made.
        FolderError, StoreError: there is no log, it cannot be read, or there is no room for the copy.
    """
    keys = IdentityKeys(read_folder(folder))
    _require_log(folder)
    with new_file(target) as draft:
        copy_database(folder / DATABASE_NAME, draft)
        findings = await _quickly_checked(draft, keys)
        mark_as_copy(draft)
        return findings


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of a log is to be exported: the streams named, those of the nodes named, or all; and how much of each."""

    streams: Sequence[str] = ()
    nodes: Sequence[str] = ()
    first: int = 0
    last: int | None = None
    since: OffsetMap = OffsetMap()  # noqa: RUF009 - immutable
    """What the reader has already, and needs not get."""


async def export(folder: Path, chosen: Chosen, target: Path) -> Exported:
    """Write streams of a folder's log, or parts of them, into a new archive.

    Raises:
        InvalidInput: a stream or node is not named rightly or not known here, or an offset is not held here.
        FileTaken, FolderError, StoreError, DamagedRange: as in `back_up`, or a part of the log is damaged.
    """
    keys = IdentityKeys(read_folder(folder))
    _require_log(folder)
    store = await Store.open_to_read(SqliteDisk(folder), keys)
    try:
        ranges = _ranges(store, chosen)
        with new_file(target) as draft, draft.open("wb") as file:
            return await export_archive(store, keys, ranges, file)
    finally:
        await store.close()


def _ranges(store: Store, chosen: Chosen) -> list[OffsetRange]:
    named = _streams(store, chosen)
    if (chosen.first or chosen.last is not None) and len(named) != 1:
        raise InvalidInput("offsets are of one stream: name it with --stream")
    ranges: list[OffsetRange] = []
    for stream in named:
        head = store.head(stream).offset
        last = head if chosen.last is None else chosen.last
        if not 0 <= chosen.first <= last <= head:
            raise InvalidInput(
                f"offsets {chosen.first} to {last} of {stream} are not held here, but 0 to {head}"
            )
        ranges.append(OffsetRange(stream, max(chosen.first, chosen.since.of(stream) + 1), last))
    return [one for one in ranges if one.first <= one.last]


def _streams(store: Store, chosen: Chosen) -> set[StreamId]:
    if not chosen.streams and not chosen.nodes:
        return set(store.heads)
    named = set(map(StreamId.parse, chosen.streams))
    authors = set(map(NodeId.parse, chosen.nodes))
    unknown = [*(named - store.heads.keys()), *(authors - {one.node for one in store.heads})]
    if unknown:
        raise InvalidInput(
            f"nothing of {unknown[0]} is held here: `shoal status` names the streams"
        )
    return named | {one for one in store.heads if one.node in authors}


async def import_(folder: Path, path: Path) -> Imported:
    """Take an archive into a folder's log if all of it holds; through its daemon where one runs.

    Raises:
        CorruptArchive: it does not hold; nothing was stored.
        RequestRefused: the same, as the daemon tells it.
        FolderInUse: another command works on the folder.
    """
    keys = IdentityKeys(read_folder(folder))
    _require_file(path, "`shoal export`")
    if is_locked(folder):
        with suppress(DaemonUnreachable):  # then it is no daemon that works on the folder
            async with Client(await awaited_control(folder)) as client:
                return await client.import_archive(path)
    with locked_folder(folder), path.open("rb") as file:
        async with _writing(folder, keys) as log:
            return await import_archive(log, keys, file, ThreadWork())


@asynccontextmanager
async def _writing(folder: Path, keys: IdentityKeys) -> AsyncIterator[EventLog]:
    """The folder's log, without a node around it."""
    store = await Store.open(SqliteDisk(folder), keys, _draw_stream_number)
    try:
        log = EventLog(store, keys, wall_clock, ThreadWork())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.write())
            try:
                yield log
            finally:
                log.close()
    finally:
        await store.close()


def _draw_stream_number() -> int:
    return SystemRandom().randrange(MIN_DRAWN_STREAM_NUMBER, STREAM_NUMBER_LIMIT)


async def restore(folder: Path, backup: Path) -> Path | None:
    """Put a backup in the place of a folder's log; returns where the log that stood there was put, if one did.

    The log in place is not touched before the backup has been copied and checked.

    Raises:
        FolderInUse: a daemon runs on the folder.
        StoreMismatch: the file is damaged, no log, or another node's or swarm's.
    """
    keys = IdentityKeys(read_folder(folder))
    _require_file(backup, "`shoal backup`")
    with locked_folder(folder):
        draft = folder / RESTORING_NAME
        draft.unlink(missing_ok=True)
        try:
            os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            copy_database(backup, draft)
            findings = await _quickly_checked(draft, keys)
            if findings:
                raise StoreMismatch(f"{backup} is damaged ({findings[0]}): use another backup")
            mark_as_copy(draft)
            aside = _put_aside(folder)
            draft.replace(folder / DATABASE_NAME)
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(folder)
        return aside


def _put_aside(folder: Path) -> Path | None:
    """Give the log in place a second name; when this returns, its file alone may be replaced."""
    database = folder / DATABASE_NAME
    if not database.exists():
        return None
    settle(database)
    number = 1
    while (aside := folder / f"{DATABASE_NAME}.replaced-{number}").exists():
        number += 1
    os.link(database, aside)
    for suffix in _SIDE_FILES:
        left = folder / f"{DATABASE_NAME}{suffix}"
        if left.exists():
            # Left where it is, it would be taken for the restored log's.
            left.replace(folder / f"{aside.name}{suffix}")
    sync_folder(folder)
    return aside


async def _quickly_checked(path: Path, keys: IdentityKeys) -> list[Finding]:
    """Check whose log a file is, SQLite's structures and every stream's head.

    Raises:
        StoreMismatch: it is no log, or another node's or swarm's.
    """
    async with _reading(path.parent, path.name) as connection:
        with translated_errors():
            facts = dict(await connection.fetch("SELECT name, value FROM facts"))
            said = [
                text for (text,) in await connection.fetch("PRAGMA quick_check") if text != "ok"
            ]
        if (facts.get("node"), facts.get("swarm")) != (keys.node, keys.swarm):
            raise StoreMismatch(
                "the database belongs to another node or swarm than this identity:"
                " restore it in the data folder it was made in"
            )
        structure = [Finding(f"SQLite says: {text}") for text in said]
        return [*structure, *await damaged_heads(connection, keys)]


async def _looked(
    connection: Connection, keys: IdentityKeys, told: Callable[[Progress], None]
) -> tuple[Verdict, Verification]:
    keys.learn(await load_notices(connection))
    looked, findings, count = Verification(connection, keys), list[Finding](), 0
    async for step in looked.run():
        if isinstance(step, Progress):
            told(step)
        else:
            count += 1
            findings += [step] if count <= MAX_TOLD else []
    verdict = Verdict(looked.events, looked.seals, len(looked.streams), tuple(findings), count)
    return verdict, looked


def _require_file(path: Path, maker: str) -> None:
    if not path.is_file():
        raise FolderError(f"there is no file {path}: name one that {maker} made")
    path.open("rb").close()  # what may not be read is told as such, and not as a fault of the disk


def _require_log(folder: Path, name: str = DATABASE_NAME) -> None:
    if not (folder / name).exists():
        raise FolderError(f"there is no log in {folder} yet: the first `shoal run` makes it")


@asynccontextmanager
async def _reading(folder: Path, name: str = DATABASE_NAME) -> AsyncIterator[Connection]:
    _require_log(folder, name)
    with translated_errors():
        connection = await SqliteDisk(folder, name).open_reader()
    try:
        await require_readable(connection)
        yield connection
    finally:
        await connection.close()
