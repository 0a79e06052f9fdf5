"""The operations of a plan: what each does to the world when its time has come.

Applications' work goes on in the background, as it does in life: what is published while the power goes may or may not
have happened, and nobody waits for it before the next blow falls.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fish.definition import Fish, Metadata
from fish.errors import PondClosed
from fish.work import WorkIds
from lamport.errors import LogError
from lamport.event import Event, draft
from lamport.tags import Tag
from simulations.device import Device
from simulations.errors import DeviceOff
from simulations.laws import Auditor
from simulations.plan import Operation, Plan
from simulations.watching import Listener, PairWatch, StateWatch
from simulations.world import World

SLOWEST_BANDWIDTH = 50_000.0
"""Bytes a second of the worst link that is drawn; the best of the slow ones is a hundred times as fast."""

MAX_COMMITS = 3
"""That a device may still make before its power goes behind one."""

MAX_ACCESSES = 30
"""Of its file, that a disk may still make before its power goes; a small commit makes about five."""

MAX_CROWD = 30
"""Publishers that call at once."""

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
"""Every kind of fold: over everything, over work ids, and with resets where order shows."""


@dataclass(slots=True)
class Run:
    """A plan while it is played: its world and those who watch it."""

    plan: Plan
    world: World
    auditor: Auditor
    states: StateWatch
    pairs: PairWatch
    listeners: list[Listener] = field(default_factory=list)
    under_way: list[asyncio.Task[None]] = field(default_factory=list)

    def device(self, operation: Operation) -> Device:
        """The device that an operation strikes first."""
        return self.world.nodes[operation.devices[0]]

    def pair(self, operation: Operation) -> tuple[Device, Device]:
        """The direction that an operation strikes."""
        source, target = operation.devices
        return self.world.nodes[source], self.world.nodes[target]

    def sides(self, operation: Operation) -> tuple[list[Device], list[Device]]:
        """The devices that an operation names, and the others."""
        inside = [self.world.nodes[number] for number in operation.devices]
        return inside, [device for device in self.world.nodes if device not in inside]

    def started(self, device: Device) -> None:
        """Use a node that was just started as an application does: subscribe, watch fish."""
        self.listeners.append(Listener(device, self.auditor))
        for fish in FISH:
            self.states.watch_fish(device, fish)

    async def start(self, device: Device) -> None:
        """Switch a device on, and use it."""
        await device.start()
        self.started(device)

    def in_background(self, work: Awaitable[object]) -> None:
        """Let something go on while the plan does."""
        self.under_way.append(asyncio.ensure_future(_unless_stopped(work)))


async def act(run: Run, operation: Operation) -> None:
    """Do what an operation says. Applications on a device that is off do nothing; a dead device cannot die."""
    needs_node, doing = _ACTS[operation.kind]
    if needs_node is None or run.device(operation).running is needs_node:
        run.world.say(
            f"{operation.kind} {', '.join(run.world.nodes[n].name for n in operation.devices)}"
        )
        await doing(run, operation)


async def _unless_stopped(work: Awaitable[object]) -> None:
    """Wait for something that may end because its node was stopped, lost its power, or had a full disk."""
    with suppress(LogError, PondClosed, DeviceOff, asyncio.CancelledError):
        await work


async def _acknowledged(device: Device, publishing: Awaitable[Sequence[Event]]) -> None:
    device.acknowledged.extend(await publishing)


async def _publish(run: Run, operation: Operation) -> None:
    run.in_background(run.device(operation).publish(X, int(operation.amount)))


async def _burst(run: Run, operation: Operation) -> None:
    drafts = [draft(X, number) for number in range(int(operation.amount))]
    run.in_background(
        _acknowledged(run.device(operation), run.device(operation).node.publish_all(drafts))
    )


async def _crowd(run: Run, operation: Operation) -> None:
    """Many publishers at once, each of one event."""
    for number in range(min(int(operation.amount), MAX_CROWD)):
        run.in_background(run.device(operation).publish(X, number))


async def _start_work(run: Run, operation: Operation) -> None:
    run.in_background(run.device(operation).publish(WORK_TAG, {"type": "started"}))


async def _stop_work(run: Run, operation: Operation) -> None:
    def stop(work: WorkIds, enqueue: Callable[..., None]) -> None:
        enqueue(WORK_TAG, {"type": "stopped", "ended": work.texts})

    run.in_background(
        _acknowledged(run.device(operation), run.device(operation).pond.run(WORK, stop))
    )


async def _partition(run: Run, operation: Operation) -> None:
    run.world.separate(*run.sides(operation))


async def _heal_partition(run: Run, operation: Operation) -> None:
    run.world.join(*run.sides(operation))


async def _isolate(run: Run, operation: Operation) -> None:
    run.world.isolate(run.device(operation))


async def _heal(run: Run, _operation: Operation) -> None:
    run.world.heal()


async def _cut(run: Run, operation: Operation) -> None:
    run.world.cut(*run.pair(operation))


async def _flap(run: Run, operation: Operation) -> None:
    run.world.flap(*run.pair(operation), every_s=max(0.05, operation.amount))


async def _mend(run: Run, operation: Operation) -> None:
    run.world.mend(*run.pair(operation))


async def _stall(run: Run, operation: Operation) -> None:
    run.world.stall(*run.pair(operation))


async def _slow(run: Run, operation: Operation) -> None:
    amount = operation.amount
    run.world.slow(
        *run.pair(operation),
        latency_s=amount,
        loss=amount / 3,
        duplication=amount / 3,
        bandwidth=SLOWEST_BANDWIDTH / max(amount, 0.01),
    )


async def _forge(run: Run, operation: Operation) -> None:
    run.world.forge(*run.pair(operation), "seal" if operation.amount < 0.5 else "event")  # noqa: PLR2004 - one half each


async def _power_cut(run: Run, operation: Operation) -> None:
    """Half of the cuts come at once, the others hit a commit: from behind, or in its middle where it has one."""
    device, place = run.device(operation), operation.amount * 4
    if place < 1:
        device.power_cut_after_commit(1 + int(place * MAX_COMMITS))
    elif place < 2 and run.plan.harsh:  # noqa: PLR2004 - the second quarter
        device.power_cut_within_commit(1 + int((place - 1) * MAX_ACCESSES))
    else:
        await device.power_cut()


async def _crash(run: Run, operation: Operation) -> None:
    await run.device(operation).crash()


async def _start(run: Run, operation: Operation) -> None:
    await run.start(run.device(operation))


async def _restart(run: Run, operation: Operation) -> None:
    await run.device(operation).stop()
    await run.start(run.device(operation))


async def _clock_jump(run: Run, operation: Operation) -> None:
    run.device(operation).clock.jump(years=(operation.amount - 0.5) * 100)


async def _disk_full(run: Run, operation: Operation) -> None:
    run.device(operation).fill_disk()


async def _disk_freed(run: Run, operation: Operation) -> None:
    run.device(operation).fill_disk(full=False)


_Act = Callable[[Run, Operation], Awaitable[None]]

_ACTS: Mapping[str, tuple[bool | None, _Act]] = {
    # what is done, whether its device must be on (True), off (False) or either (None), and how
    "publish": (True, _publish),
    "burst": (True, _burst),
    "crowd": (True, _crowd),
    "start_work": (True, _start_work),
    "stop_work": (True, _stop_work),
    "partition": (None, _partition),
    "heal_partition": (None, _heal_partition),
    "isolate": (None, _isolate),
    "heal": (None, _heal),
    "cut": (None, _cut),
    "flap": (None, _flap),
    "mend": (None, _mend),
    "stall": (None, _stall),
    "slow": (None, _slow),
    "forge": (None, _forge),
    "power_cut": (True, _power_cut),
    "crash": (True, _crash),
    "start": (False, _start),
    "restart": (True, _restart),
    "clock_jump": (None, _clock_jump),
    "disk_full": (None, _disk_full),
    "disk_freed": (None, _disk_freed),
}
