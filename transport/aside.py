"""Streams that are set aside in one session: the peer tells of them, and is not asked for them.

One is *diverged* where the peer holds another history of it, and *quarantined* where our log will not take it in. What
is quarantined because its timestamps leap is released as soon as they are within reach: the admin has said that they
are right, or the clock has come nearer.
"""

from collections.abc import Callable

from lamport.ids import StreamId
from transport.disclosures import MAX_SET_ASIDE


class Aside:
    """Those of one session, each kind bounded."""

    def __init__(self) -> None:
        self.diverged: dict[StreamId, None] = {}
        self.quarantined: dict[StreamId, int | None] = {}
        """What the log will not take in, and how far its timestamps leap where that is why."""

    def __contains__(self, stream: StreamId) -> bool:
        return stream in self.diverged or stream in self.quarantined

    def diverge(self, stream: StreamId) -> None:
        """The peer holds another history."""
        if len(self.diverged) < MAX_SET_ASIDE:
            self.diverged[stream] = None

    def quarantine(self, stream: StreamId, lamport: int | None) -> None:
        """The log will not take it in, or only once `lamport` is within reach."""
        if len(self.quarantined) < MAX_SET_ASIDE:
            self.quarantined[stream] = lamport

    def release(self, reach: Callable[[], int]) -> list[StreamId]:
        """Those whose timestamps lie no higher than `reach` by now; they are set aside no more."""
        leaping = [
            (one, lamport) for one, lamport in self.quarantined.items() if lamport is not None
        ]
        released = [one for one, lamport in leaping if lamport <= reach()]
        for stream in released:
            del self.quarantined[stream]
        return released
