"""Whether a node has caught up with anybody yet: until it has, it believes every timestamp (`lamport.leaps`).

It has as soon as it holds all that one linked peer holds, if that is anything of others. That is kept beside the log:
a node is new once, and not again when it is restarted.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from lamport.errors import StoreRefused
from lamport.ids import NodeId
from lamport.log import EventLog
from lamport.notes import load_note, save_note

if TYPE_CHECKING:  # they are handed in
    from transport.link import Link
    from transport.session import Session

_NOTE = "caught up"
_log = logging.getLogger("shoal.transport")


class Newcomer:
    """Keeps track of that for one node, over the links it has."""

    def __init__(self, log: EventLog, links: "Mapping[NodeId, Link]") -> None:
        self._log = log
        self._links = links

    async def load(self) -> None:
        """Remember how it was before the start; before anybody tells anything."""
        store = self._log.store
        store.leaps.is_newcomer = not await load_note(store, _NOTE)

    async def run(self, told: Callable[[], Awaitable[None]]) -> None:
        """Look whether the node has caught up whenever peers have `told` something; returns when it has."""
        store = self._log.store
        if not store.leaps.is_newcomer:
            return
        while not any(self._is_level(link.session) for link in self._links.values()):
            await told()
        store.leaps.is_newcomer = False
        try:
            await save_note(store, _NOTE, b"\1")
        except StoreRefused as error:
            _log.warning("that this node has caught up is forgotten at a restart: %s", error)

    def _is_level(self, session: "Session") -> bool:
        others = any(stream.node != self._log.node for stream in session.theirs)
        return others and session.is_level
