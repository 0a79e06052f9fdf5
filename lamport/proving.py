"""From a range that contradicts what is held to a proof, and from a proof to what it changes here.

A range bears its author's seal, and where it begins behind a place that both histories have in common, its bytes and
ours tell the last event that is the same. From there on both are cut to their first seals: that is the proof. Whoever
finds or is sent one looks where its common offset lies in what is held, and works out which parts there are from then
on; the commit then holds that plan against the log once more. What a revocation
withdrew is looked at like all else: it may be the other history. Reads only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lamport.chain import Head, Keys, SealedRange, VerifiedRange, chained
from lamport.codec import verify_event
from lamport.errors import DivergedStream
from lamport.evidence import Evidence
from lamport.forks import (
    Adoption,
    CheckedProof,
    ForkProof,
    addressed,
    decode_proof,
    grown_range,
    make_proof,
    replace_branch,
)
from lamport.ids import EventKey, StreamId
from lamport.offsets import NOTHING
from lamport.seams import Statement
from lamport.sqlite_errors import translated_errors
from lamport.store import Store


@dataclass(frozen=True, slots=True)
class ForkBranch:
    """One branch, for people: its name, its first event's key, and the last offset that is held of it here."""

    branch: StreamId
    first: EventKey
    last: int


@dataclass(frozen=True, slots=True)
class Fork:
    """A proven fork, for people: where histories part, and the branches. `offset` is the last common one."""

    stream: StreamId
    offset: int
    branches: tuple[ForkBranch, ...]


