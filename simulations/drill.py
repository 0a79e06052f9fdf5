"""One run of a swarm test: a fresh world, the test in it, and the laws that must hold when it has ended.

The way of a run: `drilled` makes the world of a seed and starts its devices; the test strikes them as it likes while an
auditor looks at every commit; then what was acknowledged is looked for, the fish that ran are examined for purity, and
where all devices hold the same events all fish must show the same states. The result says what broke, if anything did,
and keeps the trace's digest: two runs of one seed must share it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fish.definition import Fish
from fish.errors import FishError
from fish.states import encode_state
from lamport.errors import LogError
from lamport.tags import ALL_EVENTS
from simulations.device import Device
from simulations.errors import FishImpure, LawBroken, SimulationError
from simulations.laws import Auditor, check_converged, folded
from simulations.loop import run_simulated
from simulations.purity import check_purity
from simulations.sim import Sim
from simulations.trace import Kind, Note
from simulations.watching import Listener, PairWatch, StateWatch, is_local
from simulations.world import World

LAST_LOOK_S = 0.02
"""Virtual time after a failure in which states that were just asked for come into the picture."""

SwarmTest = Callable[[Sim], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Run:
    """How one run ended: with `error`, or None. Notes are there where they were asked for."""

    seed: int
    digest: str
    error: BaseException | None
    devices: tuple[str, ...]
    notes: Sequence[Note]

    @property
    def outcome(self) -> tuple[str, type[BaseException] | None]:
        """What two runs of one seed must share; an error's text may name addresses in memory, which differ."""
        return self.digest, None if self.error is None else type(self.error)


@dataclass(slots=True)
class _Drill:
    """A run under way. `fish` are all that ever ran, and the device where each was seen first."""

    world: World
    auditor: Auditor
    states: StateWatch
    pairs: PairWatch
    fish: dict[tuple[str, int], tuple[Fish[Any], Device]] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    listened: set[tuple[str, int]] = field(default_factory=set)
    seen: set[tuple[str, int, str, int]] = field(default_factory=set)

    @classmethod
    def of(cls, world: World) -> "_Drill":
        auditor = Auditor(world)
        return cls(world, auditor, StateWatch(world), PairWatch(auditor))

    def watch(self) -> None:
        """Look at every commit from now on."""
        self.auditor.watch()
        self.pairs.watch()
        self.world.watchers.append(self.look)

    def look(self, device: Device) -> None:
        """Subscribe where a node was started, take note of its fish, and watch the states that they show."""
        if device.running and (device.name, device.starts) not in self.listened:
            self.listened.add((device.name, device.starts))
            self.listeners.append(Listener(device, self.auditor))
        for name in device.pond.running if device.running else ():
            fish = device.pond.find(name)
            assert fish is not None, "it runs"
            mark = (device.name, device.starts, name, fish.version)
            if mark not in self.seen:
                self.seen.add(mark)
                self.fish.setdefault((name, fish.version), (fish, device))
                self.states.watch_fish(device, fish)


def drilled(
    test: SwarmTest,
    seed: int,
    nodes: int,
    *,
    minutes: float,
    keeps: bool = False,
    failures: tuple[type[BaseException], ...] = (Exception,),
) -> Run:
    """Run a test once. What it raises besides `failures` passes through."""
    world = World(seed, nodes, keeps=keeps)
    drill = _Drill.of(world)
    error: BaseException | None = None
    with _assertions_heard() as unheard:
        try:
            run_simulated(
                _told(test, drill, minutes),
                random.Random(seed),  # noqa: S311 - repeatable on purpose
                unheard.append,
            )
        except failures as raised:
            error = raised
    error = error or next((one for one in unheard if isinstance(one, AssertionError)), None)
    devices = tuple(device.name for device in world.nodes)
    return Run(seed, world.trace.digest, error, devices, tuple(world.trace.notes))


