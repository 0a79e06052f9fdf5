"""Swarms that are too large for links between all: how many links there are, and how news spread."""

import pytest

from simulations.gossip import measure
from simulations.loop import run_simulated
from simulations.world import World
from transport.mesh import ENOUGH_LINKS, MOST_LINKS

NODES = 20


def test_a_crowd_that_finds_itself_keeps_a_handful_of_links_each_and_meets_again_after_a_partition() -> (
    None
):
    world = World(3, NODES, shape="crowd")

    async def story() -> None:
        async with world.started():
            await world.run(seconds=15)
            degrees = [len(device.node.peers.linked) for device in world.nodes]
            assert min(degrees) >= ENOUGH_LINKS
            assert max(degrees) <= MOST_LINKS
            half = set(world.nodes[: NODES // 2])
            with world.partition(half, set(world.nodes) - half):
                await world.run(seconds=30)
                for device in world.nodes:
                    await device.publish("news", device.name)
                await world.run(seconds=5)
                assert not world.equal
            await world.converge(10.0)
            assert len(world.nodes[0].node.offsets) == NODES

    run_simulated(story(), world.generator("loop"))


@pytest.mark.parametrize("seed", [1, 2])
def test_news_reach_everybody_soon_and_about_once_and_survive_a_great_loss(seed: int) -> None:
    figures = measure(seed, nodes=30, events=20)
    assert figures.delivered == 1.0
    assert figures.delivery_p50_s < 0.5
    assert figures.hops_p99 <= 16
    assert figures.duplicates < 0.5
    assert figures.complete_s <= 10.0
