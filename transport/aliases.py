"""Short names of streams within one session.

Both sides number the streams that one of them has told of or sent, in the order of its messages; they come in that
order, and so nothing has to be agreed on. Either side may use either's numbers.
"""

from lamport.ids import StreamId
from transport.errors import PeerFault
from transport.messages import MAX_TOLD_STREAMS


class Aliases:
    """The streams one side of a session has named in full, numbered from 0; none beyond `MAX_TOLD_STREAMS` gets one."""

    def __init__(self) -> None:
        self._numbers: dict[StreamId, int] = {}
        self._streams: list[StreamId] = []

    def add(self, stream: StreamId) -> None:
        """The stream was named in full."""
        if stream not in self._numbers and len(self._streams) < MAX_TOLD_STREAMS:
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


class Names:
    """The numbers of both sides: ours from 0 up, the peer's from -1 down, as we say them."""

    def __init__(self) -> None:
        self.ours = Aliases()
        self.theirs = Aliases()

    def of(self, stream: StreamId) -> int:
        """The number of a stream that has one, as we say it."""
        return self.ours.of(stream) if stream in self.ours else -1 - self.theirs.of(stream)

    def said(self, alias: int) -> StreamId:
        """The stream that we mean by a number."""
        return self.ours.stream(alias) if alias >= 0 else self.theirs.stream(-1 - alias)

    def stream(self, alias: int) -> StreamId:
        """The stream that the peer means by a number that it says.

        Raises:
            PeerFault: neither has named so many.
        """
        return self.theirs.stream(alias) if alias >= 0 else self.ours.stream(-1 - alias)

    def __contains__(self, stream: StreamId) -> bool:
        return stream in self.ours or stream in self.theirs
