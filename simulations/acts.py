"""The operations of a plan: what each does to the world when its time has come.

Applications' work goes on in the background, as it does in life: what is published while the power goes may or may not
have happened, and nobody waits for it before the next blow falls.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fish.definition import Fish, Metadata
from fish.errors import FishStopped, PondClosed
from fish.work import WorkIds
from lamport.errors import DamagedRange, InvalidInput, LogError, NodeRevoked
from lamport.event import Draft, Event, draft
from lamport.ids import StreamId
from lamport.retraction import RETRACT_TAG, signed_names
from lamport.routes import OwnStreams, Policy, Route
from lamport.tags import Tag
from simulations.damage import Flips, read_everything
from simulations.device import MICROSECONDS, Card, Device
from simulations.errors import DeviceOff, PowerLost
from simulations.laws import Auditor, draft_bytes
from simulations.plan import SENSE, WORK, Operation, Plan
from simulations.retracting import names_said
from simulations.watching import Listener, PairWatch, StateWatch
from simulations.world import World
from transport.peers import SETTLING_S

HESITATING = 0.3
"""How often a device has a slow subscriber as well."""

SLOWEST_BANDWIDTH = 50_000.0
"""Bytes a second of the worst link that is drawn; the best of the slow ones is a hundred times as fast."""

MAX_COMMITS = 3
"""That a device may still make before its power goes behind one."""

MAX_ACCESSES = 30
"""Of its file, that a disk may still make before its power goes; a small commit makes about five."""

MAX_CROWD = 30
"""Publishers that call at once."""

PATIENCE = 0.9
"""How much of the time for which a node waits for an answer an operator waits, before the token is taken away."""

MAX_COPIES = 2
"""Copied cards in one world: each makes streams that everybody keeps."""

_STRIKES_COPIES = {SENSE, "restart", "crash", "power_cut", "disk_full"}

MAX_EFFECTS = 5
"""Effects that are asked for at once, besides two."""

FEWEST_MEMBERS = 2
"""Members that a plan leaves: one alone has nobody to agree with."""

WHO_RETRACTS = (6, 3, 1)
"""How often the author retracts, the admin, and somebody whose retraction does not count."""

MACHINES = ("machine:1", "machine:2", "machine:3")

SENSED = "sensed"

ROUTES = (Route(Tag(SENSED), "sensors", Policy(max_events=10)),)
"""Of the readings each device keeps few, so that a minute prunes several times."""

TAGS = ("x", "work", "top", SENSED, *MACHINES)
"""Every tag that events of a plan bear."""

X, WORK_TAG, TOP_TAG = Tag("x"), Tag("work"), Tag("top")


def _on_work(work: WorkIds, event: Mapping[str, Any], metadata: Metadata) -> WorkIds:
    if event["type"] == "started":
        return work.opened(metadata.event_key)
    return work.closed(event["ended"])


def _on_last(last: tuple[Any, ...], event: Any, _metadata: Metadata) -> tuple[Any, ...]:
    return (*last, event)[-20:]


COUNT: Fish[int] = Fish("count", X, 0, lambda count, _event, _metadata: count + 1)
WORK_FISH: Fish[WorkIds] = Fish("work", WORK_TAG, WorkIds(), _on_work)
LAST: Fish[tuple[Any, ...]] = Fish(
    "last", X, (), _on_last, is_reset=lambda event, _metadata: event % 17 == 0
)
TOP: Fish[int] = Fish("top", TOP_TAG, 0, lambda top, event, _metadata: max(top, event))
FISH: tuple[Fish[Any], ...] = (COUNT, WORK_FISH, LAST, TOP)
"""Every kind of fold: over everything, over work ids, with resets where order shows, and one that effects lean on."""


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
    backups: dict[Device, bytes] = field(default_factory=dict)
    cards: dict[Device, tuple[OwnStreams, Card]] = field(default_factory=dict)
    flips: Flips = field(init=False)

    def __post_init__(self) -> None:
        self.flips = Flips(self.auditor)

    def device(self, operation: Operation) -> Device:
        """The device that an operation strikes first: where its card was copied, often one that bears a copy."""
        original = self.world.nodes[operation.devices[0]]
        bearers = self.world.bearers(original)
        if operation.kind == "start":
            return next((one for one in bearers if not one.running), original)
        if operation.kind == "disk_freed":
            return next((one for one in bearers if one.platter.full), original)
        if operation.kind in WORK or operation.kind in _STRIKES_COPIES:
            return bearers[int(operation.at * MICROSECONDS) % len(bearers)]
        return original

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
        if not device.running:  # its power went while it started
            return
        draw = self.world.generator(f"listener/{device.name}/{device.starts}")
        self.listeners.append(Listener(device, self.auditor))
        if draw.random() < HESITATING:
            self.listeners.append(Listener(device, self.auditor, draw))
        for fish in FISH:
            self.states.watch_fish(device, fish)

    async def start(self, device: Device) -> None:
        """Switch a device on, and use it."""
        await device.start()
        self.started(device)

    def ask(self, device: Device, tags: Collection[str], payload: Any) -> None:
        """Note what an application is about to ask for."""
        assert self.auditor.asked is not None, "a plan knows all that is asked for"
        asked = self.auditor.asked.setdefault(device.name, Counter())
        asked[draft_bytes(tags, payload)] += 1

    def publish(self, device: Device, tags: list[str], payload: Any) -> None:
        """Ask for one event, and do not wait for it."""
        self.ask(device, tags, payload)
        self.in_background(device, device.publish(tags, payload))

    def in_background(self, device: Device, work: Awaitable[object]) -> None:
        """Let an application's work on a device go on while the plan does."""
        self.under_way.append(asyncio.ensure_future(_unless_stopped(self.world, device, work)))


