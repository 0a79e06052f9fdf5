"""Which parts of the stored rows are which branch: the picture of all proven forks, immutable.

A stream of which only one history is known is one row of the database, and nothing of it stands here. A proven fork
cuts it in parts, each with its own address (a `StreamId` with a branch) for offset maps, heads and wants:

    row 3   0 ───────── 17 │ 18 ──────── 40        the history that this node held first: S up to 17, then S~a1
    row 9                  │ 18 ── 22              the other one, S~b2

Nothing is moved on the disk, and a part is cut again where another fork is proven further back. Which parts there are,
and where they begin, follows from the events alone: nodes that hold the same events know the same parts, whichever
history they held first. Readers take one such picture and keep to it, whatever is proven meanwhile.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lamport.chain import CheckedRange, Head, chained
from lamport.errors import DivergedStream
from lamport.forks import Adoption, replace_branch
from lamport.ids import NodeId, StreamId
from lamport.offsets import OffsetMap, OffsetRange


@dataclass(frozen=True, slots=True)
class Branch:
    """A part behind a fork: its address, the row it stands in, and where it comes from.

    `origin` is the last common event, as a head of the branch's own address; it stands in the row `trunk`.
    """

    address: StreamId
    row: int
    trunk: int
    origin: Head


@dataclass(frozen=True, slots=True)
class Branches:
    """All branches that are known, by address. `base_rows` are the rows of the streams that they belong to."""

    known: Mapping[StreamId, Branch] = field(default_factory=dict)
    base_rows: Mapping[StreamId, int] = field(default_factory=dict)
    parts: Mapping[int, tuple[tuple[int, StreamId], ...]] = field(init=False)
    """For each row that has more than one part: first offset and address of each, in order."""
    closed: Mapping[StreamId, Head] = field(init=False)
    """The parts that end at a fork, and where."""
    _behind: Mapping[StreamId, Sequence[Branch]] = field(init=False, repr=False)
    """The branches that go on from each part, in order."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", self._cut_rows())
        object.__setattr__(self, "_behind", self._by_parent())
        object.__setattr__(self, "closed", dict(self._ended()))

    def _cut_rows(self) -> dict[int, tuple[tuple[int, StreamId], ...]]:
        parts = {row: [(0, stream)] for stream, row in self.base_rows.items()}
        for one in sorted(self.known.values(), key=lambda one: (one.origin.offset, one.address)):
            parts.setdefault(one.row, []).append((one.origin.offset + 1, one.address))
        return {row: tuple(cut) for row, cut in parts.items()}

    def _by_parent(self) -> dict[StreamId, list[Branch]]:
        found: defaultdict[StreamId, list[Branch]] = defaultdict(list)
        for one in sorted(self.known.values(), key=lambda one: one.address):
            found[self._before(one)].append(one)
        return dict(found)

    def _ended(self) -> Iterator[tuple[StreamId, Head]]:
        for parent, [one, *_] in self._behind.items():
            origin = one.origin
            yield parent, Head(parent, origin.offset, origin.hash, origin.lamport)

    def _before(self, one: Branch) -> StreamId:
        """The part that a branch goes on from."""
        cut, offset = self.parts[one.trunk], one.origin.offset
        if offset < 0:
            return one.address.base
        return next(address for first, address in reversed(cut) if first <= offset)

    def at(self, row: int, offset: int) -> StreamId:
        """Whose an event is that stands in a row of several parts."""
        return next(address for first, address in reversed(self.parts[row]) if first <= offset)

    def children(self, parent: StreamId) -> Sequence[Branch]:
        """The branches that go on from a part, in order."""
        return self._behind.get(parent, ())

    def line(self, part: StreamId) -> list[StreamId]:
        """A part, and those that it comes from, the last first."""
        line = [part]
        while (branch := self.known.get(line[-1])) is not None:
            line.append(self._before(branch))
        return line

    def of(self, stream: StreamId) -> list[StreamId]:
        """All parts of a stream, the beginning first."""
        base = stream.base
        return [base, *sorted(one for one in self.known if one.base == base)]

    def of_node(self, node: NodeId) -> int:
        """How many branches of all streams of a node are known."""
        return sum(one.node == node for one in self.known)

    def first(self, stream: StreamId) -> int:
        """The offset at which a part begins."""
        branch = self.known.get(stream)
        return 0 if branch is None else branch.origin.offset + 1

    def renamed(self, offsets: OffsetMap) -> OffsetMap:
        """A position of this node's own under the names that parts bear now.

        What reached beyond the end of a part reached into what stands behind it in the same row.
        """
        beyond = [one for one, head in self.closed.items() if offsets.of(one) > head.offset]
        if not beyond:
            return offsets
        moved = dict(offsets)
        for stream in beyond:
            reached = moved.pop(stream)
            for address, last in self._row_from(stream):
                up_to = reached if last is None else min(reached, last)
                if up_to >= self.first(address):
                    moved[address] = max(up_to, moved.get(address, -1))
        return OffsetMap(moved)

    def named_now(self, stream: StreamId, offset: int) -> StreamId:
        """The part in which an event stands that was in another one before a fork was proven."""
        parts = self.renamed(OffsetMap({stream: offset}))
        return next(one for one, last in parts.items() if last == offset)

    def rows_of(self, stream: StreamId) -> set[int]:
        """The rows in which events of a stream may stand, whatever its branches; none where it has not forked."""
        base = stream.base
        rows = {one.row for one in self.known.values() if one.address.base == base}
        return rows | {self.base_rows[base]} if rows else rows

    def clipped(self, offsets: OffsetMap) -> OffsetMap:
        """A position that another node, or an earlier time, may have handed out: only what it says for certain."""
        known = {
            stream: min(offset, self.closed[stream].offset) if stream in self.closed else offset
            for stream, offset in offsets.items()
        }
        return OffsetMap({stream: offset for stream, offset in known.items() if offset >= 0})

    def cut(self, held: OffsetRange) -> Iterator[OffsetRange]:
        """Offsets that were counted along a row, or before a fork was proven, as those of the parts there are now."""
        stream = held.stream
        if stream not in self.known and stream not in self.base_rows:
            yield held
            return
        for address, end in self._row_from(stream):
            first = max(held.first, self.first(address))
            last = held.last if end is None else min(held.last, end)
            if first <= last:
                yield OffsetRange(address, first, last)

    def _row_from(self, stream: StreamId) -> Iterator[tuple[StreamId, int | None]]:
        """A part and those behind it in its row, each with its last offset (None: it is open)."""
        row = self.known[stream].row if stream.branch else self.base_rows[stream]
        begun = False
        for _, address in self.parts[row]:
            begun = begun or address == stream
            if begun:
                end = self.closed.get(address)
                yield address, None if end is None else end.offset

    def routed(self, checked: CheckedRange, heads: Mapping[StreamId, Head]) -> StreamId:
        """The part that a range adds to: whoever does not know of the fork still sends it under an earlier name.

        Raises:
            DivergedStream: it goes on behind a fork with what is no branch known here, or goes on from none of them.
        """
        sealed, stream = checked.range, checked.range.stream
        while (end := self.closed.get(stream)) is not None and sealed.seal.offset > end.offset:
            if sealed.first > end.offset + 1:
                return self._continued(checked, heads)
            behind = sealed.events[end.offset + 1 - sealed.first :]
            if chained(end.hash, behind) != sealed.seal.hash:
                raise DivergedStream(f"stream {stream} has another history than this range")
            stream = replace_branch(stream, chained(end.hash, behind[:1]))
            if stream not in self.known:
                raise DivergedStream(f"stream {stream} has one more branch")
        return stream

    def _continued(self, checked: CheckedRange, heads: Mapping[StreamId, Head]) -> StreamId:
        """The branch to whose head a range chains; its own name where there is none."""
        sealed = checked.range
        for one in self.of(sealed.stream):
            head = heads.get(one)
            if one in self.closed or head is None or not head.offset + 1 >= sealed.first:
                continue
            if (
                chained(head.hash, sealed.events[head.offset + 1 - sealed.first :])
                == sealed.seal.hash
            ):
                return one
        return sealed.stream

    def adopted(self, adoption: Adoption, rows: Mapping[StreamId, int]) -> "Branches":
        """This picture with what an adoption adds; `rows` says where parts stand, the new ones among them."""
        origin, parent = adoption.origin, adoption.origin.stream
        trunk = rows[parent]
        known = dict(self.known)
        if adoption.tail is not None:
            known[adoption.tail] = Branch(adoption.tail, trunk, trunk, _as(origin, adoption.tail))
        for grown in adoption.grown:
            address = grown.head.stream
            known[address] = Branch(address, rows[address], trunk, _as(origin, address))
        base_rows = {**self.base_rows, parent.base: rows[parent.base]}
        return Branches(known, base_rows)


def _as(head: Head, address: StreamId) -> Head:
    return Head(address, head.offset, head.hash, head.lamport)
