"""Token buckets: how much one peer may ask of this node, so that a flood from it leaves the others their share.

What a peer may do is bounded in bytes and in messages: many small ones cost time, a few large ones memory. The bounds
lie well above what an honest peer sends, even in a catch-up. One that exceeds them is read from, or answered, later;
TCP then slows it down. It is not turned away: it may be honest and just very glad to be back.
"""

from dataclasses import dataclass

BYTES_PER_S, BYTES_AT_ONCE = 32 * 1024 * 1024, 32 * 1024 * 1024
"""About a third of what a loopback carries; a gigabit's worth of packed events is a quarter of that."""

MESSAGES_PER_S, MESSAGES_AT_ONCE = 5_000, 10_000
"""A message takes some 20 microseconds, and so does each stream or address in it (`transport.messages.weight`): at this
rate one peer takes a tenth of the event loop's time."""


@dataclass(slots=True)
class Bucket:
    """So much a second, and so much at once after a rest."""

    per_s: float
    at_once: float
    left: float = 0.0
    filled_at: float = float("-inf")

    def take(self, amount: float, now: float) -> float:
        """Take what has been used already; returns how many seconds to wait before more is."""
        gained = (now - self.filled_at) * self.per_s
        self.left = min(self.at_once, self.left + gained) - amount
        self.filled_at = now
        return max(0.0, -self.left / self.per_s)


class Allowance:
    """What one peer may ask, both ways."""

    def __init__(self) -> None:
        self._messages = Bucket(MESSAGES_PER_S, MESSAGES_AT_ONCE)
        self._read = Bucket(BYTES_PER_S, BYTES_AT_ONCE)
        self._served = Bucket(BYTES_PER_S, BYTES_AT_ONCE)

    def read(self, count: int, now: float) -> float:
        """So many bytes were read; returns how long not to read."""
        return self._read.take(count, now)

    def heard(self, messages: int, now: float) -> float:
        """So many messages were taken in; returns how long to take in none."""
        return self._messages.take(messages, now)

    def served(self, count: int, now: float) -> float:
        """So many bytes were sent because the peer asked for them; returns how long to answer nothing."""
        return self._served.take(count, now)
