"""What stands before a fork, where none of its author's seals stands at its end: served with what counts behind it.

Whoever packs events keeps one seal of many, so that the last events before a fork may come under a seal that stands
behind it, in the one history or the other. Along the own row it is found by itself. But the history in that row may be
one that a revocation withdrew: then the same events are served with the beginning of a history that counts, out of its
row, up to the first seal there:

    row 3   … 15 16 17 │ 18 ── 40 seal        withdrawn
    row 9              │ 18 ── 22 seal        counts: offsets 15 to 22 are one range under the seal at 22

To whoever takes it in that is a range like any other, for both come from one author's chain.
"""

from dataclasses import replace

from lamport.chain import MAX_SEALED_BYTES, MAX_SEALED_EVENTS, SealedRange
from lamport.evidence import Evidence
from lamport.ids import StreamId
from lamport.reader import Reader
from lamport.store import Store


class Trunks:
    """Reads sealed ranges of what counts in one store, over forks where that is needed."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self._store = store
        self._reader = reader
        self._evidence = Evidence(store)

    async def sealed_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """See `Reader.sealed_range`; None where the only seals behind stand in what does not count."""
        found = await self._reader.sealed_range(stream, first, limit)
        return found or await self._over_fork(stream, first)

    async def _over_fork(self, stream: StreamId, first: int) -> SealedRange | None:
        end = self._store.branches.closed.get(stream)
        if end is None or first > end.offset or not self._store.cuts.admits(stream, end.offset):
            return None
        stored = await self._evidence.sealed_range(stream, first, 1)
        if stored is None:
            return None
        before = stored.events[: end.offset + 1 - stored.first]
        for branch in self._store.branches.children(stream):
            behind = await self.sealed_range(branch.address, end.offset + 1, 1)
            if behind is not None and _fits(events := (*before, *behind.events)):
                return replace(stored, events=events, seal=replace(behind.seal, stream=stream))
        return None


def _fits(events: tuple[bytes, ...]) -> bool:
    return len(events) <= MAX_SEALED_EVENTS and sum(map(len, events)) <= MAX_SEALED_BYTES
