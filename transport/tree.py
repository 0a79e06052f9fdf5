"""The push tree: over which links new events are pushed, without any input or output of its own.

Over some links, the *eager* ones, new events are pushed, over the others they are only announced. All links begin
eager. A node that gets something twice tells the one who was later to only announce from then on; one that was
announced something, and did not get it pushed by anybody in a little while, asks for it and takes that link into the
tree. What is left after a few events is a tree along the quickest ways, and it mends itself (Leitão, Pereira,
Rodrigues, "Epidemic Broadcast Trees", 2007). Whatever the tree misses, pulling gets: a wrong tree costs time, never an
event.

In a small swarm each author has a tree of its own, whose first branches are all its links: where all are linked with
all, each gets everything from its author. In a large one, where most nodes seldom publish, all authors share the one
tree of `transport.roots`, which is shallow on purpose; what is told here is then only about the links beside it. One
of them is *grafted* to it where a node has to ask again and again, until something comes twice.

    hearing             the link becomes    we say
    a duplicate         lazy                Eager(yes=False)
    nothing in time     eager               Eager(yes=True)
    Eager(yes=False)    lazy
    Eager(yes=True)     eager

A link is eager or lazy both ways, so that one tree serves whoever publishes. Two who speak at the same moment may end
up thinking differently of it; the next duplicate, or the next that does not come, brings them together.
"""

from collections.abc import Mapping
from enum import Enum
from random import Random

from lamport.ids import NodeId, StreamId
from transport.messages import Eager
from transport.roots import Branch, Place

GRACE_S, LONGEST_GRACE_S = 0.15, 0.25
"""How long something that was announced is waited for before it is asked for: the tree is likely to bring it. Drawn
between these, so that of those who are cut off from the tree one asks first, and feeds the others. Together with what
announcements gather it is about what TCP takes to send a lost segment again: sooner, one in thirty would be asked for
in vain; later, it would not help those who wait behind two losses.
"""

LATE_WEIGHT, GRAFTING_LATENESS = 0.8, 1.5
"""Beside a shared tree, each event that had to be asked for counts one, and each that came takes a fifth of that away:
one that was late, because a segment was lost, changes nothing; a second one soon after says that the tree passes us by.
"""

MAX_ASKED = 1_024
"""Streams of which is remembered how far they were asked for, the latest."""

MAX_OWN_TREES = 64
"""Authors whose own trees leave out a link, as far as it remembers."""

ANNOUNCED_TOGETHER_S = 0.05
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

    def __init__(self, node: NodeId, randomness: Random) -> None:
        self.place = Place(node, randomness)
        """Where the node stands in the tree that all share."""
        self._randomness = randomness
        self._lateness = 0.0
        self._asked: dict[StreamId, int] = {}

    @property
    def shared(self) -> bool:
        """Whether all authors share one tree."""
        return self.place.shared

    def asked(self, stream: StreamId, last: int) -> None:
        """A stream was asked for up to an offset: what comes twice of that says nothing about the tree."""
        self._asked.pop(stream, None)
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[stream] = last

    def was_asked(self, stream: StreamId, offset: int) -> bool:
        """Whether an event was asked for, as far as is remembered."""
        return offset <= self._asked.get(stream, -1)

    def grace_s(self) -> float:
        """How long to wait for one announced event."""
        return self._randomness.uniform(GRACE_S, LONGEST_GRACE_S)

    def may_graft(self) -> bool:
        """Something had to be asked for: whether who announced it is to be taken into the shared tree."""
        self._lateness += 1.0
        if self._lateness < GRAFTING_LATENESS:
            return False
        self._lateness = 0.0
        return True

    def came(self) -> None:
        """Something new came."""
        self._lateness *= LATE_WEIGHT


class Edge:
    """One link: whether each side pushes to the other what is new, or announces it."""

    def __init__(self, tree: Tree) -> None:
        self.branch = Branch(tree.place)
        """The link in the tree that all share."""
        self.grafted = False
        """Whether it carries everything for now, although it may not be in that tree."""
        self._tree = tree
        self._without: dict[NodeId, None] = {}

    def carries(self, author: NodeId) -> bool:
        """Whether this author's events are pushed."""
        if self._tree.shared:
            return self.grafted or self.branch.carries
        return author not in self._without

    def hear(self, heard: Heard) -> bool | None:
        """Take in what happened; returns what the peer is to be told: to be eager, not to be, or nothing."""
        before, self.grafted = self.grafted, _BECOMES[heard]
        return _to_say(heard, before, self.grafted)

    def hear_of(self, author: NodeId, heard: Heard) -> bool | None:
        """The same for one author's own tree."""
        before = author not in self._without
        if _BECOMES[heard]:
            self._without.pop(author, None)
        elif len(self._without) < MAX_OWN_TREES:
            self._without[author] = None
        return _to_say(heard, before, author not in self._without)

    def obey(self, message: Eager) -> None:
        """The peer says whether it wants new events pushed."""
        heard = Heard.GRAFT if message.yes else Heard.PRUNE
        if message.author is None:
            self.hear(heard)
        else:
            self.hear_of(message.author, heard)

    def came_twice(self, stream: StreamId, offset: int) -> Eager | None:
        """Up to an offset a stream came over this link when it was here already; returns what to say to the peer."""
        if self._tree.was_asked(stream, offset):
            return None
        if self._tree.shared:
            return _said(self.hear(Heard.DUPLICATE)) if self.grafted else None
        return self.let_go(stream.node)

    def came_late(self, author: NodeId) -> Eager | None:
        """The peer had to be asked for what an author wrote; returns what to say to it."""
        if not self._tree.shared:
            return _said(self.hear_of(author, Heard.NOTHING_IN_TIME), author)
        if not self.carries(author) and self._tree.may_graft():
            return _said(self.hear(Heard.NOTHING_IN_TIME))
        return None

    def let_go(self, author: NodeId) -> Eager | None:
        """An author's own tree is to leave this link out; returns what to say to the peer."""
        if self._tree.shared:
            return None
        return _said(self.hear_of(author, Heard.DUPLICATE), author)


def _to_say(heard: Heard, before: bool, after: bool) -> bool | None:  # noqa: FBT001 - two states of one edge
    return None if heard in _SAID_BY_THE_PEER or before == after else after


def _said(eager: bool | None, author: NodeId | None = None) -> Eager | None:  # noqa: FBT001 - what an edge gives
    return None if eager is None else Eager(eager, author)
