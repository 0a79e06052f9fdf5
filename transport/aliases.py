"""Short names of streams within one session.

Both sides number the streams that one of them has told of or sent, in the order of its messages; they come in that
order, and so nothing has to be agreed on.
"""

from lamport.ids import StreamId
from transport.errors import PeerFault

MAX_ALIASES = 65_536
"""Streams that are numbered; those beyond are always named in full."""


class Aliases:
    """The streams one side of a session has named in full, numbered from 0."""

    def __init__(self) -> None:
        self._numbers: dict[StreamId, int] = {}
        self._streams: list[StreamId] = []

    def add(self, stream: StreamId) -> None:
        """The stream was named in full."""
        if stream not in self._numbers and len(self._streams) < MAX_ALIASES:
            self._numbers[stream] = len(self._streams)
            self._streams.append(stream)

    def of(self, stream: StreamId) -> int:
        """The number of a stream that has one."""
        return self._numbers[stream]

    def stream(self, alias: int) -> StreamId:
        """The stream that the peer means.

        Raises:
            PeerFault: it has not named so many.
        """
        if alias >= len(self._streams):
            raise PeerFault(f"a stream that was not told of before (number {alias})")
        return self._streams[alias]

    def __contains__(self, stream: StreamId) -> bool:
        return stream in self._numbers
