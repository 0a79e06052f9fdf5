"""What two nodes of a swarm say to each other when their link comes back and nothing is new."""

import random

import pytest

from lamport.tags import Tag
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.network import SimulatedChannel, SimulatedNetwork
from simulations.world import World
from transport.link import Link
from transport.network import Address
from transport.peers import MAX_BACKOFF_S

LIMIT_BYTES = 1_000


def link(one: Device, other: Device) -> Link:
    return one.node.peers._links[other.identity.node]  # noqa: SLF001 - the bytes of one session


async def linked(one: Device, other: Device) -> Link:
    while other.identity.node not in one.node.peers.linked:
        await one.node.peers.changed()
    return link(one, other)


def test_reconnecting_with_nothing_new_costs_less_than_a_kilobyte_behind_the_hello() -> None:
    async def story() -> None:
        world = World(1, 12)
        async with world.started():
            a, b, *_ = world.nodes
            for device in world.nodes:
                for number in range(20):
                    await device.publish(Tag("x"), number)
            await world.converge(10.0)
            await world.run(seconds=12)
            before = link(a, b)
            whole = before.session.traffic.bytes_in + before.session.traffic.bytes_out
            a.node.peers.cut(b.identity.node)
            await world.run(seconds=5)
            a.node.peers.heal()
            again = await linked(a, b)
            assert again is not before
            await world.run(seconds=1.5)
            traffic = again.session.traffic
            assert traffic.bytes_in + traffic.bytes_out < min(LIMIT_BYTES, whole / 4)
            assert a.node.offsets.covers(
                again.session.offsets
            )  # what it heard from here it does not tell back
            await a.publish(Tag("x"), "new")
            await world.run(seconds=0.5)
            assert b.node.offsets == a.node.offsets

    run_simulated(story(), random.Random(1))


def test_a_node_that_was_wiped_meanwhile_is_told_everything() -> None:
    async def story() -> None:
        world = World(1, 2)
        async with world.started():
            a, b = world.nodes
            image = b.backup()
            for number in range(5):
                await a.publish(Tag("x"), number)
            await world.converge()
            await world.run(seconds=12)
            await b.restore_backup(image)
            await world.run(seconds=5)
            assert b.node.offsets == a.node.offsets

    run_simulated(story(), random.Random(1))


def test_a_peer_whose_links_end_at_once_is_dialled_as_rarely_as_one_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialled: list[str] = []
    right = SimulatedNetwork.dial

    async def dial(network: SimulatedNetwork, address: Address) -> SimulatedChannel:
        dialled.append(address.host)
        return await right(network, address)

    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            a, b = world.nodes
            await a.publish(Tag("x"), 1)
            await world.run(seconds=1)
            monkeypatch.setattr("transport.session.MAX_TOLD_STREAMS", 0)
            await b.publish(Tag("x"), 1)
            await a.publish(Tag("y"), 2)
            a.node.peers.cut(b.identity.node)
            a.node.peers.heal()
            monkeypatch.setattr(SimulatedNetwork, "dial", dial)
            await world.run(seconds=100)
            assert len(dialled) <= 2 * 100 / (MAX_BACKOFF_S / 2)

    run_simulated(story(), random.Random(3))
