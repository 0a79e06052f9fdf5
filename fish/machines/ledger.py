"""Effects: done by one node, at least once, and undone when the log no longer implies them.

The owner of an effect is the node that logged the event behind it. It compares what the fold implies (`Intent`) with
what it has done (`Entry`, folded from records in the log itself, so that a lost disk loses no ledger):

    implied, never done          do it, in log order
    done, no longer implied      undo it, newest first; where nothing undoes it, report it as orphaned
    undone, implied again        do it again, a further attempt
    done by another node, too    the first in the log counts, the other one undoes (an owner was replaced)
    other arguments              another effect: the old one is undone, the new one done

The record is written after the deed: a crash between them repeats the deed, with the same idempotency key.
An effect that raises is tried again, later and later, as long as it is implied. One that is to be stable waits before
it is done at all (`fish.machines.stability`), and holds up no other.
"""

import asyncio
import heapq
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from fish.machines.instance import KEPT_INTENTS, Entry, Instance, Intent
from fish.machines.office import (
    FIRST_PAUSE_S,
    LOGGER,
    LONGEST_PAUSE_S,
    Call,
    Office,
    Run,
    performed,
)
from fish.machines.stability import Stability
from lamport.errors import InvalidInput

MAX_AT_ONCE = 64
"""Instances whose effects are under way at the same time: one that hangs holds up its own instance, not the others."""

MAX_STALE = 1_024
"""Deeds in the heap whose place another one has taken: beyond that, and as many as count, they are thrown out."""

Orphaned = Callable[[Call], None]
"""Is told of an effect that stands without a cause, and that nothing undoes."""


@dataclass(frozen=True, slots=True)
class _Deed:
    """Something to do: an effect, or (with `entry`) its undoing."""

    address: str
    intent: Intent | None
    entry: Entry | None

    @property
    def id(self) -> str:
        done = self.intent or self.entry
        assert done is not None, "a deed is one or the other"
        return done.id

    def __lt__(self, other: "_Deed") -> bool:
        """Undoings come first, newest first; then effects in log order."""
        if self.entry is not None and other.entry is not None:
            return self.entry.key > other.entry.key
        if self.intent is not None and other.intent is not None:
            mine, others = self.intent, other.intent
            return (mine.root, mine.number) < (others.root, others.number)
        return self.entry is not None


