"""What a node tells of each peer, in numbers."""

import random

import pytest

from lamport.tags import Tag
from shoal.views import peer_to_json
from simulations.loop import run_simulated
from simulations.world import World


def test_round_trip_skew_traffic_and_queue_are_told_of_each_peer() -> None:
    async def story() -> None:
        world = World(6, 2)
        async with world.started():
            a, b = world.nodes
            b.clock.jump(days=365)
            await world.run(seconds=1)
            for number in range(10):
                await a.publish(Tag("x"), number)
            await world.run(seconds=65)
            [peer] = a.node.peers.status()
            told = peer_to_json(peer)
            assert 0.004 <= (peer.round_trip_s or 0) <= 0.02
            assert told["clockSkewSeconds"] == pytest.approx(365 * 86_400, abs=0.01)
            assert told["eventsOut"] >= 10
            assert told["bytesOut"] > 10 * 100
            assert (told["queued"], told["queuedBytes"]) == (0, 0)

    run_simulated(story(), random.Random(6))
