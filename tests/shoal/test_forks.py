"""Proven forks as a person sees them: on the command line, in the status, as an event."""

import asyncio
import json
import random
from pathlib import Path

from lamport.offsets import OffsetMap
from lamport.tags import ALL_EVENTS, Tag
from shoal.alarms import ALARM_TAG
from shoal.folder import open_node
from shoal.keys import IdentityKeys
from tests.lamport.keys import Author
from tests.shoal.daemons import SWARM_KEY, daemon, enrolled, shoal
from tests.shoal.swarm import LOOPBACK
from transport.identity import enrol


def forked(folder: Path) -> Author:
    """Let a folder's log take in two histories of another device's stream; returns who wrote the shorter one."""
    keys = IdentityKeys(enrol(SWARM_KEY, random.Random(4)))
    one, other = Author(keys), Author(keys)
    beginning = one.count(2)
    other.head = one.head

    async def run() -> None:
        async with open_node(folder, listen=LOOPBACK, mdns=False) as node:
            for sealed in (beginning, one.count(1), other.count(2, ["other"])):
                await node.log.receive(sealed)
            async for event in node.subscribe(Tag(ALARM_TAG)):
                assert event.stream.node == node.id
                assert event.payload["commonOffset"] == 1
                break

    asyncio.run(run())
    return one


def test_forks_are_told_with_author_stream_and_both_branches(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    stream = forked(folder).stream
    with daemon(folder) as running:
        [fork] = json.loads(running.ask("forks", "--json").out)
        assert fork["author"] == str(stream.node)
        assert (fork["stream"], fork["commonOffset"]) == (str(stream), 1)
        assert sorted(one["events"] for one in fork["branches"]) == [1, 2]
        assert {one["firstKey"] for one in fork["branches"]} == {f"{3:016d}/{stream}"}
        text = running.ask("forks").out
        assert "two histories behind offset 1" in text
        assert f"forked   {stream}" in running.ask("status").out
        told = [json.loads(line) for line in running.ask("query", "FROM 'other'").out.splitlines()]
        assert [event["offset"] for event in told] == [2, 3]
        [branch] = {event["branch"] for event in told}
        assert branch in {one["branch"] for one in fork["branches"]}


def test_an_archive_holds_what_both_histories_share_and_export_says_what_is_left_out(
    tmp_path: Path,
) -> None:
    folder, archive = enrolled(tmp_path / "data"), str(tmp_path / "news.archive")
    stream = forked(folder).stream
    told = shoal("export", "--data", str(folder), archive)
    assert told.out == (
        f"exported 3 events of 2 streams to {archive}\n"
        "left out 3 events behind forks (`shoal forks` names them): an archive holds of a forked stream what its"
        " histories have in common\n"
    )
    other = enrolled(tmp_path / "other")
    with daemon(other) as running:
        assert running.ask("import", archive).out.startswith("imported 3 of 3 events of 2 streams")
        status = json.loads(running.ask("status", "--json").out)
        assert status["offsets"][str(stream)] == 1
    assert shoal("import", "--data", str(folder), archive).out.startswith("imported 0 of 3 events")


def test_a_position_from_before_a_fork_leaves_nothing_out(tmp_path: Path) -> None:
    folder = enrolled(tmp_path / "data")
    stream = forked(folder).stream
    before = OffsetMap({stream: 2})

    async def run() -> None:
        async with open_node(folder, listen=LOOPBACK, mdns=False) as node:
            rest = [event async for event in node.query(ALL_EVENTS, lower=before)]
            assert sorted(e.offset for e in rest if e.stream.base == stream) == [2, 2, 3]
            upper = [event async for event in node.query(ALL_EVENTS, upper=before)]
            assert [event.offset for event in upper] == [0, 1, 2]

    asyncio.run(run())


def test_without_a_fork_that_is_said(tmp_path: Path) -> None:
    with daemon(enrolled(tmp_path / "data")) as running:
        assert running.ask("forks").out == "no stream has two histories\n"
        assert running.ask("forks", "--json").out == "[]\n"
