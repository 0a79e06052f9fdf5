"""Retention between real nodes: TLS on the loopback, SQLite on the disk; and what people are shown of it."""

import asyncio
from pathlib import Path

from lamport.ids import StreamId
from lamport.routes import Policy, Route
from lamport.tags import Tag
from shoal.commands import _status_text
from shoal.node import Node
from shoal.views import status_to_json
from tests.shoal.swarm import PATIENCE_S, Device, make_homes

ROUTES = (Route(Tag("sensed"), "sensors", Policy(max_events=10)),)


async def sense(device: Device, count: int) -> StreamId:
    for number in range(count - 1):
        await device.publish("sensed", number)
    return (await device.publish("sensed", count - 1)).stream


async def kept_from(node: Node, stream: StreamId, horizon: int) -> None:
    while node.log.horizons.get(stream) != horizon:
        await node.log.changed()


async def payloads(node: Node) -> list[object]:
    return [event.payload async for event in node.query("FROM 'sensed'")]


def test_a_follower_follows_and_a_newcomer_starts_at_the_horizon(tmp_path: Path) -> None:
    async def story() -> None:
        home_a, home_b, home_c = make_homes(tmp_path, "ABC")
        async with asyncio.timeout(PATIENCE_S), home_a.started(routes=ROUTES) as a:
            async with home_b.started([a.node.listening]) as b:
                stream = await sense(a, 12)
                await kept_from(b.node, stream, 2)
                while b.node.offsets != a.node.offsets:
                    await b.node.log.changed()
                assert await payloads(b.node) == list(range(2, 12))
            await sense(a, 28)
            await kept_from(a.node, stream, 30)
            async with home_c.started([a.node.listening]) as c:
                await kept_from(c.node, stream, 30)
                while c.node.offsets != a.node.offsets:
                    await c.node.log.changed()
                assert await payloads(c.node) == await payloads(a.node)
                async with home_b.started([c.node.listening]) as b:
                    await kept_from(b.node, stream, 30)
                    while b.node.offsets != a.node.offsets:
                        await b.node.log.changed()
                    assert await payloads(b.node) == await payloads(a.node)

    asyncio.run(story())


def test_the_status_shows_named_streams_and_horizons(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started(routes=ROUTES) as a:
            stream = await sense(a, 12)
            await kept_from(a.node, stream, 2)
            status = status_to_json(a.node.status())
            assert status["named"] == {"sensors": str(stream)}
            assert status["horizons"] == {str(stream): 2}
            text = _status_text(status)
            assert f"routes   sensors  to {stream}" in text
            assert "holds    10 events of 1 streams" in text
            assert f"{stream}  from 2 up to 11" in text

    asyncio.run(story())
