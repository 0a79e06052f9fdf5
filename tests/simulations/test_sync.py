"""What a node says of being in sync: what is known to exist elsewhere, and what nobody can know."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from lamport import Tag, draft
from shoal.errors import NotInSync
from shoal.sync import Sync
from shoal.views import status_to_json
from simulations.device import Device
from simulations.knobs import turned_down
from simulations.loop import run_simulated
from simulations.world import World
from tests.lamport.keys import Author, member
from transport.progress import Knowledge
from transport.standing import PeerStatus

X = Tag("x")


def tell(story: Callable[[World], Awaitable[None]], nodes: int = 3) -> None:
    async def told() -> None:
        world = World(4, nodes)
        async with world.started():
            await story(world)

    run_simulated(told(), random.Random(4))


async def publish(device: Device, events: int) -> None:
    await device.node.publish_all([draft(X, number) for number in range(events)])


def peer(device: Device, other: Device) -> PeerStatus:
    found = device.node.peers.status()
    return next(one for one in found if one.node == other.identity.node)


def test_in_sync_waits_for_all_that_linked_peers_hold() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        with world.partition({a, b}, {c}):
            await world.run(seconds=10)
            await publish(a, 3_000)
            waiting = asyncio.create_task(c.node.in_sync(minimum_peers=2))
            await world.run(seconds=10)
            assert not waiting.done()
        found = await waiting
        assert c.node.offsets == a.node.offsets
        assert set(found.level) == {a.identity.node, b.identity.node}
        assert (found.behind, found.missing) == ((), 0)

    tell(story)


def test_the_time_limit_says_what_is_missing_and_what_is_unknown() -> None:
    async def story(world: World) -> None:
        a, b = world.nodes
        await world.run(seconds=1)
        with world.partition({a}, {b}):
            await world.run(seconds=10)
            with pytest.raises(NotInSync, match=r"with 1 after 8 s: .* 1 peers that are away"):
                await b.node.in_sync(timeout=8)

    tell(story, 2)


def test_what_a_peer_told_before_it_went_is_known_and_what_it_wrote_since_is_not() -> None:
    async def story(world: World) -> None:
        a, b = world.nodes
        await publish(a, 5)
        await b.node.in_sync()
        assert peer(b, a).knowledge is Knowledge.CURRENT
        with world.partition({a}, {b}):
            await world.run(seconds=10)
            await publish(a, 5)
            away, sync = peer(b, a), b.node.status().sync
            assert away.knowledge is Knowledge.PAST
            assert away.offsets == b.node.offsets
            assert away.told_s is not None
            assert away.told_s > 5
            assert (sync.level, sync.away, sync.missing) == ((), (a.identity.node,), 0)
            assert status_to_json(b.node.status())["sync"]["inSync"] is False

    tell(story, 2)


def test_one_peer_that_is_ahead_is_enough_not_to_be_in_sync() -> None:
    one, other = (Author(member(name)).stream.node for name in ("ada", "bob"))
    assert Sync(level=(one,), behind=(), away=(other,), missing=0).is_reached(1)
    assert not Sync(level=(one,), behind=(other,), away=(), missing=3).is_reached(1)
    assert not Sync(level=(one,), behind=(), away=(other,), missing=0).is_reached(2)


def test_a_peer_that_never_told_anything_is_unknown() -> None:
    async def story(world: World) -> None:
        a, b = world.nodes
        a.node.peers.cut(b.identity.node)
        assert peer(a, b).knowledge is Knowledge.UNKNOWN
        assert peer(a, b).told_s is None

    tell(story, 2)


def test_progress_tells_known_held_missing_rate_and_time_per_stream() -> None:
    async def story(world: World) -> None:
        a, b = world.nodes
        await world.run(seconds=1)
        with world.partition({a}, {b}):
            await world.run(seconds=10)
            for _ in range(20):
                await publish(a, 10)
        world.slow(a, b, bandwidth=1_500)
        while not (peer(b, a).rate and peer(b, a).lacking):
            await world.run(seconds=0.1)
        [lacking] = peer(b, a).lacking
        assert lacking.stream == a.node.log.stream
        assert lacking.known == 199
        assert lacking.held == b.node.offsets.of(lacking.stream)
        assert lacking.missing == lacking.known - lacking.held == peer(b, a).missing
        assert lacking.remaining_s == lacking.missing / lacking.rate
        assert b.node.status().sync.behind == (a.identity.node,)
        assert b.node.status().sync.missing == lacking.missing
        world.heal()
        await b.node.in_sync()
        assert peer(b, a).lacking == ()

    with turned_down(["wants of 10 events"]):
        tell(story, 2)
