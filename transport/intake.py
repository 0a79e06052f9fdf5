"""What one link has received and the log has not yet taken in: two lines, so that what is long holds up nothing short.

A short range goes ahead of the long ones of other authors, and of nothing else. An author's ranges keep their order,
whichever line they stand in: one may be what the next follows from, or bring the certificate by which it is judged.
Notices of the admin and proofs of forks stay where they came: they overtake nothing, and what comes behind one is taken
in by its light. So the quick line holds nothing whose author waits in the steady one, and what is the first of the
steady line waits until what it came behind has left the quick one. A line that is full holds up whoever reads from the
peer, and so at last the peer.
"""

import asyncio
from collections import Counter, deque

from lamport.chain import SealedRange
from lamport.forks import ForkProof
from lamport.ids import NodeId
from lamport.notices import Notice
from lamport.requests import is_short

WAITING_RANGES = 4
"""Received ranges that may wait in a line; beyond that the peer is not read from, and slows down."""

Received = SealedRange | ForkProof | Notice
"""What a link hands to the log."""


class Line:
    """One of the two lines. For one task that takes out of it."""

    def __init__(self, ahead: "Line | None" = None) -> None:
        """Of what came here, nothing is to overtake what it came behind in the line `ahead`."""
        self._items: asyncio.Queue[Received] = asyncio.Queue(WAITING_RANGES)
        self._undone: deque[Received] = deque()
        self._authors: Counter[NodeId] = Counter()
        self._others = 0
        self._ahead = ahead
        self._left = asyncio.Event()

    def __len__(self) -> int:
        """How many wait."""
        return self._items.qsize()

    @property
    def is_full(self) -> bool:
        """Whether whoever brings the next one has to wait."""
        return self._items.full()

    def may_be_overtaken_by(self, author: NodeId) -> bool:
        """Whether nothing here, or just taken out of here, is to come before this author's ranges."""
        return not self._others and author not in self._authors

    async def put(self, item: Received) -> None:
        """Add one at the end."""
        self._count(item, 1)
        self._undone.append(item)
        await self._items.put(item)

    async def get(self) -> Received:
        """The first one, once what it came behind is done; `done` is to be called with it."""
        item = await self._items.get()
        while self._ahead is not None and self._ahead._holds_up(item):  # noqa: SLF001 - another line
            await self._ahead._left.wait()  # noqa: SLF001 - the same
        return item

    @property
    def undone(self) -> tuple[Received, ...]:
        """What has come and is not done, in order: at the door, in line, or taken out of it."""
        return tuple(self._undone)

    def done(self, item: Received) -> None:
        """One that was taken out is in the log, or will never be."""
        first = self._undone.popleft()
        assert first is item, "one task takes out what comes, and finishes each before the next"
        self._count(item, -1)
        self._left.set()
        self._left = asyncio.Event()

    def _holds_up(self, item: Received) -> bool:
        """Whether something here came before an item of the other line, and is to be taken in before it.

        While that item waits nothing joins this line that would have to come behind it.
        """
        if isinstance(item, SealedRange):
            return not self.may_be_overtaken_by(item.stream.node)
        return bool(self._others or self._authors)

    def _count(self, item: Received, number: int) -> None:
        if not isinstance(item, SealedRange):
            self._others += number
            return
        author = item.stream.node
        self._authors[author] += number
        if not self._authors[author]:
            del self._authors[author]


class Intake:
    """Both lines."""

    def __init__(self) -> None:
        self.quick = Line()
        self.steady = Line(ahead=self.quick)

    @property
    def lines(self) -> tuple[Line, Line]:
        """Both, the quick one first."""
        return self.quick, self.steady

    @property
    def is_full(self) -> bool:
        """Whether there is no room for one more long range, or for one more short one."""
        return self.steady.is_full or self.quick.is_full

    async def put(self, item: Received) -> None:
        """Add one, once there is room in its line."""
        await (self.quick if self._is_quick(item) else self.steady).put(item)

    def _is_quick(self, item: Received) -> bool:
        if not isinstance(item, SealedRange):
            return False
        short = is_short(len(item.events), sum(map(len, item.events)))
        return short and self.steady.may_be_overtaken_by(item.stream.node)
