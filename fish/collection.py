"""Collections: fish that come into being with the events that speak of them.

A collection watches seed events. Each names a fish by way of `make_fish`, and the collection shows the states of all of
them as one tuple, in the order in which they were first named. It shows no tuple in which some states cover more than
others: before it shows, it waits until every member covers what the log held when the change came, and until none is
behind the others any more. A member that never comes to rest cannot keep it from showing for ever (`PATIENCE`).

A member that stops stays at its last good state, or is left out where it has none; the others go on. A member goes when
all seeds that named it are retracted.
"""

import asyncio
import logging
import operator
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import Any, Generic, NamedTuple, Protocol

from fish.definition import Fish, Metadata, State
from fish.errors import RAISED_WHILE_WATCHED, FishConflict, FishStopped, PondClosed
from fish.log import Log, closing, horizons_behind
from fish.observation import Observation
from fish.oversight import Oversight
from fish.running import RunningFish
from fish.shown import Shown
from fish.time_slice import TimeSlice
from lamport.errors import LogClosed
from lamport.event import Event
from lamport.ids import StreamId
from lamport.offsets import OffsetMap
from lamport.tags import Where

MakeFish = Callable[[Any, Metadata], Fish[State] | None]
"""The fish that a seed event (payload, metadata) speaks of; None for none."""

Work = Callable[[], Coroutine[Any, Any, None]]
"""What a task does."""

MICROSECONDS = 1_000_000

PATIENCE = 64
"""So often members that are behind the others are waited for. Each time they fold all that has come meanwhile: one that
is behind again as often has more to do than it can do, and then what is shown may lag in its place alone."""

_LOGGER = logging.getLogger("shoal.fish")

Seeds = dict[tuple[str, int], tuple[Fish[State], int]]
"""Fish by name and version, each with the timestamp of its youngest seed, microseconds."""

GroupKey = Callable[[Any, Metadata], str | None]
"""Which group an event (payload, metadata) belongs to; None for none."""


class Water(Protocol):
    """What a collection needs of the pond."""

    @property
    def heard(self) -> OffsetMap:
        """What the pond's fish were told of."""
        ...

    @property
    def oversight(self) -> Oversight:
        """What keeps an eye on strangers' functions."""
        ...

    def running_fish(self, fish: Fish[State]) -> RunningFish[State]:
        """The running fish of this definition; starts it if need be."""
        ...

    def observe(
        self,
        fish: Fish[State],
        callback: Callable[[State], object] | None = None,
        on_stop: Callable[[FishStopped], object] | None = None,
    ) -> Observation[State]:
        """See `Pond.observe`."""
        ...


def made(
    make_fish: MakeFish[State], event: Event, log: Log, oversight: Oversight
) -> Fish[State] | None:
    """The fish of one seed, in today's version; a factory or an upcaster that raises has none for this one.

    Nor has one that is interrupted, for it took too long.
    """

    def call() -> object:
        today = log.upcasters.upcast(event)
        return make_fish(today.payload, Metadata.of(today, log.node))

    try:
        fish = oversight.watched(
            call, lambda: f"the factory of a fish at seed {event.key}", _LOGGER.warning
        )
        if fish is None or isinstance(fish, Fish):
            return fish
        raise TypeError(f"it gave {fish!r}, which is no fish")
    except RAISED_WHILE_WATCHED:
        _LOGGER.exception("the seed %s is skipped: the factory of its fish raised", event.key)
        return None


class _Member(NamedTuple):
    running: RunningFish[Any]
    observation: Observation[Any]
    seeded_at: int
    """The timestamp of its youngest seed, microseconds."""


