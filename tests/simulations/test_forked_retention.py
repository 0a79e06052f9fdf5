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


async def write_twice(world: World, before: int, after: int, by_copy: int) -> StreamId:
    """Let a device, and its copy apart from it, go on with one stream; returns that, as all know it then."""
    stream = await write_apart(world, before, after, by_copy)
    await world.converge(TURNS_S)
    await world.run(seconds=2)
    return stream


async def write_apart(world: World, before: int, after: int, by_copy: int) -> StreamId:
    """The same, with nobody yet who knows both histories."""
    a, b, c, d = world.nodes
    stream = await sense(a, before)
    await world.run(seconds=3)
    copy = await world.clone(a)
    with world.partition((a, b), (c, d, copy)):
        await sense(a, after)
        await sense(copy, by_copy)
        await world.run(seconds=10)
    return stream


def kept(world: World, stream: StreamId) -> list[int]:
    """The first offset that each node keeps of a stream."""
    return [device.node.log.horizons.get(stream, 0) for device in world.nodes]


@pytest.mark.parametrize("seed", range(4))
def test_a_forked_stream_is_pruned_no_further_and_those_that_follow_it_are(seed: int) -> None:
    async def story(world: World) -> None:
        forked = await write_twice(world, 5, 4, 4)
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
@pytest.mark.parametrize(("after", "by_copy"), [(6, 6), (3, 9), (9, 3), (9, 9)])
def test_what_either_history_gave_up_of_the_common_part_is_given_up_by_everybody(
    seed: int, after: int, by_copy: int
) -> None:
    async def story(world: World) -> None:
        forked = await write_twice(world, 20, after, by_copy)
        for device in world.nodes:
            [fork] = device.node.status().forks
            assert (fork.stream, fork.offset) == (forked, 19)
        [horizon] = set(kept(world, forked))
        assert 10 <= horizon <= 19

    tell(story, seed)


def test_histories_that_have_both_pruned_where_they_part_are_told_as_diverged_and_hinder_nobody() -> (
    None
):
    async def go() -> None:
        world = World(1, 4, routes=ROUTES)
        async with asyncio.timeout(600), world.started():
            stream = await write_apart(world, 20, 14, 16)
            a, b, c, d, copy = world.nodes
            note = await b.publish("note", "all goes on")
            await world.run(seconds=20)
            for device in (a, c, d, copy):
                assert device.node.offsets.of(note.stream) == 0
                assert device.node.status().forks == ()
            assert b.node.offsets[stream] == 33
            assert c.node.offsets[stream] == d.node.offsets[stream] == 35
            told = {text for peer in b.node.peers.status() for text in peer.diverged}
            assert told == {stream.address}
            assert {c.node.id, d.node.id} <= b.node.peers.linked

    run_simulated(go(), random.Random(1))
