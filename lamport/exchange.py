"""Streams into an archive, and out of one into a log.

Writing copies sealed ranges, as gossip would send them, from the store into the file. A part of a stream bears the hash
before it, and is taken in where the log holds its stream up to there, with that hash. Reading goes over the file twice.
The first pass stores nothing: every range is verified, held against what the log has of its stream, and taken in by a
commit that is thrown away, so that whatever the log would refuse is refused before anything is stored. The second hands
the ranges to the log as if a peer had sent them. It may be cut short, by a power cut or a full disk: what was stored by
then is a sound beginning, and importing again adds the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from lamport.archive import ArchivedRange, ArchiveWriter, read_archive
from lamport.chain import CheckedRange, Head, Keys, SealedRange, check_range, connect_range, genesis
from lamport.commit import CommitBuilder
from lamport.errors import CorruptArchive, CorruptRange, DivergedStream, LogError, StoreFull
from lamport.ids import StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetRange
from lamport.reader import Reader
from lamport.seams import INLINE, Work
from lamport.store import Store
from lamport.stream_check import require_genuine
from lamport.trunks import Trunks


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written into an archive."""

    streams: int
    events: int
    left_out: int = 0
    """Events behind forks: an archive holds of a forked stream what its histories have in common."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an archive held, and how many of its events the log did not have before."""

    streams: int
    events: int
    added: int


async def export_archive(
    store: Store, keys: Keys, ranges: Iterable[OffsetRange], file: BinaryIO
) -> Exported:
    """Write these parts of streams into an archive, one of a stream; each ends in a seal, at its last offset or behind.

    Raises:
        DamagedRange: something of them is damaged on this disk; the archive is of no use.
    """
    writer, reader = ArchiveWriter(file, keys.swarm), Reader(store)
    trunks = Trunks(store, reader)
    chosen = list(ranges)
    behind = (one for one in chosen if one.stream.branch)
    left_out = sum(
        one.last + 1 - max(one.first, store.branches.first(one.stream)) for one in behind
    )
    for wanted in sorted(one for one in chosen if not one.stream.branch):
        first = max(wanted.first, reader.kept_from(wanted.stream))
        before = await reader.hash_at(wanted.stream, first - 1)
        while first <= wanted.last:
            sealed = await trunks.sealed_range(wanted.stream, first, wanted.last - first + 1)
            if (
                sealed is None
            ):  # before a fork, and every seal behind it stands in what does not count
                left_out += wanted.last + 1 - first
                break
            require_genuine(sealed, keys)
            writer.add(sealed, before)
            first = sealed.seal.offset + 1
    writer.end()
    return Exported(writer.streams, writer.events, left_out)


async def import_archive(
    log: EventLog, keys: Keys, file: BinaryIO, work: Work = INLINE
) -> Imported:
    """Verify a whole archive, and only then take it in. Others may use the log meanwhile.

    Raises:
        CorruptArchive: it does not hold, or the log cannot take all of it in; nothing of it was stored.
        StoreFull: there is no room; what was stored until then stays, and importing again adds the rest.
    """
    rehearsal = _Rehearsal(log, keys, work)
    for archived in read_archive(file, keys.swarm):
        try:
            await rehearsal.take(archived)
        except LogError as error:
            raise CorruptArchive(archived.position, str(error)) from error
    file.seek(0)
    return Imported(len(rehearsal.heads), rehearsal.events, await _received(log, file, keys))


async def _received(log: EventLog, file: BinaryIO, keys: Keys) -> int:
    """Hand the ranges of a verified archive to the log; returns how many events it did not have."""
    added = 0
    for archived in read_archive(file, keys.swarm):
        if archived.range.stream in log.own_streams:
            continue
        try:
            added += len(await log.receive(archived.range))
        except StoreFull as error:
            raise StoreFull(
                f"the disk is full: {added} events of the archive were stored, and stay;"
                " free some space, and import it again"
            ) from error
    return added


class _Rehearsal:
    """Takes an archive's ranges in as the log would, without storing anything. `heads` are the archive's own."""

    def __init__(self, log: EventLog, keys: Keys, work: Work) -> None:
        self.heads: dict[StreamId, Head] = {}
        self.events = 0
        self._work = work
        self._log = log
        self._keys = keys
        self._clock = log.store.clock
        self._known = dict(log.store.heads)
        self._authors = dict(log.store.authors)
        self._horizons = dict(log.store.horizons)

    async def take(self, archived: ArchivedRange) -> None:
        """Raise the `LogError` for which the range would be refused."""
        sealed, stream = archived.range, archived.range.stream
        checked = await self._work.run(check_range, sealed, self._keys)
        begins = sealed.start is not None and stream not in self.heads
        before = None if begins else archived.before
        head = self.heads.get(stream) or await self._beginning(sealed, before)
        is_due = begins or sealed.first == head.offset + 1
        verified = connect_range(checked, head) if is_due else None
        if verified is None:
            raise CorruptRange(f"stream {stream}: offset {head.offset + 1} is due here")
        self.heads[stream] = verified.head
        self.events += len(verified.events)
        await self._compare(verified.head)
        if stream not in self._log.own_streams:
            self._commit(checked)

    async def _beginning(self, sealed: SealedRange, before: bytes | None) -> Head:
        """Where the archive takes a stream up: at its beginning, or behind a place that the log holds, too."""
        stream, offset = sealed.stream, sealed.first - 1
        if before is None or offset < 0:
            return genesis(self._keys.swarm, stream)
        held = await self._log.hash_at(stream, offset)
        if held is None:
            raise CorruptRange(
                f"stream {stream} is taken up at offset {offset + 1}, the log holds it up to"
                f" {self._log.offsets.of(stream)}: export it from {self._log.offsets.of(stream) + 1} on"
            )
        if held != before:
            raise DivergedStream(f"stream {stream}: the log holds another history of it")
        return Head(stream, offset, held)

    async def _compare(self, head: Head) -> None:
        """Hold the archive's history of a stream against the log's, where the log reaches as far."""
        held = await self._log.hash_at(head.stream, head.offset)
        if held is not None and held != head.hash:
            raise DivergedStream(f"stream {head.stream}: the log holds another history of it")
        if held is None and head.stream in self._log.own_streams:
            raise CorruptRange(
                f"stream {head.stream} is this node's own, and the archive holds more of it than the log:"
                " only its peers can give that back"
            )

    def _commit(self, checked: CheckedRange) -> None:
        builder = CommitBuilder(
            own=self._log.own_streams,
            clock=self._clock,
            heads=self._known,
            authors=self._authors,
            horizons=self._horizons,
            keys=self._keys,
            retracted=self._log.retracted,
            branches=self._log.store.branches,
        )
        builder.receive(checked)
        commit = builder.build()
        self._clock = commit.clock
        self._known.update(commit.heads)
        self._authors.update(commit.certificates)
        self._horizons.update(commit.horizons)
