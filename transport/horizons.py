"""What two sides of a session have told each other of horizons: each is told once, and nobody asks behind one.

But where all that is left of a stream lies behind its horizon (the author announced it and then lost its disk), the
swarm keeps what it has, and newcomers are to have it, too. So who holds nothing from the horizon on is asked for the
rest, once others had their time to give what the author still keeps.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lamport.chain import Head, Seal
from lamport.ids import StreamId
from transport.messages import ANY_HASH

LEFTOVER_S = 2.0
"""How long others may take to give what lies from the horizon on, before what is left behind it is asked for."""


def nothing_announced(_stream: StreamId) -> Seal | None:
    """For one who knows of no horizon."""
    return None


@dataclass(slots=True)
class Horizons:
    """One side's view; `announced` gives the author's seal that names the highest horizon known here."""

    announced: Callable[[StreamId], Seal | None] = nothing_announced
    theirs: dict[StreamId, int] = field(default_factory=dict)
    """From where on the peer keeps streams, as far as it has told."""
    told: dict[StreamId, int] = field(default_factory=dict)

    leftover_since: dict[StreamId, float] = field(default_factory=dict)
    """Since when the peer has been seen to hold of a stream only what its author gave up."""

    def learn(self, seal: Seal) -> None:
        """The peer knows this seal of a stream that it has told of."""
        self.theirs[seal.stream] = max(self.theirs.get(seal.stream, 0), seal.horizon)

    def tell(self, seal: Seal) -> None:
        """The peer is sent this seal."""
        self.told[seal.stream] = max(self.told.get(seal.stream, 0), seal.horizon)

    def is_news(self, stream: StreamId) -> bool:
        """Whether the horizon known here was neither told to the peer nor by it."""
        seal = self.announced(stream)
        known = max(self.theirs.get(stream, 0), self.told.get(stream, 0))
        return seal is not None and seal.horizon > known

    def news(self, heads: Iterable[Head]) -> tuple[Seal, ...]:
        """What is to be told with these heads; it counts as told from now on."""
        seals = [self.announced(head.stream) for head in heads if self.is_news(head.stream)]
        found = tuple(seal for seal in seals if seal is not None)
        for seal in found:
            self.tell(seal)
        return found

    def place_to_ask_from(
        self, head: Head, held: Mapping[StreamId, int], now: float
    ) -> tuple[int, bytes]:
        """Where what is asked for behind our head begins, and the hash before; the peer holds streams up to `held`."""
        stream = head.stream
        seal = self.announced(stream)
        horizon = max(self.theirs.get(stream, 0), 0 if seal is None else seal.horizon)
        if horizon > head.offset + 1 and not self._is_left_over(stream, held[stream], horizon, now):
            return horizon, ANY_HASH
        return head.offset + 1, head.hash

    def _is_left_over(self, stream: StreamId, last: int, horizon: int, now: float) -> bool:
        """Whether all that the peer holds lies behind the horizon, and nobody else gave more in time."""
        if last >= horizon:
            self.leftover_since.pop(stream, None)
            return False
        return now - self.leftover_since.setdefault(stream, now) >= LEFTOVER_S
