"""With how many a node keeps links, and which it gives up: bounded, so that a swarm may grow.

In a small swarm everybody is linked with everybody. In a larger one each node dials until it has a handful of links and
lets itself be dialled up to a bound; whom else it knows of stands in reserve, for when a link is lost. Now and then it
dials one of those all the same, and lets go of the link that brought least: two halves that found themselves apart,
each with links enough, meet again that way. (The idea of active and passive views is HyParView's: Leitão, Pereira,
Rodrigues, 2007.) Addresses that a person configured stand outside of all this: they are always dialled.
"""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from lamport.ids import NodeId

ALL_UP_TO = 16
"""Known nodes up to which everybody is linked with everybody."""

ENOUGH_LINKS = 6
"""Beyond that, links for which a node dials …"""

MOST_LINKS = 16
"""… and links at which it makes room when it is dialled."""

EXPLORING_S, LONGEST_EXPLORING_S = 15.0, 45.0
"""How long, drawn between these, until one in reserve is dialled although there are links enough."""

PROBATION_S = 5.0
"""How long a link has to bring something before it may be the one that goes."""


class Standing(NamedTuple):
    """One link, as far as it matters here."""

    node: NodeId
    configured: bool
    events_in: int
    age_s: float


class Mesh:
    """The decisions. `known` counts the other nodes one has heard of, `links` those it is linked with or dials."""

    def __init__(self, randomness: Random) -> None:
        self._randomness = randomness

    @staticmethod
    def is_partial(known: int) -> bool:
        """Whether the swarm is too large for links with all."""
        return known > ALL_UP_TO

    def wants_more(self, known: int, links: int) -> bool:
        """Whether to dial one more of those that nobody configured."""
        return not self.is_partial(known) or links < ENOUGH_LINKS

    def to_let_go(self, standings: Sequence[Standing], most: int) -> NodeId | None:
        """Which link to give up where there are more than `most`: the one that brought least, none that is new."""
        if len(standings) <= most:
            return None
        free = [one for one in standings if not one.configured]
        tried = [one for one in free if one.age_s >= PROBATION_S]
        if tried:
            least = min(one.events_in for one in tried)
            return self._randomness.choice([one for one in tried if one.events_in == least]).node
        return self._randomness.choice(free).node if free else None

    def exploring_s(self) -> float:
        """How long until the next look at somebody in reserve."""
        return self._randomness.uniform(EXPLORING_S, LONGEST_EXPLORING_S)

    def to_explore(self, reserve: Sequence[NodeId]) -> NodeId | None:
        """Whom to dial although there are links enough."""
        return self._randomness.choice(reserve) if reserve else None
