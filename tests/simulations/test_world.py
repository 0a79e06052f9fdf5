"""Stories under virtual time: the production node on simulated links, disks and clocks."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fish import Fish, WorkIds
from lamport import Tag
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.watching import Listener
from simulations.world import Shape, World

ROOT = Path(__file__).parent.parent.parent
X = Tag("x")
COUNT: Fish[int] = Fish("count", X, 0, lambda count, _event, _metadata: count + 1)


def tell(
    story: Callable[[World], Awaitable[object]], seed: int, nodes: int = 3, *, shape: Shape = "mesh"
) -> World:
    """Run a story with the laws on; all hold the same in the end."""

    async def go() -> World:
        world = World(seed, nodes, shape=shape)
        auditor = Auditor(world)
        auditor.watch()
        async with world.started():
            listeners = [Listener(device, auditor) for device in world.nodes]
            await story(world)
            await world.converge()
            for device in world.nodes:
                auditor.check_acknowledged(device)
                auditor.check_bounds(device)
            await check_converged(world, [COUNT])
            for listener in listeners:
                await listener.check()
        return world

    return run_simulated(go(), random.Random(seed))


async def publish_on_both_sides_of_a_cut(world: World) -> None:
    a, b, c = world.nodes
    with world.partition({a, b}, {c}):
        for number in range(5):
            await a.publish(X, number)
            await c.publish(X, number)
            await world.run(seconds=10)
        assert a.node.offsets == b.node.offsets != c.node.offsets


@pytest.mark.parametrize("seed", range(5))
def test_a_healed_partition_converges(seed: int) -> None:
    world = tell(publish_on_both_sides_of_a_cut, seed)
    assert all(len(device.node.offsets) == 2 for device in world.nodes if device.running)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    digests = [tell(publish_on_both_sides_of_a_cut, seed).trace.digest for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_the_trace_does_not_depend_on_the_hash_seed() -> None:
    program = (
        "from tests.simulations.test_world import tell, publish_on_both_sides_of_a_cut as story\n"
        "print(tell(story, 3).trace.digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("seed", range(40))
def test_all_nodes_of_a_line_hear_what_is_published_at_once(seed: int) -> None:
    """What comes while a node is telling of other news must not be forgotten."""

    async def story(world: World) -> None:
        for number in range(10):
            await asyncio.gather(*(device.publish(X, number) for device in world.nodes))
            await world.run(seconds=0.5)
            assert world.equal, f"round {number}"

    async def met(world: World) -> None:
        await world.run(seconds=5)
        await story(world)

    tell(met, seed, shape="line")


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_loses_nothing_that_was_acknowledged(seed: int) -> None:
    async def story(world: World) -> None:
        a, b, _ = world.nodes
        for number in range(5):
            writing = [asyncio.create_task(a.publish(X, number)) for _ in range(20)]
            await world.run(seconds=0.002 * number)
            await a.power_cut()
            await asyncio.gather(*writing, return_exceptions=True)
            await b.publish(X, number)
            await a.start()

    tell(story, seed)


def test_no_connection_is_left_of_a_device_whose_power_went_while_it_spoke() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        await world.run(seconds=5)
        for number in range(10):
            await a.publish(X, number)
            await world.run(seconds=0.0005 * number)
            await a.power_cut()
            await world.run(seconds=3)
            await a.start()
            await world.run(seconds=3)
        assert [one.open_channels for one in (a, b, c)] == [2, 2, 2]

    tell(story, 1)


def test_clocks_that_are_wrong_by_decades_change_nothing() -> None:
    async def story(world: World) -> None:
        for years, device in zip((-40, 0, 50), world.nodes, strict=True):
            device.clock.jump(years=years)
        await publish_on_both_sides_of_a_cut(world)

    tell(story, 1)


def test_a_stalled_peer_holds_nobody_up() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        await world.run(seconds=3)
        world.stall(c, a)
        world.stall(c, b)
        for number in range(20):
            await a.publish(X, number)
            await world.run(seconds=0.2)
            assert a.node.offsets == b.node.offsets

    tell(story, 1)


def test_a_backlog_crosses_a_slow_link_without_losing_it() -> None:
    """Ranges take longer than a silent peer is waited for; both sides must know that somebody is there."""

    async def story(world: World) -> None:
        a, b = world.nodes
        await world.run(seconds=3)
        world.isolate(b)
        await asyncio.gather(*(a.publish(X, "z" * 1_000) for _ in range(1_000)))
        world.heal()
        world.slow(a, b, bandwidth=60_000)
        await world.run(seconds=60)
        assert a.node.offsets == b.node.offsets

    tell(story, 1, nodes=2)


def test_work_opened_behind_a_cut_is_not_ended_by_a_stop_that_did_not_mean_it() -> None:
    def on_change(work: WorkIds, event: dict[str, list[str]], metadata: object) -> WorkIds:
        key = metadata.event_key  # type: ignore[attr-defined]
        return work.closed(event["ended"]) if "ended" in event else work.opened(key)

    fish: Fish[WorkIds] = Fish("work", Tag("w"), WorkIds(), on_change)

    async def story(world: World) -> None:
        a, _, c = world.nodes
        with world.partition({a}, {c}):
            await a.publish("w", {})
            foo = await c.publish("w", {})
            await a.pond.run(fish, lambda work, enqueue: enqueue(["w"], {"ended": work.texts}))
        await world.converge()
        for device in world.nodes:
            assert set(await device.pond.current_state(fish)) == {foo.key}

    tell(story, 1)
