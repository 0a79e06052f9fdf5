"""What the links of a node are told of what its log takes in.

Pull is the truth, push is for speed. What this node appends is read once and pushed to its neighbours; what comes from
a peer is passed on into the push tree from where it is taken in (`relay`), before anybody would ask for it. Behind that
every commit is noted in the journal and told to every link, and so is every horizon that moves: the sessions know what
of it is news to their peers, and who got nothing pushed asks for it.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from lamport.chain import Seal, SealedRange
from lamport.errors import DamagedRange, LogClosed
from lamport.ids import NodeId, StreamId
from lamport.log import EventLog
from lamport.offsets import OffsetRange, missing
from transport.journal import TOKEN_BYTES, Journal
from transport.rooting import Rooting
from transport.tree import RELAYED_EVENTS, Tree

if TYPE_CHECKING:  # they are handed in
    from transport.link import Link

PUSHED_EVENTS = 1_000
"""Events of one pushed range; each ends in a seal anyway."""

_log = logging.getLogger("shoal.transport")


class Spreading:
    """Tells the links of one node. `rooting` keeps the node's place in the `tree`."""

    def __init__(
        self,
        log: EventLog,
        links: "Mapping[NodeId, Link]",
        tree: Tree,
        rooting: Rooting,
        randomness: Random,
    ) -> None:
        self._log = log
        self._links = links
        self._tree = tree
        self._rooting = rooting
        self._randomness = randomness
        self.journal = Journal(randomness.randbytes(TOKEN_BYTES), log.store.heads)
        """In which order heads have moved; every session begins from it."""

    async def run(self) -> None:
        """Tell every link what our log comes to hold, until that is closed."""
        told, announced = self._log.offsets, self._horizons()
        while True:
            try:
                # Not simply "wait for a change": one may have come while the last news were being told.
                while self._log.offsets == told and self._horizons() == announced:
                    await self._log.changed()
            except LogClosed:
                return
            now = self._log.offsets
            news, before, told = missing(told, now), told, now
            if not now.covers(before):
                self.journal.renew(self._randomness.randbytes(TOKEN_BYTES))
            for wanted in news:
                if wanted.stream in self._log.own_streams and self._links:
                    await self._push(wanted)
                self.journal.note(wanted.stream)
                for link in self._links.values():
                    link.session.committed(wanted.stream, _now(), wanted.last)
                    link.wake()
            announced = self._tell_horizons(announced)

    def _tell_horizons(self, told: Mapping[StreamId, Seal]) -> dict[StreamId, Seal]:
        """Tell every link of the horizons that have moved, behind the events beside which they may have come."""
        announced = self._horizons()
        for stream in sorted(announced):
            if told.get(stream) != announced[stream]:
                self.journal.note(stream)
                for link in self._links.values():
                    link.session.horizon_moved(stream)
                    link.wake()
        return announced

    def _horizons(self) -> dict[StreamId, Seal]:
        return {stream: one.seal for stream, one in self._log.store.horizons.items()}

    async def _push(self, appended: OffsetRange) -> None:
        """Send what we appended; the range is read once."""
        first = appended.first
        while first <= appended.last:
            try:
                wanted = appended.stream, first, PUSHED_EVENTS
                sealed = await self._log.serving.pushed_range(*wanted)
            except DamagedRange as error:
                _log.error("not sent: %s", error)
                return
            if sealed is None:
                return
            self._push_range(sealed)
            first = sealed.seal.offset + 1

    def _push_range(self, sealed: SealedRange) -> None:
        """Send what we appended: to all neighbours in a small swarm, along the tree in a large one."""
        self._rooting.consider(len(self._log.store.authors))
        to_all = not self._tree.shared or self._rooting.spares(len(self._links))
        for link in self._links.values():
            if to_all or link.session.edge.carries(self._log.node):
                link.session.push(sealed, _now())
                link.wake()

    def relay(self, sealed: SealedRange, source: NodeId) -> None:
        """Send what just came from a peer on into the push tree."""
        if len(sealed.events) > RELAYED_EVENTS:
            return
        self._rooting.consider(len(self._log.store.authors))
        self._tree.came()
        author = sealed.stream.node
        whole = replace(sealed, certificate=self._log.store.authors[author])
        to_all = (
            source == author and self._tree.shared and self._rooting.spares(len(self._links) ** 2)
        )
        for node, link in self._links.items():
            if node != source and (to_all or link.session.edge.carries(author)):
                link.session.push(whole, _now())
                link.wake()


def _now() -> float:
    return asyncio.get_running_loop().time()
