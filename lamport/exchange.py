"""Streams into an archive, and out of one into a log.

Writing copies sealed ranges, as gossip would send them, from the store into the file. Reading goes over the file twice.
The first pass stores nothing: every range is verified, held against what the log has of its stream, and taken in by a
commit that is thrown away, so that whatever the log would refuse is refused before anything is stored. The second hands
the ranges to the log as if a peer had sent them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from lamport.archive import ArchiveWriter, read_archive
from lamport.chain import CheckedRange, Head, Keys, SealedRange, check_range, connect_range, genesis
from lamport.commit import CommitBuilder
from lamport.errors import CorruptArchive, CorruptRange, DivergedStream, LogError
from lamport.ids import StreamId
from lamport.log import EventLog
from lamport.reader import Reader
from lamport.store import Store
from lamport.stream_check import require_genuine


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written into an archive."""

    streams: int
    events: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an archive held, and how many of its events the log did not have before."""

    streams: int
    events: int
    added: int


async def export_archive(
    store: Store, keys: Keys, streams: Iterable[StreamId], file: BinaryIO
) -> Exported:
    """Write these streams into an archive, as far as they were held when the store was opened.

    Raises:
        DamagedRange: something of them is damaged on this disk; the archive is of no use.
    """
    writer, reader = ArchiveWriter(file, keys.swarm), Reader(store)
    for stream in sorted(streams):
        first, last = 0, store.head(stream).offset
        while first <= last:
            sealed = await reader.sealed_range(stream, first, last - first + 1)
            assert sealed is not None, "every head has a seal"
            require_genuine(sealed, keys)
            writer.add(sealed)
            first = sealed.seal.offset + 1
    writer.end()
    return Exported(writer.streams, writer.events)


async def import_archive(log: EventLog, keys: Keys, file: BinaryIO) -> Imported:
    """Verify a whole archive, and only then take it in.

    Raises:
        CorruptArchive: it does not hold, or the log cannot take all of it in; nothing of it was stored.
        StoreFull: there is no room; what was stored until then stays, and importing again adds the rest.
    """
    rehearsal = _Rehearsal(log, keys)
    for position, sealed in read_archive(file, keys.swarm):
        try:
            await rehearsal.take(sealed)
        except LogError as error:
            raise CorruptArchive(position, str(error)) from error
    file.seek(0)
    added = 0
    for _, sealed in read_archive(file, keys.swarm):
        if sealed.stream != log.stream:
            added += len(await log.receive(sealed))
    heads = rehearsal.heads.values()
    return Imported(len(heads), sum(head.offset + 1 for head in heads), added)


class _Rehearsal:
    """Takes an archive's ranges in as the log would, without storing anything. `heads` are the archive's own."""

    def __init__(self, log: EventLog, keys: Keys) -> None:
        self.heads: dict[StreamId, Head] = {}
        self._log = log
        self._keys = keys
        self._clock = log.store.clock
        self._known = dict(log.store.heads)
        self._authors = dict(log.store.authors)

    async def take(self, sealed: SealedRange) -> None:
        """Raise the `LogError` for which the range would be refused."""
        stream = sealed.stream
        checked = check_range(sealed, self._keys)
        head = self.heads.get(stream) or genesis(self._keys.swarm, stream)
        verified = connect_range(checked, head) if sealed.first == head.offset + 1 else None
        if verified is None:
            raise CorruptRange(f"stream {stream}: offset {head.offset + 1} is due here")
        self.heads[stream] = verified.head
        await self._compare(verified.head)
        if stream != self._log.stream:
            self._commit(checked)

    async def _compare(self, head: Head) -> None:
        """Hold the archive's history of a stream against the log's, where the log reaches as far."""
        held = await self._log.hash_at(head.stream, head.offset)
        if held is not None and held != head.hash:
            raise DivergedStream(f"stream {head.stream}: the log holds another history of it")
        if held is None and head.stream == self._log.stream:
            raise CorruptRange(
                f"stream {head.stream} is this node's own, and the archive holds more of it than the log:"
                " only its peers can give that back"
            )

    def _commit(self, checked: CheckedRange) -> None:
        builder = CommitBuilder(
            own=self._log.stream,
            clock=self._clock,
            heads=self._known,
            authors=self._authors,
            keys=self._keys,
            retracted=self._log.retracted,
        )
        builder.receive(checked)
        commit = builder.build()
        self._clock = commit.clock
        self._known.update(commit.heads)
        self._authors.update(commit.certificates)
