"""Ranges that one session has handed to the log, and that it has not yet taken in.

What is on its way in is as good as held for what follows: the next push connects to it, and nobody asks for it again. A
range that connects begins it; whatever came of the range ends it.
"""

from collections.abc import Callable

from lamport.chain import Head, Seal, SealedRange
from lamport.ids import StreamId


class Arriving:
    """Of each stream the last range that connects to what is `held`; bounded by what may wait for the log."""

    def __init__(self, held: Callable[[StreamId], Head]) -> None:
        self._held = held
        self._last: dict[StreamId, Seal] = {}

    def reached(self, stream: StreamId) -> tuple[int, bytes]:
        """How far a stream is held, or will be when the log has taken in what was handed to it; and the hash there."""
        held, arriving = self._held(stream), self._last.get(stream)
        if arriving is not None and arriving.offset > held.offset:
            return arriving.offset, arriving.hash
        return held.offset, held.hash

    def begin(self, sealed: SealedRange) -> None:
        """A range is handed to the log."""
        if sealed.first == self.reached(sealed.stream)[0] + 1:
            self._last[sealed.stream] = sealed.seal

    def end(self, sealed: SealedRange) -> bool:
        """The log is done with a range; returns whether nothing more of its stream is on its way in."""
        arriving = self._last.get(sealed.stream)
        if arriving is None or arriving.offset > sealed.seal.offset:
            return False
        del self._last[sealed.stream]
        return True

    def forget(self, stream: StreamId) -> None:
        """Nothing of a stream will be taken in."""
        self._last.pop(stream, None)
