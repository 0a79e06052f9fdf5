"""A member that floods one node gets its allowance, and others are served as if it were not there."""

import asyncio
import random
from contextlib import suppress

from lamport.tags import Tag
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.network import PORT, SimulatedChannel, SimulatedNetwork
from simulations.world import World
from transport.buckets import MESSAGES_AT_ONCE, MESSAGES_PER_S
from transport.codec import encode_message
from transport.frames import frame
from transport.handshake import ClientHandshake
from transport.identity import Identity
from transport.messages import Eager, Greeting, Heads, Message
from transport.network import Address

X = Tag("x")
FLOOD_S = 20.0


def said(*messages: Message) -> bytes:
    return b"".join(frame(encode_message(message)) for message in messages)


async def linked(world: World, identity: Identity, target: Device) -> SimulatedChannel:
    """A session of a member that is no node: it says what a program of ours would never say."""
    network = SimulatedNetwork(world.air, "rogue", identity)
    channel = await network.dial(Address(target.name, PORT))
    handshake = ClientHandshake(identity, identity.certificate, channel.peer_certificate, bytes(32))
    await channel.write(handshake.start())
    while not handshake.done:
        await channel.write(handshake.receive(await channel.read(1_000)))
    await channel.write(said(Greeting("rogue"), Heads((), complete=True)))
    return channel


async def flood(channel: SimulatedChannel) -> None:
    """Say as much as gets through of what costs a node time and nobody else anything."""
    much = said(*[Eager(yes=True)] * 2_000)
    with suppress(OSError):
        while True:
            await channel.write(much)


async def drained(channel: SimulatedChannel) -> None:
    while await channel.read(100_000):
        pass


async def latencies(source: Device, target: Device) -> list[float]:
    """How long events of one take to the other, one after the other."""
    clock, found = asyncio.get_running_loop().time, []
    for number in range(40):
        began = clock()
        event = await source.publish(X, number)
        while target.node.offsets.of(event.stream) < event.offset:
            await target.node.log.changed()
        found.append(clock() - began)
        await asyncio.sleep(0.1)
    return found


def test_a_flood_from_one_member_is_read_no_faster_than_allowed_and_delays_nobody() -> None:
    async def story() -> None:
        world = World(2, 3)
        async with world.started():
            a, b, rogue = world.nodes
            await rogue.stop()
            await world.run(seconds=2)
            before = await latencies(a, b)
            channel = await linked(world, rogue.identity, b)
            for source, target in (("rogue", b.name), (b.name, "rogue")):
                world.air.link(source, target).bandwidth = 1e9
            tasks = [asyncio.create_task(drained(channel)), asyncio.create_task(flood(channel))]
            began = asyncio.get_running_loop().time()
            during = await latencies(a, b)
            await world.run(seconds=FLOOD_S - 5)
            [status] = [one for one in b.node.peers.status() if one.node == rogue.identity.node]
            passed = asyncio.get_running_loop().time() - began
            assert status.connected
            size = len(said(Eager(yes=True)))
            allowed = (MESSAGES_AT_ONCE + MESSAGES_PER_S * passed) * size
            assert 0.8 * allowed < status.bytes_in < 1.1 * allowed + 2 * 256 * 1024
            assert sum(during) < 1.5 * sum(before)
            assert max(during) < 2 * max(before)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            channel.abort()

    run_simulated(story(), random.Random(2))
