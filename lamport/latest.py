"""The end of each stream as it was last written, in memory: to push it to peers nothing has to be read.

A commit that adds few events leaves here, for each of its streams, what it added, as the sealed range that a reader
would give. It counts as long as nothing is behind it; whatever else changes a stream makes it forgotten.
"""

from collections.abc import Mapping

from lamport.chain import SealedRange
from lamport.codec import StoredEvent
from lamport.commit import Commit
from lamport.ids import StreamId

MAX_KEPT_EVENTS = 32
"""A commit with more is read when it is asked for: a reading costs as much as some tens of events do."""

MAX_KEPT_BYTES = 64 * 1024
MAX_KEPT_STREAMS = 64
"""With both at their limits, 4 MB."""


class LatestRanges:
    """What was last added to each of a few streams."""

    def __init__(self) -> None:
        self._ranges: dict[StreamId, SealedRange] = {}

    def note(self, commit: Commit, certificates: Mapping[bytes, bytes]) -> None:
        """Take note of what has become durable; `certificates` are those of all authors."""
        if commit.forks:  # what was one stream is several now
            self._ranges.clear()
        for stream in commit.heads:
            self._ranges.pop(stream, None)
        if len(commit.events) > MAX_KEPT_EVENTS or commit.forks:
            return
        added: dict[StreamId, list[StoredEvent]] = {}
        for one in commit.events:
            added.setdefault(one.event.stream, []).append(one)
        for seal in commit.seals:
            part = added.get(seal.stream)
            if part and part[-1].event.offset == seal.offset:
                data = tuple([data for _, data in part])
                certificate = certificates[seal.stream.node]
                self._keep(SealedRange(part[0].event.offset, data, seal, certificate))

    def _keep(self, added: SealedRange) -> None:
        if sum(map(len, added.events)) > MAX_KEPT_BYTES:
            return
        self._ranges[added.stream] = added
        if len(self._ranges) > MAX_KEPT_STREAMS:
            del self._ranges[next(iter(self._ranges))]

    def find(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """The range from this offset to the end of its stream, if it is known here and has no more than `limit`."""
        found = self._ranges.get(stream)
        fits = found is not None and found.first == first and len(found.events) <= limit
        return found if fits else None
