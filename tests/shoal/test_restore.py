"""Copies that come back: a database, a whole folder, and what becomes of the streams."""

import asyncio
import shutil
from pathlib import Path

import pytest

from lamport.offsets import OffsetMap
from lamport.sqlite import DATABASE_NAME
from lamport.tags import Tag
from shoal.alarms import ALARM_TAG
from shoal.folder import enrol_device, make_swarm, open_node
from shoal.node import Node
from tests.shoal.swarm import LOOPBACK, PATIENCE_S, Home, converged, linked, make_homes, until


async def payloads(node: Node) -> list[object]:
    return sorted([event.payload async for event in node.query("FROM 'x'")])


def copied(folder: Path, target: Path) -> Path:
    """A copy of a whole folder."""
    shutil.copytree(folder, target)
    return target


def restored(copy: Path, folder: Path) -> None:
    """The copy in the folder's place."""
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)


def test_a_restored_database_goes_on_in_a_new_stream_and_gets_its_tail_from_a_peer(
    tmp_path: Path,
) -> None:
    swarm_key, _ = make_swarm()
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        enrol_device(folder, swarm_key)
    database, backup = folders[0] / DATABASE_NAME, tmp_path / "backup.sqlite"

    async def story() -> None:
        async with (
            asyncio.timeout(PATIENCE_S),
            open_node(folders[1], listen=LOOPBACK, mdns=False) as b,
        ):
            async with open_node(folders[0], listen=LOOPBACK, mdns=False) as a:
                first = (await a.publish("x", 1)).stream
            shutil.copy(database, backup)
            at_b = [b.listening]
            async with open_node(folders[0], listen=LOOPBACK, mdns=False, peers=at_b) as a:
                await a.publish("x", 2)
                while b.offsets.of(first) < 1:
                    await b.log.changed()
            shutil.copy(backup, database)
            async with open_node(folders[0], listen=LOOPBACK, mdns=False, peers=at_b) as a:
                event = await a.publish("x", 3)
                assert (event.stream != first, event.offset) == (True, 0)
                whole = OffsetMap({first: 1, event.stream: 0})
                for node in (a, b):
                    while node.offsets != whole:
                        await node.log.changed()
                    assert await payloads(node) == [1, 2, 3]
                    assert not any(peer.diverged for peer in node.status().peers)

    asyncio.run(story())


def test_a_restored_folder_gets_its_tail_before_it_publishes(tmp_path: Path) -> None:
    """Nothing in it shows its age, but its peers know."""

    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_b.started() as b:
            async with home_a.started() as a:
                await a.publish("x", 1)
            copy = copied(home_a.folder, tmp_path / "copy")
            async with home_a.started([b.node.listening]) as a:
                event = await a.publish("x", 2)
                await converged(a, b)
            restored(copy, home_a.folder)
            async with home_a.started([b.node.listening]) as a:
                after = await a.publish("x", 3)
                assert (after.stream, after.offset) == (event.stream, event.offset + 1)
                await converged(a, b)
                assert await payloads(a.node) == await payloads(b.node) == [1, 2, 3]

    asyncio.run(story())


@pytest.mark.parametrize("events", [1, 2, 5])
def test_a_folder_that_was_restored_and_written_to_alone_forks_its_stream_and_nothing_is_lost(
    tmp_path: Path, events: int
) -> None:
    """Two histories, the other one longer, equally long, and shorter than its own: both nodes keep and prove both."""

    async def story() -> None:
        home_a, home_b = make_homes(tmp_path, "AB")
        async with home_b.started() as b:
            async with home_a.started([b.node.listening]) as a:
                old = (await a.publish("x", "both")).stream
                await converged(a, b)
            copy = copied(home_a.folder, tmp_path / "copy")
            async with home_a.started([b.node.listening]) as a:
                await a.publish("x", "at b 1")
                await a.publish("x", "at b 2")
                await converged(a, b)
            restored(copy, home_a.folder)
            await written_alone(home_a, events)
            async with home_a.started([b.node.listening]) as a:
                event = await a.publish("x", "after")
                assert (event.stream != old, event.offset) == (True, 0)
                while event.stream not in b.node.offsets:
                    await b.node.log.changed()
                await linked(a.node, b.node)
                await until(lambda: bool(a.node.status().forks and b.node.status().forks))
                await converged(a, b)
                await until(lambda: a.node.offsets == b.node.offsets)
                alone = [f"alone {number}" for number in range(events)]
                written = ["after", *alone, "at b 1", "at b 2", "both"]
                for node in (a.node, b.node):
                    assert [one for one in await payloads(node) if one in written] == written
                    alarms = [one.payload async for one in node.query(Tag(ALARM_TAG))]
                    assert {alarm["stream"] for alarm in alarms} == {str(old)}
                    assert not any(peer.diverged for peer in node.status().peers)
                [fork] = a.node.status().forks
                assert (fork.stream, fork.offset) == (old, 0)
                assert a.node.status().forks == b.node.status().forks
            async with home_a.started([b.node.listening]) as a:
                assert a.node.offsets == b.node.offsets
                assert a.node.status().forks == b.node.status().forks

    asyncio.run(story())


async def written_alone(home: Home, events: int) -> None:
    """A lone run, in which each event is a commit of its own."""
    async with home.started() as a:
        for number in range(events):
            await a.publish("x", f"alone {number}")
