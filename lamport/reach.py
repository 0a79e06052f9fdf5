"""How far each part of a revoked node's streams counts: worked out from its revocations and from what is stored.

A cut is a seal, that is a place in one history. What it leaves of a stream with several parts (`lamport.branches`):

    a part bears it           that part, and those that it comes from, count up to the cut, and no other
    no part that is held does each part that does not reach as far counts up to the cut: it may be the one
                              each that does reach it is *disputed*, and counts up to its own last seal before the cut

Nobody who holds a disputed part alone can tell where it leaves the cut's history. That is known as soon as both are
held, as with every fork; so all nodes that hold the same count the same, whatever came first. Of several cuts of one
revocation the one that leaves more wins, of several revocations the one that leaves less.

The answer depends on nothing but revocations, forks and hashes, so that it may be asked for again whenever one of these
has changed. Only where something is damaged on this disk does a limit not rise: what is damaged is no evidence.
"""

from collections.abc import Iterable
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

    async def worked_out(self, cuts: Cuts, nodes: Iterable[NodeId]) -> Cuts:
        """A picture with the limits of all parts of these nodes' streams as they are now."""
        found: Limits = {}
        for node in nodes:
            for base in self._streams(cuts, node):
                found |= await self._limits(cuts, base)
        return cuts.with_limits(found)

    def _streams(self, cuts: Cuts, node: NodeId) -> list[StreamId]:
        """The streams of a node of which something is stored here."""
        known = (*self._store.heads, *self._store.ends, *cuts.limits)
        return sorted({one.base for one in known if one.node == node})

    async def _limits(self, cuts: Cuts, base: StreamId) -> Limits:
        try:
            return await self._limits_of(cuts, base, is_sound=True)
        except DamagedRange:
            found = await self._limits_of(cuts, base, is_sound=False)
        known = {part: cuts.limits.get(part, one.offset) for part, one in found.items()}
        kept = {
            part: Limit(limit, cuts.seal_at(part, limit), part in cuts.disputed)
            for part, limit in known.items()
        }
        return {
            part: one if one.offset <= known[part] else kept[part] for part, one in found.items()
        }

    async def _limits_of(self, cuts: Cuts, base: StreamId, *, is_sound: bool) -> Limits:
        """The limits of a stream's parts. What is damaged is as if it were not held, unless all must be `is_sound`."""
        parts = self._store.branches.of(base)
        each = [
            await self._left_by(one, parts, is_sound=is_sound) for one in cuts.revoked[base.node]
        ]
        disputed = {part for left in each for part, one in left.items() if one.is_disputed}
        lowest = {part: min((left[part] for left in each), key=_offset) for part in parts}
        return {part: one._replace(is_disputed=part in disputed) for part, one in lowest.items()}

    async def _left_by(
        self, revocation: Revocation, parts: list[StreamId], *, is_sound: bool
    ) -> Limits:
        """How far one revocation lets the parts of a stream count."""
        looks = [await self._look(cut, parts, is_sound) for cut in revocation.of(parts[0])]
        left = dict.fromkeys(parts, Limit(NOTHING))
        settled: set[StreamId] = set()
        for look in looks:
            if look.bearer is not None:
                line = self._store.branches.line(look.bearer)
                settled.update(line)
                _raise(left, {part: self._limit_at(part, look.cut) for part in line})
        for look in looks:
            if look.bearer is None:
                _raise(left, await self._possible(look, settled))
        return left

    async def _look(self, cut: Seal, parts: list[StreamId], is_sound: bool) -> _Look:  # noqa: FBT001 - see `_limits_of`
        begun = [one for one in parts if self._store.branches.first(one) <= cut.offset]
        return _Look(cut, {part: await self._hash(part, cut.offset, is_sound) for part in begun})

    async def _hash(self, part: StreamId, offset: int, is_sound: bool) -> bytes | None:  # noqa: FBT001 - as above
        try:
            return await self._evidence.hash_at(part, offset)
        except DamagedRange:
            if is_sound:
                raise
            return None

    def _limit_at(self, part: StreamId, cut: Seal) -> Limit:
        reaches = self._store.end(part).offset >= cut.offset
        return Limit(cut.offset, cut if reaches else None)

    async def _possible(self, look: _Look, settled: set[StreamId]) -> Limits:
        """What may count of each part as long as nothing is held that bears the cut."""
        found: Limits = {}
        for part, hash_ in look.hashes.items():
            if hash_ is None:
                found[part] = Limit(look.cut.offset)
            else:
                seal = None if part in settled else await self._seal_before(part, look.cut)
                found[part] = Limit(
                    NOTHING if seal is None else seal.offset, seal, is_disputed=True
                )
        return found

    async def _seal_before(self, part: StreamId, cut: Seal) -> Seal | None:
        row = self._store.row_of(part)
        assert row is not None, "something of it is held"
        return await self._evidence.seal_up_to(part, row, cut.offset - 1)


def _offset(limit: Limit) -> int:
    return limit.offset


def _raise(left: Limits, found: Limits) -> None:
    """Let parts count as far as found, if that is further; what one cut disputes, another does not settle."""
    for part, one in found.items():
        further = max(left[part], one, key=_offset)
        left[part] = further._replace(is_disputed=left[part].is_disputed or one.is_disputed)
