"""Every limit of an event, kept and crossed by one: by publishing, by receipt from a peer, and by import."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from lamport.archive import ArchiveWriter
from lamport.chain import SealedRange
from lamport.codec import (
    MAX_INTEGER,
    MAX_NESTING,
    MAX_PAYLOAD_BYTES,
    MIN_INTEGER,
    EncodedDraft,
    encode_event,
)
from lamport.errors import CorruptArchive, CorruptRange, InvalidInput
from lamport.event import Draft, draft
from lamport.exchange import import_archive
from lamport.ids import MAX_LAMPORT
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.tags import MAX_TAG_BYTES, MAX_TAGS
from tests.lamport.keys import NOW_US, Author, member, open_log

Parts = tuple[list[str], Any]
"""Tags and payload."""


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


AT_THE_LIMIT: dict[str, Parts] = {
    "payload": (["a"], "x" * (MAX_PAYLOAD_BYTES - 3)),
    "nesting": (["a"], nested(MAX_NESTING)),
    "largest integer": (["a"], MAX_INTEGER),
    "smallest integer": (["a"], MIN_INTEGER),
    "tags": ([f"{n:02}" for n in range(MAX_TAGS)], 0),
    "tag": (["x" * MAX_TAG_BYTES], 0),
    "tag in UTF-8": (["é" * (MAX_TAG_BYTES // 2)], 0),
}

BEYOND: dict[str, Parts] = {
    "payload": (["a"], "x" * (MAX_PAYLOAD_BYTES - 2)),
    "nesting": (["a"], nested(MAX_NESTING + 1)),
    "largest integer": (["a"], MAX_INTEGER + 1),
    "tags": ([f"{n:02}" for n in range(MAX_TAGS + 1)], 0),
    "tag": (["x" * (MAX_TAG_BYTES + 1)], 0),
    "tag in UTF-8": (["é" * (MAX_TAG_BYTES // 2) + "x"], 0),
    "empty tag": ([""], 0),
    "not a number": (["a"], float("nan")),
    "infinite": (["a"], [float("inf")]),
    "no JSON": (["a"], b"bytes"),
    "key of an object": (["a"], {1: 1}),
}

ONLY_FROM_ELSEWHERE: dict[str, Parts] = {
    "not in normal form C": (["e\u0301"], 0),
    "tags not sorted": (["b", "a"], 0),
    "tags not distinct": (["a", "a"], 0),
}
"""What publishing puts in order by itself."""


def sealed(parts: Parts) -> SealedRange:
    """An event of another node that was encoded without asking for limits."""
    tags, payload = parts
    rest = b"".join(map(msgpack.packb, (tags, "app", payload)))
    encoded = EncodedDraft(rest, tuple(tags), "app", payload)
    return Author(member("bob")).write(encode_event(1, NOW_US, encoded), lamport=1)


def archived(one: SealedRange) -> io.BytesIO:
    file = io.BytesIO()
    writer = ArchiveWriter(file, member().swarm)
    writer.add(one)
    writer.end()
    file.seek(0)
    return file


async def publish(log: EventLog, parts: Parts) -> int:
    return len(await log.publish([Draft(tuple(parts[0]), parts[1])]))


async def receive(log: EventLog, parts: Parts) -> int:
    return len(await log.receive(sealed(parts)))


async def import_(log: EventLog, parts: Parts) -> int:
    return (await import_archive(log, member(), archived(sealed(parts)))).added


Way = Callable[[EventLog, Parts], Any]
WAYS: list[tuple[Way, type[Exception]]] = [
    (publish, InvalidInput),
    (receive, CorruptRange),
    (import_, CorruptArchive),
]


def refused(folder: Path, way: Way, error: type[Exception], parts: Parts) -> None:
    async def run() -> None:
        async with open_log(folder) as log:
            with pytest.raises(error):
                await way(log, parts)
            assert (log.offsets, log.lamport) == (OffsetMap(), 0)

    asyncio.run(run())


@pytest.mark.parametrize(("way", "_error"), WAYS)
@pytest.mark.parametrize("name", AT_THE_LIMIT)
def test_what_is_at_a_limit_is_taken(
    tmp_path: Path, way: Way, _error: type[Exception], name: str
) -> None:
    async def run() -> int:
        async with open_log(tmp_path) as log:
            return int(await way(log, AT_THE_LIMIT[name]))

    assert asyncio.run(run()) == 1


@pytest.mark.parametrize(("way", "error"), WAYS)
@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_a_limit_is_refused(
    tmp_path: Path, way: Way, error: type[Exception], name: str
) -> None:
    refused(tmp_path, way, error, BEYOND[name])


@pytest.mark.parametrize(("way", "error"), WAYS[1:])
@pytest.mark.parametrize("name", ONLY_FROM_ELSEWHERE)
def test_what_publishing_would_have_put_right_is_refused_from_elsewhere(
    tmp_path: Path, way: Way, error: type[Exception], name: str
) -> None:
    refused(tmp_path, way, error, ONLY_FROM_ELSEWHERE[name])


def test_the_engines_own_tags_are_not_published() -> None:
    with pytest.raises(InvalidInput, match="the engine's own"):
        draft("shoal:x", 1)


@pytest.mark.parametrize("lamport", [0, MAX_LAMPORT + 1])
def test_lamport_timestamps_have_limits_from_elsewhere(tmp_path: Path, lamport: int) -> None:
    rest = b"".join(map(msgpack.packb, (["a"], "app", 0)))
    one = Author(member("bob")).write(
        encode_event(lamport, NOW_US, EncodedDraft(rest, ("a",), "app", 0)), lamport=lamport
    )

    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(CorruptRange, match="Lamport"):
                await log.receive(one)
            with pytest.raises(CorruptArchive):
                await import_archive(log, member(), archived(one))
            assert log.offsets == OffsetMap()

    asyncio.run(run())
