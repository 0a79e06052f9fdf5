# ruff: noqa: N802 - the x names are those of SQLite's file system interface
"""A harsher disk: real SQLite on a file system in memory that, when the power goes, keeps only what was synced.

`simulations.disk.MemoryPlatter` takes for granted that a commit is durable. Here SQLite has to earn it: its bytes, its
write-ahead log and its syncs pass through files of ours, and a power cut keeps, loses or tears whatever stood between
two syncs. The one promise is the one a disk makes: what was synced stays, sector by sector.

The way of a datum. SQLite writes to a `HarshFile`: the process sees it at once, and it waits in line. A sync moves the
line into the durable content. When the power goes, each change still in line arrives whole, not at all, or in some of
its sectors; a file that was made or deleted without a sync may be there or not. A crash of the process alone leaves
everything that was written. In both cases the old connection keeps the *old* file system, of which nobody takes any
notice again: whatever it still writes while it is taken down counts for nothing.

All that is drawn comes from the given randomness, SQLite's own draws (the salts of its log) among them, so the same
seed gives the same bytes. This is the only module that needs `apsw`.
"""

import random
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn, TypeVar

import apsw

from lamport.seams import Statement
from lamport.sqlite import run_transaction
from simulations.errors import PowerLost

SECTOR = 512
"""Bytes that reach the disk together or not at all."""

CHECKPOINT_PAGES = 1_000
"""Pages in the log after which a commit moves them into the database: SQLite's own default."""

MAX_WAITING = 65_536
"""Most changes of one file that wait for a sync; beyond that the oldest arrives, as kernels write back in time."""

MAX_FILE_BYTES = 256 * 1024 * 1024
"""A file that would grow beyond this meets a full disk."""

_DATABASE = "log.sqlite"
_NOW_JULIAN_MS = 212_633_985_600_000
"""What SQLite's own clock shows, always: the first moment of 2026."""

_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
"""Files whose first sync SQLite's own file system for Unix follows with a sync of their directory.

That is more than their own name: a rollback journal deleted without a sync stays deleted from then on, and that is what
keeps a new database from being rolled back to nothing after its first commits to the log.
"""

_OPERATIONAL = {
    apsw.SQLITE_ERROR,
    apsw.SQLITE_PERM,
    apsw.SQLITE_ABORT,
    apsw.SQLITE_BUSY,
    apsw.SQLITE_LOCKED,
    apsw.SQLITE_READONLY,
    apsw.SQLITE_INTERRUPT,
    apsw.SQLITE_IOERR,
    apsw.SQLITE_FULL,
    apsw.SQLITE_CANTOPEN,
    apsw.SQLITE_PROTOCOL,
    apsw.SQLITE_SCHEMA,
}
_INTEGRITY = {apsw.SQLITE_CONSTRAINT, apsw.SQLITE_MISMATCH}

_Result = TypeVar("_Result")


class _Write(NamedTuple):
    """Bytes on their way to a place in a file."""

    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Arrive whole."""
        _grow(content, self.offset)
        content[self.offset : self.offset + len(self.data)] = self.data

    def tear(self, content: bytearray, randomness: random.Random) -> None:
        """Arrive in some sectors. A file may have grown for it although its last bytes never came."""
        end = self.offset + len(self.data)
        for sector in range(self.offset - self.offset % SECTOR, end, SECTOR):
            if randomness.getrandbits(1):
                first, behind = max(sector, self.offset), min(sector + SECTOR, end)
                part = self.data[first - self.offset : behind - self.offset]
                _Write(first, part).apply(content)
        if randomness.getrandbits(1):
            _grow(content, end)


class _Resize(NamedTuple):
    """A new length on its way to a file."""

    size: int

    def apply(self, content: bytearray) -> None:
        """Arrive."""
        del content[self.size :]
        _grow(content, self.size)

    def tear(self, content: bytearray, randomness: random.Random) -> None:
        """A length arrives or does not."""
        if randomness.getrandbits(1):
            self.apply(content)


def _grow(content: bytearray, size: int) -> None:
    if size > len(content):
        content.extend(bytes(size - len(content)))


def _refusal(code: int, text: str) -> Exception:
    error = apsw.exception_for(code)
    error.args = (text,)
    return error


class HarshFile:
    """A file's content: as the process sees it, as the disk holds it, and the changes between the two, in order."""

    def __init__(self, content: bytes | bytearray = b"") -> None:
        """Make a file that holds this, synced."""
        self.content = bytearray(content)
        self._durable = bytearray(content)
        self._waiting: deque[_Write | _Resize] = deque()

    def write(self, offset: int, data: bytes) -> None:
        """Write, durable with the next sync."""
        self._change(_Write(offset, data))

    def resize(self, size: int) -> None:
        """Cut off or fill up with zeros, durable with the next sync."""
        self._change(_Resize(size))

    def sync(self) -> None:
        """Make everything so far durable."""
        while self._waiting:
            self._waiting.popleft().apply(self._durable)

    def copy(self) -> "HarshFile":
        """The same file, independent of this one."""
        twin = HarshFile(self._durable)
        twin.content[:] = self.content
        twin._waiting.extend(self._waiting)
        return twin

    def after_power_cut(self, randomness: random.Random) -> "HarshFile":
        """What a power cut now leaves of it."""
        content = bytearray(self._durable)
        # Drawn per cut, so that there are cuts which take nearly all and cuts which take nearly nothing.
        arriving = randomness.random()
        for change in self._waiting:
            if randomness.random() < arriving:
                change.apply(content)
            elif randomness.getrandbits(1):
                change.tear(content, randomness)
        return HarshFile(content)

    def _change(self, change: _Write | _Resize) -> None:
        change.apply(self.content)
        self._waiting.append(change)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft().apply(self._durable)


