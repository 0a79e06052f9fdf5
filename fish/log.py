"""The seam between pond and log: what fish need of a log, and nothing else.

The pond reads what is stored (`read`), hears what arrives (`follow`), publishes what effects ask for (`publish`), and
keeps snapshots beside the events. `lamport.log.EventLog` is such a log; so is any list of events that keeps these
promises.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from lamport.event import Draft, Event
from lamport.follower import Batch
from lamport.ids import EventKey, NodeId, StreamId
from lamport.offsets import OffsetMap
from lamport.reader import Order
from lamport.snapshots import StoredSnapshot
from lamport.tags import Where
from lamport.upcasters import Upcasters


class Follower(Protocol):
    """A cursor over the commits of a log: any lag is allowed, and there is never a gap or a double."""

    @property
    def offsets(self) -> OffsetMap:
        """What was handed over so far, and the start."""
        ...

    async def next(self) -> Batch:
        """Wait for the next commits behind the cursor; several may come as one batch.

        Raises:
            LogClosed: the log was closed and everything was handed over.
        """
        ...


class Log(Protocol):
    """A node's log as fish see it."""

    @property
    def node(self) -> NodeId:
        """The node whose log this is."""
        ...

    @property
    def offsets(self) -> OffsetMap:
        """The present: everything the log holds, durably."""
        ...

    @property
    def upcasters(self) -> Upcasters:
        """What brings events of older versions to today's, before a reducer sees them."""
        ...

    def named_now(self, offsets: OffsetMap) -> OffsetMap:
        """A position in this log under the names its streams' branches bear now, should a fork have been proven since.

        A batch that is `renamed` says that one was. What was withdrawn because its author was revoked is left out.
        """
        ...

    @property
    def horizons(self) -> Mapping[StreamId, int]:
        """The first offset that is kept, of each stream whose beginning was pruned on purpose."""
        ...

    def follow(self, start: OffsetMap) -> Follower:
        """Hand over everything behind `start` from now on."""
        ...

    def read(
        self,
        where: Where,
        *,
        after: EventKey | None = None,
        lower: OffsetMap | None = None,
        upper: OffsetMap | None = None,
        as_of: OffsetMap | None = None,
        order: Order = Order.ASCENDING,
    ) -> AsyncIterator[Sequence[Event]]:
        """Pages of matching events: key above `after`, offset above `lower` up to `upper`; by default in key order.

        A stream that is absent from `upper` yields nothing; without `upper` the present is the bound. What is retracted
        is left out, with `as_of` only by retractions up to these offsets. Events come as they are stored.
        """
        ...

    async def newly_retracted(self, lower: OffsetMap, upper: OffsetMap) -> Sequence[Event]:
        """The events that retractions above `lower` and up to `upper` hide; one that is damaged bears no tags."""
        ...

    async def publish(self, drafts: Sequence[Draft]) -> tuple[Event, ...]:
        """Append events in this order, all or none; they are durable when this returns."""
        ...

    async def save_snapshots(
        self, snapshots: Sequence[StoredSnapshot], thinned: Sequence[EventKey] = ()
    ) -> bool:
        """Keep snapshots of one fish and version, at least one, and drop those at the keys `thinned`; all or nothing.

        Returns whether they are stored: a log that is short of room may leave them out.
        The log bounds how many it keeps of one fish and version: the newest few dozen.
        """
        ...

    async def load_snapshots(
        self, fish: str, version: int, definition: str
    ) -> list[StoredSnapshot]:
        """The snapshots of exactly this fish, newest key first."""
        ...

    async def snapshot_definitions(self, fish: str, version: int) -> Sequence[str]:
        """The definitions of which there are snapshots of this fish and version."""
        ...

    async def drop_snapshots(self, fish: str, from_key: EventKey | None) -> None:
        """Drop the fish's snapshots at or above a key, of any version; None drops all."""
        ...


def horizons_behind(log: Log, where: Where) -> Mapping[StreamId, int]:
    """The horizons behind which there may have been events of a selection that nobody keeps."""
    own_only, node = all(one.local for one in where.alternatives), log.node
    return {s: first for s, first in log.horizons.items() if s.node == node or not own_only}


@asynccontextmanager
async def closing(pages: AsyncIterator[Sequence[Event]]) -> AsyncIterator[None]:
    """End a reading that may be left early now, and not when the garbage collector comes by."""
    try:
        yield
    finally:
        close: Any = getattr(pages, "aclose", None)
        if close is not None:
            await close()


async def first_of(pages: AsyncIterator[Sequence[Event]]) -> Event | None:
    """The first event of a reading, which is left behind it."""
    async with closing(pages):
        async for page in pages:
            if page:
                return page[0]
    return None
