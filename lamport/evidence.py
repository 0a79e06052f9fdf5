"""Reading what is stored of streams, whether or not it counts.

What a revocation withdraws stays on the disk. It is handed out to nobody, but it is needed to tell what it is: which
history the place of a cut bears, where another history parts from this one, and what proves that.
"""

from lamport.chain import Head
from lamport.ids import StreamId
from lamport.reader import Reader


class Evidence(Reader):
    """Reads hashes and sealed ranges of one store as if nobody had been revoked."""

    def _end_of(self, stream: StreamId) -> Head | None:
        return self._store.ends.get(stream) or self._store.heads.get(stream)

    def _limit_of(self, stream: StreamId) -> int | None:
        del stream
        return None
