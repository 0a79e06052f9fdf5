"""Who forged is not talked to for ten minutes, restarts or not, and is not dialled meanwhile."""

import random

import pytest

from lamport.tags import Tag
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.network import SimulatedChannel, SimulatedNetwork
from simulations.world import World
from transport.bans import BAN_S
from transport.network import Address

X = Tag("x")


def banned(device: Device, other: Device) -> float:
    return device.node.peers._bans.left_s(other.identity.node)  # noqa: SLF001 - it is not shown


async def ban(world: World) -> tuple[Device, Device]:
    """Let b be taken for a forger by a."""
    a, b = world.nodes
    await world.run(seconds=1)
    world.forge(b, a, "seal")
    await b.publish(X, 1)
    await world.run(seconds=2)
    world.heal()
    assert banned(a, b) > BAN_S - 5
    return a, b


def test_a_ban_outlives_a_restart_and_ends_when_its_time_is_over() -> None:
    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            a, b = await ban(world)
            await a.restart()
            await world.run(seconds=100)
            assert 0 < banned(a, b) < BAN_S - 100
            assert b.identity.node not in a.node.peers.linked
            await world.run(seconds=BAN_S - 100)
            assert a.node.offsets == b.node.offsets

    run_simulated(story(), random.Random(3))


def test_a_clock_that_is_put_back_makes_no_ban_longer() -> None:
    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            a, b = await ban(world)
            a.clock.jump(years=-5)
            await a.restart()
            await world.run(seconds=1)
            assert 0 < banned(a, b) <= BAN_S

    run_simulated(story(), random.Random(3))


def test_healing_lifts_a_ban_for_good() -> None:
    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            a, b = await ban(world)
            a.node.peers.heal(b.identity.node)
            await world.run(seconds=5)
            assert a.node.offsets == b.node.offsets
            await a.restart()
            await world.run(seconds=5)
            assert banned(a, b) == 0
            assert b.identity.node in a.node.peers.linked

    run_simulated(story(), random.Random(3))


def test_a_banned_peer_is_not_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    dialled: list[str] = []
    right = SimulatedNetwork.dial

    async def dial(network: SimulatedNetwork, address: Address) -> SimulatedChannel:
        dialled.append(address.host)
        return await right(network, address)

    async def story() -> None:
        world = World(3, 2)
        async with world.started():
            _, b = await ban(world)
            monkeypatch.setattr(SimulatedNetwork, "dial", dial)
            await world.run(seconds=100)
            assert b.name not in dialled

    run_simulated(story(), random.Random(3))
