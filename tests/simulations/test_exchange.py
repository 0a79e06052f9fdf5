"""Nodes that know one neighbour each find the rest of the swarm through it."""

import random

from lamport.tags import Tag
from simulations.loop import run_simulated
from simulations.world import World
from transport.exchange import MAX_EXCHANGED
from transport.network import Address, Candidate


def test_a_line_becomes_a_mesh_by_what_neighbours_tell() -> None:
    async def story() -> None:
        world = World(5, 6, shape="line", exchanges=True)
        async with world.started():
            a, *_, last = world.nodes
            await world.run(seconds=120)
            assert all(len(device.node.peers.linked) == 5 for device in world.nodes)
            for device in world.nodes[1:-1]:
                await device.stop()
            await world.run(seconds=5)
            await a.publish(Tag("x"), 1)
            await world.run(seconds=2)
            assert last.node.offsets == a.node.offsets

    run_simulated(story(), random.Random(5))


def test_a_line_stays_one_where_addresses_are_not_exchanged() -> None:
    async def story() -> None:
        world = World(5, 4, shape="line")
        async with world.started():
            await world.run(seconds=120)
            assert [len(one.node.peers.linked) for one in world.nodes] == [1, 2, 2, 1]

    run_simulated(story(), random.Random(5))


def test_what_peers_make_up_leaves_room_for_what_others_announce() -> None:
    async def story() -> None:
        world = World(5, 2, exchanges=True)
        async with world.started():
            a, b = world.nodes
            made_up = [
                Candidate(b.identity.node, (Address(f"nowhere-{number}", 1),))
                for number in range(1_000)
            ]
            a.node.peers._meet(made_up)  # noqa: SLF001 - what a link hands on
            await world.run(seconds=1)
            assert len(a.node.peers._targets) <= MAX_EXCHANGED + 1  # noqa: SLF001 - not shown

    run_simulated(story(), random.Random(5))


def test_a_node_that_stops_dials_nobody_of_whom_a_link_hears_still() -> None:
    async def story() -> None:
        world = World(5, 2, exchanges=True)
        async with world.started():
            a, b = world.nodes
            peers = a.node.peers
            await world.run(seconds=1)
            await a.stop()
            known = len(peers._targets)  # noqa: SLF001 - not shown
            peers._meet([Candidate(b.identity.node, (Address("elsewhere", 1),))])  # noqa: SLF001 - as above
            assert len(peers._targets) == known  # noqa: SLF001 - not shown

    run_simulated(story(), random.Random(5))
