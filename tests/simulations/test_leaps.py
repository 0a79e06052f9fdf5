"""A broken clock in a swarm: what leaps is set aside by all who know better, and released by the admin for all."""

import random
from collections.abc import Awaitable, Callable

from lamport.clock import LamportClock
from lamport.leaps import MAX_LEAP
from lamport.tags import Tag
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.world import World

X = Tag("x")


def tell(story: Callable[[World], Awaitable[None]], nodes: int = 3) -> None:
    async def go() -> None:
        world = World(7, nodes)
        async with world.started():
            await story(world)

    run_simulated(go(), random.Random(7))


async def leap(device: Device, lamport: int) -> int:
    """Break a device's counter, and let it publish; returns the event's timestamp."""
    device.node.log.store.clock = LamportClock(lamport)
    return (await device.publish(X, "leap")).lamport


async def release(world: World, beside: Device) -> None:
    """What `shoal release` does, for all that a device has set aside."""
    for lamport in beside.node.status().quarantined.values():
        await beside.node.learn(world.membership.release(lamport))


def test_a_stream_that_leaps_is_shown_until_the_admin_releases_it_and_then_taken_in_by_all() -> (
    None
):
    async def story(world: World) -> None:
        a, b, c = world.nodes
        for device in world.nodes:
            await device.publish(X, 1)
        await world.converge()
        stream, before = a.node.log.stream, b.node.log.lamport
        lamport = await leap(a, 2 * MAX_LEAP)
        await world.run(seconds=5)
        for device in (b, c):
            assert device.node.log.lamport == before
            assert dict(device.node.status().quarantined) == {stream: lamport}
        await release(world, b)
        await world.run(seconds=2)
        await world.converge()
        for device in (b, c):
            assert device.node.log.lamport == lamport
            assert not device.node.status().quarantined
        await b.publish(X, 2)
        await world.converge()

    tell(story)


def test_who_was_away_when_it_was_released_takes_it_in_without_being_asked() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        for device in world.nodes:
            await device.publish(X, 1)
        await world.converge()
        await c.stop()
        await leap(a, 2 * MAX_LEAP)
        await world.run(seconds=2)
        await release(world, b)
        await world.run(seconds=2)
        await b.publish(X, 2)
        await c.start()
        await world.converge()

    tell(story)


def test_a_newcomer_takes_in_what_leaps_once_and_is_careful_from_then_on() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        await b.stop()
        await c.stop()
        assert a.node.log.store.leaps.is_newcomer
        await leap(a, 2 * MAX_LEAP)
        await b.start()
        await world.run(seconds=3)
        assert b.node.log.lamport > 2 * MAX_LEAP
        assert not b.node.log.store.leaps.is_newcomer
        await b.stop()
        await b.start()
        assert not b.node.log.store.leaps.is_newcomer
        before = b.node.log.lamport
        await leap(a, 4 * MAX_LEAP)
        await world.run(seconds=3)
        assert b.node.log.lamport == before
        assert b.node.status().quarantined

    tell(story)


def test_what_is_within_reach_by_now_is_taken_in_without_a_word_of_the_admin() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        for device in world.nodes:
            await device.publish(X, 1)
        await world.converge()
        a_leap = await leap(a, MAX_LEAP + 100)
        await world.run(seconds=3)
        assert a.node.log.stream in b.node.status().quarantined
        await leap(c, 200)
        await world.run(seconds=3)
        await world.converge()
        assert b.node.log.lamport == a_leap

    tell(story)
