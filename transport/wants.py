"""The ranges that one side of a session has asked for and not yet received in full, bounded."""

from collections.abc import Callable
from dataclasses import replace

from lamport.chain import Head, SealedRange
from lamport.ids import StreamId
from transport.claims import RENEWING_EVENTS, Claims, OpenWant

MAX_WANTS = 8
"""Ranges one side asks for before it has received them in full."""

WANTED_EVENTS = 10_000
"""Most events that one Want asks for, so that streams take turns."""

LIVELY_EVENTS = 250
"""And while others bring little: what was asked for fills the link, and stands in the way of their events there …"""

LIVELY_EVENTS_PER_S = 20_000
"""… but for as many as a log takes in during a round trip: with fewer a long way would be empty most of the time."""

WANT_TIMEOUT_S = 10.0
"""A range that does not move for so long is asked of somebody else …"""

TORN_TIMEOUT_S = 1.0
"""… or for so long, where a part of it is missing: the peer has sent it, and will not send it again unless asked."""


class Wants:
    """What is being fetched in one session, under the claims that it shares with all others of the node."""

    def __init__(self, claims: Claims, session: object) -> None:
        self.open: dict[StreamId, OpenWant] = {}
        self.abandoned: dict[StreamId, OpenWant] = {}
        """Left to others; the peer may have them in its line still."""
        self._claims = claims
        self._session = session

    def __contains__(self, stream: StreamId) -> bool:
        return stream in self.open or stream in self.abandoned

    def may_ask_for(self, stream: StreamId) -> bool:
        """Whether the peer has room for one more question; those abandoned may still stand in its line."""
        return stream in self.abandoned or len(self.open) + len(self.abandoned) < MAX_WANTS

    def claim(self, stream: StreamId, now: float) -> bool:
        """Whether the stream may be fetched from this peer, from now on."""
        return self._claims.take(stream, self._session, now)

    def release(self, stream: StreamId) -> None:
        """What was claimed without being asked for has come: let others fetch what follows."""
        if stream not in self.open:
            self._claims.give_back(stream, self._session)

    def begin(self, stream: StreamId, want: OpenWant) -> None:
        """A range is asked for."""
        self.abandoned.pop(stream, None)
        self.open[stream] = want

    def moved(self, sealed: SealedRange, now: float) -> None:
        """A part of what is wanted was taken in."""
        want = self.open.get(sealed.stream)
        if want is None:
            return
        seal = sealed.seal
        first = seal.offset + 1
        self.open[sealed.stream] = replace(want, first=first, hash=seal.hash, moved_at=now)
        if len(sealed.events) >= RENEWING_EVENTS or seal.offset >= want.last:
            self._claims.renew(sealed.stream, self._session, now)

    def missed(self, sealed: SealedRange, held: int) -> None:
        """A range added nothing: if it is part of what is wanted, what comes before it is missing."""
        want = self.open.get(sealed.stream)
        if want is not None and held + 1 < sealed.first <= want.last:
            self.tear(sealed.stream)

    def tear(self, stream: StreamId) -> None:
        """Something of what is wanted came that cannot be taken in without the rest."""
        want = self.open.get(stream)
        if want is not None:
            self.open[stream] = replace(want, is_torn=True)

    def drop(self, stream: StreamId) -> None:
        """The stream is wanted no more."""
        self.open.pop(stream, None)
        self.abandoned.pop(stream, None)
        self._claims.give_back(stream, self._session)

    def drop_fulfilled(
        self, held: Callable[[StreamId], Head], grows: Callable[[StreamId], bool]
    ) -> None:
        """Close those whose ranges are held by now, from whomever they came, or can never be."""
        for stream, want in [*self.open.items(), *self.abandoned.items()]:
            if held(stream).offset >= want.last or not grows(stream):
                self.drop(stream)

    def abandon_stuck(self, now: float) -> bool:
        """Leave to others what does not move; returns whether there was any."""
        stuck = [s for s, want in self.open.items() if now - want.moved_at >= _patience_s(want)]
        for stream in stuck:
            self.abandoned[stream] = self.open.pop(stream)
            self._claims.give_back(stream, self._session)
        return bool(stuck)

    def close(self) -> None:
        """Give back what was being fetched."""
        self._claims.give_back_all(self._session)
        self.open.clear()
        self.abandoned.clear()


def _patience_s(want: OpenWant) -> float:
    return TORN_TIMEOUT_S if want.is_torn else WANT_TIMEOUT_S


def wanted_at_once(round_trip_s: float | None, *, is_lively: bool) -> int:
    """For how many events of an author to ask on a way of this length, and whether others bring little meanwhile."""
    if not is_lively:
        return WANTED_EVENTS
    on_the_way = int(LIVELY_EVENTS_PER_S * (round_trip_s or 0.0))
    return min(WANTED_EVENTS, max(LIVELY_EVENTS, on_the_way))
