"""One link's place in the push tree, without any input or output of its own.

New events are pushed over some links, the *eager* ones, and only announced over the others. All links begin eager. A
node that gets something twice tells the one who was later to only announce from then on; one that was announced
something, and did not get it pushed by anybody in a little while, asks for it and takes that link into the tree. What
is left after a few events is a tree along the quickest ways, and it mends itself (Leitão, Pereira, Rodrigues,
"Epidemic Broadcast Trees", 2007). Whatever the tree misses, pulling gets: a wrong tree costs time, never an event.

    hearing             the link becomes    we say
    a duplicate         lazy                Eager(yes=False)
    nothing in time     eager               Eager(yes=True)
    Eager(yes=False)   lazy
    Eager(yes=True)    eager

An edge is eager or lazy both ways, so that one tree serves whoever publishes. Two who speak at the same moment may end
up thinking differently of it; the next duplicate, or the next that does not come, brings them together.
"""

from collections.abc import Mapping
from enum import Enum
from random import Random

from lamport.ids import NodeId, StreamId

GRACE_S, LONGEST_GRACE_S = 0.25, 0.75
"""How long something that was announced is waited for before it is asked for: the tree is likely to bring it. Drawn
between these, so that of those who are cut off from the tree one asks first, and feeds the others.
"""

PRUNING_S, LONGEST_PRUNING_S = 2.0, 8.0
"""How long a node waits, drawn between these, before it takes the next link out of the tree. Events of several authors
are under way at once: if each of them cut the same circle in another place, the tree would fall apart.
"""

MAX_AUTHORS_NEAR = 1_024
"""Streams of neighbours that are remembered; there are a dozen neighbours at a time."""

ANNOUNCED_TOGETHER_S = 0.1
"""How long announcements to a lazy neighbour gather."""

RELAYED_EVENTS = 100
"""Events of a range that is pushed on when it comes; a longer one is a catch-up, and each node gets its own."""


class Heard(Enum):
    """What may move an edge of the tree."""

    DUPLICATE = "duplicate"
    NOTHING_IN_TIME = "nothing in time"
    PRUNE = "prune"
    GRAFT = "graft"


_BECOMES: Mapping[Heard, bool] = {
    Heard.DUPLICATE: False,
    Heard.NOTHING_IN_TIME: True,
    Heard.PRUNE: False,
    Heard.GRAFT: True,
}
"""Whether a link is eager after what was heard."""

_SAID_BY_THE_PEER = (Heard.PRUNE, Heard.GRAFT)


class Tree:
    """What the edges of one node share."""

    def __init__(self, randomness: Random) -> None:
        self._randomness = randomness
        self._prunes_from = randomness.uniform(0.0, LONGEST_PRUNING_S)
        self._from_author: dict[StreamId, int] = {}
        self.authors_feed_all = False
        """Whether in this swarm what comes from its author itself says nothing about the tree: each neighbour of an
        author gets it so, and most nodes do not.
        """

    def came(self, stream: StreamId, offset: int, source: NodeId) -> None:
        """The log took in a stream up to an offset, from this peer."""
        if source == stream.node and len(self._from_author) < MAX_AUTHORS_NEAR:
            self._from_author[stream] = offset

    def is_needed(self, stream: StreamId, offset: int, source: NodeId) -> bool:
        """Whether what came a second time now comes by a way that the tree needs all the same."""
        near = source == stream.node or self._from_author.get(stream) == offset
        return self.authors_feed_all and near

    def grace_s(self) -> float:
        """How long to wait for one announced event."""
        return self._randomness.uniform(GRACE_S, LONGEST_GRACE_S)

    def may_prune(self, now: float) -> bool:
        """Whether a link may be taken out of the tree now; it is taken for done."""
        if now < self._prunes_from:
            return False
        self._prunes_from = now + self._randomness.uniform(PRUNING_S, LONGEST_PRUNING_S)
        return True


class Edge:
    """One link."""

    def __init__(self) -> None:
        self.eager = True
        """Whether each side pushes to the other what is new; otherwise it announces it."""

    def hear(self, heard: Heard) -> bool | None:
        """Take in what happened; returns what the peer is to be told: to be eager, not to be, or nothing."""
        before, self.eager = self.eager, _BECOMES[heard]
        if heard in _SAID_BY_THE_PEER or before == self.eager:
            return None
        return self.eager
