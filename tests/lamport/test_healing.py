"""Healing where a seal stands in the middle of a block: what a revocation leaves of a stream ends anywhere."""

import asyncio
from pathlib import Path

import pytest

import lamport.compaction
from tests.lamport.keys import open_log, read_all
from tests.lamport.test_packed_damage import at, execute, pack
from tests.lamport.test_verification import findings, healed
from tests.lamport.test_withdrawal import parts, receive, revoked


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five events to a block, when a test says so."""
    monkeypatch.setattr("lamport.tidying.IDLE_S", 3_600.0)
    monkeypatch.setattr(lamport.compaction, "IDLE_ROWS", 1)
    monkeypatch.setattr(lamport.compaction, "UNIT_EVENTS", 10)
    monkeypatch.setattr("lamport.blocks.BLOCK_EVENTS", 5)
    monkeypatch.setattr(lamport.compaction, "BLOCK_EVENTS", 5)


@pytest.mark.parametrize(("cut", "kept"), [(0, 2), (1, 4), (2, 5), (3, 0)])
def test_a_stream_is_cut_back_to_a_seal_within_a_block(tmp_path: Path, cut: int, kept: int) -> None:
    """Two blocks of five, the second damaged; the last seal before that is the one that a revocation names."""
    ranges = parts(2, 2, 1, 2, 3)

    async def fill() -> None:
        async with open_log(tmp_path) as log:
            await receive(log, ranges)
            await pack(log, keep=0)
            await log.learn(revoked(ranges[cut].seal))

    async def again() -> None:
        async with open_log(tmp_path) as log:
            assert [one.offset for one in await read_all(log)] == list(range(kept))
            await receive(log, ranges)
            assert len(await read_all(log)) == ranges[cut].seal.offset + 1

    asyncio.run(fill())
    execute(tmp_path, at(5, "UPDATE blocks SET data = zeroblob(90)"))
    assert findings(tmp_path)
    assert healed(tmp_path) == [f"stream {ranges[0].stream}: cut back from offset 9 to {kept - 1}"]
    assert findings(tmp_path) == []
    asyncio.run(again())
    assert findings(tmp_path) == []
