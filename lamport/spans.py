"""What of a stream a read wants: between which offsets, and without what is hidden.

A page brings blocks and rows that reach beyond what was asked for; before anything of them is decoded, a span picks the
positions and rows that lie within.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lamport.blocks import Block
from lamport.event_table import StoredRow
from lamport.ids import EventKey, StreamId
from lamport.offsets import OffsetMap
from lamport.retraction import Retracted
from lamport.row_keys import STREAM_BITS


class Span(NamedTuple):
    """A stream, and the offsets between which its events are wanted, unless they are hidden.

    Above `lower`, not above `upper`, not hidden by what is retracted up to `as_of`; `hidden` are the timestamps of what
    is hidden by anything.
    """

    stream: StreamId
    lower: int
    upper: int
    hidden: Mapping[int, object]
    retracted: Retracted
    as_of: OffsetMap | None

    def among(self, block: Block, positions: Sequence[int]) -> Sequence[int]:
        """Those of a block's positions that are wanted."""
        first, stop = self.lower + 1 - block.offset, self.upper + 1 - block.offset
        if isinstance(positions, range):
            positions = range(max(positions.start, first), min(positions.stop, stop))
        else:
            positions = [at for at in positions if first <= at < stop]
        if not self.hidden:
            return positions
        seen = [at for at in positions if not self.hides(block.lamport_at(at))]
        return seen if len(seen) < len(positions) else positions  # a range is decoded at once

    def wanted(self, rows: Sequence[StoredRow]) -> Sequence[StoredRow]:
        """Those of a stream's fresh events that are wanted."""
        lower, upper = self.lower, self.upper
        inside = [row for row in rows if lower < row[1] <= upper]
        if not self.hidden:
            return inside
        return [row for row in inside if not self.hides(row[0] >> STREAM_BITS)]

    def hides(self, lamport: int) -> bool:
        """Whether the event with this timestamp is left out."""
        if lamport not in self.hidden:
            return False
        return self.retracted.hides(EventKey(lamport, self.stream), self.as_of)
