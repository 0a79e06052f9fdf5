"""What a policy prunes: decided by the author of a stream alone, and only at its own seals.

A `Ledger` knows, of one own stream, where its seals stand and how old and how large what lies between them is. It is
told of each seal as it is made, and holds a bounded number of blocks: beyond that neighbours are joined, so that a
horizon stands a little coarser and memory does not grow with the stream. `due_horizon` is the decision. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from lamport.routes import Policy

MAX_BLOCKS = 1_024
"""Blocks of one ledger; when there are more, each two neighbours become one."""

SLACK = 8
"""A limit may be passed by an eighth before anything is pruned: else each commit at the limit would prune a little."""

MICROSECONDS = 1_000_000


class Block(NamedTuple):
    """Consecutive events of a stream that end in a seal: their last offset, their bytes, the newest timestamp."""

    last: int
    bytes: int
    newest: int

    def joined(self, after: "Block") -> "Block":
        """This block and the one behind it as one."""
        return Block(after.last, self.bytes + after.bytes, max(self.newest, after.newest))


@dataclass(slots=True)
class Ledger:
    """The blocks of one own stream from `first` on, oldest first."""

    first: int = 0
    blocks: list[Block] = field(default_factory=list)
    bytes: int = 0

    def add(self, block: Block) -> None:
        """Take note of one that was just written, or read in the order in which it was."""
        self.blocks.append(block)
        self.bytes += block.bytes
        if len(self.blocks) > MAX_BLOCKS:
            self._join_neighbours()

    def drop(self, horizon: int) -> None:
        """Forget what lies before the horizon."""
        gone = sum(block.last < horizon for block in self.blocks)
        self.bytes -= sum(block.bytes for block in self.blocks[:gone])
        del self.blocks[:gone]
        self.first = max(self.first, horizon)

    @property
    def events(self) -> int:
        """How many events there are."""
        return self.next - self.first

    @property
    def next(self) -> int:
        """The offset behind the last block."""
        return self.blocks[-1].last + 1 if self.blocks else self.first

    def _join_neighbours(self) -> None:
        last = self.blocks.pop()  # the newest stays by itself: it is never pruned
        pairs = zip(self.blocks[::2], self.blocks[1::2], strict=True)
        self.blocks = [*(one.joined(other) for one, other in pairs), last]


def due_horizon(policy: Policy, ledger: Ledger, now: int) -> int:
    """The horizon that a policy demands; `ledger.first` where nothing is to be pruned.

    Whole blocks are pruned, oldest first, and never the last. What a limit promises to keep is kept: only blocks that
    lie entirely beyond it go. `now` is in microseconds, by the author's clock.
    """
    horizon = ledger.first
    if not ledger.blocks:
        return horizon
    if policy.max_events is not None and _is_passed(policy.max_events, ledger.events):
        counts = (ledger.next - 1 - block.last for block in ledger.blocks)
        horizon = max(horizon, _behind_which(policy.max_events, counts, ledger))
    if policy.max_size_bytes is not None and _is_passed(policy.max_size_bytes, ledger.bytes):
        sizes = (ledger.bytes - size for size in accumulate(one.bytes for one in ledger.blocks))
        horizon = max(horizon, _behind_which(policy.max_size_bytes, sizes, ledger))
    if policy.max_age_s is not None:
        horizon = max(horizon, _young(int(policy.max_age_s * MICROSECONDS), now, ledger))
    return horizon


def _is_passed(limit: int, measure: int) -> bool:
    return measure > limit + limit // SLACK


def _behind_which(limit: int, left: Iterable[int], ledger: Ledger) -> int:
    """The end of the last block behind which there is still as much `left` as the limit keeps."""
    horizon = ledger.first
    for block, behind in zip(ledger.blocks, left, strict=True):
        if behind < limit:
            break
        horizon = block.last + 1
    return horizon


def _young(age_us: int, now: int, ledger: Ledger) -> int:
    """The end of the first blocks whose events are all older; the last block is kept, however old."""
    horizon = ledger.first
    if ledger.blocks[0].newest < now - age_us - age_us // SLACK:
        for block in ledger.blocks[:-1]:
            if block.newest >= now - age_us:
                break
            horizon = block.last + 1
    return horizon
