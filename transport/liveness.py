"""Whether the other end of a session is still there, and how long it takes to answer; without input or output.

Silence is answered with a question, and silence behind that with the end. Time in which this node itself stood still
does not count against the peer.
"""

from transport.errors import PeerFault
from transport.messages import Message, Ping, Pong

PING_INTERVAL_S = 2.0
"""A Ping goes out when the peer was silent for so long."""

SILENCE_LIMIT_S = 4.0
"""A peer that was silent for so long, Pings unanswered, is gone."""

UNHEARD_S = 1.0
"""Time that passes unnoticed for longer is this node's own stall, and does not count against the peer."""

MEASURED_S = 60.0
"""How often the round trip and the peer's wall clock are looked at, on a link that is never silent."""

_TOKENS = 2**32


class Liveness:
    """One side's watch over the other."""

    def __init__(self, now: float) -> None:
        self.round_trip_s: float | None = None
        self.shortest_s: float | None = None
        """The shortest round trip so far: how long the way is, whatever waits on it."""
        self.skew_s: float | None = None
        """How far the peer's wall clock is ahead of ours; about as exact as half a round trip."""
        self._heard_at = now
        self._said_at = now
        self._elapsed_at = now
        self._ping: tuple[int, float] | None = None
        self._measured_at = now - MEASURED_S
        self._pings = 0

    def heard(self, now: float) -> None:
        """Bytes of the peer arrived."""
        self._heard_at = now

    def said(self, now: float) -> None:
        """Bytes of ours went out."""
        self._said_at = now

    def elapsed(self, now: float, *, answers_wait: bool, curious: bool) -> Message | None:
        """Time has passed: what to say to a peer that is silent, or that hears nothing of us.

        The `curious` ask one that is not silent, too: how long it takes to answer.

        Raises:
            PeerFault: it has been silent for too long.
        """
        stalled = max(0.0, now - self._elapsed_at - UNHEARD_S)
        self._heard_at = min(now, self._heard_at + stalled)
        self._elapsed_at = now
        silent = now - self._heard_at
        if silent >= SILENCE_LIMIT_S:
            raise PeerFault(f"silent for {silent:.1f} s")
        if silent < PING_INTERVAL_S <= now - self._said_at and not answers_wait:
            # The peer sends and sends and hears nothing; its own question waits behind what it sends.
            return Pong(0)
        is_due = curious or now >= self._measured_at + MEASURED_S
        if self._ping is None and (is_due or silent >= PING_INTERVAL_S):
            self._measured_at = now
            self._pings = (self._pings + 1) % _TOKENS
            self._ping = (self._pings, now)
            return Ping(self._pings)
        return None

    def answered(self, message: Pong, now: float, wall_us: int) -> float | None:
        """The peer answered a Ping, when our wall clock shows this: how long it took; other answers say nothing."""
        if self._ping is None or self._ping[0] != message.token:
            return None
        self.round_trip_s = now - self._ping[1]
        self.shortest_s = min(self.shortest_s or self.round_trip_s, self.round_trip_s)
        self._ping = None
        if message.wall_us is not None:
            self.skew_s = (message.wall_us - wall_us) / 1_000_000 + self.round_trip_s / 2
        return self.round_trip_s
