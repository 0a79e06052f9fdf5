r"""Proof that a stream has two histories: a value that anybody can verify, and its bytes.

An author signs the head of its stream with every commit. Two sealed ranges that begin behind the same offset and the
same hash, with different events there, are something that no honest author makes with one disk: a copied card beside
its original does, or somebody who forks the own stream on purpose. Each of the two branches is named by the chain's
hash after its first event. The one with the lower name stands first, so that all who find a proof make the same.

    [stream's node, number, common offset + 1, hash there, certificate, [events, seal], [events, seal]]

The seals sign the hashes, the hashes cover every byte of the events and all before them: nothing in a proof can be
altered without one of both seals, or the certificate, failing to hold.
"""

from dataclasses import dataclass, replace
from typing import Any

import msgpack

from lamport.chain import (
    HASH_BYTES,
    MAX_SEALED_BYTES,
    MAX_SEALED_EVENTS,
    CheckedRange,
    Head,
    Keys,
    SealedRange,
    VerifiedRange,
    chained,
    check_range,
    connect_range,
)
from lamport.errors import CorruptRange, InvalidInput
from lamport.fields import read_bytes, read_offset, read_seal, read_stream, seal_fields
from lamport.ids import StreamId

MAX_BRANCHES_OF_NODE = 32
"""Branches of all streams of one node that are kept: a copied card makes two or three, more are made on purpose.

Each costs a proof on the disk (a megabyte at most) and a place in every offset map; what is beyond is set aside.
"""

MAX_BRANCHES_OF_REVOKED = 2 * MAX_BRANCHES_OF_NODE
"""The same of a node that was revoked: who has its key may have used up the others before the admin named a history.

It makes no more of them now; and one that is seen to bear a cut is taken in, however many there are.
"""

MAX_PROOF_BYTES = 2 * (MAX_SEALED_BYTES + 6 * MAX_SEALED_EVENTS) + 8 * 1024
"""Both ranges at their limits with their framing, two seals, and a certificate."""

_FIELDS = 7


@dataclass(frozen=True, slots=True)
class ForkProof:
    """Two branches of a stream, `one` with the lower name: the first sealed range of each behind the common `hash`."""

    hash: bytes
    one: SealedRange
    other: SealedRange

    @property
    def stream(self) -> StreamId:
        """The stream that has two histories."""
        return self.one.stream

    @property
    def offset(self) -> int:
        """The last common offset, -1 where there is none."""
        return self.one.first - 1

    @property
    def branches(self) -> tuple[StreamId, StreamId]:
        """The names of both."""
        return branch_of(self.hash, self.one), branch_of(self.hash, self.other)


