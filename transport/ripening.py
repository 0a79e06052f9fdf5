"""Streams whose news were announced and are given a little while to come by the push tree, before they are asked for.

Each ripens at its own time, so that of those who were left out one asks first (`transport.tree`). The earliest stands
at the head of a heap; a stream that came meanwhile is struck from the table alone, and passed over when its turn comes.
"""

import heapq

from lamport.ids import StreamId


class Ripening:
    """The streams of one session that are waited for, bounded by those that its peer may tell of."""

    def __init__(self) -> None:
        self._at: dict[StreamId, float] = {}
        self._queue: list[tuple[float, StreamId]] = []

    def begin(self, stream: StreamId, ripe_at: float) -> None:
        """A stream was announced; one that is waited for already keeps its time."""
        if stream not in self._at:
            self._at[stream] = ripe_at
            heapq.heappush(self._queue, (ripe_at, stream))

    def end(self, stream: StreamId) -> None:
        """A stream has come."""
        self._at.pop(stream, None)

    def is_ripe(self, stream: StreamId, now: float) -> bool:
        """Whether a stream is to be waited for no longer."""
        return self._at.get(stream, now) <= now

    @property
    def next_due(self) -> float | None:
        """When the earliest ripens; None where nothing is waited for."""
        while self._queue and self._at.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def due(self, now: float) -> None:
        """Time has passed: what is ripe is waited for no longer."""
        while (ripe_at := self.next_due) is not None and ripe_at <= now:
            self.end(self._queue[0][1])
