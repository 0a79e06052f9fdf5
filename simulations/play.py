"""Plays a plan: the operations at their times, then a quiet phase, with all laws on.

The way of a seed: `draw_plan` -> `play` -> an `Outcome`; where that is a failure, `shrunk` plays parts of the plan
until none of its operations can be left out, and `play(…, keeps=True)` once more for a picture.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lamport.event import Event
from lamport.ids import StreamId
from simulations.acts import FISH, ROUTES, TAGS, WORK_FISH, WORK_TAG, Run, act
from simulations.damage import read_everything
from simulations.device import Device
from simulations.disk import Platter
from simulations.errors import LawBroken, SimulationError
from simulations.knobs import turned_down
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.markers import reached
from simulations.plan import Plan
from simulations.questions import check_queries
from simulations.retracting import check_hidden
from simulations.revoking import check_epoch
from simulations.trace import Kind, Note
from simulations.watching import PairWatch, StateWatch, check_channels, check_trust
from simulations.world import CONVERGENCE_S, World

FAR_CONVERGENCE_S = 10.0
"""Law 7 for worlds of many nodes or of long lines: each further hop is another link to make."""

COPIED_CONVERGENCE_S = 60.0
"""The same where a card was copied: of a device and its copy, peers are linked with one at a time, in turns."""

MENDING_S = 15.0
"""How long it may take until what a disk lost is mended, in a world that is well."""

TIDYING_S = 2.0
"""In which logs at rest have merged, packed and pruned what was left to do."""

REST_S = 5.0
"""After which half-made and half-dead connections are gone."""

UNDER_WAY_S = 3.0
"""How long something forged may still be on its way, or wait for a disk."""

QUIET_LIMIT_S = 240.0
"""Virtual time that a run may take beyond its plan; one that takes longer waits for what never comes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: its digest, what interesting was seen, or what broke."""

    plan: Plan
    digest: str
    virtual_s: float
    commits: int
    markers: frozenset[str] = frozenset()
    failure: str = ""
    notes: Sequence[Note] = ()


def play(plan: Plan, *, keeps: bool = False) -> Outcome:
    """Play a plan to its end, whatever happens in it; `keeps` says whether notes for a picture are kept."""
    world = World(
        plan.seed,
        plan.nodes,
        shape=plan.shape,
        keeps=keeps,
        make_platter=_harsh_platter() if plan.harsh else None,
        routes=ROUTES,
    )
    auditor = Auditor(world, asked={})
    run = Run(plan, world, auditor, StateWatch(world), PairWatch(auditor))
    logging.getLogger("shoal").setLevel(logging.CRITICAL)
    failure = ""
    with turned_down(plan.knobs), reached() as markers:
        try:
            virtual_s = run_simulated(_played(run), random.Random(plan.seed))  # noqa: S311 - repeatable on purpose
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this run found
            failure, virtual_s = f"{type(error).__name__}: {error}", plan.seconds
            world.trace.show(Note(virtual_s, "", Kind.FAILURE, failure))
    return Outcome(
        plan,
        world.trace.digest,
        virtual_s,
        auditor.commits,
        frozenset(markers),
        failure,
        world.trace.notes,
    )


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


def _harsh_platter() -> Callable[[random.Random], Platter]:
    try:
        from simulations.harsh import HarshPlatter  # noqa: PLC0415 - apsw is needed for this alone
    except ImportError as error:
        raise SimulationError("plans with a harsh disk need apsw: pip install apsw") from error
    return HarshPlatter


async def _played(run: Run) -> float:
    world, loop = run.world, asyncio.get_running_loop()
    run.auditor.watch()
    run.states.watch()
    run.pairs.watch()
    async with asyncio.timeout(run.plan.seconds + QUIET_LIMIT_S), world.started():
        try:
            await _struck(run)
            await _quiet(run)
        finally:
            for listener in run.listeners:
                await listener.end()
        return loop.time()


async def _struck(run: Run) -> None:
    """Let the plan happen."""
    loop = asyncio.get_running_loop()
    for device in run.world.nodes:
        run.started(device)
    for operation in run.plan.operations:
        await asyncio.sleep(max(0.0, operation.at - loop.time()))
        await act(run, operation)
        run.world.check()
    await asyncio.sleep(max(0.0, run.plan.seconds - loop.time()))


async def _quiet(run: Run) -> None:
    """Heal everything, wait for what is under way, and hold what came of it against the laws."""
    world = run.world
    far = run.plan.shape != "mesh"
    limit_s = FAR_CONVERGENCE_S if far else CONVERGENCE_S
    if world.copied:
        limit_s = COPIED_CONVERGENCE_S
    if any(operation.kind == "forge" for operation in run.plan.operations):
        await _let_in_again(run)
    await world.recover()
    await world.membership.tell(world.members[0])
    await world.converge(limit_s)
    await asyncio.gather(*run.under_way)
    await asyncio.sleep(TIDYING_S)
    await world.converge(limit_s)
    await _mended(run)
    for device in world.nodes:
        run.auditor.check_acknowledged(device)
    for device in world.members:
        run.auditor.check_proven(device)
    events = await check_converged(world, FISH)
    for device in world.members:
        check_hidden(run.auditor, device, events)
    for device in world.members:
        check_epoch(world.membership, device)
    await check_queries(world, events, TAGS)
    _check_effects(events)
    await _check_work(run)
    for device in world.members:
        for fish in FISH:
            await run.states.check_last(device, fish)
    await _check_listeners(run)
    await asyncio.sleep(REST_S)
    check_trust(world)
    check_channels(world)
    world.check()


async def _mended(run: Run) -> None:
    """What a disk lost is had again once those are linked who have it, and everything that waited for it goes on."""
    for device in run.world.members:
        await read_everything(device)
    with suppress(TimeoutError):
        async with asyncio.timeout(MENDING_S):
            while any(device.node.log.damages.spans for device in run.world.members):  # noqa: ASYNC110 - of any
                await asyncio.sleep(0.05)
    if run.flips.outstanding or any(device.pond.stopped for device in run.world.members):
        raise LawBroken(f"damaged, and not mended within {MENDING_S} s: {run.flips.made}")


async def _check_listeners(run: Run) -> None:
    """Everything was handed over, but by a device that was revoked while its disk was damaged: nobody mends that."""
    for listener in run.listeners:
        if not run.flips.hurt(listener.device):
            await listener.check()


async def _let_in_again(run: Run) -> None:
    """An operator lets in again whom a forger on the way made look bad: by a restart, and by healing what is banned."""
    await run.world.recover()
    await asyncio.sleep(UNDER_WAY_S)
    check_trust(run.world)
    for device in run.world.nodes:
        if _distrusting(device):
            await device.restart()
            device.node.peers.heal()
            run.started(device)


def _distrusting(device: Device) -> bool:
    """Whether a device banned a peer or set a stream aside."""
    peers = device.node.peers
    return bool(peers._bans.until) or any(peer.diverged for peer in peers.status())


def _check_effects(events: Sequence[Event]) -> None:
    """An effect sees what those before it published: who counts on from the highest known never counts backwards."""
    counted: dict[StreamId, int] = {}
    for event in events:
        if "top" in event.tags:
            if event.payload <= counted.get(event.stream, 0):
                raise LawBroken(
                    f"law 10: the effect behind {event.key} saw less than one before it"
                )
            counted[event.stream] = event.payload


async def _check_work(run: Run) -> None:
    """Law 12, by another way than the fish: what is open is what was started, without what was named as ended."""
    for device in run.world.members:
        events = [event async for event in device.node.query(WORK_TAG)]
        started = {str(event.key) for event in events if event.payload["type"] == "started"}
        named = {key for event in events for key in event.payload.get("ended", ())}
        work = await device.pond.current_state(WORK_FISH)
        if set(work.texts) != started - named:
            raise LawBroken(
                f"law 12: {device.name} has {len(work)} open work, not {len(started - named)}"
            )
