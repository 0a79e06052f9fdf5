"""The tree that all authors share in a large swarm: who is its root, and over which link the way to it is shortest.

One node, the *root*, counts a sequence up now and then. Every node tells its neighbours whom it takes for the root, how
far it is, and whether the neighbour is its *parent*: the one through whom the way to the root is shortest. The links
between nodes and their parents are the tree. It is shallow, and whatever is written climbs towards the root and comes
down everywhere else on nearly the quickest way. (The idea is that of the spanning trees of switches, IEEE 802.1D; that
nothing ever runs in a circle is owed to sequences, as in DSDV, and to the feasibility condition of Babel, RFC 8966.)

    what is heard or happens                                   what becomes of the node
    a better root than ours: more links, then a higher id      it is ours from now on
    a newer sequence of our root, by our parent                the parent is chosen anew among those who tell it
    a newer sequence, and nothing by our parent in a second    the same
    a neighbour that is nearer to the root than we ever were   it may become the parent, if its way is shorter
      at this sequence
    the parent's link ends                                     another such neighbour becomes it, or none
    no newer sequence for long                                 the root is given up, and somebody makes itself the root
    two links more than the root had when it began             the node makes itself the root

Where two neighbours do not agree (another root, or one of them without a way to it), their link carries everything:
while the tree is being made or mended, news spread in all directions.
"""

from collections import deque
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from lamport.ids import NodeId
from transport.messages import MAX_COST_US, MAX_RANK, MAX_SEQUENCE, ROOT_BYTES, Root

BEAT_S = 10.0
"""How often the root counts on, and every other node looks whether it had better be the root itself."""

LOST_S = 2.5 * BEAT_S
"""A root that has not counted on for so long is gone; two of its counts may be late."""

FORGETTING_S = 2 * LOST_S
"""How long what is said of a root that is gone counts for nothing. Until then everybody has given it up."""

CLAIMING_S = 2.0
"""Who knows of no root makes itself the root within so long, at a moment drawn by each: few do so at once."""

WAITING_S = 1.0
"""How long a newer sequence waits for the parent to tell it, too; sequences that come sooner wait as well."""

BETTER_BY = 2
"""Links that somebody has more than the root, if that is to be worth a new tree."""

HOP_US = 5_000
"""What each hop costs besides the way: the store's commit."""

UNMEASURED_US = 50_000
"""What a link is taken for until it was measured."""

HYSTERESIS = 0.97
"""A way that is not shorter than this part of the present one is not worth a change; what is lost by it adds up."""

SAMPLES = 3
"""Round trips that are remembered; the shortest counts, for the others were held up by something."""

_FAR = MAX_COST_US


class Reign(NamedTuple):
    """A root, as they are ordered: the one in the midst of more links first."""

    rank: int
    root: bytes


class Branch:
    """One link, as the shared tree sees it."""

    def __init__(self, place: "Place") -> None:
        self.told: Root | None = None
        self.due = False
        """Whether the peer is to be told where we are."""
        self.latency_us = UNMEASURED_US
        self.place = place
        self._round_trips: deque[int] = deque(maxlen=SAMPLES)

    @property
    def carries(self) -> bool:
        """Whether what is new is pushed over this link."""
        return self.place.carries(self)

    def open(self) -> None:
        """The link may be used from now on."""
        self.place.add(self)

    def close(self) -> None:
        """The link is gone."""
        self.place.remove(self)

    def hear(self, told: Root) -> None:
        """The peer says where it is."""
        self.told = told
        self.place.changed()

    def to_say(self) -> Root | None:
        """What to tell the peer, once."""
        is_due, self.due = self.due, False
        return self.place.told_to(self) if is_due else None

    @property
    def wants_measuring(self) -> bool:
        """Whether the round trip was measured too seldom to be trusted."""
        return self.place.shared and len(self._round_trips) < SAMPLES

    def measured(self, round_trip_s: float) -> None:
        """The round trip took so long."""
        self._round_trips.append(int(round_trip_s * 1_000_000))
        self.latency_us = min(self._round_trips) // 2


