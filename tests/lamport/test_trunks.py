"""The last events before a fork, where no seal stands at their end: whoever has nothing of a stream gets them all."""

import asyncio
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pytest

from lamport.exchange import export_archive, import_archive
from lamport.forks import decode_proof, make_proof
from lamport.log import EventLog
from lamport.offsets import OffsetMap, missing
from tests.lamport.keys import Author, open_log
from tests.lamport.test_disputed_cuts import (
    ADA,
    BOB,
    Copied,
    Item,
    copied,
    joined,
    revoked,
    shown,
    split,
    told,
)


def packed(stream: Copied) -> list[Item]:
    """What comes to somebody who held the other history first, and whose seals are gone but for the last."""
    return [joined([*stream.common, *stream.other]), stream.proof, *stream.named]


async def fetch(source: EventLog, log: EventLog) -> None:
    """Get all that a peer tells of, as sessions do: in order, a branch once its proof is here."""
    for stream, last in sorted(source.offsets.items()):
        data = await source.forks.prover.load_proof(stream)
        if data is not None:
            await log.forks.learn(decode_proof(data))
        while (first := log.store.head(stream).offset + 1) <= last:
            sealed = await source.served_range(stream, first, 1_000)
            assert sealed is not None, f"offset {first} is told of, and served by nobody"
            assert await log.receive(sealed)


@pytest.mark.parametrize("common", [[3], [3, 2]])
@pytest.mark.parametrize("cut", [0, 1])
def test_whoever_has_nothing_gets_what_stands_before_a_fork_with_the_history_that_counts(
    tmp_path: Path, common: Sequence[int], cut: int
) -> None:
    stream = copied(common, [2, 2], [6])
    notice = revoked(stream.named[cut].seal)

    async def go() -> None:
        (tmp_path / "new").mkdir()
        async with open_log(tmp_path) as source, open_log(tmp_path / "new") as log:
            await told(source, [*packed(stream), notice])
            expected = stream.counted(stream.named[cut].seal)
            assert await shown(source) == expected
            await log.learn(notice)
            await fetch(source, log)
            assert await shown(log) == expected
            assert log.store.branches.known.keys() == source.store.branches.known.keys()

    asyncio.run(go())


def test_where_a_history_that_counts_forks_again_it_is_served_up_to_the_next_seal_that_counts(
    tmp_path: Path,
) -> None:
    original = Author(BOB)
    common = original.count(2, ["common"])
    copy = split(original)
    other = copy.count(5, ["other"])
    begun = original.count(2, ["named"])
    second = split(original)
    named, third = original.count(3, ["named"]), second.count(4, ["third"])
    notice = revoked(named.seal)
    items: list[Item] = [
        joined([common, other]),
        make_proof(common.seal.hash, joined([begun, third]), other),
        joined([common, begun, named]),
        notice,
    ]

    async def go() -> None:
        (tmp_path / "new").mkdir()
        async with open_log(tmp_path) as source, open_log(tmp_path / "new") as log:
            await told(source, items)
            expected = [*enumerate(["common"] * 2 + ["named"] * 5)]
            assert await shown(source) == expected
            await log.learn(notice)
            await fetch(source, log)
            assert await shown(log) == expected

    asyncio.run(go())


def test_what_stands_before_a_fork_is_exported_with_the_history_that_counts(tmp_path: Path) -> None:
    stream = copied([3], [2, 2], [6])

    async def go() -> None:
        (tmp_path / "new").mkdir()
        async with open_log(tmp_path) as source, open_log(tmp_path / "new") as log:
            await told(source, [*packed(stream), revoked(stream.named[0].seal)])
            file = BytesIO()
            await export_archive(source.store, ADA, missing(OffsetMap(), source.offsets), file)
            file.seek(0)
            await import_archive(log, ADA, file)
            assert await shown(log) == stream.counted(stream.named[0].seal)

    asyncio.run(go())


def test_what_no_seal_vouches_for_that_counts_is_left_out_of_an_archive(tmp_path: Path) -> None:
    stream = copied([3], [4], [6])

    async def go() -> None:
        async with open_log(tmp_path) as log:
            items = [
                *packed(stream),
                *(revoked(one[-1].seal) for one in (stream.named, stream.other)),
            ]
            await told(log, items)
            assert [tag for _, tag in await shown(log)] == ["common"] * 3
            wanted = missing(OffsetMap(), log.offsets)
            exported = await export_archive(log.store, ADA, wanted, BytesIO())
            assert (exported.events, exported.left_out) == (0, 3)

    asyncio.run(go())
