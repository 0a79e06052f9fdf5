"""A node with a full log and a fish that counts, for events that come late."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.events import generate
from benchmarks.fold import INITIAL, Totals, add
from benchmarks.nodes import fill, make_identities, running
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
    """A node's folder, filled with events whose timestamps are 1 to `events`; and others of its swarm."""

    folder: Path
    identity: Identity
    others: list[Identity]
    events: int
    versions: int = 0

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
def full(events: int, others: int) -> Iterator[Full]:
    """A filled log, gone afterwards."""
    identity, *rest = make_identities(1 + others)
    with fresh_folder() as folder:
        asyncio.run(_fill(folder, identity, events))
        yield Full(folder, identity, rest, events)


async def _fill(folder: Path, identity: Identity, events: int) -> None:
    async with running(folder, identity) as node:
        await fill(node, generate(events))