@contextmanager
def _assertions_heard() -> Iterator[list[object]]:
    """Collect what tasks of a test, and observers of fish, raised where nobody was listening."""
    heard: list[object] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.exc_info[1] if record.exc_info else None)

    ear, logger = Ear(logging.ERROR), logging.getLogger("shoal.fish")
    before = logger.level
    logger.addHandler(ear)
    logger.setLevel(logging.ERROR)
    try:
        yield heard
    finally:
        logger.removeHandler(ear)
        logger.setLevel(before)


async def _told(test: SwarmTest, drill: _Drill, minutes: float) -> None:
    drill.watch()
    limit = asyncio.timeout(minutes * 60)
    try:
        async with limit, drill.world.started():
            try:
                await _tried(test, drill)
                await _hold(drill)
            finally:
                for listener in drill.listeners:
                    await listener.end()
    except TimeoutError as error:
        if not limit.expired():
            raise
        late = SimulationError(
            f"the test has not ended after {minutes:g} minutes of virtual time: what does it wait for?"
            " (swarm_test(minutes=...) allows more)"
        )
        waiting = error.__cause__
        raise late.with_traceback(waiting.__traceback__ if waiting else None) from None


async def _tried(test: SwarmTest, drill: _Drill) -> None:
    """Run the test; where it fails, an impure fish may be why, and is named as well."""
    try:
        await test(Sim(drill.world))
    except BaseException as error:
        if isinstance(error, Exception):
            await _add_impurity(drill, error)
            await asyncio.sleep(LAST_LOOK_S)
        _mark_failure(drill.world, error)
        raise


def _mark_failure(world: World, error: BaseException) -> None:
    """Let the picture end with the failure. It is not in the digest: an error's text may differ between equal runs."""
    if world.trace.keeps:
        text = (str(error).splitlines() or [""])[0]
        now = asyncio.get_running_loop().time()
        world.trace.notes.append(Note(now, "", Kind.FAILURE, f"{type(error).__name__}: {text}"))
        world.trace.keeps = False


async def _add_impurity(drill: _Drill, error: Exception) -> None:
    try:
        await _check_fish(drill)
    except FishImpure as impure:
        error.add_note(f"besides: {impure}")
    except (SimulationError, LogError):
        pass  # there is an error to be told already


async def _hold(drill: _Drill) -> None:
    """Hold what came of the test against the laws; a fish that is impure may be why one is broken, and goes first."""
    try:
        world = drill.world
        await _check_fish(drill)
        world.check()
        for device in world.nodes:
            drill.auditor.check_acknowledged(device)
            drill.auditor.check_bounds(device)
        if all(device.running for device in world.nodes) and world.equal:
            await _check_states(drill)
        for listener in drill.listeners:
            await listener.check()
        world.check()
    except (SimulationError, FishError) as error:
        _mark_failure(drill.world, error)
        raise


async def _check_fish(drill: _Drill) -> None:
    """Examine all fish for purity, over what the device holds where they ran."""
    for device in drill.world.nodes:
        drill.look(device)
    for fish, seen_at in drill.fish.values():
        for device in _asked(seen_at, drill.world):
            events = [event async for event in device.node.query(fish.where)]
            check_purity(fish, events, device.identity.node)


def _asked(seen_at: Device, world: World) -> list[Device]:
    """The device where a fish was seen, or another one if that is off; none if all are."""
    return [device for device in (seen_at, *world.nodes) if device.running][:1]


async def _check_states(drill: _Drill) -> None:
    """Equal events, equal states; a fish of local events is only held against its own fold."""
    everywhere = [fish for fish, _ in drill.fish.values() if not is_local(fish)]
    await check_converged(drill.world, everywhere)
    for fish, _ in drill.fish.values():
        if is_local(fish):
            for device in drill.world.nodes:
                await _check_local(fish, device)


async def _check_local(fish: Fish[Any], device: Device) -> None:
    order = [event async for event in device.node.query(ALL_EVENTS)]
    state = encode_state(await device.pond.current_state(fish))
    if state != encode_state(folded(fish, order, device.identity.node)):
        raise LawBroken(f"law 9: {fish.name} at {device.name} is not the fold of its events")
