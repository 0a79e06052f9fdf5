"""A disk that loses a bit, in a swarm: it comes to light, and everybody has everything in the end."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from lamport.seams import Statement
from lamport.tags import Tag
from simulations.damage import Flips, read_everything
from simulations.device import Device
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.world import World

NOTE = Tag("note")


def tell(story: Callable[[World, Auditor], Awaitable[object]]) -> None:
    """Run a story in a line of three with the laws on; all hold the same in the end."""

    async def go() -> None:
        world = World(1, 3, shape="line")
        auditor = Auditor(world)
        auditor.watch()
        async with asyncio.timeout(600), world.started():
            await story(world, auditor)
            await world.converge()
            await check_converged(world, [])

    run_simulated(go(), random.Random(1))


def damage(device: Device, offset: int) -> None:
    """Alter the event at an offset of every stream on a disk."""
    device.platter.transact(
        [Statement("UPDATE events SET bytes = x'00' WHERE \"offset\" = ?", [(offset,)])]
    )


def test_damage_to_what_was_retracted_is_found_by_who_serves_it_and_mended() -> None:
    async def story(world: World, auditor: Auditor) -> None:
        a, b, c = world.nodes
        slip = await a.publish(NOTE, "a slip")
        await a.node.log.retract([slip.key], "a slip")
        await world.run(seconds=2)
        flips = Flips(auditor)
        assert flips.strike(b, [a, c], 0.0)
        assert [event async for event in b.node.query(NOTE)] == []
        assert not b.node.log.damages.spans
        await read_everything(b)
        assert b.node.log.damages.spans
        await world.run(seconds=2)
        assert not b.node.log.damages.spans
        assert not flips.outstanding

    tell(story)


def test_who_was_declined_because_of_damage_is_told_when_it_is_mended() -> None:
    async def story(world: World, _auditor: Auditor) -> None:
        a, b, c = world.nodes
        world.isolate(c)
        for number in range(3):
            await a.publish(NOTE, number)
        await world.run(seconds=8)
        world.isolate(a)
        await world.run(seconds=8)
        damage(b, 0)
        world.join((b,), (c,))
        world.cut(b, c, cut=False)
        world.cut(c, b, cut=False)
        await world.run(seconds=8)
        assert c.node.id in b.node.peers.linked
        assert b.node.log.damages.spans
        assert not c.node.offsets
        world.heal()
        await world.run(seconds=8)
        assert not b.node.log.damages.spans
        assert c.node.offsets == a.node.offsets

    tell(story)
