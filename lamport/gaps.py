"""Gaps: offsets that a stream should have and that stand nowhere on the disk.

Who reads events that are there finds whatever is wrong with them; that some are not there at all nothing tells but
their offsets. So these are counted once, when a node starts and before anything is written:

    indexes by offset ── what is stored runs on from where a stream begins to its head ── else OffsetRange ──> damages

Only the indexes are read, a few milliseconds for a million events. What a horizon gave up is no gap. A disk that has
lost every other event of a long stream has as many gaps as that has events left: so beyond a number of them the rest
are one, with all that stands between.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lamport.ids import StreamId
from lamport.offsets import OffsetRange
from lamport.sqlite_errors import translated_errors
from lamport.store import Store

MAX_GAPS = 1_000
"""Gaps of a stream that are told apart among its blocks, and as many among its rows: people read fewer, and what mends
them looks at all between the first and the last."""


class _Run(NamedTuple):
    """Offsets that stand there one behind the other, up to before `stop`."""

    first: int
    stop: int


_BLOCKS = 'SELECT stream, min("offset") FROM blocks GROUP BY stream'
_AFTER_BLOCKS = """
SELECT stream, stop, next FROM (
  SELECT stream, stop, next, row_number() OVER (PARTITION BY stream ORDER BY "offset") AS place FROM (
    SELECT stream, "offset", "offset" + count AS stop,
      lead("offset") OVER (PARTITION BY stream ORDER BY "offset") AS next FROM blocks)
  WHERE next IS NOT stop)
WHERE place <= ?
ORDER BY stream, place
"""
_ROWS = """
SELECT row, (SELECT min("offset") FROM events WHERE stream = row),
  (SELECT max("offset") + 1 FROM events WHERE stream = row)
FROM streams
"""
_AFTER_ROWS = """
SELECT "offset" + 1, next FROM (
  SELECT "offset", lead("offset") OVER (ORDER BY "offset") AS next FROM events WHERE stream = ?)
WHERE next IS NOT "offset" + 1 ORDER BY "offset" LIMIT ?
"""


async def gaps(store: Store) -> list[OffsetRange]:
    """What lacks of the streams of a store that nobody writes to meanwhile; of a forked one along its row.

    Raises:
        StoreError: SQLite cannot read the indexes.
    """
    runs = await _runs(store)
    parts: defaultdict[int, list[StreamId]] = defaultdict(list)
    for stream in store.heads:
        row = store.row_of(stream)
        assert row is not None, "a stream with a head has a number"
        parts[row].append(stream)
    return sorted(
        gap for row, streams in parts.items() for gap in _between(runs.get(row, ()), store, streams)
    )


def _between(
    runs: Iterable[_Run], store: Store, streams: Sequence[StreamId]
) -> Iterator[OffsetRange]:
    """What lacks of a row that holds these parts of a stream."""
    due = min(store.beginning(stream).offset + 1 for stream in streams)
    end = max(store.head(stream).offset + 1 for stream in streams)
    name = min(streams, key=store.branches.first)
    for run in (*sorted(runs), _Run(end, end)):
        if due < min(run.first, end):
            yield OffsetRange(name, due, min(run.first, end) - 1)
        due = max(due, run.stop)


async def _runs(store: Store) -> dict[int, list[_Run]]:
    """What stands there, by the local numbers of the streams."""
    runs: defaultdict[int, list[_Run]] = defaultdict(list)
    fetch = store.reader.fetch
    with translated_errors():
        first = dict[int, object](await fetch(_BLOCKS))
        for row, stop, following in await fetch(_AFTER_BLOCKS, (MAX_GAPS,)):
            runs[row] += _run(first[row], stop)
            first[row] = following
        for row, begin, stop in await fetch(_ROWS):
            if _run(begin, stop) and stop - begin == store.compaction.count(row):
                runs[row] += _run(begin, stop)
                continue
            first[row] = begin
            for end, following in await fetch(_AFTER_ROWS, (row, MAX_GAPS)):
                runs[row] += _run(first[row], end)
                first[row] = following
    return runs


def _run(first: object, stop: object) -> list[_Run]:
    """These offsets, if they are any: in a damaged row anything may stand."""
    is_any = isinstance(first, int) and isinstance(stop, int) and first < stop
    return [_Run(first, stop)] if is_any else []  # type: ignore[arg-type] # as just seen
