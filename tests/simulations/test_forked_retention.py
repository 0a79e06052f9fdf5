"""A stream that is not kept for ever, and was written twice: what was pruned stays so, and nothing more is pruned."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from lamport.ids import StreamId
from lamport.routes import Policy, Route
from lamport.tags import Tag
from simulations.device import Device
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.world import World

SENSED = Tag("sensed")
ROUTES = (Route(SENSED, "sensors", Policy(max_events=10)),)

TURNS_S = 60.0
"""How long peers may take that are linked with a device and with its copy in turns."""


def tell(story: Callable[[World], Awaitable[object]], seed: int = 1) -> None:
    """Run a story of four devices with the laws on; all hold the same in the end."""

    async def go() -> None:
        world = World(seed, 4, routes=ROUTES)
        auditor = Auditor(world)
        auditor.watch()
        async with asyncio.timeout(600), world.started():
            await story(world)
            await world.converge(TURNS_S)
            for device in world.nodes:
                auditor.check_proven(device)
            await check_converged(world, [])

    run_simulated(go(), random.Random(seed))


async def sense(device: Device, count: int) -> StreamId:
    """Publish so many readings; returns their stream."""
    return [await device.publish(SENSED, number) for number in range(count)][-1].stream


async def write_twice(world: World, before: int, after: int) -> StreamId:
    """Let a device, and its copy apart from it, go on with one stream; returns that, as all know it then."""
    a, b, c, d = world.nodes
    stream = await sense(a, before)
    await world.run(seconds=3)
    copy = await world.clone(a)
    with world.partition((a, b), (c, d, copy)):
        for device in (a, copy):
            await sense(device, after)
        await world.run(seconds=10)
    await world.converge(TURNS_S)
    await world.run(seconds=2)
    return stream


def kept(world: World, stream: StreamId) -> list[int]:
    """The first offset that each node keeps of a stream."""
    return [device.node.log.horizons.get(stream, 0) for device in world.nodes]


@pytest.mark.parametrize("seed", range(4))
def test_a_forked_stream_is_pruned_no_further_and_those_that_follow_it_are(seed: int) -> None:
    async def story(world: World) -> None:
        forked = await write_twice(world, 5, 4)
        for device in world.nodes:
            [fork] = device.node.status().forks
            assert (fork.stream, fork.offset) == (forked, 4)
        a, copy = world.nodes[0], world.nodes[-1]
        new = [await sense(device, 30) for device in (a, copy)]
        await world.converge(TURNS_S)
        await world.run(seconds=5)
        assert forked not in new
        assert kept(world, forked) == [0] * 5
        for stream in set(new):
            assert min(kept(world, stream)) > 10

    tell(story, seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_stream_that_forks_behind_its_horizon_keeps_that_horizon(seed: int) -> None:
    async def story(world: World) -> None:
        forked = await write_twice(world, 20, 6)
        for device in world.nodes:
            [fork] = device.node.status().forks
            assert (fork.stream, fork.offset) == (forked, 19)
        assert len(set(kept(world, forked))) == 1
        assert 10 <= kept(world, forked)[0] < 20

    tell(story, seed)
