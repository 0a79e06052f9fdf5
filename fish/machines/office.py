"""What the workers of a runtime share: the newest world, the node they work for, and the way to publish.

The runtime (`fish.machines.runtime`) keeps an `Office`; services, timers and effects look at its world and do what
belongs to this node. They publish records, and never change anything else.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fish.definition import Fish
from fish.errors import FishStopped, PondClosed
from fish.log import Log
from fish.machines.addresses import tags_of
from fish.machines.errors import SelfCancelled
from fish.machines.folding import World
from fish.machines.instance import Instance
from fish.machines.system import System
from fish.pond import Pond
from lamport.errors import LogClosed, StoreRefused
from lamport.event import Event, draft
from lamport.offsets import OffsetMap

LOGGER = logging.getLogger("shoal.machines")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""How long something that failed rests before it is tried again; it doubles each time."""

Record = tuple[str, Mapping[str, Any]]
"""An address, and what is said to it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a service or an effect is asked to do.

    `key` is the idempotency key: the same in every attempt. `cause` is the key of the event behind it. For an undoing
    `undoes` is the name of the effect that is to be taken back, and the arguments are that one's.
    """

    name: str
    args: Any
    key: str
    address: str
    cause: str
    attempt: int = 1
    undoes: str | None = None


Run = Callable[[Call], Awaitable[Any] | Any]
"""What does it: a coroutine function, or a plain one that is quick. What a service returns is its output, a payload."""


async def performed(run: Run, call: Call) -> Any:
    """Let it be done; returns what it returns.

    Raises:
        SelfCancelled: it was cancelled, and not by us.
        Exception: whatever it raises.
    """
    try:
        outcome = run(call)
        return await outcome if inspect.isawaitable(outcome) else outcome
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise SelfCancelled("it cancelled itself") from None


Look = Callable[[Instance], None]
"""Who does something because an instance has changed."""


class Office:
    """The shared part of a runtime."""

    def __init__(
        self, log: Log, pond: Pond, fish: Fish[World], system: System, tasks: asyncio.TaskGroup
    ) -> None:
        self.node = str(log.node)
        self.system = system
        self.world = World()
        self.lookers: list[Look] = []
        self.sighted: list[Callable[[], None]] = []
        """Who is told that a node has said how far its streams reach."""
        self._log, self._pond, self._fish, self._group = log, pond, fish, tasks
        self._tasks: dict[asyncio.Task[None], None] = {}
        """In the order in which they began: a set's differs from run to run."""
        self._changed = asyncio.Event()
        self.is_closed = False

    async def publish(
        self, records: Sequence[Record], *, seen: Callable[[tuple[Event, ...]], None] | None = None
    ) -> tuple[Event, ...]:
        """Append what is to be said, all or none, and wait until the world covers it.

        `seen` is called with the events before anybody looks at what they led to.
        """
        events = await self._log.publish(
            [draft(tags_of(address), dict(event)) for address, event in records]
        )
        if seen is not None:
            seen(events)
        await self.catch_up()
        return events

    async def persist(self, records: Sequence[Record]) -> None:
        """Append what must be said sooner or later: a disk that is full holds it up, and nothing else.

        Raises:
            InvalidInput: the log will never take it.
        """
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self.publish(records)
            except StoreRefused as error:
                LOGGER.warning("records of machines wait for the disk: %s", error)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_S, 2 * pause)
            except (LogClosed, PondClosed, FishStopped):
                return  # the node ends, or the fold stands still: others have told why
            else:
                return

    async def catch_up(self) -> World:
        """The world that covers all the log holds now."""
        self.show((await self._pond.snapshot(self._fish)).state)
        return self.world

    async def cover(self, offsets: OffsetMap) -> None:
        """Wait for a world that covers these offsets, and take it."""
        self.show((await self._pond.snapshot(self._fish, after=offsets)).state)

    @property
    def offsets(self) -> OffsetMap:
        """All that the log holds."""
        return self._log.offsets

    def show(self, world: World) -> None:
        """Take a newer world; who looks is shown the instances that changed."""
        before, seen = self.world.instances, self.world.seen
        if world is self.world:
            return
        self.world = world
        for name, instance in world.instances.changed_since(before):
            if instance is not None:
                self._look(instance)
            else:  # time travel took away all that ever happened to it
                self._look(before[name]._replace(flights=(), timers=(), intents=(), ledger=()))
        if world.seen != seen:
            for sighted in self.sighted:
                sighted()
        self._changed.set()
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """Show all instances to those who look."""
        for instance in self.world.instances.values():
            self._look(instance)

    def _look(self, instance: Instance) -> None:
        for look in self.lookers:
            look(instance)

    async def changed(self) -> None:
        """Wait for the next world."""
        await self._changed.wait()

    def spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something beside, until it ends or the office is closed."""
        task = self._group.create_task(coroutine, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)

    async def close(self) -> None:
        """End everything that runs beside, and the waiting of all who wait for a change."""
        self.is_closed = True
        self._changed.set()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