@dataclass(slots=True)
class _Switches:
    """What the outside decides about a disk in use."""

    full: bool = False
    cut_after: int | None = None


class _Files:
    """A file system with one directory, from one power on to the next power off or crash."""

    def __init__(
        self, switches: _Switches, randomness: random.Random, files: dict[str, HarshFile]
    ) -> None:
        self.switches = switches
        self.survivor: _Files | None = None
        """What the power cut in the middle of the work left, once it has struck."""
        self._randomness = randomness
        self._seen = dict(files)
        self._durable = dict(files)

    def __contains__(self, name: str) -> bool:
        return name in self._seen

    def contents(self) -> dict[str, bytes]:
        """All files as the process sees them."""
        return {name: bytes(file.content) for name, file in sorted(self._seen.items())}

    def open(self, name: str, *, create: bool) -> HarshFile:
        """Open a file, or make it; that it is there becomes durable with its first sync."""
        if name not in self._seen:
            if not create:
                raise _refusal(apsw.SQLITE_CANTOPEN, "unable to open database file")
            self.before_change()
            self._seen[name] = HarshFile()
        return self._seen[name]

    def delete(self, name: str, *, sync: bool) -> None:
        """Delete a file; without the sync it may be back after a power cut."""
        self.before_change()
        self._seen.pop(name, None)
        if sync:
            self.sync_directory()

    def sync(self, name: str, file: HarshFile) -> None:
        """Make a file's content durable, and its name if it still has one."""
        self.before_change()
        file.sync()
        if self._seen.get(name) is file:
            self._durable[name] = file

    def sync_directory(self) -> None:
        """Make durable which files there are."""
        self.before_change()
        self._durable = dict(self._seen)

    def before_change(self) -> None:
        """Count a change of the disk; the power goes when the count is up."""
        left = self.switches.cut_after
        if left is None:
            return
        self.switches.cut_after = left - 1 if left else None
        if not left:
            self.survivor = self.after_power_cut()

    def check_room(self, file: HarshFile, size: int) -> None:
        """Refuse to let a file grow where nothing more fits."""
        if size > len(file.content) and (self.switches.full or size > MAX_FILE_BYTES):
            raise _refusal(apsw.SQLITE_FULL, "database or disk is full")

    def after_crash(self) -> "_Files":
        """The same files: the system below the process goes on."""
        files = _Files(self.switches, self._randomness, {})
        twins = {file: file.copy() for file in (*self._seen.values(), *self._durable.values())}
        files._seen = {name: twins[file] for name, file in self._seen.items()}
        files._durable = {name: twins[file] for name, file in self._durable.items()}
        return files

    def after_power_cut(self) -> "_Files":
        """What is left of the files."""
        left: dict[str, HarshFile] = {}
        for name in sorted({*self._seen, *self._durable}):
            file = self._left_under(name)
            if file is not None:
                left[name] = file.after_power_cut(self._randomness)
        return _Files(self.switches, self._randomness, left)

    def _left_under(self, name: str) -> HarshFile | None:
        seen, durable = self._seen.get(name), self._durable.get(name)
        if seen is durable or self._randomness.getrandbits(1):
            return seen
        return durable


