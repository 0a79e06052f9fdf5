"""In which order this node's heads last moved, so that a peer who was here before is told only what moved since.

Each move of a head or horizon gets the next number; a stream stands here once, with its latest. A peer that has been
told everything up to a number, and comes back, is told the streams behind it. Numbers mean something only together with
the `token`, which is drawn when a node starts: a database that was restored, copied or wiped meanwhile comes with
another one, and everything that was known of it is told anew. (The idea is Syncthing's: index id and sequence.)
"""

from collections.abc import Iterable

from lamport.ids import StreamId

TOKEN_BYTES = 8
"""Of the token: two that are drawn are never the same."""


class Journal:
    """The moves of one node's heads since it started."""

    def __init__(self, token: bytes, streams: Iterable[StreamId] = ()) -> None:
        self.token = token
        self.sequence = 0
        """The number of the latest move."""
        self._moved: dict[StreamId, int] = {}
        for stream in streams:
            self.note(stream)

    def note(self, stream: StreamId) -> None:
        """The stream's head or horizon has moved, and those who are linked are being told."""
        self.sequence += 1
        self._moved.pop(stream, None)
        self._moved[stream] = self.sequence

    def renew(self, token: bytes) -> None:
        """Something was taken back: what peers know of this node holds no more."""
        self.token = token

    def since(self, token: bytes, sequence: int) -> list[StreamId]:
        """The streams that moved behind a number, those that moved first before others; all, for another token."""
        if token != self.token or not token:
            return list(self._moved)
        moved: list[StreamId] = []
        for stream in reversed(self._moved):
            if self._moved[stream] <= sequence:
                break
            moved.append(stream)
        return moved[::-1]
