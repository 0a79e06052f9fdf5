"""Which session fetches which stream, so that nothing is fetched twice at the same time."""

from dataclasses import dataclass

from lamport.ids import StreamId

SCANNED_STREAMS = 64
"""Streams looked at each time something may be asked for; the others have their turn the next time."""

RENEWING_EVENTS = 100
"""Events of a range that renew a claim, unless they fulfil the want; less is a trickle."""

CLAIM_S = 2.0
"""How long a stream is fetched from one peer alone, unless it gets on."""


class Claims:
    """Which session is fetching which stream: shared by all sessions of a node, so that none is fetched twice.

    A claim is good for a while and is renewed by progress worth the name. After that another session may fetch the
    stream as well: a peer that trickles or stalls withholds nothing, and what comes twice does no harm.
    """

    def __init__(self) -> None:
        self._holder: dict[StreamId, tuple[object, float]] = {}

    def take(self, stream: StreamId, session: object, now: float) -> bool:
        """Whether the session may fetch the stream, from now on."""
        holder, since = self._holder.get(stream, (session, now))
        if holder is not session and now - since < CLAIM_S:
            return False
        self._holder[stream] = (session, now)
        return True

    def renew(self, stream: StreamId, session: object, now: float) -> None:
        """The session gets on well with the stream."""
        if stream in self._holder and self._holder[stream][0] is session:
            self._holder[stream] = (session, now)

    def give_back(self, stream: StreamId, session: object) -> None:
        """Let others fetch the stream."""
        if stream in self._holder and self._holder[stream][0] is session:
            del self._holder[stream]

    def give_back_all(self, session: object) -> None:
        """Let others fetch whatever this session was fetching."""
        for stream in list(self._holder):
            self.give_back(stream, session)


@dataclass(frozen=True, slots=True)
class OpenWant:
    """A range we asked for: what is still due of it begins at `first`, behind the chain's `hash`."""

    first: int
    last: int
    hash: bytes
    moved_at: float
    is_torn: bool = False
    """Whether something of it came that does not connect to what is held: what lies between may have been lost."""
