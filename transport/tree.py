"""One link's place in the push tree, without any input or output of its own.

New events are pushed over some links, the *eager* ones, and only announced over the others. All links begin eager. A
node that gets something twice tells the one who was later to only announce from then on; one that was announced
something, and did not get it pushed by anybody in a little while, asks for it and takes that link into the tree. What
is left after a few events is a tree along the quickest ways, and it mends itself (Leitão, Pereira, Rodrigues,
"Epidemic Broadcast Trees", 2007). Whatever the tree misses, pulling gets: a wrong tree costs time, never an event.

    hearing             what they do to us      what we do to them     we say
    a duplicate         eager -> lazy                                  Tree(eager=False)
    nothing in time     lazy -> eager                                  Tree(eager=True)
    Tree(eager=False)                           eager -> lazy
    Tree(eager=True)                            lazy -> eager
"""

from collections.abc import Mapping
from enum import Enum

GRACE_S = 0.2
"""How long something that was announced is waited for before it is asked for: the tree is likely to bring it."""

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


_FED: Mapping[tuple[Heard, bool], bool] = {
    (Heard.DUPLICATE, True): False,
    (Heard.NOTHING_IN_TIME, False): True,
}
"""Whether they push to us, after what was heard; what is not in it changes nothing."""

_FEEDING: Mapping[tuple[Heard, bool], bool] = {
    (Heard.PRUNE, True): False,
    (Heard.GRAFT, False): True,
}
"""The same for whether we push to them."""


class Edge:
    """Both directions of one link."""

    def __init__(self) -> None:
        self.fed = True
        """Whether the peer pushes to us what others wrote; otherwise it announces it."""
        self.feeding = True
        """Whether we do so to the peer."""

    def hear(self, heard: Heard) -> bool | None:
        """Take in what happened; returns what the peer is to be told: to be eager, not to be, or nothing."""
        self.feeding = _FEEDING.get((heard, self.feeding), self.feeding)
        fed = _FED.get((heard, self.fed))
        if fed is None:
            return None
        self.fed = fed
        return fed