async def act(run: Run, operation: Operation) -> None:
    """Do what an operation says. Applications on a device that is off do nothing; a dead device cannot die."""
    needs_node, doing = _ACTS[operation.kind]
    if needs_node is None or run.device(operation).running is needs_node:
        run.world.say(
            f"{operation.kind} {', '.join(run.world.nodes[n].name for n in operation.devices)}"
        )
        await doing(run, operation)


async def _unless_stopped(world: World, device: Device, work: Awaitable[object]) -> None:
    """Wait for something that may end because its node was stopped, lost its power, or had a full disk; only then."""
    began, starts = asyncio.get_running_loop().time(), device.starts
    try:
        await work
    except (asyncio.CancelledError, PowerLost):
        return
    except FishStopped as stopped:
        if not isinstance(stopped.__cause__, DamagedRange):
            raise
    except NodeRevoked as error:
        if device.identity.node not in world.membership.revoked:
            world.broken(f"law 13: {device.name} is a member, and refused: {error!r}")
    except (LogError, PondClosed, DeviceOff) as error:
        if device.well and device.starts == starts and device.well_since <= began:
            world.broken(f"law 1: {device.name} was well, and refused: {error!r}")


async def _acknowledged(device: Device, publishing: Awaitable[Sequence[Event]]) -> None:
    device.acknowledged.extend(await publishing)


def _tags(amount: float) -> list[str]:
    """Tags of an event: what it is, and which of a few machines it is about."""
    return ["x", MACHINES[int(amount) % len(MACHINES)]]


async def _publish(run: Run, operation: Operation) -> None:
    amount = int(operation.amount)
    run.publish(run.device(operation), _tags(amount), amount)


async def _burst(run: Run, operation: Operation) -> None:
    device = run.device(operation)
    numbers = range(int(operation.amount))
    for number in numbers:
        run.ask(device, _tags(number), number)
    drafts = [draft(_tags(number), number) for number in numbers]
    run.in_background(device, _acknowledged(device, device.node.publish_all(drafts)))


async def _crowd(run: Run, operation: Operation) -> None:
    """Many publishers at once, each of one event."""
    for number in range(min(int(operation.amount), MAX_CROWD)):
        run.publish(run.device(operation), _tags(number), number)


async def _sense(run: Run, operation: Operation) -> None:
    """Readings, some of them together in a commit."""
    for number in range(int(operation.amount)):
        run.publish(run.device(operation), [SENSED], number)


async def _start_work(run: Run, operation: Operation) -> None:
    run.publish(run.device(operation), ["work"], {"type": "started"})


async def _stop_work(run: Run, operation: Operation) -> None:
    device = run.device(operation)

    def stop(work: WorkIds, enqueue: Callable[..., None]) -> None:
        payload = {"type": "stopped", "ended": work.texts}
        run.ask(device, ["work"], payload)
        enqueue(WORK_TAG, payload)

    run.in_background(device, _acknowledged(device, device.pond.run(WORK_FISH, stop)))


async def _effects(run: Run, operation: Operation) -> None:
    """Several effects at once on one fish, each of which counts on."""
    device = run.device(operation)

    def count_on(top: int, enqueue: Callable[..., None]) -> None:
        run.ask(device, ["top"], top + 1)
        enqueue(TOP_TAG, top + 1)

    for _ in range(2 + int(operation.amount) % MAX_EFFECTS):
        run.in_background(device, _acknowledged(device, device.pond.run(TOP, count_on)))


async def _retract(run: Run, operation: Operation) -> None:
    """Retract an event that this device wrote, lately or long ago; or the admin does, or somebody who may not.

    The admin may name what has not come here yet: an operator reads the key off another device.
    """
    device, log = run.device(operation), run.device(operation).node.log
    draw = run.world.generator(f"retract/{operation.at}/{device.name}")
    (who,) = draw.choices(("author", "admin", "stranger"), WHO_RETRACTS)
    names = names_said(run.auditor, device.identity.node if who == "author" else None)
    if not names:
        return
    target = draw.choice(names[-1 - int(operation.amount) :])
    payload: dict[str, Any] = {"keys": [str(target)], "reason": "a slip"}
    signature = b""
    if who == "admin":
        signature = run.world.admin.sign(signed_names(device.identity.swarm, [target]))
        payload["admin"] = signature.hex()
    run.ask(device, [RETRACT_TAG], payload)
    if who == "stranger":  # with a program that does not look whose event it is
        published = log.publish([Draft((RETRACT_TAG,), payload)])
        run.in_background(device, _acknowledged(device, published))
    else:
        run.in_background(
            device, _retracted(device, log.retract([target], "a slip", signature=signature))
        )


