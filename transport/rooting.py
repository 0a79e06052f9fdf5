"""Keeps a node's place in the shared push tree up to date: in time, and with what its links hear.

What is concluded is `transport.roots`' business; here it is asked at the right moments, and the links are woken when
they have something to say of it.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from lamport.ids import NodeId
from transport.roots import Place

if TYPE_CHECKING:  # they are handed in
    from transport.link import Link

MANY_AUTHORS = 16
"""Up to so many, each node may well be every other one's neighbour, and each author has a tree of its own."""


SPARED = 4
"""An author and its neighbours send what is new over all their links, in the tree or not, where a copy over each of
them is no more than one for every so many nodes: it gets around the longest ways of the tree, and what a link loses."""


class Rooting:
    """The shared tree, as one node takes part in it."""

    def __init__(self, place: Place, links: "Mapping[NodeId, Link]") -> None:
        self._place = place
        self._links = links
        self._authors = 0
        self._changed = asyncio.Event()
        place.changed = self._changed.set

    def consider(self, authors: int) -> None:
        """So many authors are known here: whether they share a tree."""
        self._authors = authors
        if self._place.shared != (authors > MANY_AUTHORS):
            self._place.shared = not self._place.shared
            self._changed.set()

    def spares(self, copies: int) -> bool:
        """Whether so many copies more are few in a swarm of this size."""
        return copies * SPARED <= self._authors

    async def run(self) -> NoReturn:
        """Settle whenever something changed or is due; until cancelled."""
        while True:
            now = asyncio.get_running_loop().time()
            if self._place.settle(now):
                for link in self._links.values():
                    link.wake()
            await self._wait(self._place.next_due)

    async def _wait(self, due: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(due):
                await self._changed.wait()
        self._changed.clear()
