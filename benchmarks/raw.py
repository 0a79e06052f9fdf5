"""The bound of everything that stores: plain `sqlite3`, one table, one row per event.

WAL and `synchronous=FULL` as in production. An append encodes the events (msgpack), chains them (SHA-256) and stores
them in one transaction; that is the least that any log of this kind does. There is no index, no seal, no head, no
clock, no check of limits, no second thread.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgpack

from benchmarks.events import Sample, settling
from benchmarks.rounds import Stopwatch, fresh_folder

APP_ID = "shoal"
"""As in our events, so that the bytes are the same in number."""

_COPIED_AT_ONCE = 10_000
_TAGS = 2
_PAYLOAD = 4

_State = TypeVar("_State")


class RawLog:
    """The plain table. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE events (key INTEGER PRIMARY KEY, bytes BLOB NOT NULL)"
        )
        self._key = 0
        self.hash = bytes(32)

    def append(self, samples: Sequence[Sample]) -> None:
        """Encode, chain and store these samples in one durable transaction."""
        events = encode(samples, self._key + 1, now_us())
        self.store(events, chain(self.hash, events))

    def append_timed(self, sample: Sample) -> float:
        """Append one; returns how long that took, in milliseconds."""
        watch = Stopwatch()
        self.append([sample])
        return watch.lap_ms()

    def store(self, events: Sequence[bytes], hash_: bytes) -> None:
        """Store encoded events in one durable transaction; `hash_` is the chain behind them."""
        self.hash = hash_
        rows = list(enumerate(events, self._key + 1))
        self._key += len(events)
        if len(rows) == 1:  # a statement that commits by itself: the cheapest transaction there is
            self._connection.execute("INSERT INTO events VALUES (?, ?)", rows[0])
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO events VALUES (?, ?)", rows)
        self._connection.execute("COMMIT")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()


@contextmanager
def settled_log() -> Iterator[RawLog]:
    """A plain table in which commits are to be timed: it holds what ours holds before."""
    with fresh_folder() as folder, RawLog(folder / "raw.sqlite") as log:
        log.append(settling())
        yield log


def now_us() -> int:
    """What the clock says, in microseconds since the epoch."""
    return time.time_ns() // 1_000


def encode(samples: Iterable[Sample], lamport: int, timestamp: int) -> list[bytes]:
    """The bytes of consecutive events, laid out as the log's own."""
    return [
        msgpack.packb([number, timestamp, tags, APP_ID, payload])
        for number, (tags, payload) in enumerate(samples, lamport)
    ]


def chain(before: bytes, events: Iterable[bytes]) -> bytes:
    """The hash chain's value behind these events."""
    for data in events:
        before = hashlib.sha256(before + data).digest()
    return before


def store_copy(samples: Iterator[Sample], events: int, path: Path) -> None:
    """Store so many events in a plain table of a new file: our own log may keep its old ones in another form."""
    with RawLog(path) as log:
        for start in range(0, events, _COPIED_AT_ONCE):
            log.append(list(islice(samples, min(_COPIED_AT_ONCE, events - start))))


def fold(database: Path, on_event: Callable[[_State, Any, Any], _State], initial: _State) -> _State:
    """A plain loop over a plain scan of a plain table's events, decoded, in key order."""
    state = initial
    for payload in _payloads(database):
        state = on_event(state, payload, None)
    return state


def fold_last(
    database: Path, count: int, on_event: Callable[[_State, Any, Any], _State], initial: _State
) -> _State:
    """The same over the last `count` rows only."""
    state = initial
    with closing(_reading(database)) as log:
        rows = log.execute(
            "SELECT bytes FROM events ORDER BY key DESC LIMIT ?", (count,)
        ).fetchall()
    assert len(rows) == count, "a bound is measured on as many rows as it is said to be"
    for (data,) in reversed(rows):
        state = on_event(state, msgpack.unpackb(data)[_PAYLOAD], None)
    return state


def index_tags(database: Path, index: Path, tags: Iterable[str]) -> None:
    """Make a covering index of these tags for a plain table's events, in a file of its own."""
    numbers = {tag: number for number, tag in enumerate(tags)}
    with closing(sqlite3.connect(index)) as connection, closing(_reading(database)) as log:
        connection.execute("CREATE TABLE names (name TEXT PRIMARY KEY, tag INTEGER NOT NULL)")
        connection.execute(
            "CREATE TABLE tags (tag INTEGER, key INTEGER, PRIMARY KEY (tag, key)) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO names VALUES (?, ?)", numbers.items())
        connection.executemany(
            "INSERT INTO tags VALUES (?, ?)",
            (
                (numbers[tag], key)
                for key, data in log.execute("SELECT key, bytes FROM events ORDER BY key")
                for tag in msgpack.unpackb(data)[_TAGS]
                if tag in numbers
            ),
        )
        connection.commit()


@contextmanager
def select_by_tag(database: Path, index: Path) -> Iterator[Callable[[str], list[Any]]]:
    """Selects and decodes the events that bear a tag, in key order, through that index."""
    with closing(_reading(database)) as connection:
        connection.execute("ATTACH ? AS side", (str(index),))
        sql = (
            "SELECT bytes FROM side.names CROSS JOIN side.tags USING (tag) CROSS JOIN events USING (key)"
            " WHERE name = ? ORDER BY key"
        )
        yield lambda tag: [msgpack.unpackb(data) for (data,) in connection.execute(sql, (tag,))]


def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def _payloads(database: Path) -> Iterator[Any]:
    with closing(_reading(database)) as connection:
        for (data,) in connection.execute("SELECT bytes FROM events ORDER BY key"):
            yield msgpack.unpackb(data)[_PAYLOAD]