class Collection(Shown[tuple[State, ...]], Generic[State]):
    """The states of all fish that seed events name."""

    def __init__(
        self,
        water: Water,
        log: Log,
        seed: Where,
        make_fish: MakeFish[State],
        expire_after_s: float | None,
    ) -> None:
        super().__init__()
        self._water = water
        self._log = log
        self._seed = seed
        self._make_fish = make_fish
        self._expire_after_s = expire_after_s
        self._members: dict[tuple[str, int], _Member] = {}
        self._is_seeded = False
        self._shown: tuple[tuple[str, int], ...] = ()
        self._wake = asyncio.Event()

    @property
    def by_name(self) -> dict[tuple[str, int], State]:
        """The members' states by name and version; without those that have none."""
        return {
            key: member.running.state
            for key, member in self._members.items()
            if member.running.version
        }

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """The horizons behind which there may have been seeds, or events of members, that nobody keeps."""
        horizons = dict(horizons_behind(self._log, self._seed))
        for member in self._members.values():
            horizons |= member.running.pruned
        return horizons

    async def gather(self) -> None:
        """Read the seeds that are stored, then hear those that arrive; a task."""
        present = self._log.offsets
        follower = self._log.follow(present)
        with suppress(LogClosed, PondClosed):
            self._admit(await self._stored(present))
            self._is_seeded = True
            self._wake.set()
            while not self.is_ended:
                batch = await follower.next()
                if any(not one.tags or self._is_seed(one) for one in batch.retracted):
                    self._withdraw(await self._stored(batch.offsets))
                await self._take(filter(self._is_seed, batch.events))

    async def _stored(self, upper: OffsetMap) -> Seeds[State]:
        seeds: Seeds[State] = {}
        pages = self._log.read(self._seed, upper=upper, as_of=upper)
        async with closing(pages):
            async for page in pages:
                await self._name(page, seeds)
        return seeds

    def _is_seed(self, event: Event) -> bool:
        return self._seed.matches(event.tags, is_local=event.stream.node == self._log.node)

    def _withdraw(self, named: Seeds[State]) -> None:
        """Let go what no seed names any more; the others are as young as the latest seed that is left."""
        for key, member in tuple(self._members.items()):
            if key in named:
                self._members[key] = member._replace(seeded_at=named[key][1])
            else:
                self._members.pop(key).observation.cancel()
                self._wake.set()

    async def tell(self) -> None:
        """Show the states whenever one of them or the collection has changed; a task."""
        with suppress(PondClosed):
            while not self.is_ended:
                await self._wake.wait()
                self._wake.clear()
                if self._is_seeded and not self.is_ended:
                    await self._level()
                    self._show_news(self._states())

    def end(self) -> None:
        """Watch the members no more."""
        for member in self._members.values():
            member.observation.cancel()
        self._members.clear()
        super().end()
        self._wake.set()

    async def _take(self, events: Iterable[Event]) -> None:
        seeds: Seeds[State] = {}
        await self._name(events, seeds)
        if seeds:
            self._admit(seeds)
            self._expire(max(at for _, at in seeds.values()))
            self._wake.set()

    async def _name(self, events: Iterable[Event], seeds: Seeds[State]) -> None:
        """Add the fish that these events name: of several the last, and when the youngest of its seeds was."""
        time_slice = TimeSlice()
        for event in events:
            fish = made(self._make_fish, event, self._log, self._water.oversight)
            if fish is not None:
                key = fish.name, fish.version
                _, before = seeds.get(key, (fish, event.timestamp))
                seeds[key] = fish, max(before, event.timestamp)
            await time_slice.give_way()

    def _admit(self, seeds: Seeds[State]) -> None:
        for key, (fish, seeded_at) in seeds.items():
            known = self._members.get(key)
            if known is not None:
                self._members[key] = known._replace(seeded_at=max(known.seeded_at, seeded_at))
                continue
            try:
                running = self._water.running_fish(fish)
                observation = self._water.observe(fish, self._note, self._note)
            except FishConflict as error:
                _LOGGER.error("a collection leaves a fish out: %s", error)  # noqa: TRY400 - the text says it all
                continue
            self._members[key] = _Member(running, observation, seeded_at)

    def _expire(self, now: int) -> None:
        if self._expire_after_s is None:
            return
        oldest = now - int(self._expire_after_s * MICROSECONDS)
        for key in [key for key, one in self._members.items() if one.seeded_at < oldest]:
            self._members.pop(key).observation.cancel()

    def _note(self, _news: object) -> None:
        self._wake.set()

    async def _level(self) -> None:
        """Wait until all members cover the same, and what the log holds now."""
        target = self._log.offsets
        waiting = self._behind() if self._water.heard.covers(target) else self._alive()
        for _ in range(PATIENCE):
            for running in waiting:
                with suppress(FishStopped):
                    await running.covering(target)
            waiting, target = self._behind(), self._water.heard
            if not waiting:
                break

    def _alive(self) -> list[RunningFish[Any]]:
        every = (member.running for member in self._members.values())
        return [running for running in every if running.stopped is None]

    def _behind(self) -> list[RunningFish[Any]]:
        """Who covers something else than what the fish of the pond were told of."""
        heard = self._water.heard
        return [one for one in self._alive() if one.is_busy and not _covers_just(one, heard)]

    def _states(self) -> tuple[State, ...]:
        runs = (member.running for member in self._members.values())
        return tuple(running.state for running in runs if running.version)

    def _show_news(self, states: tuple[State, ...]) -> None:
        """Show them, unless they are the very same states of the same members."""
        members = tuple(self._members)
        is_known = self.version and members == self._shown and len(states) == len(self.state)
        if not is_known or any(map(operator.is_not, states, self.state)):
            self._shown = members
            self.show(states)


