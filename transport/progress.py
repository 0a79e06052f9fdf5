"""How fetching gets on: what a peer is known to hold and this node lacks, how fast it comes, and how long it takes.

What is *known to exist elsewhere* is what peers have told. What a peer holds that has not told anything, or wrote since
it was last heard of, is *unknown*, and no figure here pretends otherwise: `Knowledge` says which of the two it is.
"""

import math
from dataclasses import dataclass
from enum import Enum

from lamport.ids import StreamId

AVERAGED_S = 3.0
"""Rates are averages over about so long, the latest counting most."""

MAX_METERS = 64
"""Streams whose rates are measured in one session, the latest: more than are fetched at a time."""


class Knowledge(Enum):
    """How much is known of what a peer holds."""

    CURRENT = "current"  # it is linked and has told all
    PARTIAL = "partial"  # it is linked and still telling
    PAST = "past"  # it is not linked; what it told before is known, what came since is not
    UNKNOWN = "unknown"  # it has told nothing


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """One stream that a peer holds further than this node. Offsets are inclusive; -1: nothing is held."""

    stream: StreamId
    known: int
    held: int
    missing: int
    """Events between the two that their author keeps."""
    rate: float
    """Events a second that come from this peer."""

    @property
    def remaining_s(self) -> float | None:
        """How long it takes at this rate; None where nothing comes."""
        return self.missing / self.rate if self.rate else None


class Meter:
    """Events a second, averaged over the last few."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at = 0.0

    def add(self, events: int, now: float) -> None:
        """So many came."""
        self._rate = self.rate(now) + events / AVERAGED_S
        self._at = now

    def rate(self, now: float) -> float:
        """The average; what is less than an event in a hundred seconds is nothing."""
        rate = self._rate * math.exp((self._at - now) / AVERAGED_S)
        return rate if rate >= 0.01 else 0.0  # noqa: PLR2004 - as the docstring says


class Meters:
    """The rates of one session: of each stream that comes, and of all."""

    def __init__(self) -> None:
        self.all = Meter()
        self._streams: dict[StreamId, Meter] = {}

    def add(self, stream: StreamId, events: int, now: float) -> None:
        """So many events of a stream were taken in."""
        self.all.add(events, now)
        meter = self._streams.pop(stream, None) or Meter()
        if len(self._streams) >= MAX_METERS:
            del self._streams[next(iter(self._streams))]
        self._streams[stream] = meter
        meter.add(events, now)

    def rate(self, stream: StreamId, now: float) -> float:
        """Of one stream."""
        meter = self._streams.get(stream)
        return 0.0 if meter is None else meter.rate(now)
