"""What one commit adds to the log, worked out before anything touches the disk.

Concurrent appends and receipts share a commit. The builder takes them one by one, each whole or not at all, gives
appended events their Lamport timestamps and offsets, and ends its own part in seals. The result is a value: the store
writes it in one transaction, and only then does the log's state move to it. A commit that fails leaves no trace.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

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
from lamport.errors import (
    DivergedStream,
    LimitExceeded,
    QuarantinedRange,
    UnknownAuthor,
    VoidRetraction,
)
from lamport.event import Event
from lamport.ids import MAX_LAMPORT, EventKey, StreamId
from lamport.retraction import (
    MAX_ACCEPTED_FROM_NODE,
    Retracted,
    Retraction,
    is_retraction,
    read_retraction,
)

MAX_LEAP = 2**32
"""A range whose timestamps lie further above all known ones is not taken in: it would use up everybody's clock."""

MAX_STREAMS_OF_NODE = 256
"""Most streams of one node: a few are for retention, one comes with each restored backup."""


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


class CommitBuilder:
    """Builds one commit on top of a known state of the log."""

    def __init__(
        self,
        *,
        own: StreamId,
        clock: LamportClock,
        heads: Mapping[StreamId, Head],
        authors: Mapping[bytes, bytes],
        keys: Keys,
        retracted: Retracted | None = None,
    ) -> None:
        self.own = own
        """The stream that is appended to. It may change as long as nothing was appended to the old one here."""
        self._clock = clock
        self._known_heads = heads
        self._known_authors = authors
        self._keys = keys
        self._known_retracted = retracted or Retracted()
        self._retractions: list[Retraction] = []
        self._void: list[str] = []
        self._heads: dict[StreamId, Head] = {}
        self._authors: dict[bytes, bytes] = {}
        self._appended: list[StoredEvent] = []
        self._received: list[StoredEvent] = []
        self._seals: list[Seal] = []

    def append(self, drafts: Sequence[EncodedDraft], timestamp: int) -> tuple[Event, ...]:
        """Give these drafts their places behind everything appended so far.

        Raises:
            LimitExceeded: the Lamport clock is used up; nothing was added.
        """
        own, clock = self.own, self._clock.highest
        if clock + len(drafts) > MAX_LAMPORT:
            raise LimitExceeded(f"the Lamport clock stands at its limit, {MAX_LAMPORT}")
        lead = self._head(own).offset + len(self._appended) - clock
        added = [
            place_draft(draft, EventKey(lamport, own), lamport + lead, timestamp)
            for lamport, draft in enumerate(drafts, clock + 1)
        ]
        self._clock = LamportClock(clock + len(drafts))
        self._appended.extend(added)
        events = tuple([event for event, _ in added])
        self._note_retractions(events)
        return events

    def receive(self, checked: CheckedRange) -> tuple[Event, ...]:
        """Take in a range that came from a peer; returns what it added, nothing where it connects to no prefix.

        It may be of this node's own stream, which others may know better than a database that came back from a copy.

        Raises:
            DivergedStream: it is of the own stream, and other events were appended to that in this commit.
            CorruptRange: it does not follow (see `connect_range`); nothing was added.
            QuarantinedRange: it holds, but would hurt; nothing was added.
            UnknownAuthor: it came without a certificate, and there is none here; nothing was added.
        """
        received = checked.range
        node = received.stream.node
        if received.stream == self.own and self._appended:
            raise DivergedStream(f"stream {received.stream} is extended here, too")
        verified = connect_range(checked, self._head(received.stream))
        if verified is None:
            return ()
        self._require_harmless(verified)
        if node not in self._known_authors and node not in self._authors:
            if not verified.certificate:
                raise UnknownAuthor(
                    f"stream {received.stream} came without its author's certificate"
                )
            self._authors[node] = verified.certificate
        self._heads[received.stream] = verified.head
        self._received.extend(map(StoredEvent, verified.events, verified.data))
        self._seals.append(verified.seal)
        self._clock = self._clock.raised(verified.head.lamport)
        self._note_retractions(verified.events)
        return verified.events

    def _require_harmless(self, verified: VerifiedRange) -> None:
        """Raise `QuarantinedRange` for what would use up everybody's clock, or everybody's local stream numbers."""
        stream, highest = verified.head.stream, self._clock.highest
        for event in verified.events:
            if event.lamport - highest > MAX_LEAP:
                leap = event.lamport - highest
                raise QuarantinedRange(f"stream {stream}: its timestamps leap ahead by {leap}")
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
        for part in _sealable(self._appended):
            self._seal(part)
        return Commit(
            clock=self._clock,
            events=(*self._received, *self._appended),
            seals=tuple(self._seals),
            heads=self._heads,
            certificates=self._authors,
            retractions=tuple(self._retractions),
            void=tuple(self._void),
        )

    def _seal(self, part: Sequence[StoredEvent]) -> None:
        before, (last, _) = self._head(self.own), part[-1]
        head = replace(
            before,
            offset=last.offset,
            hash=chained(before.hash, [data for _, data in part]),
            lamport=last.lamport,
        )
        seal = Seal(self.own, head.offset, head.hash, clock=self._clock.highest, horizon=0)
        self._heads[self.own] = head
        self._seals.append(seal.signed(self._keys))

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
