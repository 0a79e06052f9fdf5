"""How much of each stream still counts, once nodes were revoked: the picture of all cuts, immutable.

A stream of a node that nobody revoked is not cut, and nothing of it stands here. Each part of a revoked node's streams
(the stream itself, and its branches where forks are proven) has a limit, the last offset that counts; what lies beyond
stays on the disk and is withdrawn from all that is handed out: heads, queries, folds, gossip.

A part is *disputed* where another history than that of the cut is held at the cut's offset, and the cut's own is not:
then what counts may be less than what turns out to, and peers are asked for the history that the cut names.

Readers take one such picture and keep to it; whoever follows the log sees by its being another one that something was
withdrawn, or is back (`lamport.follower`). How far a limit reaches follows from the revocations and from the hashes
that are held: see `lamport.reach`.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lamport.chain import Head, Seal, SealedRange, Start, VerifiedRange, chained
from lamport.forks import Adoption
from lamport.ids import NodeId, StreamId
from lamport.offsets import NOTHING, OffsetMap
from lamport.revocation import Revocation


class Limit(NamedTuple):
    """How far a part counts, -1 for nothing; the author's seal there, where it is known to stand in what is held."""

    offset: int
    seal: Seal | None = None
    is_disputed: bool = False


@dataclass(frozen=True, slots=True)
class Cuts:
    """All revocations, and the limits of the parts of streams for which they were worked out."""

    revocations: tuple[Revocation, ...] = ()
    limits: Mapping[StreamId, int] = field(default_factory=dict)
    seals: Mapping[StreamId, Seal] = field(default_factory=dict)
    """The author's seals at limits, where they are known to stand in what is held."""
    disputed: frozenset[StreamId] = frozenset()
    revoked: Mapping[NodeId, tuple[Revocation, ...]] = field(init=False)
    """The revocations of each node that has any."""

    def __post_init__(self) -> None:
        revoked: dict[NodeId, tuple[Revocation, ...]] = {}
        for one in self.revocations:
            revoked[one.node] = (*revoked.get(one.node, ()), one)
        object.__setattr__(self, "revoked", revoked)

    def of(self, part: StreamId) -> int | None:
        """The last offset that counts of a part of a stream, -1 for nothing; None where it is not cut."""
        if part.node not in self.revoked:
            return None
        limit = self.limits.get(part)
        if limit is not None:
            return limit
        # Which history a branch is that was told apart just now, is still to be worked out.
        return NOTHING if part.branch else self.named(part)

    def limit(self, part: StreamId) -> Limit | None:
        """What was worked out for a part; None where nothing was."""
        offset = self.limits.get(part)
        return (
            None if offset is None else Limit(offset, self.seals.get(part), part in self.disputed)
        )

    def named(self, part: StreamId) -> int:
        """The highest offset that the revocations leave of a part, whatever its history."""
        return min(
            max((cut.offset for cut in one.of(part)), default=NOTHING)
            for one in self.revoked[part.node]
        )

    def admits(self, part: StreamId, offset: int) -> bool:
        """Whether an event at this place counts."""
        limit = self.of(part)
        return limit is None or offset <= limit

    def leaves_room(self, head: Head) -> bool:
        """Whether more than this counts of a stream, should there be more."""
        limit = self.of(head.stream)
        return limit is None or head.offset < limit

    def reach(self, part: StreamId) -> int | None:
        """How far ranges of a part are looked at: of one that is disputed what the cut names is still to be found."""
        is_open = part.node in self.revoked and part not in self.limits
        return self.named(part) if is_open or part in self.disputed else self.of(part)

    def names(self, adoption: Adoption) -> bool:
        """Whether a cut stands in what an adoption takes in."""
        base = adoption.origin.stream.base
        cuts = [cut for one in self.revoked.get(base.node, ()) for cut in one.of(base)]
        return any(_bears(grown, cut) for grown in adoption.grown for cut in cuts)

    def seal_at(self, part: StreamId, offset: int) -> Seal | None:
        """The author's seal at a limit, under the name of the part; None where it is not known which is there."""
        known = self.seals.get(part)
        if known is not None and known.offset == offset:
            return replace(known, stream=part)
        named = self.named_at(part, offset)
        is_one = len({cut.hash for cut in named}) == 1
        return named[0] if is_one else None

    def named_at(self, part: StreamId, offset: int) -> list[Seal]:
        """The cuts at an offset, under the name of the part: one stands there, others in other histories."""
        cuts = (cut for one in self.revoked.get(part.node, ()) for cut in one.of(part))
        return [replace(cut, stream=part) for cut in cuts if cut.offset == offset]

    def _cut_for(self, received: SealedRange, limit: int) -> Seal | None:
        """The seal at a limit of the history that a range belongs to.

        Which it is the events behind the limit tell; where there are none, either may be.
        """
        cut, last = self.seal_at(received.stream, limit), received.seal
        if cut is not None:
            return cut
        named = self.named_at(received.stream, limit)
        if last.offset >= limit:
            behind = received.events[limit + 1 - received.first :]
            named = [one for one in named if chained(one.hash, behind) == last.hash] or named
        return max(named, key=lambda one: one.horizon, default=None)

    def clipped(self, received: SealedRange) -> SealedRange | None:
        """What counts of a range, up to the seal that the cut names; None where nothing does.

        What a revoked node says of its horizons counts as far as the cut says it, too: else it could have others
        delete what the cut leaves of it.
        """
        stream, seal = received.stream, received.seal
        limit = self.reach(stream)
        if limit is None:
            return received
        cut = self._cut_for(received, limit) if received.first <= limit else None
        if cut is None or seal.horizon > cut.horizon:
            return None
        if received.start is not None:
            received = replace(received, start=_kept_start(received.start, cut))
        if seal.offset <= limit:
            return received
        return replace(received, events=received.events[: limit + 1 - received.first], seal=cut)

    def believes(self, seal: Seal) -> bool:
        """Whether an author's word for its horizon counts."""
        limit = self.of(seal.stream)
        if limit is None:
            return True
        cut = self.seal_at(seal.stream, limit)
        return cut is not None and seal.offset <= limit and seal.horizon <= cut.horizon

    def clip_heads(
        self,
        heads: MutableMapping[StreamId, Head],
        ends: MutableMapping[StreamId, Head],
        parts: Iterable[StreamId] | None = None,
    ) -> None:
        """Move heads that lie beyond what counts back to there, and others back; `ends` are where they were.

        Only those of these parts, where they are given.
        """
        looked = {**heads, **ends} if parts is None else parts
        for part in [one for one in looked if one.node in self.revoked]:
            limit, head = self.of(part), ends.pop(part, None) or heads.get(part)
            if head is None:
                continue
            if limit is None or head.offset <= limit:
                heads[part] = head
                continue
            ends[part] = head
            cut = self.seal_at(part, limit) if part in self.limits else None
            if cut is None:
                heads.pop(part, None)
            else:
                # Nothing goes on from here, so that the clock may stand for the event's own timestamp.
                heads[part] = Head(part, limit, cut.hash, cut.clock)

    def clip(self, offsets: OffsetMap) -> OffsetMap:
        """A position without what does not count."""
        beyond = [one for one, last in offsets.items() if not self.admits(one, last)]
        if not beyond:
            return offsets
        kept = dict(offsets)
        for part in beyond:
            limit = self.of(part)
            if limit is None or limit < 0:
                del kept[part]
            else:
                kept[part] = limit
        return OffsetMap(kept)

    def with_revocation(self, revocation: Revocation) -> "Cuts":
        """This picture and one revocation more; the limits are still to be worked out."""
        return replace(self, revocations=(*self.revocations, revocation))

    def with_limits(self, found: Mapping[StreamId, Limit]) -> "Cuts":
        """This picture with limits that were worked out."""
        seals = {part: seal for part, seal in self.seals.items() if part not in found}
        seals |= {part: one.seal for part, one in found.items() if one.seal is not None}
        return replace(
            self,
            limits={**self.limits, **{part: one.offset for part, one in found.items()}},
            seals=seals,
            disputed=self.disputed - found.keys()
            | {part for part, one in found.items() if one.is_disputed},
        )

    def __bool__(self) -> bool:
        return bool(self.revocations)


def _bears(grown: VerifiedRange, cut: Seal) -> bool:
    """Whether a cut stands in a range that begins a branch."""
    behind = grown.head.offset - cut.offset
    if not 0 <= behind < len(grown.data):
        return False
    return chained(cut.hash, grown.data[len(grown.data) - behind :]) == grown.head.hash


def _kept_start(start: Start, cut: Seal) -> Start:
    seal = start.seal
    believed = seal is None or (seal.offset <= cut.offset and seal.horizon <= cut.horizon)
    return start if believed else Start(start.hash)


NO_CUTS = Cuts()
"""Nobody was revoked."""
