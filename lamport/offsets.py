"""How much of each stream is known: the version vector of the swarm.

An `OffsetMap` maps streams to the highest offset up to which every event is held, without gaps. Comparing two of them
says exactly what one side lacks; that difference is what replication asks for.
"""

from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lamport.errors import InvalidInput
from lamport.ids import StreamId

NOTHING = -1
"""The offset before a stream's first event."""


@dataclass(frozen=True, slots=True, order=True)
class OffsetRange:
    """Offsets `first` to `last` of a stream, both included."""

    stream: StreamId
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


class OffsetMap(Mapping[StreamId, int]):
    """Highest gapless offset per stream; a stream that is absent is not known at all. Immutable."""

    __slots__ = ("_offsets",)

    def __init__(self, offsets: Mapping[StreamId, int] | None = None) -> None:
        """Raise `InvalidInput` for an offset below 0."""
        self._offsets = dict(offsets or {})
        for stream, offset in self._offsets.items():
            if offset < 0:
                raise InvalidInput(f"offsets start at 0, stream {stream} has {offset}")

    @classmethod
    def from_json(cls, value: object) -> "OffsetMap":
        """Read the JSON form, an object of stream texts and offsets; raise `InvalidInput` where it is not one."""
        if not isinstance(value, dict):
            raise InvalidInput(f"an offset map is an object, not {type(value).__name__}")
        for offset in value.values():
            if not isinstance(offset, int) or isinstance(offset, bool):
                raise InvalidInput(f"an offset is an integer, not {offset!r}")
        return cls({StreamId.parse(stream): offset for stream, offset in value.items()})

    def to_json(self) -> dict[str, int]:
        """The JSON form, in stream order."""
        return {stream.address: self._offsets[stream] for stream in sorted(self._offsets)}

    def of(self, stream: StreamId) -> int:
        """The highest offset of a stream, -1 where nothing of it is known."""
        return self._offsets.get(stream, NOTHING)

    def raised(self, changes: Mapping[StreamId, int]) -> "OffsetMap":
        """This map with each stream at the higher of both offsets."""
        merged = OffsetMap()
        merged._offsets = offsets = dict(self._offsets)
        for stream, offset in changes.items():
            if offset > offsets.get(stream, NOTHING):
                offsets[stream] = offset
        return merged

    def covers(self, other: "OffsetMap") -> bool:
        """Whether everything the other knows is known here."""
        return all(self.of(stream) >= offset for stream, offset in other.items())

    def items(self) -> ItemsView[StreamId, int]:
        """Streams and offsets. Maps are copied and compared at each commit: this and equality go the quick way."""
        return self._offsets.items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, OffsetMap):
            return self._offsets == other._offsets
        return super().__eq__(other)

    def __getitem__(self, stream: StreamId) -> int:
        return self._offsets[stream]

    def __iter__(self) -> Iterator[StreamId]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __hash__(self) -> int:
        return hash(frozenset(self._offsets.items()))

    def __repr__(self) -> str:
        return f"OffsetMap({self.to_json()})"


def missing(
    ours: OffsetMap, theirs: OffsetMap, horizons: Mapping[StreamId, int] = MappingProxyType({})
) -> tuple[OffsetRange, ...]:
    """What they hold and we lack: per stream the offsets from behind ours up to theirs, in stream order.

    What lies before a stream's horizon is pruned on purpose and lacks nobody.
    """
    ahead = sorted(stream for stream, offset in theirs.items() if offset > ours.of(stream))
    firsts = {stream: max(ours.of(stream) + 1, horizons.get(stream, 0)) for stream in ahead}
    return tuple(
        OffsetRange(stream, first, theirs[stream])
        for stream, first in firsts.items()
        if theirs[stream] >= first
    )
