"""What each side of a session has confirmed to the other: told in full, and taken in.

Everything that tells how far a stream is held (heads, news, ranges of events) is numbered by both sides as it goes over
the link. Now and then, when it has nothing left to say and lacks nothing that the peer told, a side says so with a
`Mark`: the number of its own journal up to which the peer has now been told, and of how many of the peer's tellings it
holds all. From the first the peer can go on in the next session, from the second it knows what has come.
"""

from lamport.ids import StreamId
from transport.clocks import PeerClock
from transport.messages import Events, Fresh, Heads, Mark, Message, News

MARK_S = 5.0
"""How often at most a side says so."""

_TELLINGS = (Heads, News, Events, Fresh)


class Confirming:
    """One side of one session. `clock` is what is known of the peer, here and in later sessions."""

    def __init__(self, clock: PeerClock) -> None:
        self.clock = clock
        self._sent = 0
        self._heard = 0
        self._unconfirmed: dict[StreamId, tuple[int, int]] = {}
        """What the peer was sent of a stream: up to which offset, and in which telling."""
        self._marked = (0, 0)
        self._marked_at = float("-inf")
        self._pending: int | None = None

    def sends(self, message: Message) -> None:
        """A message goes out."""
        if isinstance(message, _TELLINGS):
            self._sent += 1

    def sends_range(self, stream: StreamId, offset: int) -> None:
        """The message that was just counted brings a stream up to an offset."""
        self._unconfirmed[stream] = offset, self._sent

    def hears(self, message: Message, now: float) -> None:
        """A message came in."""
        if isinstance(message, _TELLINGS):
            self._heard += 1
            self.clock.told_at = now

    def learns(self, stream: StreamId, offset: int) -> None:
        """The peer holds a stream up to an offset, by its own word."""
        self.clock.said[stream] = max(self.clock.said.get(stream, -1), offset)

    def unlearns(self, stream: StreamId) -> None:
        """The peer holds nothing of a stream that it told of."""
        self.clock.said.pop(stream, None)
        self._unconfirmed.pop(stream, None)

    def mark(self, sequence: int, now: float) -> Mark | None:
        """What to say when nothing waits to be told and nothing is lacking; None where that is no news, or too soon."""
        found = sequence, self._heard
        if found == self._marked or now - self._marked_at < MARK_S:
            return None
        self._marked, self._marked_at = found, now
        return Mark(*found)

    def take(self, mark: Mark, now: float) -> None:
        """The peer says it."""
        self.clock.told_at = now
        self._pending = mark.sequence
        confirmed = [s for s, (_, number) in self._unconfirmed.items() if number <= mark.taken]
        for stream in confirmed:
            self.learns(stream, self._unconfirmed.pop(stream)[0])

    def is_level(self) -> None:
        """Nothing that the peer told is lacking here: the next session may begin from what it marked."""
        if self._pending is not None:
            self.clock.sequence, self._pending = self._pending, None
