"""Two real nodes, one of which loses bytes on its disk: they come back from the other while both go on."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fish import Fish
from lamport.errors import DamagedRange
from lamport.sqlite import DATABASE_NAME
from lamport.tags import Tag
from shoal.node import Node
from tests.shoal.daemons import daemon, enrolled
from tests.shoal.swarm import PATIENCE_S, Home, converged, linked, make_homes, until

TOTAL: Fish[int] = Fish("total", Tag("x"), 0, lambda total, event, _metadata: total + event)
ALTERED = 'UPDATE events SET bytes = zeroblob(length(bytes)) WHERE "offset" IN (3, 7)'

Story = Callable[[Home, Home], Coroutine[Any, Any, None]]


def told(folder: Path, story: Story) -> None:
    asyncio.run(asyncio.wait_for(story(*make_homes(folder, "ab")), PATIENCE_S))


def alter(home: Home, statement: str = ALTERED) -> None:
    with closing(sqlite3.connect(home.folder / DATABASE_NAME, isolation_level=None)) as database:
        database.execute(statement)


async def values(node: Node) -> list[int]:
    return [event.payload async for event in node.query("FROM 'x'")]


async def undamaged(node: Node) -> None:
    while node.status().damaged:
        await node.log.damages.mended()


@pytest.mark.parametrize("author", ["this node", "another"])
def test_what_a_query_finds_damaged_is_had_again_from_a_peer(tmp_path: Path, author: str) -> None:
    async def story(home_a: Home, home_b: Home) -> None:
        async with home_a.started() as a, home_b.started([a.node.listening]) as b:
            await linked(b.node, a.node)
            writer = b if author == "this node" else a
            events = [await writer.publish("x", number) for number in range(10)]
            await converged(a, b)
            alter(home_b)
            with pytest.raises(DamagedRange):
                await values(b.node)
            assert "damaged on this disk" in str(b.node.status().damaged)
            await undamaged(b.node)
            assert [event async for event in b.node.query("FROM 'x'")] == events
            await b.publish("x", 10)
            await converged(a, b)
            assert await values(a.node) == await values(b.node) == list(range(11))

    told(tmp_path, story)


def test_what_is_not_there_at_all_is_noticed_at_the_next_start_and_had_again(
    tmp_path: Path,
) -> None:
    async def story(home_a: Home, home_b: Home) -> None:
        async with home_a.started() as a:
            async with home_b.started([a.node.listening]) as b:
                for number in range(10):
                    await a.publish("x", number)
                await converged(b, a)
            alter(home_b, 'DELETE FROM events WHERE "offset" IN (3, 7)')
            async with home_b.started() as b:  # it knows nobody
                assert "offsets 3 to 3 of stream" in str(b.node.status().damaged)
                assert await values(b.node) == [0, 1, 2, 4, 5, 6, 8, 9]
            async with home_b.started([a.node.listening]) as b:
                await undamaged(b.node)
                assert await values(b.node) == list(range(10))

    told(tmp_path, story)


def test_damage_stays_named_until_somebody_has_it_and_fish_go_on_then(tmp_path: Path) -> None:
    async def story(home_a: Home, home_b: Home) -> None:
        async with home_a.started() as a:
            async with home_b.started([a.node.listening]) as b:
                for number in range(10):
                    await b.publish("x", number)
                await converged(b, a)
            alter(home_b)
            stopped = asyncio.Event()
            async with home_b.started() as b:  # it knows nobody
                b.node.pond.observe(TOTAL, on_stop=lambda _error: stopped.set())
                await stopped.wait()
                assert list(b.node.status().stopped) == ["total"]
                await b.publish("x", 10)
                assert list(b.node.status().damaged) == [b.node.log.stream]
            async with home_b.started([a.node.listening]) as b:
                states = list[int]()
                # It stops at the damage, or comes to it when that is mended already.
                b.node.pond.observe(TOTAL, states.append, lambda _error: None)
                await until(lambda: bool(states))
                assert not b.node.status().stopped
                assert await b.node.pond.current_state(TOTAL) == sum(range(11))
                assert states[0] == sum(range(11))

    told(tmp_path, story)


def test_what_verify_finds_beside_a_daemon_the_daemon_has_mended(tmp_path: Path) -> None:
    """Bytes that still are an event of the same time, in a row without a checksum: no read notices those."""
    one, two = enrolled(tmp_path / "one"), enrolled(tmp_path / "two")
    with daemon(one) as a, daemon(two, "--peer", a.listening) as b:
        for number in range(3):
            assert a.ask("publish", "--tag", "x", str(number)).status == 0
        while json.loads(b.ask("status", "--json").out)["lamport"] < 3:
            pass
        with closing(sqlite3.connect(two / DATABASE_NAME, isolation_level=None)) as database:
            database.execute(
                "UPDATE events SET crc = NULL,"
                " bytes = CAST(substr(bytes, 1, length(bytes) - 1) || x'63' AS BLOB)"
                ' WHERE "offset" = 1'
            )
        assert '"payload": 99' in b.ask("query", "FROM 'x'").out
        looked = b.ask("verify")
        assert looked.status != 0
        assert "asks its peers" in looked.err
        while json.loads(b.ask("status", "--json").out)["damaged"]:
            pass
        assert b.ask("verify").status == 0
        assert "are mended" in b.diary.read_text()
        lines = b.ask("query", "FROM 'x'").out.splitlines()
        assert [json.loads(line)["payload"] for line in lines] == [0, 1, 2]
