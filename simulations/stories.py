"""Stories worth a picture: what a swarm lives through, step by step, and what must be true in the end.

The first four are the tables of cyclic work (idle, working, idle): with work ids, a partition that heals neither ends
work that goes on nor leaves work open that is over; beside it runs the plain two-state machine, so that one sees where
it is wrong. The Lamport timestamps and hours are those of the tables.

The way of a story: `tell` makes a world that keeps notes, plays the story with the laws on, and gives its trace, which
`simulations.picture` and `simulations.telling` show.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from fish.definition import Fish, Metadata
from fish.work import WorkIds
from lamport.event import Event
from lamport.tags import Tag
from shoal.alarms import ALARM_TAG
from simulations.device import EPOCH_US, MICROSECONDS, Device
from simulations.errors import LawBroken
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.trace import Trace
from simulations.watching import StateWatch
from simulations.world import World

LIMIT_S = 30 * 60.0
"""Virtual time that a story may take; one that takes longer waits for what never comes."""

WORK_TAG, PART, FILLER = Tag("work"), Tag("part"), Tag("filler")


def _on_work(work: WorkIds, event: Mapping[str, Any], metadata: Metadata) -> WorkIds:
    if event["type"] == "started":
        return work.opened(metadata.event_key)
    return work.closed(event["ended"])


def _on_work_plainly(_state: str, event: Mapping[str, Any], _metadata: Metadata) -> str:
    return "working" if event["type"] == "started" else "idle"


WORK: Fish[WorkIds] = Fish("work ids", WORK_TAG, WorkIds(), _on_work)
PLAIN: Fish[str] = Fish("two states", WORK_TAG, "idle", _on_work_plainly)
COUNT: Fish[int] = Fish("count", PART, 0, lambda count, _event, _metadata: count + 1)
PARTS: Fish[tuple[str, ...]] = Fish(
    "parts", PART, (), lambda parts, event, _metadata: (*parts, event)
)
LAST: Fish[Any] = Fish("last", PART, None, lambda _last, event, _metadata: event)


@dataclass(frozen=True, slots=True)
class Story:
    """What it shows in one line, how it goes, on how many devices, and which fish are watched."""

    shows: str
    play: Callable[[World], Awaitable[None]]
    nodes: int
    fish: tuple[Fish[Any], ...]


def tell(story: Story, seed: int = 1) -> Trace:
    """Play a story with all laws on; returns what happened, with notes.

    Raises:
        LawBroken: it does not end as it should.
    """
    return run_simulated(_told(story, seed), random.Random(seed))  # noqa: S311 - repeatable on purpose


async def _told(story: Story, seed: int) -> Trace:
    world = World(seed, story.nodes, keeps=True)
    auditor, states = Auditor(world), StateWatch(world)
    auditor.watch()
    world.watchers.append(partial(_watch_fish, states, story.fish, set()))
    async with asyncio.timeout(LIMIT_S), world.started():
        await world.run(seconds=0.5)
        await story.play(world)
        await world.run(seconds=0.5)
        for device in world.nodes:
            auditor.check_acknowledged(device)
            auditor.check_proven(device)
        await check_converged(world, story.fish)
        notes = len(world.trace.notes)
    del world.trace.notes[notes:]  # that everything is switched off is no part of the story
    return world.trace


def _watch_fish(
    states: StateWatch, fish: Sequence[Fish[Any]], watched: set[tuple[str, int]], device: Device
) -> None:
    """Watch the fish of a device from the first commit of each of its starts on."""
    if device.running and (device.name, device.starts) not in watched:
        watched.add((device.name, device.starts))
        for one in fish:
            states.watch_fish(device, one)


def _require(condition: bool, text: str) -> None:  # noqa: FBT001 - it reads as an assertion
    if not condition:
        raise LawBroken(f"the story ends otherwise: {text}")


# Cyclic work: devices a and b, as in the tables


@dataclass(slots=True)
class _Shift:
    """Work at given Lamport timestamps and hours."""

    world: World

    async def start(
        self, device: Device, name: str, lamport: int, hour: int, minute: int = 0
    ) -> Event:
        """Start work; its event has this Lamport timestamp and this wall clock."""
        await self._prepare(device, lamport, hour, minute)
        self._say(device, hour, minute, f"starts {name}")
        return await self._published(device, lamport, {"type": "started", "what": name})

    async def stop(self, device: Device, lamport: int, hour: int, minute: int = 0) -> list[str]:
        """End all work that is known to be open here; returns the ids named."""
        await self._prepare(device, lamport, hour, minute)
        work = await device.pond.current_state(WORK)
        self._say(device, hour, minute, f"stops what it knows of: {len(work)} started")
        await self._published(device, lamport, {"type": "stopped", "ended": work.texts})
        return work.texts

    async def fill(self, device: Device, lamport: int) -> None:
        """Publish unrelated events until the next one gets this Lamport timestamp."""
        while device.node.log.lamport < lamport - 1:
            await device.publish(FILLER, None)

    async def cut_at_one(self, hour: int) -> None:
        """What both know before the cut: one event."""
        a, b = self.world.nodes
        _set_clock(a, hour, 0)
        await a.publish(FILLER, None)
        await self.world.run(seconds=1)
        self.world.say(f"The link between {a.name} and {b.name} is cut.")

    async def healed(self, lamport: int) -> None:
        """Everybody hears of everything; the next event after that has this Lamport timestamp."""
        a, _ = self.world.nodes
        self.world.say("The link is whole again; both fold what the other one did.")
        await self.world.converge()
        await self.world.run(seconds=1)
        await self.fill(a, lamport)

    async def expect(self, work: Sequence[Event], plain: str, *devices: Device) -> None:
        """What the two fish must show."""
        for device in devices:
            shown = await device.pond.current_state(WORK)
            keys = tuple(event.key for event in work)
            _require(shown == WorkIds(keys), f"{device.name} shows {shown}, not {keys}")
            state = await device.pond.current_state(PLAIN)
            _require(state == plain, f"{device.name} is plainly {state}, not {plain}")

    async def _prepare(self, device: Device, lamport: int, hour: int, minute: int) -> None:
        await self.fill(device, lamport)
        await self.world.run(seconds=1)
        _set_clock(device, hour, minute)

    def _say(self, device: Device, hour: int, minute: int, text: str) -> None:
        self.world.say(f"{device.name}, {hour}:{minute:02} by its clock, {text}.")

    async def _published(self, device: Device, lamport: int, payload: object) -> Event:
        event = await device.publish(WORK_TAG, payload)
        _require(event.lamport == lamport, f"{event.key} should be at {lamport}")
        await self.world.run(seconds=1)
        return event


def _set_clock(device: Device, hour: int, minute: int) -> None:
    """Set the wall clock; without a note, because the captions tell the hours."""
    wanted = EPOCH_US + (hour * 60 + minute) * 60 * MICROSECONDS
    device.clock.offset_us += wanted - device.clock.read()


async def _stop_by_a_clock_behind(world: World) -> None:
    a, b = world.nodes
    shift = _Shift(world)
    foo = await shift.start(a, "foo", 5, 10)
    await shift.expect([foo], "working", a, b)
    named = await shift.stop(b, 20, 8)
    _require(named == [str(foo.key)], f"the stop names {named}")
    await shift.expect([], "idle", a, b)
    world.say("The stop counts, two hours before its start.")


async def _both_sides_done(world: World) -> None:
    a, b = world.nodes
    shift = _Shift(world)
    await shift.cut_at_one(8)
    with world.partition({a}, {b}):
        bar = await shift.start(a, "bar", 8, 16)
        _require(await shift.stop(a, 9, 16, 15) == [str(bar.key)], "a ends bar")
        foo = await shift.start(b, "foo", 19, 10)
        _require(await shift.stop(b, 20, 11) == [str(foo.key)], "b ends foo")
    await shift.healed(22)
    await shift.expect([], "idle", a, b)
    order = [event async for event in a.node.query(WORK_TAG)]
    authors = [world.name_of(event.stream.node) for event in order]
    _require(authors == ["a", "a", "b", "b"], f"the order is {authors}")
    world.say("Nothing is open: b's morning is folded after a's afternoon, and that is no harm.")


async def _unnamed_work_stays_open(world: World) -> None:
    a, b = world.nodes
    shift = _Shift(world)
    await shift.cut_at_one(8)
    with world.partition({a}, {b}):
        bar = await shift.start(a, "bar", 3, 10)
        foo = await shift.start(b, "foo", 5, 16)
        _require(await shift.stop(a, 19, 11, 15) == [str(bar.key)], "a ends bar")
        await shift.expect([], "idle", a)
        await shift.expect([foo], "working", b)
    await shift.healed(22)
    await shift.expect([foo], "idle", a, b)
    world.say("foo is open, for nobody named it. Two states would say idle, and lose it.")


async def _one_stop_for_both_sides(world: World) -> None:
    a, b = world.nodes
    shift = _Shift(world)
    await shift.cut_at_one(8)
    with world.partition({a}, {b}):
        bar = await shift.start(a, "bar", 3, 11, 15)
        foo = await shift.start(b, "foo", 5, 10)
    await shift.healed(20)
    await shift.expect([foo, bar], "working", a, b)
    named = await shift.stop(a, 22, 17)
    _require(named == [str(bar.key), str(foo.key)], f"the stop names {named}")
    await shift.expect([], "idle", a, b)
    world.say("One stop names the work of both sides, and ends it.")


# Other hardship


async def _power_cut(world: World) -> None:
    a, b, _ = world.nodes
    world.say("a and b count parts.")
    await a.publish(PART, 1)
    await b.publish(PART, 1)
    await world.run(seconds=2)
    world.say("b loses its power while it writes.")
    writing = [asyncio.create_task(b.publish(PART, number)) for number in range(3)]
    await world.run(seconds=0.005)
    await b.power_cut()
    await asyncio.gather(*writing, return_exceptions=True)
    for _ in range(2):
        await world.run(seconds=2)
        await a.publish(PART, 1)
    await world.run(seconds=4)
    world.say("The power is back: b gets what it missed, and has all that it acknowledged.")
    await b.start()
    await b.pond.current_state(COUNT)
    await world.run(seconds=2)
    await b.publish(PART, 1)
    await world.run(seconds=2)
    await world.converge()
    counts = [await device.pond.current_state(COUNT) for device in world.nodes]
    _require(min(counts) == max(counts), f"the counts are {counts}")
    least = len(a.acknowledged) + len(b.acknowledged)
    _require(counts[0] >= least, f"{counts[0]} parts, {least} were acknowledged")


async def _stalled(world: World) -> None:
    a, b, _ = world.nodes
    await a.publish(PART, 1)
    await world.run(seconds=2)
    world.say("From a to b nothing gets through any more, and no connection says so.")
    world.stall(a, b)
    await world.run(seconds=1)
    event = await a.publish(PART, 2)
    await world.run(seconds=5)
    _require(b.node.offsets == a.node.offsets, f"{event.key} did not come to b")
    world.say("b heard of it by c.")
    await world.run(seconds=5)
    world.say("The link works again.")
    world.heal()
    await world.run(seconds=2)
    await b.publish(PART, 3)
    await world.run(seconds=2)
    await world.converge()


async def _wrong_clock(world: World) -> None:
    a, b, _ = world.nodes
    await a.publish(PART, "first")
    await world.run(seconds=2)
    world.say("The clock of b leaps ahead.")
    b.clock.jump(years=40)
    ahead = await b.publish(PART, "second")
    await world.run(seconds=2)
    behind = await a.publish(PART, "third")
    await world.run(seconds=2)
    _require(ahead.timestamp > behind.timestamp, "b's clock is ahead")
    for device in world.nodes:
        last = await device.pond.current_state(LAST)
        _require(last == "third", f"{device.name} shows {last}")
    world.say("a's event is last everywhere: clocks order nothing.")


async def _three_halls(world: World) -> None:
    a, b, c, d, e, f = world.nodes
    west, middle, east = {a, b}, {c, d}, {e, f}
    await a.publish(PART, "first")
    await world.run(seconds=2)
    world.say("Three halls lose each other, and work on.")
    with world.partition(west | middle, east):
        with world.partition(west, middle):
            for device in (a, d, e):
                await device.publish(PART, f"by {device.name}")
                await world.run(seconds=20)
            world.say("West and middle are together again.")
        await world.run(seconds=10)
        _require(a.node.offsets == d.node.offsets != f.node.offsets, "four of six are equal")
        await f.publish(PART, "by f")
        await world.run(seconds=10)
        world.say("And so are all.")
    await world.converge()
    states = [await device.pond.current_state(PARTS) for device in world.nodes]
    _require(all(state == states[0] for state in states), f"the states are {states}")
    parts = ["by a", "by d", "by e", "by f", "first"]
    _require(sorted(states[0]) == parts, f"the parts are {states[0]}")


# What came back from a copy


async def _restored(world: World, *, offline: bool) -> None:
    a, b, _ = world.nodes
    await a.publish(PART, "before the backup")
    await world.run(seconds=1)
    backup, old = a.backup(), a.node.log.stream
    tail = [await a.publish(PART, f"behind it, {number}") for number in range(2)]
    await world.run(seconds=2)
    world.say("The disk of a is replaced, and holds what an older backup held.")
    if offline:
        world.isolate(a)
    await a.restore_backup(backup)
    _require(a.node.log.stream != old, "a writes its old stream")
    fresh = await a.publish(PART, "after the restore")
    _require(fresh.offset == 0, f"{fresh.key} is not the first of its stream")
    await world.run(seconds=4)
    if offline:
        _require(a.node.offsets.of(old) == 0, "nobody could tell a of its tail")
        world.say("The network is back.")
    await world.converge()
    for device in (a, b):
        parts = await device.pond.current_state(PARTS)
        _require(len(parts) == len(tail) + 2, f"{device.name} has {parts}")
    world.say("a goes on in a new stream, and what the backup lacked came back from the others.")


async def _cloned(world: World) -> None:
    a, b, c = world.nodes
    await a.publish(PART, "first")
    await world.run(seconds=1)
    world.say("A copy of the card of a is put into a second device.")
    copy = await world.clone(a)
    old = a.node.log.stream
    _require(copy.node.log.stream == old, "nothing shows the age of a copied card")
    await copy.publish(PART, "by the copy")
    await world.run(seconds=5)
    await a.publish(PART, "by the original")
    await world.run(seconds=5)
    await copy.publish(PART, "by the copy again")
    await a.publish(PART, "by the original again")
    await world.converge(limit_s=60)
    streams = {a.node.log.stream, copy.node.log.stream}
    _require(len(streams) > 1, "both still write one stream")
    for device in (a, b, c, copy):
        parts = await device.pond.current_state(PARTS)
        _require(len(parts) == 5, f"{device.name} has {parts}")  # noqa: PLR2004 - as published above
    world.say("One name, two streams now, and nothing is lost.")


async def _forked(world: World) -> None:
    a, b, c, d = world.nodes
    await a.publish(PART, "first")
    await world.run(seconds=1)
    world.say("A copy of the card of a works apart from a.")
    copy = await world.clone(a)
    with world.partition((a, b), (c, d, copy)):
        for number in range(2):
            await a.publish(PART, f"by the original {number}")
        for number in range(3):
            await copy.publish(PART, f"by the copy {number}")
        await b.publish(PART, "by b")
        await world.run(seconds=5)
    await world.converge(limit_s=60)
    await world.run(seconds=0.1)
    forks = [device.node.status().forks for device in world.nodes]
    _require(all(len(told) == 1 for told in forks), f"the forks are {forks}")
    _require([one.last for one in forks[0][0].branches] in ([2, 3], [3, 2]), f"{forks[0]}")
    world.say("All know both histories, and count both.")
    await a.publish(PART, "a goes on")
    await copy.publish(PART, "the copy goes on")
    await b.restart()
    await world.converge()
    for device in world.nodes:
        parts = await device.pond.current_state(PARTS)
        _require(len(parts) == 9, f"{device.name} has {parts}")  # noqa: PLR2004 - as published above
    alarms = [event async for event in c.node.query(Tag(ALARM_TAG))]
    _require(0 < len(alarms) <= len(world.nodes), f"{len(alarms)} alarms")


CYCLING = (WORK, PLAIN)
STORIES: Mapping[str, Story] = {
    "cycling-1-clock-behind": Story(
        "a stop counts although its clock is behind that of the start",
        _stop_by_a_clock_behind, 2, CYCLING,
    ),
    "cycling-2-both-sides-done": Story(
        "work begun and ended on both sides of a cut is over when it heals",
        _both_sides_done, 2, CYCLING,
    ),
    "cycling-3-unnamed-stays": Story(
        "work that no stop has named stays open; a machine of two states loses it",
        _unnamed_work_stays_open, 2, CYCLING,
    ),
    "cycling-4-one-stop-for-both": Story(
        "one stop after a cut ends what both sides had started",
        _one_stop_for_both_sides, 2, CYCLING,
    ),
    "power-cut": Story("a power cut while colleagues publish", _power_cut, 3, (COUNT,)),
    "stalled-link": Story(
        "a link that is silent without being closed, and the way around it", _stalled, 3, (COUNT,)
    ),
    "wrong-clock": Story("a clock that is wrong by 40 years orders nothing", _wrong_clock, 3, (LAST,)),
    "restored-offline": Story(
        "an older backup comes back while nobody can be asked",
        partial(_restored, offline=True), 3, (PARTS,),
    ),
    "restored-online": Story(
        "an older backup comes back among its peers", partial(_restored, offline=False), 3, (PARTS,)
    ),
    "cloned-card": Story("a copied card beside its original, both at work", _cloned, 3, (PARTS,)),
    "forked-card": Story(
        "a copied card and its original write one stream twice", _forked, 4, (PARTS,)
    ),
    "three-halls": Story("six devices in three parts, joined one by one", _three_halls, 6, (PARTS,)),
}  # fmt: skip