class Prover:
    """Finds proofs in one log, and places for them."""

    def __init__(self, store: Store, keys: Keys) -> None:
        self._store = store
        self._reader = Evidence(store)
        self._keys = keys
        self._kept: dict[tuple[StreamId, StreamId], tuple[EventKey, EventKey]] = {}

    async def hash_at(self, stream: StreamId, offset: int) -> bytes | None:
        """The chain's hash after an offset, in what is stored, whether or not it counts."""
        return await self._reader.hash_at(stream, offset)

    async def require_known(self, received: SealedRange) -> None:
        """Raise `DivergedStream` where a range that adds nothing says something else than what is held."""
        stream, seal = received.stream, received.seal
        held = await self._reader.hash_at(stream, seal.offset)
        differs = held is not None and held != seal.hash
        if held is None and stream in self._store.branches.closed:
            # Sent by somebody who does not know of the fork: it may part from a branch further on.
            differs = await self._anchor(received) is not None and not await self._is_held(received)
        if differs:
            raise DivergedStream(f"stream {stream} has two histories")

    async def contradiction(self, received: SealedRange) -> ForkProof | None:
        """The proof that a validly sealed range makes with what is held; None where it makes none.

        It makes none where it does not begin behind a place that is held with the same hash: then its events may have
        been altered on the way; the seal alone says nothing about them.
        """
        anchor = await self._anchor(received)
        if anchor is None:
            return None
        part, hash_ = anchor
        offset, rest = received.first, received.events
        while rest:
            ours = await self._held_from(part, offset)
            if not ours:
                branch = replace_branch(part, chained(hash_, rest[:1]))
                if part not in self._store.branches.closed:
                    return None  # it goes on behind what is held
                if branch not in self._store.branches.known:
                    return await self._proof(part, offset, hash_, received)
                part = branch
                continue
            same = _count_same(ours, rest)
            hash_, offset, rest = chained(hash_, rest[:same]), offset + same, rest[same:]
            if rest and same < len(ours):
                return await self._proof(part, offset, hash_, received)
        return None

    async def _anchor(self, received: SealedRange) -> tuple[StreamId, bytes] | None:
        """The part behind one of whose events a range begins, and the hash there."""
        parts = [received.stream, *self._store.branches.of(received.stream)]
        for part in dict.fromkeys(parts):
            hash_ = await self._reader.hash_at(part, received.first - 1)
            if hash_ is not None and chained(hash_, received.events) == received.seal.hash:
                return part, hash_
        return None

    async def _is_held(self, received: SealedRange) -> bool:
        seal = received.seal
        for part in self._store.branches.of(received.stream):
            if await self._reader.hash_at(part, seal.offset) == seal.hash:
                return True
        return False

    async def plan(self, checked: CheckedProof, *, found: bool) -> Adoption | None:
        """What a proof changes (nothing where no branch grows); None where what both have in common is not held yet.

        Raises:
            CorruptRange: the proof does not fit what is held.
        """
        proof = checked.proof
        part = await self._part_before(proof)
        if part is None:
            return None
        origin = await self._origin(part, proof)
        parent = self._store.end(part)
        behind = await self._held_from(part, origin.offset + 1)
        tail = replace_branch(part, chained(origin.hash, behind[:1])) if behind else None
        known = self._store.branches.known
        new = [one for one in checked.ranges if one.range.stream not in known]
        new = [one for one in new if one.range.stream != tail]
        proofs = [proof]
        if tail is not None and tail not in proof.branches:
            ours = await self._sealed(part, origin.offset + 1)
            proofs.append(make_proof(origin.hash, ours, proof.one))
        grown = tuple(_certified(grown_range(one, origin), proof) for one in new)
        return Adoption(origin, parent, tail, grown, tuple(proofs), found or len(proofs) > 1)

    async def load(self) -> None:
        """Remember what proofs are kept, to be called once when the log is opened."""
        for data in await self._stored():
            self.keep(decode_proof(data))

    def keep(self, proof: ForkProof) -> None:
        """A proof has become durable."""
        halves = (proof.one, proof.other)
        one, other = (verify_event(proof.stream, half.first, half.events[0]).key for half in halves)
        self._kept[proof.branches] = one, other

    def forks(self) -> tuple[Fork, ...]:
        """What forks are proven, for people, as far as the branches are held now.

        Of several histories that part at one place each proof shows two: which ones, is a matter of what came first.
        """
        parting: dict[tuple[StreamId, int, bytes], dict[StreamId, EventKey]] = {}
        for names, firsts in self._kept.items():
            origin = self._store.branches.known[names[0]].origin
            place = names[0].base, origin.offset, origin.hash
            parting.setdefault(place, {}).update(zip(names, firsts, strict=True))
        return tuple(self._told(sorted(parting[place].items())) for place in sorted(parting))

    async def unraised(self) -> list[Fork]:
        """Those that this node found and has not raised the alarm for."""
        rows = await self._stored(unraised=True)
        shown = [decode_proof(data).branches for data in rows]
        return [self._told([*zip(names, self._kept[names], strict=True)]) for names in shown]

    async def raised(self, fork: Fork) -> None:
        """The alarm was raised."""
        one, other = (each.branch for each in fork.branches)
        await self._store.write(
            Statement(
                "UPDATE forks SET alarm = 0 WHERE node = ? AND number = ? AND one = ? AND other = ?",
                [(bytes(one.node), one.number, one.branch, other.branch)],
            )
        )

    async def load_proof(self, branch: StreamId) -> bytes | None:
        """The proof by which a branch became known here."""
        with translated_errors():
            rows = await self._store.reader.fetch(
                "SELECT proof FROM forks WHERE node = ? AND number = ? AND ? IN (one, other) LIMIT 1",
                (bytes(branch.node), branch.number, branch.branch),
            )
        return bytes(rows[0][0]) if rows else None

    async def _stored(self, *, unraised: bool = False) -> list[bytes]:
        """The proofs that are kept: all, or those whose alarm this node has still to raise."""
        with translated_errors():
            rows = await self._store.reader.fetch(
                "SELECT proof FROM forks WHERE alarm >= ? ORDER BY node, number, one, other",
                (int(unraised),),
            )
        return [bytes(proof) for (proof,) in rows]

    def _told(self, firsts: Sequence[tuple[StreamId, EventKey]]) -> Fork:
        """The fork at which these branches part, by the keys of their first events."""
        told = tuple(ForkBranch(name, first, self._last(name)) for name, first in firsts)
        name = told[0].branch
        return Fork(name.base, self._store.branches.first(name) - 1, told)

    def _last(self, branch: StreamId) -> int:
        """The last offset held of a branch, with what goes on from it behind further forks."""
        branches = self._store.branches
        beyond = [self._last(one.address) for one in branches.children(branch)]
        return max([self._store.head(branch).offset, *beyond])

    async def _part_before(self, proof: ForkProof) -> StreamId | None:
        """The part in which the last common event of a proof is held."""
        offset, branches = proof.offset, self._store.branches
        for part in branches.of(proof.stream):
            within = branches.first(part) <= offset <= self._store.end(part).offset
            if within or (offset == NOTHING and not part.branch):
                hash_ = await self._reader.hash_at(part, offset)
                if hash_ == proof.hash:
                    return part
        return None

    async def _origin(self, part: StreamId, proof: ForkProof) -> Head:
        if proof.offset == NOTHING:
            return Head(part, NOTHING, proof.hash)
        [data, *_] = await self._held_from(part, proof.offset)
        return Head(part, proof.offset, proof.hash, verify_event(part, proof.offset, data).lamport)

    async def _held_from(self, part: StreamId, offset: int) -> Sequence[bytes]:
        """Some of the events that are held of a part from an offset on; none behind its end."""
        end = self._store.end(part).offset
        if offset > end:
            return ()
        sealed = await self._reader.sealed_range(part, offset, 1)
        assert sealed is not None, "every head has a seal behind it"
        return sealed.events[: end - offset + 1]

    async def _proof(
        self, part: StreamId, offset: int, hash_: bytes, received: SealedRange
    ) -> ForkProof:
        """The proof that what a range says from an offset on makes with what is held there."""
        behind = part
        if offset > self._store.end(part).offset:
            behind = self._store.branches.children(part)[0].address
        ours = await self._sealed(behind, offset)
        events = received.events[offset - received.first :]
        theirs = replace(
            addressed(received, part.base),
            first=offset,
            events=events,
            certificate=ours.certificate,
        )
        return make_proof(hash_, ours, theirs)

    async def _sealed(self, part: StreamId, offset: int) -> SealedRange:
        sealed = await self._reader.sealed_range(part, offset, 1)
        assert sealed is not None, "every head has a seal behind it"
        return addressed(sealed, part.base)


def _count_same(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int:
    """How many events at the beginning are the same."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _certified(verified: VerifiedRange, proof: ForkProof) -> VerifiedRange:
    return replace(verified, certificate=proof.one.certificate)