class _Handle:
    """An open file, as SQLite calls it. There is one process with one connection, so locks have nothing to do."""

    def __init__(
        self, files: _Files, name: str, file: HarshFile, *, syncs_directory: bool = False
    ) -> None:
        self._files = files
        self._name = name
        self._file = file
        self._syncs_directory = syncs_directory

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._file.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._files.check_room(self._file, offset + len(data))
        self._files.before_change()
        self._file.write(offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        self._files.check_room(self._file, size)
        self._files.before_change()
        self._file.resize(size)

    def xSync(self, _flags: int) -> None:
        self._files.sync(self._name, self._file)
        if self._syncs_directory:
            self._files.sync_directory()
            self._syncs_directory = False

    def xFileSize(self) -> int:
        return len(self._file.content)

    def xLock(self, _level: int) -> None:
        pass

    def xUnlock(self, _level: int) -> None:
        pass

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, _operation: int, _pointer: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        # As SQLite assumes it of every disk in production: a write does no harm to the bytes beside it.
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:
        pass


class _FileSystem(apsw.VFS):
    """The files as SQLite reaches them. It is registered as long as it, or a connection on it, is in use."""

    def __init__(self, files: _Files) -> None:
        # The name must be one of its own among those alive. Nothing else depends on it.
        self.name = f"shoal-harsh-{id(files):x}"
        self._files = files
        super().__init__(self.name, None)

    def xFullPathname(self, name: str) -> str:
        return name

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:
        flags[1] = flags[0]
        if isinstance(name, apsw.URIFilename):
            name = name.filename()
        if name is None or flags[0] & apsw.SQLITE_OPEN_DELETEONCLOSE:
            # A temporary file is nobody else's: it never gets a name.
            return _Handle(self._files, "", HarshFile())
        create = bool(flags[0] & apsw.SQLITE_OPEN_CREATE)
        file = self._files.open(name, create=create)
        return _Handle(self._files, name, file, syncs_directory=bool(flags[0] & _JOURNALS))

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: FBT001 - SQLite's signature
        self._files.delete(name, sync=syncdir)

    def xAccess(self, name: str, _flags: int) -> bool:
        return name in self._files

    def xSleep(self, microseconds: int) -> int:
        return microseconds

    def xCurrentTime(self) -> float:
        return _NOW_JULIAN_MS / 86_400_000

    def xCurrentTimeInt64(self) -> int:
        return _NOW_JULIAN_MS

    def xGetLastError(self) -> tuple[int, str | None]:
        return 0, None


class _Entropy(apsw.VFS):
    """Where SQLite's generator of random numbers gets its seed: the default file system, which this is for a moment."""

    def __init__(self, randomness: random.Random) -> None:
        self._randomness = randomness
        super().__init__("shoal-harsh-entropy", None, makedefault=True)

    def xRandomness(self, count: int) -> bytes:
        return self._randomness.randbytes(count)


def _seed_sqlite(randomness: random.Random) -> None:
    """Seed the one generator which all of SQLite's connections share, so that none draws what another left."""
    entropy = _Entropy(randomness)
    try:
        apsw.randomness(0)  # forgets the state
        apsw.randomness(1)  # fetches a seed at once
    finally:
        entropy.unregister()


class HarshPlatter:
    """A `simulations.disk.Platter` on which SQLite itself has to keep its promise."""

    def __init__(self, randomness: random.Random, checkpoint_pages: int = CHECKPOINT_PAGES) -> None:
        """Make an empty disk. With few `checkpoint_pages` the log is emptied, and begun again, more often."""
        self._connection: apsw.Connection | None = None
        self._randomness = randomness
        self._checkpoint_pages = checkpoint_pages
        self.token = b""
        self._switches = _Switches()
        self._files = self._holding({})

    def __del__(self) -> None:
        # As long as the file system below it is whole; who collects garbage may take that apart first.
        if self._connection is not None:
            self._connection.close(force=True)

    @property
    def full(self) -> bool:
        """Whether no file can grow."""
        return self._switches.full

    @full.setter
    def full(self, full: bool) -> None:
        self._switches.full = full

    @property
    def cut_after_operations(self) -> int | None:
        """After how many more changes of the disk (write, truncate, sync, create, delete) the power goes; None: never.

        The call in which it goes raises `PowerLost`; the disk is then as after `power_cut`.
        """
        return self._switches.cut_after

    @cut_after_operations.setter
    def cut_after_operations(self, count: int | None) -> None:
        self._switches.cut_after = count

    def cut_within_commit(self, operations: int | None) -> None:
        """See `Platter.cut_within_commit`."""
        self.cut_after_operations = operations

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """See `Platter.fetch`."""
        return self._run(lambda connection: list(connection.execute(sql, tuple(parameters))))

    def transact(self, statements: Sequence[Statement]) -> None:
        """See `Platter.transact`."""
        self._run(lambda connection: run_transaction(connection, statements))

    def crash(self) -> None:
        """See `Platter.crash`."""
        self._leave_for(self._files.after_crash())

    def power_cut(self) -> None:
        """See `Platter.power_cut`."""
        self._leave_for(self._files.after_power_cut())

    def contents(self) -> dict[str, bytes]:
        """The files as they are now, synced or not: the database, and what SQLite keeps beside it."""
        return self._files.contents()

    def image(self) -> bytes:
        """See `Platter.image`; it holds what is only in the log so far, too."""
        image = bytearray(self._run(lambda connection: connection.serialize("main")))
        # The copy is one file. Bytes 18 and 19 would send its reader to look for a log beside it.
        image[18:20] = b"\x01\x01" if image else b""
        return bytes(image)

    def restore(self, image: bytes) -> None:
        """See `Platter.restore`."""
        self._leave_for(self._holding({_DATABASE: HarshFile(image)}))

    def close(self) -> None:
        """Give SQLite's memory back now; the disk itself stays and can be used again."""
        self.crash()

    def _run(self, action: Callable[[apsw.Connection], _Result]) -> _Result:
        try:
            with _sqlite3_errors():
                _seed_sqlite(self._randomness)
                return action(self._connected())
        finally:
            # Whatever SQLite made of it: nobody was left to be told.
            self._check_power()

    def _check_power(self) -> None:
        if self._files.survivor is not None:
            self._leave_for(self._files.survivor)
            raise PowerLost

    def _connected(self) -> apsw.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    def _connect(self) -> apsw.Connection:
        system = _FileSystem(self._files)  # the connection keeps it from here on
        connection = apsw.Connection(_DATABASE, vfs=system.name)
        # There is no memory shared with other processes: without them the log needs none.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # A platter may be let go at any moment: nothing is tidied up then, as nothing is when the power goes.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_wal_hook(_checkpoint_from(self._checkpoint_pages))
        return connection

    def _leave_for(self, files: _Files) -> None:
        """Take down the connection, on files that count no more, and use others from now on."""
        self._files.switches = _Switches()
        self._files = files
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(force=True)

    def _holding(self, files: dict[str, HarshFile]) -> _Files:
        return _Files(self._switches, self._randomness, files)


def _checkpoint_from(pages: int) -> Callable[[apsw.Connection, str, int], int]:
    """What SQLite does by itself after a commit. In its own, apsw would raise an error of it as one of the commit."""

    def checkpoint(connection: apsw.Connection, name: str, waiting: int) -> int:
        if waiting >= pages:
            try:
                connection.wal_checkpoint(name)
            except apsw.Error:
                return apsw.SQLITE_OK  # as SQLite: the log keeps what could not be moved
        return apsw.SQLITE_OK

    return checkpoint


@contextmanager
def _sqlite3_errors() -> Iterator[None]:
    """Raise what the standard library's `sqlite3` raises."""
    try:
        yield
    except apsw.Error as error:
        _raise_sqlite3(error)


def _raise_sqlite3(error: apsw.Error) -> NoReturn:
    code = getattr(error, "extendedresult", None)
    if code is None:
        raise sqlite3.ProgrammingError(str(error)) from error  # apsw's own: SQLite was not asked
    kind: type[sqlite3.DatabaseError] = sqlite3.DatabaseError
    if code & 0xFF in _OPERATIONAL:
        kind = sqlite3.OperationalError
    elif code & 0xFF in _INTEGRITY:
        kind = sqlite3.IntegrityError
    translated = kind(str(error))
    translated.sqlite_errorcode = code
    names = apsw.mapping_extended_result_codes | apsw.mapping_result_codes
    translated.sqlite_errorname = str(names.get(code, ""))
    raise translated from error