class Groups(Shown[Mapping[str, State]], Generic[State]):
    """The states of the fish of all groups, by the groups' keys."""

    def __init__(
        self,
        water: Water,
        log: Log,
        where: Where,
        key: GroupKey,
        fish_of: Callable[[str], Fish[State]],
    ) -> None:
        super().__init__()
        self._key = key
        self._fish_of = fish_of
        self._keys: dict[str, Fish[State]] = {}
        self._collection = Collection(water, log, where, self._named, None)
        self._collection.observed(self._grouped)

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """As those of a collection."""
        return self._collection.pruned

    @property
    def work(self) -> tuple[Work, ...]:
        """What its tasks do."""
        return self._collection.gather, self._collection.tell

    def end(self) -> None:
        """Watch the members no more."""
        self._collection.end()
        super().end()

    def _named(self, payload: Any, metadata: Metadata) -> Fish[State] | None:
        """The fish of an event's group; it is made once."""
        key = self._key(payload, metadata)
        if key is None:
            return None
        if key not in self._keys:
            self._keys[key] = self._fish_of(key)
        return self._keys[key]

    def _grouped(self, _states: object) -> None:
        shown = self._collection.by_name
        self.show(
            {
                key: shown[fish.name, fish.version]
                for key, fish in self._keys.items()
                if (fish.name, fish.version) in shown
            }
        )


class FirstNamed(Shown[State], Generic[State]):
    """The fish that the first seed event found names, as soon as there is one."""

    def __init__(self, water: Water, log: Log, seed: Where, make_fish: MakeFish[State]) -> None:
        super().__init__()
        self._water = water
        self._log = log
        self._seed = seed
        self._make_fish = make_fish
        self._inner: Observation[State] | None = None

    @property
    def pruned(self) -> Mapping[StreamId, int]:
        """Those of the fish that is watched."""
        return {} if self._inner is None else self._inner.pruned

    async def work(self) -> None:
        """Wait for a seed, then pass on what its fish shows; a task."""
        present = self._log.offsets
        follower = self._log.follow(present)
        with suppress(LogClosed, PondClosed):
            pages = self._log.read(self._seed, upper=present)
            async with closing(pages):
                async for page in pages:
                    if await self._settles_on(page):
                        break
            while not (self.is_ended or self._inner is not None):
                await self._settles_on((await follower.next()).events)
        while not self.is_ended:
            await self.changed()

    def end(self) -> None:
        """Watch the fish no more."""
        if self._inner is not None:
            self._inner.cancel()
        super().end()

    async def _settles_on(self, events: Iterable[Event]) -> bool:
        node, time_slice = self._log.node, TimeSlice()
        for event in events:
            if self._seed.matches(event.tags, is_local=event.stream.node == node):
                fish = made(self._make_fish, event, self._log, self._water.oversight)
                if fish is not None and self._is_watching(fish):
                    return True
                await time_slice.give_way()
        return False

    def _is_watching(self, fish: Fish[State]) -> bool:
        try:
            self._inner = self._water.observe(fish, self.show, self.stop)
        except FishConflict as error:
            _LOGGER.error("a seed is passed over: %s", error)  # noqa: TRY400 - the text says it all
        return self._inner is not None


def _covers_just(running: RunningFish[Any], heard: OffsetMap) -> bool:
    """Whether its state covers this already, though it is at something; more it covers where that was withdrawn."""
    snapshot = running.snapshot()
    return snapshot is not None and snapshot.offsets == heard
