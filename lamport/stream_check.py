"""Whether one stream, as it is stored, is what its author signed: a machine that is fed its events and seals in order.

Each event's bytes are hashed onto the hash before them, decoded under all limits, and held against the place where they
are filed. A seal must bear the hash that was reached, and its author's signature. A seal that is genuine is believed
even where the chain before it is not: behind it the chain grows on from the seal's hash. So a damage is named by the
offsets between two seals, and what lies behind it is judged by itself. Pure; nothing here reads or repairs anything.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lamport.chain import HASH_BYTES, Head, Keys, Seal, SealedRange, chained, genesis
from lamport.codec import verify_event
from lamport.errors import DAMAGE_REMEDY, CorruptRange, DamagedRange
from lamport.event import Event
from lamport.ids import MAX_LAMPORT, StreamId
from lamport.offsets import NOTHING, OffsetRange

_NUMBER_LIMIT = 2**63


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold: offsets `first` to `last` of a stream, a stream as such, or the whole database."""

    fault: str
    stream: StreamId | None = None
    first: int | None = None
    last: int | None = None

    def __str__(self) -> str:
        if self.stream is None:
            return f"database: {self.fault}"
        if self.first is None:
            return f"stream {self.stream}: {self.fault}"
        return f"stream {self.stream}, offsets {self.first} to {self.last}: {self.fault}"


@dataclass(frozen=True, slots=True)
class FiledEvent:
    """An event's bytes, and where the database says that they belong."""

    offset: Any
    lamport: int
    data: bytes


class StreamCheck:
    """Looks at one stream. `told` is the head that the database tells, `sound` the last head before any fault.

    With `origin` it begins behind an event that stands elsewhere: it is a branch (`lamport.branches`). Of a stream
    whose beginning was pruned it looks at what is kept, from `kept` on, before which the chain's hash is `base`: what
    the first seal there vouches for, it vouches for that hash, too.
    """

    def __init__(
        self, told: Head, keys: Keys, origin: Head | None = None, kept: Any = 0, base: Any = b""
    ) -> None:
        # What stands in a damaged row may be of any type.
        self.kept: int = kept if isinstance(kept, int) and kept > 0 else 0
        self.told = told
        self.sound = origin or genesis(keys.swarm, told.stream)
        self.damaged = False
        self._keys = keys
        self._hash = base if self.kept and isinstance(base, bytes) else self.sound.hash
        self._lamport = 0 if self.kept else self.sound.lamport
        self._reached = self._vouched = self._placed = max(self.kept - 1, self.sound.offset)
        # What stands in a damaged row may be of any type.
        stored: Any = told.offset
        self._end = stored if isinstance(stored, int) else NOTHING

    @property
    def stream(self) -> StreamId:
        """The stream."""
        return self.told.stream

    def place(self, filed: Any) -> int:
        """The offset of the next event, by the one it is filed under: believed where it is possible."""
        due = self._placed + 1
        believed = isinstance(filed, int) and due < filed <= self._end
        self._placed = filed if believed else due
        return self._placed

    def event(self, offset: int, filed: FiledEvent) -> tuple[Event | None, list[Finding]]:
        """Take in the event that was placed at `offset`; returns it (None where its bytes are none), and its faults."""
        faults = list(self._misplaced(offset, filed))
        self._reached, self._lamport = offset, filed.lamport
        self._hash = chained(self._hash, (filed.data,))
        try:
            event = verify_event(self.stream, offset, filed.data)
        except CorruptRange as error:
            return None, [*faults, self.fault(str(error), offset)]
        if event.lamport != filed.lamport:
            text = f"its Lamport timestamp is {event.lamport}, it is filed under {filed.lamport}"
            faults.append(self.fault(text, offset))
        return event, faults

    def seal(self, seal: Seal) -> Iterator[Finding]:
        """Take in the seal at the offset reached."""
        if not is_genuine(seal, self._keys):
            yield self.fault("the seal there is not its author's", seal.offset)
            return
        if seal.hash != self._hash:
            text = "the bytes are not those that the author sealed"
            yield self.fault(text, self._vouched + 1, seal.offset)
        if not self._lamport <= seal.clock <= MAX_LAMPORT:
            yield self.fault(f"the seal's clock is {seal.clock}", seal.offset)
        self._hash, self._vouched = seal.hash, seal.offset
        if not self.damaged:
            self.sound = Head(self.stream, seal.offset, seal.hash, self._lamport)

    def end(self) -> Iterator[Finding]:
        """There is no more of this stream."""
        told = self.told
        if self._reached < self._end:
            yield self.fault("these events are missing", self._reached + 1, self._end)
        elif self._vouched < self._reached:
            yield self.fault("no seal vouches for these", self._vouched + 1, self._reached)
        elif (told.offset, told.hash, told.lamport) != (self._reached, self._hash, self._lamport):
            yield self.fault("its head does not tell what is stored")

    def fault(self, text: str, first: int | None = None, last: int | None = None) -> Finding:
        """A fault of this stream: what is sound ends before it."""
        self.damaged = True
        return Finding(text, self.stream, first, first if last is None else last)

    def _misplaced(self, offset: int, filed: FiledEvent) -> Iterator[Finding]:
        due = self._reached + 1
        if offset > due:
            yield self.fault("these events are missing", due, offset - 1)
        if filed.offset != offset:
            yield self.fault(f"filed under the offset {filed.offset!r}", offset)


def require_genuine(stored: SealedRange, keys: Keys) -> None:
    """Raise `DamagedRange` unless a stored range's seals and certificate are what they were when they were verified."""
    seal, node, start = stored.seal, stored.stream.node, stored.start
    seals = [seal] if start is None or start.seal is None else [seal, start.seal]
    if not all(is_genuine(one, keys) for one in seals) or not keys.certifies(
        stored.certificate, node
    ):
        raise DamagedRange(
            f"the seal at offset {seal.offset} of stream {seal.stream}, or its author's certificate, is damaged"
            f" on this disk: {DAMAGE_REMEDY}",
            OffsetRange(seal.stream, seal.offset, seal.offset),
        )


def is_genuine(seal: Seal, keys: Keys) -> bool:
    """Whether the author signed this. What stands in a damaged row may be of any type and size."""
    numbers: tuple[Any, ...] = (seal.offset, seal.clock, seal.horizon)
    texts: tuple[Any, ...] = (seal.hash, seal.signature)
    if not all(isinstance(one, int) and 0 <= one < _NUMBER_LIMIT for one in numbers):
        return False
    if not all(isinstance(one, bytes) for one in texts) or len(seal.hash) != HASH_BYTES:
        return False
    return keys.verify(seal.stream.node, seal.signature, seal.signed_bytes(keys.swarm))
