"""Retracting from outside: over nodes, the API, the client and the command line."""

import asyncio
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from fish import Fish
from lamport import ALL_EVENTS, InvalidInput, Tag, Upcaster, Upcasters
from lamport.event import Event
from lamport.retraction import signed_names
from shoal.api import ControlApi
from shoal.client import Client
from shoal.control import Control, draw_token
from shoal.errors import RequestRefused
from shoal.folder import open_node
from tests.shoal.daemons import ADMIN_KEY, RANDOMNESS, daemon, enrolled
from tests.shoal.swarm import LOOPBACK, PATIENCE_S, converged, linked, make_homes
from transport.identity import make_swarm
from transport.keyfiles import write_admin_key

X = Tag("x")
LIST: Fish[tuple[Any, ...]] = Fish("list", X, (), lambda known, event, _metadata: (*known, event))


def test_what_one_node_retracts_is_gone_from_fish_and_queries_of_all(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = make_homes(tmp_path, "AB")
        async with one.started() as a, two.started([a.node.listening]) as b:
            await linked(a.node, b.node)
            slip = await a.node.publish(X, "slip")
            await converged(a, b)
            await b.node.publish(X, "right")
            await converged(a, b)
            told: list[Event] = []
            events = b.node.subscribe(X, on_retracted=told.append)
            assert [(await anext(events)).payload for _ in range(2)] == ["slip", "right"]
            assert await b.node.pond.current_state(LIST) == ("slip", "right")
            await a.node.retract(str(slip.key), reason="typed wrongly")
            await converged(a, b)
            for device in (a, b):
                assert await device.node.pond.current_state(LIST) == ("right",)
                assert [event.payload async for event in device.node.query(X)] == ["right"]
                assert device.node.status().retracted == 1
            await b.node.publish(X, "more")
            await anext(events)
            assert told == [slip]

    asyncio.run(story())


def test_nobody_retracts_what_another_node_wrote_but_the_admin(tmp_path: Path) -> None:
    async def story() -> None:
        swarm_key, admin = make_swarm(random.Random(1))
        one, two = make_homes(tmp_path, "AB", swarm_key)
        async with one.started() as a, two.started([a.node.listening]) as b:
            event = await a.node.publish(X, "recalled")
            await converged(a, b)
            with pytest.raises(InvalidInput, match="another node's"):
                await b.node.retract(event.key, reason="no")
            assert len(b.node.offsets) == 1, "nothing was stored"
            names = signed_names(two.identity.swarm, [event.key])
            await b.node.retract(event.key, reason="recalled", signature=admin.sign(names))
            await converged(a, b)
            for device in (a, b):
                assert [event async for event in device.node.query(X)] == []

    asyncio.run(story())


def test_a_node_hands_out_todays_version_and_sends_the_bytes(tmp_path: Path) -> None:
    upcasters = Upcasters(Upcaster("x", 1, lambda event: {"text": event["t"]}))

    async def story() -> None:
        folder = enrolled(tmp_path / "data")
        async with (
            asyncio.timeout(PATIENCE_S),
            open_node(folder, listen=LOOPBACK, mdns=False, upcasters=upcasters) as node,
        ):
            await node.publish(X, {"t": "old"})
            today = {"text": "old", "version": 2}
            assert [event.payload async for event in node.query("FROM 'x'")] == [today]
            assert (await anext(node.subscribe(X))).payload == today
            assert await node.pond.current_state(LIST) == (today,)
            sealed = await node.log.served_range(node.log.stream, 0, 1)
            assert sealed is not None
            assert b"text" not in sealed.events[0]

    asyncio.run(story())


def test_the_api_retracts_tells_subscribers_and_upcasts(tmp_path: Path) -> None:
    upcasters = Upcasters(Upcaster("old", 1, lambda payload: [payload]))

    async def story() -> None:
        folder, token = enrolled(tmp_path / "data"), draw_token(RANDOMNESS)
        async with (
            asyncio.timeout(PATIENCE_S),
            open_node(folder, listen=LOOPBACK, mdns=False, upcasters=upcasters) as node,
            ControlApi(node, {}, token).served(LOOPBACK) as address,
            Client(Control(address, token)) as client,
        ):
            keys = await client.publish_all([(["old"], 1), (["old"], 2)])
            events = client.subscribe("FROM 'old'")
            assert [(await anext(events))["payload"] for _ in keys] == [[1], [2]]
            retraction = await client.retract(keys[:1], reason="a slip")
            told = await anext(events)
            assert told == {
                "type": "retracted",
                "key": keys[0],
                "lamport": 1,
                "stream": str(node.log.stream),
                "offset": 0,
            }
            assert [one["payload"] async for one in client.query("FROM 'old'")] == [[2]]
            [kept] = [one async for one in client.query("FROM 'shoal:retract'")]
            assert kept["key"] == retraction
            resumed = client.subscribe("FROM 'old'", lower={str(node.log.stream): 1})
            await client.publish(["old"], 3)
            assert (await anext(events))["payload"] == [3]
            assert (await anext(resumed))["key"] == keys[0], "it had that before"
            assert (await anext(resumed))["payload"] == [3]
            other = keys[0].replace(str(node.id), "." * 43)
            for wrong, why in (
                ([], "names 1 to"),
                (["x"], "not an event key"),
                ([other], "another node's"),
                ([retraction], "for good"),
            ):
                with pytest.raises(RequestRefused, match=why):
                    await client.retract(wrong, reason="no")
            assert (await client.status())["retracted"] == 1

    asyncio.run(story())


def test_shoal_retract_hides_an_event_and_the_admins_key_any(tmp_path: Path) -> None:
    write_admin_key(tmp_path / "admin", ADMIN_KEY)
    with (
        daemon(enrolled(tmp_path / "one")) as one,
        daemon(enrolled(tmp_path / "two"), "--peer", one.listening) as two,
    ):
        key = one.ask("publish", "--tag", "x", "1").out.strip()
        other = one.ask("publish", "--tag", "x", "2").out.strip()
        done = one.ask("retract", key, "--reason", "a slip")
        assert (done.status, done.err) == (0, "")
        [event] = [json.loads(line) for line in one.ask("query", "FROM 'x'").out.splitlines()]
        assert event["key"] == other
        assert "hidden   1 retracted events" in one.ask("status").out
        refused = two.ask("retract", other, "--reason", "no")
        assert (refused.status, refused.out) == (os.EX_DATAERR, "")
        assert "another node's: only its author retracts it" in refused.err
        for bad in ("nonsense", "", "1"):
            assert two.ask("retract", bad, "--reason", "no").status == os.EX_DATAERR
        admin = str(tmp_path / "admin")
        done = two.ask("retract", other, "--reason", "recalled", "--admin", admin)
        assert (done.status, done.err) == (0, "")
        assert two.ask("query", "FROM 'x'").out == ""
        missing = two.ask("retract", other, "--reason", "no", "--admin", f"{admin}.no")
        assert missing.status == os.EX_NOPERM


def test_a_query_for_everything_shows_the_retraction_itself(tmp_path: Path) -> None:
    async def story() -> None:
        [home] = make_homes(tmp_path, "A")
        async with home.started() as device:
            event = await device.node.publish(X, 1)
            retraction = await device.node.retract(event.key, reason="a slip")
            assert [one async for one in device.node.query(ALL_EVENTS)] == [retraction]

    asyncio.run(story())
