"""Revocations: the admin's word that a node is a member no more, and how much of what it wrote still counts.

A revocation names a cut for each stream of the node: the author's own seal on the last event that counts. A stream that
it does not name is cut at nothing. Since a cut is a seal, every node can verify the stream up to there and no further,
whichever seals it holds itself, and of two histories of a stream the seal says which is meant. One that has forked may
have a cut on each of its branches. Of several revocations of a node each holds: the lowest cut wins.

    [node, [[number, offset, hash, clock, horizon, signature], ...]]      the body of a notice (`lamport.notices`)

The way of a datum: `revocation_of` makes one of the cuts chosen, a notice carries it, `lamport.withdrawal` works out
what it leaves of each stream and makes it so on a disk, and `lamport.cuts` is the picture of that.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgpack

from lamport.chain import Seal
from lamport.errors import InvalidInput
from lamport.fields import read_bytes, read_seal, read_stream, seal_fields
from lamport.ids import NodeId, StreamId
from lamport.notices import MAX_BODY_BYTES

MAX_CUTS = 1_024
"""Cuts of one revocation: all the streams that are taken in of one node, with branches and some room."""

MAX_CUTS_OF_STREAM = 32
"""Cuts of one stream: as many as branches are kept of one node."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """One node's revocation. Each cut is the author's seal on the last event that counts of its stream."""

    node: NodeId
    cuts: tuple[Seal, ...]

    def encode(self) -> bytes:
        """The body of its notice."""
        cuts = [[cut.stream.number, *seal_fields(cut)] for cut in self.cuts]
        packed: bytes = msgpack.packb([bytes(self.node), cuts])
        return packed

    def of(self, stream: StreamId) -> tuple[Seal, ...]:
        """The cuts of a stream; none where nothing of it counts."""
        return tuple(cut for cut in self.cuts if cut.stream == stream.base)


def revocation_of(node: NodeId, cuts: Iterable[Seal]) -> Revocation:
    """The revocation of a node with these cuts, whichever branches they stand on.

    Raises:
        InvalidInput: they are another node's, or too many.
    """
    named = [
        Seal(cut.stream.base, cut.offset, cut.hash, cut.clock, cut.horizon, cut.signature)
        for cut in cuts
    ]
    made = Revocation(node, tuple(sorted(set(named), key=_place)))
    for cut in made.cuts:
        if cut.stream.node != node:
            raise InvalidInput(f"stream {cut.stream} is another node's: name only those of {node}")
    _require_few(made)
    return made


def _place(cut: Seal) -> tuple[StreamId, int, bytes, bytes]:
    return cut.stream, cut.offset, cut.hash, cut.signature


def decode_revocation(body: bytes) -> Revocation:
    """Read the body of a notice.

    Raises:
        InvalidInput: it is none of a revocation.
    """
    try:
        revocation = _decoded(msgpack.unpackb(body))
        genuine = revocation.encode() == body
    except (TypeError, ValueError, msgpack.UnpackException) as error:
        raise InvalidInput(f"this notice is no revocation ({error})") from error
    if not genuine:
        raise InvalidInput("this notice is no revocation as we write it")
    _require_few(revocation)
    return revocation


def _require_few(revocation: Revocation) -> None:
    per_stream = Counter(cut.stream for cut in revocation.cuts)
    most = max(per_stream.values(), default=0)
    if len(revocation.cuts) > MAX_CUTS or most > MAX_CUTS_OF_STREAM:
        raise InvalidInput(
            f"a revocation has at most {MAX_CUTS} cuts, and {MAX_CUTS_OF_STREAM} of one stream"
        )
    assert len(revocation.encode()) <= MAX_BODY_BYTES, "cuts have about 150 bytes each"


def _decoded(packed: Any) -> Revocation:
    node, cuts = packed
    seals = tuple(read_seal(read_stream(node, number), cut) for number, *cut in cuts)
    return Revocation(NodeId(read_bytes(node)), seals)
