"""Another node's events, made without that node: sealed ranges with timestamps of one's choice."""

from collections.abc import Sequence
from typing import Any

from lamport.chain import Head, Seal, SealedRange, chained, genesis
from lamport.codec import encode_draft, encode_event
from lamport.event import draft
from lamport.ids import MIN_DRAWN_STREAM_NUMBER, StreamId
from shoal.keys import IdentityKeys
from transport.identity import Identity


class Author:
    """Writes one stream."""

    def __init__(self, identity: Identity) -> None:
        self._keys = IdentityKeys(identity)
        self._head: Head = genesis(
            self._keys.swarm, StreamId(identity.node, MIN_DRAWN_STREAM_NUMBER)
        )

    def write(self, lamports: Sequence[int], tags: Sequence[str], payload: Any) -> SealedRange:
        """A range of events, one for each timestamp; these rise, within the range and from range to range."""
        encoded = encode_draft(draft(list(tags), payload))
        events = tuple(encode_event(lamport, 0, encoded) for lamport in lamports)
        first, offset = self._head.offset + 1, self._head.offset + len(events)
        hash_ = chained(self._head.hash, events)
        self._head = Head(self._head.stream, offset, hash_, lamports[-1])
        seal = Seal(self._head.stream, offset, hash_, lamports[-1], 0).signed(self._keys)
        return SealedRange(first, events, seal, self._keys.certificate)
