"""The hash chain of a stream, and the seals that vouch for it.

Every event's bytes are hashed onto the hash before them, beginning with a value that only this stream of this swarm
has. A seal is the author's signature on one point of that chain, and so on everything before it:

    hash[n] = SHA-256(hash[n-1] || bytes[n])        hash[-1] = SHA-256(domain, swarm, stream)
    seal(n) = sign(domain, swarm, stream, n, hash[n], clock, horizon)

A received range is verified by chaining forward from the prefix already held and checking one signature. Pure
functions; keys are handed in.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from lamport.codec import verify_event
from lamport.errors import CorruptRange, DivergedStream
from lamport.event import Event
from lamport.ids import MAX_LAMPORT, NodeId, StreamId
from lamport.offsets import NOTHING

if TYPE_CHECKING:  # notices are verified with these keys
    from lamport.notices import Notice

HASH_BYTES = 32
SIGNATURE_BYTES = 64

MAX_SEALED_EVENTS = 1_000
"""There is a seal at least every so many events …"""

MAX_SEALED_BYTES = 512 * 1024
"""… and so many bytes of events, so that a sealed range fits one frame. (One event is always allowed.)"""

_CHAIN_DOMAIN = b"shoal/chain/1\0"
_SEAL_DOMAIN = b"shoal/seal/1\0"


class Keys(Protocol):
    """What the log needs of this device's identity. Keys stay where they are; only answers cross this seam."""

    @property
    def node(self) -> NodeId:
        """This node."""
        ...

    @property
    def swarm(self) -> bytes:
        """The swarm's id, 32 bytes."""
        ...

    @property
    def certificate(self) -> bytes:
        """This node's certificate, DER."""
        ...

    def sign(self, data: bytes) -> bytes:
        """This node's signature, 64 bytes."""
        ...

    def verify(self, node: NodeId, signature: bytes, data: bytes) -> bool:
        """Whether that node signed this."""
        ...

    def certifies(self, certificate: bytes, node: NodeId) -> bool:
        """Whether this swarm's authority vouches for that node with this certificate."""
        ...

    def verifies_admin(self, signature: bytes, data: bytes) -> bool:
        """Whether the swarm's admin signed this."""
        ...

    def learn(self, notices: "Iterable[Notice]") -> None:
        """Take note of what the admin has said of members; raise `InvalidInput` where it cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """How far a stream reaches: its highest offset (-1 for none), the chain's hash there, and that event's lamport."""

    stream: StreamId
    offset: int
    hash: bytes
    lamport: int = 0


@dataclass(frozen=True, slots=True)
class Seal:
    """The author's signature on a head.

    `clock` is its Lamport clock then, `horizon` the first offset of the stream that it still keeps.
    """

    stream: StreamId
    offset: int
    hash: bytes
    clock: int
    horizon: int
    signature: bytes = b""

    def signed_bytes(self, swarm: bytes) -> bytes:
        """What the signature covers."""
        numbers = struct.pack("!QQQQ", self.stream.number, self.offset, self.clock, self.horizon)
        return b"".join((_SEAL_DOMAIN, swarm, self.stream.node, numbers, self.hash))

    def signed(self, keys: Keys) -> "Seal":
        """This seal with this node's signature."""
        signature = keys.sign(self.signed_bytes(keys.swarm))
        return Seal(self.stream, self.offset, self.hash, self.clock, self.horizon, signature)


@dataclass(frozen=True, slots=True)
class Start:
    """Why a range may begin behind events that nobody keeps any more (see docs/retention.md).

    Only `seal` is a claim that needs a signature: the range's own seal proves `hash`, which it was chained onto.
    """

    hash: bytes
    """The chain's hash before the range's first event."""
    seal: Seal | None = None
    """The author's word for the horizon; None where the receiver has it already."""


@dataclass(frozen=True, slots=True)
class SealedRange:
    """Consecutive events of a stream as their author's bytes, from offset `first` up to a seal."""

    first: int
    events: tuple[bytes, ...]
    seal: Seal
    certificate: bytes = b""
    """The author's certificate, where the receiver may not have it."""
    start: Start | None = None
    """Given where what stands before it was pruned."""

    @property
    def stream(self) -> StreamId:
        """The stream they stand in."""
        return self.seal.stream


def genesis(swarm: bytes, stream: StreamId) -> Head:
    """The head of a stream that has no event yet."""
    origin = hashlib.sha256(
        b"".join((_CHAIN_DOMAIN, swarm, stream.node, struct.pack("!Q", stream.number)))
    )
    return Head(stream, NOTHING, origin.digest())


def chained(before: bytes, events: Iterable[bytes]) -> bytes:
    """The chain's hash after these events."""
    for data in events:
        before = hashlib.sha256(before + data).digest()
    return before


@dataclass(frozen=True, slots=True)
class VerifiedRange:
    """What a received range adds to a stream: the events behind the head, decoded and as bytes, and the new head."""

    head: Head
    events: tuple[Event, ...]
    data: tuple[bytes, ...]
    seal: Seal
    certificate: bytes
    start: Start | None = None
    """Given where there is a gap between the head and these events, behind which nobody keeps anything."""