@dataclass(frozen=True, slots=True)
class CheckedProof:
    """A proof that holds, and both ranges under the names of their branches."""

    proof: ForkProof
    ranges: tuple[CheckedRange, CheckedRange]


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a proof changes here, worked out against a parent that ends, or goes on, at a certain head.

    `origin` is the last common event, as the head of the parent. `tail` is the branch that what is held behind it turns
    out to be, if something is. `grown` are the branches that are new here, each with its first range; `proofs` what is
    to be kept, and `found` tells whether this node found them.
    """

    origin: Head
    parent: Head
    tail: StreamId | None
    grown: tuple[VerifiedRange, ...]
    proofs: tuple[ForkProof, ...]
    found: bool


def branch_of(hash_: bytes, behind: SealedRange) -> StreamId:
    """The branch that a range begins, behind an offset with this hash."""
    return replace_branch(behind.stream, chained(hash_, behind.events[:1]))


def replace_branch(stream: StreamId, branch: bytes) -> StreamId:
    """Another branch of the same stream."""
    return StreamId(stream.node, stream.number, branch)


def make_proof(hash_: bytes, left: SealedRange, right: SealedRange) -> ForkProof:
    """The proof that two ranges make which begin behind one offset: the same whoever makes it of these.

    What a range came with because the author has pruned what stands before it is no part of that.
    """
    both = [replace(addressed(one, one.stream.base), start=None) for one in (left, right)]
    one, other = sorted(both, key=lambda sealed: chained(hash_, sealed.events[:1]))
    return ForkProof(hash_, one, replace(other, certificate=one.certificate))


def addressed(sealed: SealedRange, address: StreamId) -> SealedRange:
    """The same range under another name of its stream: the author has signed the stream, whichever branch it is."""
    return replace(sealed, seal=replace(sealed.seal, stream=address))


def readdressed(checked: CheckedRange, address: StreamId) -> CheckedRange:
    """The same, with its events."""
    if checked.range.stream == address:
        return checked
    events = tuple(
        event._replace(key=event.key._replace(stream=address)) for event in checked.events
    )
    return CheckedRange(addressed(checked.range, address), events)


def check_proof(proof: ForkProof, keys: Keys) -> CheckedProof:
    """Verify a proof by itself; a long one is better checked in a thread.

    Raises:
        CorruptRange: it proves nothing, or is not its author's.
    """
    one, other = proof.one, proof.other
    if not one.certificate or one.certificate != other.certificate:
        raise CorruptRange("a fork proof comes with its author's certificate")
    if one.stream != other.stream or one.stream.branch or one.first != other.first:
        raise CorruptRange("a fork proof's ranges stand behind one offset of one stream")
    checked = tuple(check_range(sealed, keys) for sealed in (one, other))
    if any(chained(proof.hash, sealed.events) != sealed.seal.hash for sealed in (one, other)):
        raise CorruptRange(
            f"stream {one.stream}: a fork proof's ranges do not chain to their seals"
        )
    names = proof.branches
    if not names[0] < names[1]:
        raise CorruptRange(f"stream {one.stream}: a fork proof names two branches, the lower first")
    first, second = (readdressed(*pair) for pair in zip(checked, names, strict=True))
    return CheckedProof(proof, (first, second))


def grown_range(checked: CheckedRange, origin: Head) -> VerifiedRange:
    """A branch's first range, connected to the last common event.

    Raises:
        CorruptRange: its Lamport timestamps do not rise above that one's.
    """
    verified = connect_range(checked, replace(origin, stream=checked.range.stream))
    assert verified is not None, "a range of a proof begins right behind the common offset"
    return verified


def encode_proof(proof: ForkProof) -> bytes:
    """The proof's bytes."""
    stream, one, other = proof.stream, proof.one, proof.other
    packed: bytes = msgpack.packb(
        [
            bytes(stream.node),
            stream.number,
            one.first,
            proof.hash,
            one.certificate,
            *([half.events, seal_fields(half.seal)] for half in (one, other)),
        ]
    )
    return packed


def decode_proof(data: bytes) -> ForkProof:
    """Read a proof; whether it holds is still to be checked.

    Raises:
        CorruptRange: these are not the bytes of one.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise CorruptRange(f"a fork proof has at most {MAX_PROOF_BYTES} bytes, not {len(data)}")
    try:
        proof = _decoded(msgpack.unpackb(data))
        genuine = encode_proof(proof) == data
    except (InvalidInput, TypeError, ValueError, OverflowError, msgpack.UnpackException) as error:
        raise CorruptRange(f"these bytes are no fork proof ({error})") from error
    if not genuine:
        raise CorruptRange("these bytes are no fork proof as we write it")
    return proof


def _decoded(packed: Any) -> ForkProof:
    if not isinstance(packed, list) or len(packed) != _FIELDS:
        raise ValueError(f"it has {_FIELDS} fields")
    node, number, first, hash_, certificate, *halves = packed
    stream, begin = read_stream(node, number), read_offset(first)
    one, other = (_half(stream, begin, read_bytes(certificate), half) for half in halves)
    return ForkProof(read_bytes(hash_, HASH_BYTES), one, other)


def _half(stream: StreamId, first: int, certificate: bytes, half: Any) -> SealedRange:
    events, signed = half
    if not isinstance(events, list) or not events:
        raise ValueError("a range has events")
    seal = read_seal(stream, signed)
    return SealedRange(first, tuple(map(read_bytes, events)), seal, certificate)
