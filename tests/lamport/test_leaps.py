"""Timestamps that leap are set aside, until the admin says that they are right; a newcomer believes all."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import CorruptRange, InvalidInput, QuarantinedRange
from lamport.ids import MAX_LAMPORT
from lamport.leaps import MAX_LEAP, Leaps, decode_release, encode_release
from lamport.notices import Notice, NoticeKind, signed_bytes
from tests.lamport.keys import Author, member, open_log


def released(lamport: int, swarm: str = "swarm") -> Notice:
    keys, body = member(swarm=swarm), encode_release(lamport)
    signature = keys.admin.sign(signed_bytes(keys.swarm, NoticeKind.RELEASE, body))
    return Notice(NoticeKind.RELEASE, body, signature)


@given(st.integers(0, MAX_LAMPORT))
def test_what_is_released_reads_as_it_was_written(lamport: int) -> None:
    assert decode_release(encode_release(lamport)) == lamport


@pytest.mark.parametrize("body", [b"", b"\x91", b"\x91\xc3", b"\x92\1\2", b"\x91\xcc\1", b"\xff"])
def test_what_is_no_release_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput, match="no release"):
        decode_release(body)


def test_a_release_beyond_the_last_timestamp_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no release"):
        decode_release(encode_release(MAX_LAMPORT + 1))


@given(st.lists(st.integers(0, MAX_LAMPORT)), st.integers(0, MAX_LAMPORT))
def test_releases_count_in_any_order_and_never_bring_the_reach_back(
    lamports: list[int], clock: int
) -> None:
    leaps = Leaps()
    for lamport in lamports:
        before = leaps.reach(clock)
        leaps.learn([released(lamport)])
        assert leaps.reach(clock) >= before
    assert leaps.reach(clock) == max([clock, *lamports]) + MAX_LEAP


def test_a_notice_that_only_looks_like_a_release_means_nothing() -> None:
    leaps = Leaps()
    leaps.learn([Notice(NoticeKind.RELEASE, b"\x92\1\2", bytes(64)), Notice(200, b"", bytes(64))])
    assert leaps.released == 0


def test_what_the_admin_released_is_taken_in_also_after_a_restart(tmp_path: Path) -> None:
    leaping = Author(member("cyd")).say(MAX_LEAP + 1, 2 * MAX_LEAP)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(QuarantinedRange) as refused:
                await log.receive(leaping)
            assert refused.value.lamport == 2 * MAX_LEAP
            assert await log.learn(released(refused.value.lamport))
            assert not await log.learn(released(refused.value.lamport))
            assert log.lamport == 0
        async with open_log(tmp_path) as log:
            assert len(await log.receive(leaping)) == 2
            assert log.lamport == 2 * MAX_LEAP

    asyncio.run(run())


def test_only_the_admin_of_the_swarm_releases(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(CorruptRange, match="not signed by this swarm's admin"):
                await log.learn(released(MAX_LEAP, swarm="other"))
            body = b"\x92\1\2"
            signature = member().admin.sign(signed_bytes(member().swarm, NoticeKind.RELEASE, body))
            with pytest.raises(CorruptRange, match="no release"):
                await log.learn(Notice(NoticeKind.RELEASE, body, signature))
            assert not list(log.store.notices)

    asyncio.run(run())


def test_a_newcomer_believes_every_timestamp(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            log.store.leaps.is_newcomer = True
            await log.receive(Author(member("cyd")).say(3 * MAX_LEAP))
            log.store.leaps.is_newcomer = False
            await log.receive(Author(member("dee")).say(4 * MAX_LEAP))
            with pytest.raises(QuarantinedRange, match="leap"):
                await log.receive(Author(member("eve")).say(5 * MAX_LEAP + 1))

    asyncio.run(run())
