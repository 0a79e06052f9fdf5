"""What one commit adds to the log, worked out before anything touches the disk.

Concurrent appends and receipts share a commit. The builder takes them one by one, each whole or not at all, gives
appended events their Lamport timestamps and offsets, and ends its own part in seals. The result is a value: the store
writes it in one transaction, and only then does the log's state move to it. A commit that fails leaves no trace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lamport.branches import Branches
from lamport.chain import (
    MAX_SEALED_BYTES,
    MAX_SEALED_EVENTS,
    CheckedRange,
    Head,
    Keys,
    Seal,
    VerifiedRange,
    chained,
    connect_range,
    genesis,
)
from lamport.clock import LamportClock
from lamport.codec import EncodedDraft, StoredEvent, place_draft
from lamport.cuts import NO_CUTS, Cuts
from lamport.errors import (
    DivergedStream,
    LimitExceeded,
    NodeRevoked,
    OutdatedPlan,
    QuarantinedRange,
    UnknownAuthor,
    VoidRetraction,
)
from lamport.event import Event
from lamport.forks import (
    MAX_BRANCHES_OF_NODE,
    MAX_BRANCHES_OF_REVOKED,
    Adoption,
    readdressed,
)
from lamport.horizon import Horizon, announced
from lamport.ids import MAX_LAMPORT, EventKey, StreamId
from lamport.leaps import Leaps
from lamport.retraction import (
    MAX_ACCEPTED_FROM_NODE,
    Retracted,
    Retraction,
    is_retraction,
    read_retraction,
)
from lamport.routes import NO_ROUTES, OwnStreams, Routes

MAX_STREAMS_OF_NODE = 256
"""Most streams of one node: a few are for retention, one comes with each restored backup."""


NO_BRANCHES = Branches()


@dataclass(frozen=True, slots=True)
class Commit:
    """One transaction's worth: events, seals, new certificates, moved heads and the clock after them.

    `retractions` are those of its events that hide others, `void` says why further ones do not.
    """

    clock: LamportClock
    events: tuple[StoredEvent, ...] = ()
    seals: tuple[Seal, ...] = ()
    heads: Mapping[StreamId, Head] = field(default_factory=dict)
    certificates: Mapping[bytes, bytes] = field(default_factory=dict)
    retractions: tuple[Retraction, ...] = ()
    void: tuple[str, ...] = ()
    forks: tuple[Adoption, ...] = ()
    horizons: Mapping[StreamId, Horizon] = field(default_factory=dict)


class CommitBuilder:
    """Builds one commit on top of a known state of the log."""

    def __init__(
        self,
        *,
        own: OwnStreams,
        clock: LamportClock,
        heads: Mapping[StreamId, Head],
        authors: Mapping[bytes, bytes],
        horizons: Mapping[StreamId, Horizon],
        keys: Keys,
        retracted: Retracted | None = None,
        branches: Branches = NO_BRANCHES,
        cuts: Cuts = NO_CUTS,
        leaps: Leaps | None = None,
        routes: Routes = NO_ROUTES,
        ends: Mapping[StreamId, Head] | None = None,
    ) -> None:
        self.own = own
        """The streams that are appended to. They may change: what was appended to the old ones stays there."""
        self._routes = routes
        self._clock = clock
        self._known_heads = heads
        self._ends = ends or {}
        self._known_authors = authors
        self._known_horizons = horizons
        self._keys = keys
        self._known_retracted = Retracted() if retracted is None else retracted
        self._retractions: list[Retraction] = []
        self._void: list[str] = []
        self._heads: dict[StreamId, Head] = {}
        self._authors: dict[bytes, bytes] = {}
        self._horizons: dict[StreamId, Horizon] = {}
        self._appended: dict[StreamId, list[StoredEvent]] = {}
        self._received: list[StoredEvent] = []
        self._seals: list[Seal] = []
        self._branches = branches
        self._cuts = cuts
        self._leaps = Leaps() if leaps is None else leaps
        self._forks: list[Adoption] = []

    def append(self, drafts: Sequence[EncodedDraft], timestamp: int) -> tuple[Event, ...]:
        """Give these drafts their places behind everything appended so far.

        Raises:
            LimitExceeded: the Lamport clock is used up; nothing was added.
            NodeRevoked: this node was revoked; nothing was added.
        """
        if self.own.node in self._cuts.revoked:
            raise NodeRevoked("this node was revoked: what it writes counts nowhere any more")
        clock = self._clock.highest
        if clock + len(drafts) > MAX_LAMPORT:
            raise LimitExceeded(f"the Lamport clock stands at its limit, {MAX_LAMPORT}")
        if len(self._routes):
            added = [
                self._append_one(draft, lamport, timestamp)
                for lamport, draft in enumerate(drafts, clock + 1)
            ]
        else:
            added = self._append_all(drafts, clock + 1, timestamp)
        self._clock = LamportClock(clock + len(drafts))
        events = tuple([event for event, _ in added])
        self._note_retractions(events)
        return events

    def _append_all(
        self, drafts: Sequence[EncodedDraft], first: int, timestamp: int
    ) -> list[StoredEvent]:
        """All of them to the default stream."""
        own = self.own.default
        appended = self._appended.setdefault(own, [])
        lead = self._head(own).offset + 1 + len(appended) - first
        added = [
            place_draft(draft, EventKey(lamport, own), lamport + lead, timestamp)
            for lamport, draft in enumerate(drafts, first)
        ]
        appended.extend(added)
        return added

    def _append_one(self, draft: EncodedDraft, lamport: int, timestamp: int) -> StoredEvent:
        """One of them to the stream that its tags lead to."""
        own = self.own.of(self._routes.stream_for(draft.tags))
        appended = self._appended.setdefault(own, [])
        offset = self._head(own).offset + 1 + len(appended)
        appended.append(place_draft(draft, EventKey(lamport, own), offset, timestamp))
        return appended[-1]

    def receive(self, checked: CheckedRange) -> tuple[Event, ...]:
        """Take in a range that came from a peer; returns what it added, nothing where it connects to no prefix.

        It may be of this node's own stream, which others may know better than a database that came back from a copy.

        Raises:
            DivergedStream: it is of an own stream, and other events were appended to that in this commit.
            CorruptRange: it does not follow (see `connect_range`); nothing was added.
            QuarantinedRange: it holds, but would hurt; nothing was added.
            UnknownAuthor: it came without a certificate, and there is none here; nothing was added.
        """
        checked = readdressed(checked, self._branches.routed(checked, self._known_heads))
        received = checked.range
        if not self._cuts.admits(received.stream, received.seal.offset):
            return ()  # revoked while it waited: what of it counts is asked for again
        if received.stream.branch and received.stream not in self._branches.known:
            return ()  # nobody has proven it here
        if any(fork.origin.stream.base == received.stream.base for fork in self._forks):
            return ()  # asked for again, by the names that this commit gives
        if received.stream in self._appended:
            raise DivergedStream(f"stream {received.stream} is extended here, too")
        verified = connect_range(checked, self._head(received.stream))
        if verified is None or not self._may_jump(verified):
            return ()
        self._require_harmless(verified)
        self._know_author(verified)
        return self._take(verified)

    def fork(self, adoption: Adoption) -> tuple[Event, ...]:
        """Tell two branches apart from now on, and take in the first range of those that are new.

        Raises:
            OutdatedPlan: its stream has gone on since the plan was made; nothing was added.
            QuarantinedRange: it would hurt, or there are too many branches; nothing was added.
        """
        base = adoption.origin.stream.base
        touched = any(one.base == base for one in self._heads) or base in self.own
        forked = any(one.origin.stream.base == base for one in self._forks)
        # Of a stream that ends at the fork not even the head shows that the same proof came from two peers at once.
        made = (adoption.tail, *(verified.head.stream for verified in adoption.grown))
        forked = forked or any(one in self._branches.known for one in made)
        end = self._ends.get(adoption.parent.stream) or self._head(adoption.parent.stream)
        if touched or forked or end != adoption.parent:
            raise OutdatedPlan(f"stream {base} goes on meanwhile")
        for verified in adoption.grown:
            self._require_harmless(verified)
        self._require_few_branches(adoption)
        self._forks.append(adoption)
        for verified in adoption.grown:
            self._know_author(verified)
        return tuple(event for verified in adoption.grown for event in self._take(verified))

    def _require_few_branches(self, adoption: Adoption) -> None:
        """Raise `QuarantinedRange` for one history too many of a node."""
        node = adoption.origin.stream.node
        forks = [adoption, *(one for one in self._forks if one.origin.stream.node == node)]
        count = sum(len(one.grown) + (one.tail is not None) for one in forks)
        is_revoked = node in self._cuts.revoked
        most = MAX_BRANCHES_OF_REVOKED if is_revoked else MAX_BRANCHES_OF_NODE
        if self._branches.of_node(node) + count <= most or self._cuts.names(adoption):
            return
        text = f"streams of node {node} have more than {most} branches"
        if is_revoked:
            text += (
                ", and that which a cut names may be shut out: to settle it, revoke the node again"
                " with a cut before its histories part"
            )
        raise QuarantinedRange(text)

    def _know_author(self, verified: VerifiedRange) -> None:
        stream = verified.head.stream
        node = stream.node
        if node not in self._known_authors and node not in self._authors:
            if not verified.certificate:
                raise UnknownAuthor(f"stream {stream} came without its author's certificate")
            self._authors[node] = verified.certificate

    def _take(self, verified: VerifiedRange) -> tuple[Event, ...]:
        self._heads[verified.head.stream] = verified.head
        self._follow(verified)
        self._received.extend(map(StoredEvent, verified.events, verified.data))
        self._seals.append(verified.seal)
        self._clock = self._clock.raised(verified.head.lamport)
        self._note_retractions(verified.events)
        return verified.events

    def learn(self, seal: Seal) -> tuple[Event, ...]:
        """Take in a seal of a stream that is held here, for the horizon that it announces; adds no event.

        Of a forked stream it counts for the beginning, which the author gave up in whichever history.
        """
        base = seal.stream.base
        if base in self._heads or base in self._known_heads:
            moved = announced(self._horizon(base), replace(seal, stream=base))
            if moved is not None:
                self._horizons[base] = moved
        return ()

    def prune(self, stream: StreamId, horizon: int) -> None:
        """Announce a new horizon of an own stream, by a seal on its head."""
        head = self._head(stream)
        seal = Seal(stream, head.offset, head.hash, self._clock.highest, horizon)
        self.learn(seal.signed(self._keys))

    def _may_jump(self, verified: VerifiedRange) -> bool:
        """Whether the author gave up all that lies between the head and this range."""
        start, stream = verified.start, verified.head.stream
        if start is None:
            return True
        if stream.base in self._branches.base_rows:
            return False  # a forked stream keeps its parts
        known = self._horizon(stream)
        told = 0 if start.seal is None else start.seal.horizon
        return max(told, known.announced if known else 0) >= verified.events[0].offset

    def _follow(self, verified: VerifiedRange) -> None:
        """Take note of what a range says of the horizon; one behind a gap begins what is kept anew."""
        stream, start = verified.head.stream, verified.start
        self.learn(verified.seal)
        if start is not None:
            if start.seal is not None:
                self.learn(start.seal)
            horizon = self._horizon(stream)
            assert horizon is not None, "else nothing is jumped over"
            self._horizons[stream] = horizon.moved(verified.events[0].offset, start.hash)

    def _require_harmless(self, verified: VerifiedRange) -> None:
        """Raise `QuarantinedRange` for what would use up everybody's clock, or everybody's local stream numbers."""
        stream, highest = verified.head.stream, self._clock.highest
        for event in verified.events:
            if event.lamport > self._leaps.reach(highest):
                leap, last = event.lamport - highest, verified.head.lamport
                text = f"stream {stream}: its timestamps leap ahead by {leap}"
                raise QuarantinedRange(text, lamport=last)
            highest = max(highest, event.lamport)
        if any(map(is_retraction, verified.events)):
            self._require_few_retracted(verified)
        if stream in self._heads or stream in self._known_heads:
            return
        known = {*self._known_heads, *self._heads}
        if sum(other.node == stream.node for other in known) >= MAX_STREAMS_OF_NODE:
            raise QuarantinedRange(
                f"node {stream.node} has more than {MAX_STREAMS_OF_NODE} streams"
            )

    def _require_few_retracted(self, verified: VerifiedRange) -> None:
        """Raise `QuarantinedRange` for what would use up everybody's memory."""
        node = verified.head.stream.node
        pending = [one for one in self._retractions if one.by.stream.node == node]
        named = sum(len(one.targets) for one in (*pending, *self._counting(verified.events)[0]))
        if self._known_retracted.count_by(node) + named > MAX_ACCEPTED_FROM_NODE:
            raise QuarantinedRange(
                f"node {node} retracts more than {MAX_ACCEPTED_FROM_NODE} events"
            )

    def _note_retractions(self, events: Iterable[Event]) -> None:
        retractions, void = self._counting(events)
        self._retractions += retractions
        self._void += void

    def _counting(self, events: Iterable[Event]) -> tuple[list[Retraction], list[str]]:
        """The retractions among events that count, and why others do not."""
        retractions: list[Retraction] = []
        void: list[str] = []
        for event in events:
            if is_retraction(event):
                try:
                    retractions.append(read_retraction(event, self._keys))
                except VoidRetraction as fault:
                    void.append(str(fault))
        return retractions, void

    def build(self) -> Commit:
        """The commit, sealed."""
        for stream, appended in self._appended.items():
            for part in _sealable(appended):
                self._seal(stream, part)
        own = [one for appended in self._appended.values() for one in appended]
        return Commit(
            clock=self._clock,
            events=(*self._received, *own),
            seals=tuple(self._seals),
            heads=self._heads,
            certificates=self._authors,
            retractions=tuple(self._retractions),
            void=tuple(self._void),
            forks=tuple(self._forks),
            horizons=self._horizons,
        )

    def _seal(self, stream: StreamId, part: Sequence[StoredEvent]) -> None:
        before, (last, _) = self._head(stream), part[-1]
        hash_ = chained(before.hash, [data for _, data in part])
        head = Head(before.stream, last.offset, hash_, last.lamport)
        known = self._horizon(stream)
        horizon = known.announced if known is not None else 0
        seal = Seal(stream, head.offset, head.hash, self._clock.highest, horizon)
        self._heads[stream] = head
        self._seals.append(seal.signed(self._keys))

    def _horizon(self, stream: StreamId) -> Horizon | None:
        return self._horizons.get(stream) or self._known_horizons.get(stream)

    def _head(self, stream: StreamId) -> Head:
        head = self._heads.get(stream) or self._known_heads.get(stream)
        return head or genesis(self._keys.swarm, stream)


def _sealable(events: Sequence[StoredEvent]) -> Iterator[Sequence[StoredEvent]]:
    """Cut events into parts, each small enough to end in a seal of its own."""
    start = size = 0
    for position, (_, data) in enumerate(events):
        full = position - start >= MAX_SEALED_EVENTS or size + len(data) > MAX_SEALED_BYTES
        if full and position > start:
            yield events[start:position]
            start, size = position, 0
        size += len(data)
    if events:
        yield events[start:]
