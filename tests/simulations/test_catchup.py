"""A fish replays once for all that its node missed, and nobody who trickles keeps its state from anybody."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from fish import Fish
from lamport import Tag, draft
from lamport.offsets import OffsetMap
from simulations.device import Device
from simulations.knobs import turned_down
from simulations.loop import run_simulated
from simulations.world import World

PART = Tag("part")
COUNT: Fish[int] = Fish("count", PART, 0, lambda count, _event, _metadata: count + 1)


def tell(story: Callable[[World], Awaitable[None]], nodes: int) -> None:
    async def told() -> None:
        world = World(3, nodes)
        async with world.started():
            await world.run(seconds=1)
            await story(world)

    run_simulated(told(), random.Random(3))


async def publish(device: Device, events: int) -> None:
    await device.node.publish_all([draft(PART, number) for number in range(events)])


async def covered(device: Device, offsets: OffsetMap) -> None:
    while not device.node.offsets.covers(offsets):
        await device.node.log.changed()


def test_a_fish_replays_once_for_all_that_was_missed() -> None:
    """Ten rounds by four devices, all late for the fifth, which goes on publishing while it is alone."""

    async def story(world: World) -> None:
        *others, late = world.nodes
        shown: list[int] = []
        observation = late.pond.observe(COUNT, shown.append)
        with world.partition(others, {late}):
            for _ in range(10):
                for device in world.nodes:
                    await publish(device, 20)
                await world.run(seconds=1)
            fish = late.pond.running_fish(COUNT)
            assert shown[-1] == 200
            before, told = fish.calls, len(shown)
        await world.converge()
        await world.run(seconds=1)
        assert shown[told:] == [1_000]
        assert fish.calls - before <= 1_000
        assert not (await late.pond.snapshot(COUNT)).provisional
        observation.cancel()

    tell(story, 5)


def test_a_peer_that_trickles_withholds_nothing() -> None:
    async def story(world: World) -> None:
        source, late = world.nodes
        shown: list[int] = []
        observation = late.pond.observe(COUNT, shown.append)
        with world.partition({source}, {late}):
            await world.run(seconds=10)
            for _ in range(300):
                await publish(source, 1)
            world.slow(source, late, bandwidth=600)
        began = asyncio.get_running_loop().time()
        while not shown or not shown[-1]:
            await world.run(seconds=0.1)
        assert 0 < shown[-1] < 300
        assert asyncio.get_running_loop().time() - began < 15
        assert (await late.pond.snapshot(COUNT)).provisional
        world.heal()
        await covered(late, source.node.offsets)
        await world.run(seconds=1)
        assert shown[-1] == 300
        assert not (await late.pond.snapshot(COUNT)).provisional
        observation.cancel()

    with turned_down(["wants of 10 events"]):
        tell(story, 2)


def test_what_comes_in_bulk_takes_half_the_bytes() -> None:
    async def story(world: World) -> None:
        source, late = world.nodes
        [before] = late.node.peers.status()
        readings = ({"press": 7, "state": "running", "pieces": n} for n in range(2_000))
        await source.node.publish_all([draft(PART, reading) for reading in readings])
        await covered(late, source.node.offsets)
        [after] = late.node.peers.status()
        sealed = await source.node.log.sealed_range(source.node.log.stream, 0, 1_000)
        assert sealed is not None
        size = sum(map(len, sealed.events)) * 2_000 // len(sealed.events)
        assert after.events_in - before.events_in == 2_000
        assert after.bytes_in - before.bytes_in < size / 2

    tell(story, 2)
