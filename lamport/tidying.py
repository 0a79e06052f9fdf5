"""Work on the log that nobody waits for: merging the tag index, packing old events, pruning what retention gives up.

It is cut into short steps. One is made where the log has rested for a moment, and some behind a commit, so that what is
left to do stays within its bounds however busy the log is. On a full disk nothing is tidied up until there is room.
"""

import logging
from collections.abc import Callable

from lamport.errors import DamagedIndex, StoreFull, StoreRefused
from lamport.horizon_table import MAX_CLEARED
from lamport.pruning import Pruning, Step
from lamport.seams import Reserve, Work
from lamport.store import Store

IDLE_S = 0.05
"""A log for which nothing came for so long tidies up; before, the next request is likely to be on its way."""

RETRY_S = 1.0
"""Where a step found no room on the disk, the next is made so much later, or behind the next commit."""

MAX_UNPRUNED = 16_384
"""Of what was given up so many events may stay without anybody's waiting for it. A quarter of what may wait to be
packed."""

_log = logging.getLogger("shoal.log")


class Tidying:
    """The steps of one log.

    `is_awaited` says whether somebody waits for the writer; `pulse` tells others that something may have to be spread.
    """

    def __init__(
        self,
        store: Store,
        pruning: Pruning,
        work: Work,
        reserve: Reserve,
        *,
        may_announce: Callable[[], bool],
        is_awaited: Callable[[], bool],
        pulse: Callable[[], None],
    ) -> None:
        self._store = store
        self._pruning = pruning
        self._work = work
        self._reserve = reserve
        self._may_announce = may_announce
        self._is_awaited = is_awaited
        self._pulse = pulse
        self._has_room = True
        self._is_broken = False

    @property
    def idle_s(self) -> float:
        """How long the log is to rest before it is asked whether anything is to be done."""
        return IDLE_S

    @property
    def more_s(self) -> float | None:
        """How much longer than `idle_s` the log is to rest before `step`; None where nothing is to be done."""
        if self._is_due(idle=True) or self._prune_step() is not None:
            return 0.0 if self._has_room else RETRY_S
        return self._pruning.idle_s

    async def step(self) -> None:
        """Make a step, the log being at rest."""
        self._has_room = True
        if self._is_due(idle=True):
            await self._merge(idle=True)
        await self._prune()

    async def behind_commit(self, events: int) -> None:
        """Keep what is left to do within its bounds, behind a commit of so many events.

        Steps of pruning are made while nobody waits, and where too much is left as many as keep up with what is
        written.
        """
        self._has_room = True
        if self._is_due(idle=False):
            await self._merge(idle=False)
        while self._has_room and not self._is_broken and self._store.is_merge_overdue():
            await self._merge(idle=False)
        due = events // MAX_CLEARED + 1 if self._pruning.backlog > MAX_UNPRUNED else 0
        while (due > 0 or not self._is_awaited()) and await self._prune():
            due -= 1

    async def require_room(self) -> None:
        """Raise `StoreFull` on a full disk: what is given free there is for tidying up, and not for events."""
        if not await self._reserve.stands():
            raise StoreFull("the disk is full: nothing was stored; free some space")

    def _is_due(self, *, idle: bool) -> bool:
        return not self._is_broken and self._store.is_merge_due(idle=idle)

    async def _merge(self, *, idle: bool) -> None:
        try:
            await self.require_room()
            await self._store.merge(self._work, idle=idle)
        except StoreRefused:
            self._has_room = False
        except DamagedIndex as error:
            self._is_broken = True
            _log.error("nothing is merged any more: %s", error)

    def _prune_step(self) -> Step | None:
        return self._pruning.next_step(may_announce=self._may_announce())

    async def _prune(self) -> bool:
        """Make a step of pruning; False where none was made."""
        step = self._prune_step()
        if step is None or not self._has_room:
            return False
        try:
            await step()
        except StoreRefused:
            self._has_room = False
            return False
        self._pulse()
        return True