class Place:
    """Where a node stands in the tree."""

    def __init__(self, node: NodeId, randomness: Random) -> None:
        self.shared = False
        """Whether the swarm is so large that all authors share a tree."""
        self.changed: Callable[[], None] = lambda: None
        """Called when `settle` is to be called soon."""
        self._me = bytes(node[:ROOT_BYTES])
        self._randomness = randomness
        self._branches: dict[Branch, None] = {}
        self._reign: Reign | None = None
        self._sequence = -1
        self._parent: Branch | None = None
        self._cost_us: int | None = None
        self._feasible_us = _FAR
        self._heard_at = 0.0
        self._newer_since: float | None = None
        self._claims_at: float | None = None
        self._lost: tuple[Reign, int] | None = None
        self._lost_at = 0.0

    @property
    def next_due(self) -> float | None:
        """When `settle` is to be called next, if nothing else happens."""
        if self._claims_at is None or self._newer_since is None:
            return self._claims_at
        return min(self._claims_at, self._newer_since + WAITING_S)

    def carries(self, branch: Branch) -> bool:
        """Whether a link is in the tree, or its ends do not agree about it."""
        told = branch.told
        if branch is self._parent or told is None or told.chosen or told.cost_us is None:
            return True
        return self._cost_us is None or _reign(told) != self._reign

    def add(self, branch: Branch) -> None:
        """A link began."""
        self._branches[branch] = None
        branch.due = self._reign is not None
        self.changed()

    def remove(self, branch: Branch) -> None:
        """A link ended."""
        self._branches.pop(branch, None)
        if branch is self._parent:
            self._parent = None
        self.changed()

    def told_to(self, branch: Branch) -> Root | None:
        """Where we are, as one neighbour is told."""
        if self._reign is None:
            return None
        chosen = branch is self._parent
        return Root(self._reign.rank, self._reign.root, self._sequence, self._cost_us, chosen)

    def settle(self, now: float) -> bool:
        """Draw the conclusions of what was told and of the time; returns whether the neighbours are to be told."""
        if not self.shared:
            return False
        before = (self._reign, self._sequence, self._parent, self._cost_us)
        self._give_up(now)
        self._follow(now)
        self._claim(now)
        self._choose()
        is_news = before != (self._reign, self._sequence, self._parent, self._cost_us)
        for branch in self._branches if is_news else ():
            branch.due = True
        return is_news or any(branch.due for branch in self._branches)

    def _give_up(self, now: float) -> None:
        """Give up a root of which nothing is heard."""
        if self._reign is None or self._reigns or now - self._heard_at < LOST_S:
            return
        self._lost, self._lost_at = (self._reign, self._sequence), now
        self._reign, self._parent, self._sequence = None, None, -1
        self._claims_at = now + self._randomness.uniform(0.0, CLAIMING_S)

    def _follow(self, now: float) -> None:
        """Take over a better root, or a newer sequence of ours."""
        newer_since, self._newer_since = self._newer_since, None
        told = [one for one in (branch.told for branch in self._branches) if one is not None]
        told = [one for one in told if not self._is_lost(one, now)]
        best = max(map(_reign, told), default=None)
        if best is None or (self._reign is not None and best < self._reign):
            return
        newest = max(one.sequence for one in told if _reign(one) == best)
        if best != self._reign:
            self._reign, self._parent, self._sequence = best, None, -1
            newer_since = None
        # What is said of ourselves was said before our last start: we go on from there.
        if newest > self._sequence and self._may_go_on(newest, newer_since, now):
            self._start(newest, now)

    def _may_go_on(self, newest: int, since: float | None, now: float) -> bool:
        """Whether to take a newer sequence: our parent tells it, too, or we have waited for that."""
        self._newer_since = now if since is None else since
        told = self._parent.told if self._parent is not None else None
        if told is None or now - self._newer_since >= WAITING_S:
            return True
        return told.sequence == newest and now - self._heard_at >= WAITING_S

    def _start(self, sequence: int, now: float) -> None:
        self._sequence = min(sequence, MAX_SEQUENCE)
        self._heard_at, self._newer_since = now, None
        self._feasible_us = _FAR

    def _claim(self, now: float) -> None:
        """Be the root, or go on being it, when that is due."""
        if self._claims_at is None:
            self._claims_at = now + self._randomness.uniform(0.0, CLAIMING_S)
        if now < self._claims_at:
            return
        self._claims_at = now + BEAT_S
        rank = min(len(self._branches), MAX_RANK)
        if self._reigns or (self._reign is not None and rank < self._reign.rank + BETTER_BY):
            if self._reigns:
                self._start(self._sequence + 1, now)
        elif rank > 0:
            self._reign, self._parent = Reign(rank, self._me), None
            self._start(0, now)

    def _choose(self) -> None:
        """Choose the parent: nobody who may get it from us, and of the others the one with the shortest way."""
        if self._reigns:
            self._parent, self._cost_us = None, 0
            return
        ways = {branch: way for branch in self._branches if (way := self._way_us(branch)) < _FAR}
        if not ways:
            self._parent, self._cost_us = None, None
            return
        shortest = min(ways, key=ways.__getitem__)
        present = ways.get(self._parent) if self._parent is not None else None
        if present is None or ways[shortest] < present * HYSTERESIS:
            self._parent, present = shortest, ways[shortest]
        self._cost_us = present
        self._feasible_us = min(self._feasible_us, self._cost_us)

    def _way_us(self, branch: Branch) -> int:
        """How long the way to the root is over this link; very long where it may not be taken."""
        told = branch.told
        if told is None or told.cost_us is None or _reign(told) != self._reign:
            return _FAR
        is_near = told.sequence == self._sequence and told.cost_us < self._feasible_us
        is_ahead = branch is self._parent and told.sequence > self._sequence
        if not (is_near or is_ahead):
            return _FAR
        return told.cost_us + branch.latency_us + HOP_US

    @property
    def _reigns(self) -> bool:
        return self._reign is not None and self._reign.root == self._me

    def _is_lost(self, told: Root, now: float) -> bool:
        if self._lost is None or now - self._lost_at > FORGETTING_S:
            return False
        return (_reign(told), told.sequence) <= self._lost and _reign(told) == self._lost[0]


def _reign(told: Root) -> Reign:
    return Reign(told.rank, told.root)
