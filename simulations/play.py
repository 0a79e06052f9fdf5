"""Plays a plan: the operations at their times, then a quiet phase, with all laws on.

The way of a seed: `draw_plan` -> `play` -> an `Outcome`; where that is a failure, `shrunk` plays parts of the plan
until none of its operations can be left out.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fish.definition import Fish, Metadata
from fish.errors import PondClosed
from fish.work import WorkIds
from lamport.errors import LogError
from lamport.event import draft
from lamport.tags import Tag
from simulations.errors import DeviceOff, LawBroken
from simulations.laws import Auditor, Listener, check_converged
from simulations.loop import run_simulated
from simulations.plan import Operation, Plan
from simulations.trace import Note
from simulations.world import CONVERGENCE_S, Device, World

FAR_CONVERGENCE_S = 10.0
"""Law 7 for worlds of many nodes or of long lines: each further hop is another link to make."""

MANY_NODES = 16

QUIET_LIMIT_S = 60.0
"""Virtual time that a run may take beyond its plan; one that takes longer waits for what never comes."""

X, WORK_TAG = Tag("x"), Tag("work")


def _on_work(work: WorkIds, event: Mapping[str, Any], metadata: Metadata) -> WorkIds:
    if event["type"] == "started":
        return work.opened(metadata.event_key)
    return work.closed(event["ended"])


def _on_last(last: tuple[Any, ...], event: Any, _metadata: Metadata) -> tuple[Any, ...]:
    return (*last, event)[-20:]


COUNT: Fish[int] = Fish("count", X, 0, lambda count, _event, _metadata: count + 1)
WORK: Fish[WorkIds] = Fish("work", WORK_TAG, WorkIds(), _on_work)
LAST: Fish[tuple[Any, ...]] = Fish(
    "last", X, (), _on_last, is_reset=lambda event, _metadata: event % 17 == 0
)
FISH: tuple[Fish[Any], ...] = (COUNT, WORK, LAST)
"""Every kind of fold: over everything, over work ids, and with resets."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its digest, or what broke."""

    plan: Plan
    digest: str
    virtual_s: float
    commits: int
    failure: str = ""
    notes: Sequence[Note] = ()


@dataclass(slots=True)
class _Run:
    """A plan while it is played."""

    plan: Plan
    world: World
    auditor: Auditor
    listeners: list[Listener] = field(default_factory=list)
    under_way: list[asyncio.Task[None]] = field(default_factory=list)

    def device(self, operation: Operation) -> Device:
        return self.world.nodes[operation.devices[0]]

    def pair(self, operation: Operation) -> tuple[Device, Device]:
        source, target = operation.devices
        return self.world.nodes[source], self.world.nodes[target]

    def in_background(self, work: Awaitable[object]) -> None:
        self.under_way.append(asyncio.ensure_future(_unless_stopped(work)))


def play(plan: Plan) -> Outcome:
    """Play a plan to its end, whatever happens in it."""
    world = World(plan.seed, plan.nodes, lines=plan.lines)
    run = _Run(plan, world, Auditor(world))
    logging.getLogger("shoal").setLevel(logging.CRITICAL)
    failure = ""
    try:
        virtual_s = run_simulated(_played(run), random.Random(plan.seed))  # noqa: S311 - repeatable on purpose
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what this run found
        failure, virtual_s = f"{type(error).__name__}: {error}", plan.seconds
    notes = world.trace.notes if failure else ()
    return Outcome(plan, world.trace.digest, virtual_s, run.auditor.commits, failure, notes)