async def _retracted(device: Device, retracting: Awaitable[Event]) -> None:
    with suppress(InvalidInput):  # a retraction was named, or nothing that this device wrote
        device.acknowledged.append(await retracting)


async def _revoke(run: Run, operation: Operation) -> None:
    """The admin, beside one device, puts another out of the swarm, unless the others need it to hear of each other."""
    beside, target = run.pair(operation)
    members = run.world.members
    if beside not in members or target not in members or len(members) <= FEWEST_MEMBERS:
        return
    if not run.world.holds_together(target):
        return
    notice = await run.world.membership.revoke(beside, target, operation.amount)
    run.in_background(beside, beside.node.learn(notice))


async def _rotate(run: Run, operation: Operation) -> None:
    """The admin, beside one device, gives all members new keys."""
    beside, members = run.device(operation), run.world.members
    if beside in members:
        draw = run.world.generator(f"rotate/{operation.at}")
        notice = run.world.membership.rotate(members, draw)
        run.in_background(beside, beside.node.learn(notice))


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


async def _backup(run: Run, operation: Operation) -> None:
    device = run.device(operation)
    if not run.flips.outstanding:
        run.backups[device] = device.backup()


async def _restore_backup(run: Run, operation: Operation) -> None:
    device = run.device(operation)
    if device in run.backups and not run.flips.outstanding:
        await device.restore_backup(run.backups[device])
        run.started(device)


async def _copy_card(run: Run, operation: Operation) -> None:
    device = run.device(operation)
    if not run.flips.outstanding:
        run.cards[device] = device.node.log.own_streams, device.card()


async def _restore_card(run: Run, operation: Operation) -> None:
    """Put a copy of everything back, where somebody healthy can tell what it lacks.

    Nothing on it shows its age, so that it would write a second history where nobody answers. Operators are told to
    take the token away then, and they watch whether somebody answers.
    """
    device = run.device(operation)
    own, card = run.cards.get(device, (None, None))
    if own is None or card is None or run.flips.outstanding:
        return
    healthy = _healthy_neighbours(run, device)
    await device.stop()  # first: what it commits while it stops must be known to somebody, too
    last = {stream: run.auditor.last_said(stream) for stream in own}
    if not any(_holds_all(run, other, last) for other in healthy):
        await run.start(device)
        return
    await device.restore_card(card)
    try:
        async with asyncio.timeout(PATIENCE * SETTLING_S):
            await device.node.log.settled()
    except TimeoutError:
        await device.restore_card(card._replace(token=b""))
    run.started(device)
    run.publish(device, ["x"], 0)  # whoever restores it wants to see it work


async def _flip_bit(run: Run, operation: Operation) -> None:
    """Damage an event on the disk, and read everything, so that it is noticed; a harsh disk's cache would hide it."""
    device = run.device(operation)
    if not run.plan.harsh and run.flips.strike(
        device, _healthy_neighbours(run, device), operation.amount
    ):
        run.in_background(device, read_everything(device))


async def _clone(run: Run, operation: Operation) -> None:
    """Put a copy of a card into a second device, which goes to work beside the first.

    Copies are of one device: of two, each with a copy, every one may be linked with one of the other two, for good.
    """
    device, copied = run.device(operation), run.world.copied
    is_room = len(run.world.nodes) - run.plan.nodes < MAX_COPIES
    is_first = not copied or device.identity.node in copied
    if is_room and is_first and not run.flips.outstanding:
        run.started(await run.world.clone(device))


def _holds_all(run: Run, device: Device, last: Mapping[StreamId, int]) -> bool:
    return all(run.auditor.holds(device, stream, offset) for stream, offset in last.items())


def _healthy_neighbours(run: Run, device: Device) -> list[Device]:
    """The healthy neighbours that a device dials, and from which it hears the truth."""
    known = run.world.neighbours(device)
    return [
        other
        for other in run.pairs.healthy_neighbours(device)
        if other.name in known and not run.world.is_forging(device, other)
    ]


_Act = Callable[[Run, Operation], Awaitable[None]]

_ACTS: Mapping[str, tuple[bool | None, _Act]] = {
    # what is done, whether its device must be on (True), off (False) or either (None), and how
    "publish": (True, _publish),
    "burst": (True, _burst),
    "crowd": (True, _crowd),
    "sense": (True, _sense),
    "effects": (True, _effects),
    "retract": (True, _retract),
    "revoke": (True, _revoke),
    "rotate": (True, _rotate),
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
    "backup": (None, _backup),
    "restore_backup": (None, _restore_backup),
    "copy_card": (True, _copy_card),
    "restore_card": (True, _restore_card),
    "flip_bit": (True, _flip_bit),
    "clone": (None, _clone),
}