@dataclass(frozen=True, slots=True)
class CheckedRange:
    """A range that holds in itself: shape, limits, certificate, seal. Whether it follows from a prefix is open."""

    range: SealedRange
    events: tuple[Event, ...]


def check_range(received: SealedRange, keys: Keys) -> CheckedRange:
    """Check all of a range that can be checked without knowing the prefix: the long part, safe to run in a thread.

    Raises:
        CorruptRange: its shape, an event, the seal or the certificate does not hold. Nothing of it may be used.
    """
    _check_shape(received)
    stream, seal = received.stream, received.seal
    if received.certificate and not keys.certifies(received.certificate, stream.node):
        raise CorruptRange(
            f"stream {stream}: its certificate is not of this swarm, or of another node"
        )
    require_signed(seal, keys)
    if received.start is not None:
        _check_start(received, received.start, keys)
    numbered = enumerate(received.events, received.first)
    events = tuple(verify_event(stream, offset, data) for offset, data in numbered)
    _check_lamports(events, seal)
    return CheckedRange(received, events)


def require_signed(seal: Seal, keys: Keys) -> None:
    """Raise `CorruptRange` unless a seal is its author's and does not give up what it vouches for."""
    stream = seal.stream
    if not keys.verify(stream.node, seal.signature, seal.signed_bytes(keys.swarm)):
        raise CorruptRange(f"stream {stream}: the seal at offset {seal.offset} is not its author's")
    if seal.horizon > seal.offset + 1:
        raise CorruptRange(
            f"stream {stream}: the horizon {seal.horizon} lies beyond what was written, {seal.offset}"
        )


def connect_range(checked: CheckedRange, head: Head) -> VerifiedRange | None:
    """Chain a checked range to the prefix held; None where it adds nothing or does not connect yet.

    One with a `start` connects across a gap, too: whether that may be jumped over is for the caller to know.

    Events up to the head are passed over: the chain from the head to the seal proves that they were the same.

    Raises:
        CorruptRange: its Lamport timestamps do not rise above the prefix's.
        DivergedStream: it is validly sealed, but on another history than the one held here.
    """
    received, seal = checked.range, checked.range.seal
    if seal.offset <= head.offset:
        return None
    if received.first > head.offset + 1:
        return None if received.start is None else _jumped(checked, received.start, head)
    known = head.offset + 1 - received.first
    data, events = received.events[known:], checked.events[known:]
    if chained(head.hash, data) != seal.hash:
        raise DivergedStream(
            f"stream {seal.stream}: offsets {head.offset + 1} to {seal.offset} do not chain to the seal"
        )
    if events[0].lamport <= head.lamport:
        raise CorruptRange(f"stream {seal.stream}: lamports strictly rise")
    reached = Head(seal.stream, seal.offset, seal.hash, events[-1].lamport)
    return VerifiedRange(reached, events, data, seal, received.certificate)


def _jumped(checked: CheckedRange, start: Start, head: Head) -> VerifiedRange:
    received, seal = checked.range, checked.range.seal
    if chained(start.hash, received.events) != seal.hash:
        raise CorruptRange(
            f"stream {seal.stream}: offsets {received.first} to {seal.offset} do not chain to the seal"
        )
    if checked.events[0].lamport <= head.lamport:
        raise CorruptRange(f"stream {seal.stream}: lamports strictly rise")
    reached = Head(seal.stream, seal.offset, seal.hash, checked.events[-1].lamport)
    return VerifiedRange(
        reached, checked.events, received.events, seal, received.certificate, start
    )


def _check_shape(received: SealedRange) -> None:
    seal, count = received.seal, len(received.events)
    if not 0 < count <= MAX_SEALED_EVENTS:
        raise CorruptRange(f"a sealed range has 1 to {MAX_SEALED_EVENTS} events, not {count}")
    if count > 1 and sum(map(len, received.events)) > MAX_SEALED_BYTES:
        raise CorruptRange(f"a sealed range has at most {MAX_SEALED_BYTES} bytes of events")
    if received.first < 0 or received.first + count - 1 != seal.offset:
        raise CorruptRange(f"stream {seal.stream}: the seal is not at the range's last offset")
    if len(seal.hash) != HASH_BYTES or len(seal.signature) != SIGNATURE_BYTES:
        raise CorruptRange(f"stream {seal.stream}: hash or signature of the wrong length")


def _check_start(received: SealedRange, start: Start, keys: Keys) -> None:
    if len(start.hash) != HASH_BYTES:
        raise CorruptRange(f"stream {received.stream}: a hash of the wrong length")
    if start.seal is None:
        return
    require_signed(start.seal, keys)
    if start.seal.stream != received.stream or start.seal.horizon < received.first:
        raise CorruptRange(
            f"stream {received.stream}: what stands before offset {received.first} was not given up"
        )


def _check_lamports(events: tuple[Event, ...], seal: Seal) -> None:
    if any(after.lamport <= before.lamport for before, after in pairwise(events)):
        raise CorruptRange(f"stream {seal.stream}: lamports strictly rise")
    if not events[-1].lamport <= seal.clock <= MAX_LAMPORT:
        raise CorruptRange(
            f"stream {seal.stream}: the seal's clock is behind its last event, or out of bounds"
        )