class Effects:
    """The effects that this node does."""

    def __init__(
        self,
        office: Office,
        runs: Mapping[str, Run],
        orphaned: Orphaned,
        members: Collection[str] | None,
    ) -> None:
        self._office = office
        self.stability = Stability(office, members, self.look)
        self._runs = runs
        self._orphaned = orphaned
        self._dirty: dict[str, None] = {}
        self._busy: set[str] = set()
        self._first: dict[tuple[str, bool], _Deed] = {}
        self._waiting: list[_Deed] = []
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._resting: set[str] = set()
        self._pauses: dict[str, dict[str, float]] = {}
        """By instance: how long what failed has rested last, until it is done or no longer wanted."""

    def look(self, instance: Instance) -> None:
        """Compare this instance's intents with its ledger, soon."""
        self.stability.look(instance)
        if instance.intents or instance.ledger:
            self._dirty[instance.address] = None
            self._idle.clear()
            self._wake.set()

    async def idle(self) -> None:
        """Wait until nothing is under way or due; what rests because it failed, or waits to be stable, is neither."""
        await self._idle.wait()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way or due."""
        return self._idle.is_set()

    def close(self) -> None:
        """Let go whoever waits."""
        self._idle.set()

    async def work(self) -> None:
        """Begin what is to be done, in its order, for ever; for one instance one after the other."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while len(self._busy) < MAX_AT_ONCE and (deed := self._next()) is not None:
                self._busy.add(deed.address)
                self._office.spawn(self._do(deed), f"effect {deed.id}")
            if not self._busy and not self._dirty:
                self._idle.set()

    def _next(self) -> _Deed | None:
        """The next deed. Of each instance the first undoing and the first effect wait in a heap."""
        for address in [one for one in self._dirty if one not in self._busy]:
            del self._dirty[address]
            self._line_up(address)
        while self._waiting:
            deed = heapq.heappop(self._waiting)
            if self._first.get((deed.address, deed.intent is None)) is not deed:
                continue  # another one has taken its place
            del self._first[deed.address, deed.intent is None]
            if deed.address in self._busy:
                continue  # it is looked at again when that is done
            if deed in self._firsts(deed.address):
                self._dirty[deed.address] = None
                return deed
            self._line_up(deed.address)
        return None

    def _line_up(self, address: str) -> None:
        for deed in self._firsts(address):
            place = address, deed.intent is None
            if self._first.get(place) != deed:
                self._first[place] = deed
                heapq.heappush(self._waiting, deed)
        if len(self._waiting) > MAX_STALE + 2 * len(self._first):
            self._waiting = sorted(self._first.values())

    def _firsts(self, address: str) -> list[_Deed]:
        """What is to be undone first in an instance, and what is to be done first."""
        instance = self._office.world.instances.get(address)
        undo, do = ([], []) if instance is None else self._compare(instance)
        self._keep_pauses(address, {one.id for one in undo} | {one.id for one in do})
        undoings = [_Deed(address, None, one) for one in undo if one.id not in self._resting]
        doings = [_Deed(address, one, None) for one in do if one.id not in self._resting]
        return [min(several) for several in (undoings, doings) if several]

    def _compare(self, instance: Instance) -> tuple[list[Entry], list[Intent]]:
        node = self._office.node
        mine = [one for one in instance.ledger if one.node == node]
        first = _first_done(instance)
        implied = {one.id for one in instance.intents}
        since = instance.intents[0].root if len(instance.intents) == KEPT_INTENTS else ""
        undo = [
            one
            for one in mine
            if one.state == "done"
            and (one.id not in implied or first[one.id].node != node)
            and one.root >= since
        ]
        do = [
            one
            for one in instance.intents
            if one.owner == node
            and one.id not in first
            and not (one.is_stable and not self.stability.is_stable(one))
        ]
        return undo, do

    async def _do(self, deed: _Deed) -> None:
        try:
            if deed.entry is not None:
                await self._undo(deed.address, deed.entry)
            elif deed.intent is not None:
                await self._run(deed.address, deed.intent)
        finally:
            self._busy.discard(deed.address)
            self._wake.set()

    async def _run(self, address: str, intent: Intent) -> None:
        if (
            intent.is_stable
        ):  # what has made it stable is in the log, but may not have been looked at
            await self._office.catch_up()
        instance = self._office.world.instances.get(address)
        if instance is None or intent not in instance.intents:
            return
        before = next(
            (
                one
                for one in instance.ledger
                if (one.id, one.node) == (intent.id, self._office.node)
            ),
            None,
        )
        attempt = 1 if before is None else before.attempt + 1
        was_orphaned = before is not None and before.state == "orphaned"
        call = Call(intent.name, intent.args, intent.id, address, intent.cause, attempt)
        if was_orphaned or await self._called(intent.name, call):
            await self._record(address, "$ran", intent, attempt)

    async def _undo(self, address: str, entry: Entry) -> None:
        if entry.undo is None:
            LOGGER.warning("the effect %r of %s stands without a cause", entry.name, address)
            self._tell_orphaned(address, entry)
            await self._record(address, "$orphaned", entry, entry.attempt)
            return
        call = Call(
            entry.undo, entry.args, entry.id, address, entry.cause, entry.attempt, entry.name
        )
        if await self._called(entry.undo, call):
            await self._record(address, "$undone", entry, entry.attempt)

    def _tell_orphaned(self, address: str, entry: Entry) -> None:
        call = Call(entry.name, entry.args, entry.id, address, entry.cause, entry.attempt)
        try:
            self._orphaned(call)
        except Exception:  # noqa: BLE001 - it is only told: whatever it raises must not hold up the machines
            LOGGER.exception(
                "who is told of orphaned effects raised at %r of %s", call.name, address
            )

    async def _called(self, name: str, call: Call) -> bool:
        """Whether it was done; if not, it rests for a while."""
        run = self._runs.get(name)
        try:
            if run is None:
                raise KeyError(name)  # noqa: TRY301 - as if it had failed itself
            await performed(run, call)
        except Exception:  # noqa: BLE001 - it is the user's: whatever it raises is told, and tried again
            LOGGER.exception(
                "the effect %r of %s failed and will be tried again", name, call.address
            )
            self._rest(call.key, call.address)
            return False
        self._forget_pause(call.key, call.address)
        return True

    def _rest(self, id_: str, address: str) -> None:
        pauses = self._pauses.setdefault(address, {})
        pause = min(LONGEST_PAUSE_S, 2 * pauses.get(id_, FIRST_PAUSE_S / 2))
        pauses[id_] = pause
        self._resting.add(id_)
        asyncio.get_running_loop().call_later(pause, self._rested, id_, address)

    def _forget_pause(self, id_: str, address: str) -> None:
        wanted = self._pauses.get(address, {}).keys() - {id_}
        self._keep_pauses(address, wanted)

    def _keep_pauses(self, address: str, wanted: Collection[str]) -> None:
        """What was taken back rests no longer than others, should it come again."""
        pauses = self._pauses.pop(address, {})
        staying = {id_: pause for id_, pause in pauses.items() if id_ in wanted}
        if staying:
            self._pauses[address] = staying

    def _rested(self, id_: str, address: str) -> None:
        self._resting.discard(id_)
        self._dirty[address] = None
        self._idle.clear()
        self._wake.set()

    async def _record(self, address: str, type_: str, about: Intent | Entry, attempt: int) -> None:
        record: dict[str, Any] = {
            "type": type_,
            "id": about.id,
            "attempt": attempt,
            "name": about.name,
            "args": about.args,
            "undo": about.undo,
            "cause": about.cause,
            "root": about.root,
            "number": about.number,
        }
        try:
            await self._office.persist([(address, record)])
        except (
            InvalidInput
        ) as error:  # the arguments, too large for an event: the deed counts all the same
            LOGGER.error("the ledger keeps %r without its arguments: %s", about.name, error)
            await self._office.persist([(address, {**record, "args": None})])


def _first_done(instance: Instance) -> dict[str, Entry]:
    """For each effect that stands, who has done it first in the log."""
    first: dict[str, Entry] = {}
    for one in instance.ledger:
        if one.state == "done" and (one.id not in first or one.key < first[one.id].key):
            first[one.id] = one
    return first
