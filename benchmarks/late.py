"""A node with a full log and a fish that counts, for events that come late."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.events import generate, stream
from benchmarks.fold import INITIAL, Totals, add
from benchmarks.library import tidy_up
from benchmarks.nodes import PLAIN_NAME, fill, make_identities, running
from benchmarks.raw import store_copy
from benchmarks.rounds import Figures, fresh_folder
from fish import Fish
from lamport.tags import ALL_EVENTS
from shoal.node import Node
from transport.identity import Identity

PAYLOAD = {"value": 1.0}
"""What a late event says."""

Late = Callable[[Node, Fish[Totals], Sequence[Identity]], Awaitable[Figures]]


@dataclass
class Full:
    """A node's folder, filled with events whose timestamps count from 1; and others of its swarm."""

    folder: Path
    identity: Identity
    others: list[Identity]
    versions: int = 0

    @property
    def plain(self) -> Path:
        """A plain table of as many events as the log holds when the first late ones have come."""
        return self.folder / PLAIN_NAME

    def run(self, late: Late, authors: int) -> Figures:
        """Open the node, fold everything, then measure what so many other nodes bring late."""
        return asyncio.run(self._run(late, [self.others.pop() for _ in range(authors)]))

    async def _run(self, late: Late, authors: Sequence[Identity]) -> Figures:
        self.versions += 1
        fish = Fish("late", ALL_EVENTS, INITIAL, add, version=self.versions)
        async with running(self.folder, self.identity) as node:
            await node.pond.current_state(fish)
            return await late(node, fish, authors)


@contextmanager
def full(events: int, others: int, late: int) -> Iterator[Full]:
    """A log filled with events, to which each run brings some late ones; gone afterwards."""
    identity, *rest = make_identities(1 + others)
    with fresh_folder() as folder:
        asyncio.run(_fill(folder, identity, events))
        asyncio.run(tidy_up(folder, identity))
        store_copy(stream(), events + late, folder / PLAIN_NAME)
        yield Full(folder, identity, rest)


async def _fill(folder: Path, identity: Identity, events: int) -> None:
    async with running(folder, identity) as node:
        await fill(node, generate(events))