def shrunk(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """The plan with as few operations as still fail (delta debugging, Zeller and Hildebrandt 2002)."""
    operations, size = list(plan.operations), max(1, len(plan.operations) // 2)
    while operations:
        for start in range(0, len(operations), size):
            fewer = operations[:start] + operations[start + size :]
            if fails(plan.only(fewer)):
                operations = fewer
                break
        else:
            if size == 1:
                break
            size = max(1, size // 2)
    return plan.only(operations)


async def _played(run: _Run) -> float:
    world, loop = run.world, asyncio.get_running_loop()
    run.auditor.watch()
    async with asyncio.timeout(run.plan.seconds + QUIET_LIMIT_S), world.started():
        run.listeners += [Listener(device) for device in world.nodes]
        for operation in run.plan.operations:
            await asyncio.sleep(max(0.0, operation.at - loop.time()))
            world.note(run.device(operation), "operation", f"{operation.kind} {operation.devices}")
            await _ACTS[operation.kind](run, operation)
            world.check()
            for device in world.nodes:
                run.auditor.check_bounds(device)
        await _quiet(run)
        return loop.time()


async def _quiet(run: _Run) -> None:
    """Heal everything, wait for what is under way, and hold what came of it against the laws."""
    world = run.world
    far = run.plan.nodes > MANY_NODES or run.plan.lines
    limit_s = FAR_CONVERGENCE_S if far else CONVERGENCE_S
    await world.converge(limit_s)
    await asyncio.gather(*run.under_way)
    await world.converge(limit_s)
    for device in world.nodes:
        run.auditor.check_acknowledged(device)
    await check_converged(world, FISH)
    await _check_work(run)
    for listener in run.listeners:
        await listener.check()


async def _check_work(run: _Run) -> None:
    """Law 12, by another way than the fish: what is open is what was started, without what was named as ended."""
    for device in run.world.nodes:
        events = [event async for event in device.node.query(WORK_TAG)]
        started = {str(event.key) for event in events if event.payload["type"] == "started"}
        named = {key for event in events for key in event.payload.get("ended", ())}
        work = await device.pond.current_state(WORK)
        if set(work.texts) != started - named:
            raise LawBroken(
                f"law 12: {device.name} has {len(work)} open work, not {len(started - named)}"
            )


async def _unless_stopped(work: Awaitable[object]) -> None:
    """Wait for something that may end because its node was stopped, cut off its power, or had a full disk."""
    with suppress(LogError, PondClosed, DeviceOff, asyncio.CancelledError):
        await work


async def _publish(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if device.running:
        run.in_background(device.publish(X, int(operation.amount)))


async def _burst(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if device.running:
        drafts = [draft(X, number) for number in range(int(operation.amount))]
        run.in_background(device.node.publish_all(drafts))


async def _start_work(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if device.running:
        run.in_background(device.publish(WORK_TAG, {"type": "started"}))


async def _stop_work(run: _Run, operation: Operation) -> None:
    device = run.device(operation)

    def stop(work: WorkIds, enqueue: Callable[..., None]) -> None:
        enqueue(WORK_TAG, {"type": "stopped", "ended": work.texts})

    if device.running:
        run.in_background(device.pond.run(WORK, stop))


async def _partition(run: _Run, operation: Operation, *, cut: bool = True) -> None:
    inside = [run.world.nodes[number] for number in operation.devices]
    outside = [device for device in run.world.nodes if device not in inside]
    for device in inside:
        for other in outside:
            run.world.set_cut(device, other, cut=cut)
            run.world.set_cut(other, device, cut=cut)


async def _heal_partition(run: _Run, operation: Operation) -> None:
    await _partition(run, operation, cut=False)


async def _isolate(run: _Run, operation: Operation) -> None:
    run.world.isolate(run.device(operation))


async def _heal(run: _Run, _operation: Operation) -> None:
    run.world.heal()


async def _cut(run: _Run, operation: Operation) -> None:
    run.world.cut(*run.pair(operation))


async def _flap(run: _Run, operation: Operation) -> None:
    source, target = run.pair(operation)

    async def flap() -> None:
        for cut in (True, False, True, False, True, False):
            run.world.set_cut(source, target, cut=cut)
            await asyncio.sleep(operation.amount)

    run.in_background(flap())


async def _mend(run: _Run, operation: Operation) -> None:
    run.world.mend(*run.pair(operation))


async def _stall(run: _Run, operation: Operation) -> None:
    run.world.stall(*run.pair(operation))


async def _slow(run: _Run, operation: Operation) -> None:
    run.world.slow(*run.pair(operation), latency_s=operation.amount, loss=operation.amount / 3)


async def _power_cut(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if device.running:
        await device.power_cut()


async def _start(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if not device.running:
        await device.start()
        run.listeners.append(Listener(device))


async def _restart(run: _Run, operation: Operation) -> None:
    device = run.device(operation)
    if device.running:
        await device.stop()
        await _start(run, operation)


async def _clock_jump(run: _Run, operation: Operation) -> None:
    run.device(operation).clock.jump(years=(operation.amount - 0.5) * 100)


async def _disk_full(run: _Run, operation: Operation) -> None:
    run.device(operation).platter.full = True


async def _disk_freed(run: _Run, operation: Operation) -> None:
    run.device(operation).platter.full = False


_ACTS: Mapping[str, Callable[[_Run, Operation], Awaitable[None]]] = {
    "publish": _publish,
    "burst": _burst,
    "start_work": _start_work,
    "stop_work": _stop_work,
    "partition": _partition,
    "heal_partition": _heal_partition,
    "isolate": _isolate,
    "heal": _heal,
    "cut": _cut,
    "flap": _flap,
    "mend": _mend,
    "stall": _stall,
    "slow": _slow,
    "power_cut": _power_cut,
    "start": _start,
    "restart": _restart,
    "clock_jump": _clock_jump,
    "disk_full": _disk_full,
    "disk_freed": _disk_freed,
}
