"""Sealed ranges for peers: what was just written from memory, the rest from the disk.

A peer would take what this disk has damaged for this node's forgery, and so it is looked at before it is sent.
"""

from contextlib import suppress

from lamport.chain import Keys, SealedRange
from lamport.errors import DamagedRange
from lamport.ids import StreamId
from lamport.reader import Reader
from lamport.repair import Damages
from lamport.store import Store
from lamport.stream_check import require_genuine
from lamport.trunks import Trunks


class Serving:
    """Gives ranges of one log."""

    def __init__(self, store: Store, reader: Reader, keys: Keys, damages: Damages) -> None:
        self._store = store
        self._reader = reader
        self._trunks = Trunks(store, reader)
        self._keys = keys
        self._damages = damages

    async def pushed_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """See `Reader.sealed_range`; what was just written is taken as it was, whatever the disk has made of it."""
        latest = self._store.latest.find(stream, first, limit)
        kept = self._reader.kept_from(stream)  # what begins there says why, and is read
        if latest is not None and not 0 < kept >= first and self._store.cuts.of(stream) is None:
            return latest
        return await self._damages.noted(self._reader.sealed_range(stream, first, limit))

    async def served_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        """See `Trunks.sealed_range`; seal and certificate are verified, too, and it is less where some of it is bad.

        Raises:
            DamagedRange: what is stored does not hold; it is noted in `Damages`.
        """
        with suppress(DamagedRange):
            return await self._damages.noted(self._genuine_range(stream, first, limit))
        # What is damaged may lie behind the next seal.
        return await self._damages.noted(self._genuine_range(stream, first, 1))

    async def _genuine_range(self, stream: StreamId, first: int, limit: int) -> SealedRange | None:
        sealed = await self._trunks.sealed_range(stream, first, limit)
        if sealed is not None:
            require_genuine(sealed, self._keys)
        return sealed
