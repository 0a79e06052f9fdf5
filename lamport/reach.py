"""How far each part of a revoked node's streams counts: worked out from its revocations and from what is stored.

A cut is a seal, that is a place in one history. What it leaves of a stream with several parts (`lamport.branches`):

    a part bears it             that part, and those that it comes from, count up to the cut, and no other
    no part that is held does   those that do not reach as far count up to the cut: it may stand behind one of them;
                                those that do reach it are another history. Where nothing else of the stream is held,
                                that one counts up to the author's last seal before the cut

Whoever holds another history alone cannot tell where it leaves that of the cut; the stream is *disputed*, and peers are
asked for what the cut names. The place is known as soon as both are held, as with every fork; so all nodes that hold
the same count the same, whatever came first. Of several cuts of one revocation the one that leaves more wins, of
several revocations the one that leaves less.

The answer depends on nothing but revocations, forks and hashes, so that it may be asked for again whenever one of these
has changed. Only where something is damaged on this disk does a limit not rise: what is damaged is no evidence.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import NamedTuple

from lamport.chain import Seal
from lamport.cuts import Cuts, Limit
from lamport.errors import DamagedRange
from lamport.evidence import Evidence
from lamport.ids import NodeId, StreamId
from lamport.offsets import NOTHING
from lamport.revocation import Revocation
from lamport.store import Store

Limits = dict[StreamId, Limit]


class _Look(NamedTuple):
    """What is stored at a cut's offset: of each part that has begun there the hash, None where it cannot be told."""

    cut: Seal
    hashes: dict[StreamId, bytes | None]

    @property
    def bearer(self) -> StreamId | None:
        """The part in which the cut stands."""
        found = (part for part, hash_ in self.hashes.items() if hash_ == self.cut.hash)
        return next(found, None)


class Reach:
    """Works out limits on one disk."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._evidence = Evidence(store)
        self._unsound: set[StreamId] = set()
        """The streams of which something that would tell is damaged, as it was when they were looked at last."""

    async def limits(self, cuts: Cuts, bases: Iterable[StreamId]) -> Limits:
        """The limits of all parts of these streams as they are now."""
        found: Limits = {}
        for base in bases:
            found |= await self._limits(cuts, base)
        return found

    def streams(self, cuts: Cuts, nodes: Container[NodeId]) -> list[StreamId]:
        """The streams of these nodes of which something is stored here."""
        known = (*self._store.heads, *self._store.ends, *cuts.limits)
        return sorted({one.base for one in known if one.node in nodes})

    def told_by(self, cuts: Cuts, grown: Mapping[StreamId, int]) -> list[StreamId]:
        """The streams whose limits may be others because these parts have grown from these offsets.

        One history alone, whose limit is known, tells nothing new before it comes to a cut.
        """
        told = {part.base for part, before in grown.items() if self._tells(cuts, part, before)}
        nodes = {part.node for part in grown}
        return sorted(told | {one for one in self._unsound if one.node in nodes})

    def _tells(self, cuts: Cuts, part: StreamId, before: int) -> bool:
        forked = part.branch or part in self._store.branches.base_rows
        if forked or part not in cuts.limits or part in cuts.disputed:
            return True
        end = self._store.end(part).offset
        named = (cut for one in cuts.revoked[part.node] for cut in one.of(part))
        return any(before < cut.offset <= end for cut in named)

    async def bears(self, seal: Seal) -> bool:
        """Whether a seal stands in what is stored of its part."""
        return await self._evidence.hash_at(seal.stream, seal.offset) == seal.hash

    async def _limits(self, cuts: Cuts, base: StreamId) -> Limits:
        revocations = cuts.revoked[base.node]
        stream = _Stream(self._store, self._evidence, base, cuts.seals)
        try:
            found = await stream.limits(revocations)
        except DamagedRange:
            self._unsound.add(base)
            stream.is_sound = False
            found = await stream.limits(revocations)
        else:
            self._unsound.discard(base)
            return found
        known = {part: cuts.limits.get(part, one.offset) for part, one in found.items()}
        kept = {
            part: Limit(limit, cuts.seal_at(part, limit), part in cuts.disputed)
            for part, limit in known.items()
        }
        return {
            part: one if one.offset <= known[part] else kept[part] for part, one in found.items()
        }


class _Stream:
    """One stream. What is damaged is as if it were not held, unless all of it must be `is_sound`."""

    def __init__(
        self, store: Store, evidence: Evidence, base: StreamId, seals: Mapping[StreamId, Seal]
    ) -> None:
        """`seals` are known of parts, whether or not they are stored."""
        self.is_sound = True
        self._store = store
        self._evidence = evidence
        self._parts = store.branches.of(base)
        self._seals = seals

    async def limits(self, revocations: Iterable[Revocation]) -> Limits:
        """The limits of its parts."""
        looks = [[await self._look(cut) for cut in one.of(self._parts[0])] for one in revocations]
        known = [look for each in looks for look in each]
        lefts = [await self._left_by(each, known) for each in looks]
        disputed = {part for left in lefts for part, one in left.items() if one.is_disputed}
        lowest = {part: min((left[part] for left in lefts), key=_offset) for part in self._parts}
        return {part: one._replace(is_disputed=part in disputed) for part, one in lowest.items()}

    async def _left_by(self, looks: Sequence[_Look], known: Sequence[_Look]) -> Limits:
        """How far one revocation lets the parts count; `known` are the places of all revocations' cuts."""
        left = dict.fromkeys(self._parts, Limit(NOTHING))
        settled: set[StreamId] = set()
        for look in looks:
            if look.bearer is not None:
                line = self._store.branches.line(look.bearer)
                settled.update(line)
                _raise(left, {part: self._limit_at(part, look.cut) for part in line})
        for look in looks:
            if look.bearer is None:
                _raise(left, await self._possible(look, settled, known))
        return left

    async def _look(self, cut: Seal) -> _Look:
        begun = [one for one in self._parts if self._store.branches.first(one) <= cut.offset]
        return _Look(cut, {part: await self._hash(part, cut.offset) for part in begun})

    async def _hash(self, part: StreamId, offset: int) -> bytes | None:
        try:
            return await self._evidence.hash_at(part, offset)
        except DamagedRange:
            if self.is_sound:
                raise
            return None

    def _limit_at(self, part: StreamId, cut: Seal) -> Limit:
        reaches = self._store.end(part).offset >= cut.offset
        return Limit(cut.offset, cut if reaches else None)

    async def _possible(
        self, look: _Look, settled: Container[StreamId], known: Sequence[_Look]
    ) -> Limits:
        """What may count of each part as long as nothing is held that bears the cut."""
        is_open = None in look.hashes.values()
        others = [part for part, hash_ in look.hashes.items() if hash_ is not None]
        found: Limits = {}
        for part in look.hashes:
            if part not in others:
                is_ended = bool(others) and part in self._store.branches.closed
                found[part] = Limit(look.cut.offset, is_disputed=is_ended)
            elif is_open or part in settled:
                found[part] = Limit(NOTHING, is_disputed=True)
            else:
                seal = await self._seal_before(part, look.cut, known)
                found[part] = Limit(
                    NOTHING if seal is None else seal.offset, seal, is_disputed=True
                )
        return found

    async def _seal_before(self, part: StreamId, cut: Seal, known: Sequence[_Look]) -> Seal | None:
        """The author's last seal in a part before a cut: it is stored, known, or comes with another cut."""
        row = self._store.row_of(part)
        assert row is not None, "something of it is held"
        stored = await self._evidence.seal_up_to(part, row, cut.offset - 1)
        named = [look.cut for look in known if look.hashes.get(part) == look.cut.hash]
        seals = (stored, await self._known_seal(part), *named)
        before = [one for one in seals if one is not None and one.offset < cut.offset]
        return max(before, key=lambda one: one.offset, default=None)

    async def _known_seal(self, part: StreamId) -> Seal | None:
        known = self._seals.get(part)
        if known is None or known.offset > self._store.end(part).offset:
            return None
        return known if await self._hash(part, known.offset) == known.hash else None


def _offset(limit: Limit) -> int:
    return limit.offset


def _raise(left: Limits, found: Limits) -> None:
    """Let parts count as far as found, if that is further; what one cut disputes, another does not settle."""
    for part, one in found.items():
        further = max(left[part], one, key=_offset)
        left[part] = further._replace(is_disputed=left[part].is_disputed or one.is_disputed)
