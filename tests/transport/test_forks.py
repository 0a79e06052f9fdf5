"""The search of a disputed stream: what the cut of a revocation names is asked for as long as it is missing."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lamport.chain import SealedRange
from lamport.ids import StreamId
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.revocation import revocation_of
from lamport.sqlite import DATABASE_NAME
from tests.lamport.keys import Author, member, open_log
from tests.transport.test_session import Holder, lively, said
from transport.forks import ANSWER_S, MAX_SEARCHES, ForkSearch
from transport.messages import Declined, Eager, Events, Want, Why
from transport.outbox import MAX_CONTROL
from transport.session import Session

ADA, BOB = member("ada"), member("bob")

Story = Callable[[ForkSearch, Session, StreamId], Awaitable[None]]


def tell(folder: Path, story: Story) -> None:
    """A stream of eight events is held, and the revocation's cut stands in another history, at offset 9."""
    original = Author(BOB)
    common = original.count(3)
    copy = Author(BOB, original.stream.number)
    copy.head = original.head
    other, named = copy.count(5, ["other"]), original.count(7, ["named"])
    body = revocation_of(BOB.node, [named.seal]).encode()
    data = signed_bytes(ADA.swarm, NoticeKind.REVOCATION, body)
    later = copy.count(4, ["other"])

    async def go() -> None:
        async with open_log(folder) as log:
            for one in (common, other, later):
                await log.receive(one)
            await log.learn(Notice(NoticeKind.REVOCATION, body, ADA.admin.sign(data)))
            assert log.store.is_disputed(common.stream)
            session = lively(Holder(member()))
            await story(ForkSearch(session, log), session, common.stream)

    asyncio.run(go())


def wants(session: Session) -> list[tuple[int, int]]:
    return [(one.first, one.last) for one in said(session) if isinstance(one, Want)]


def test_a_disputed_stream_of_which_a_peer_holds_another_history_is_not_given_up(
    tmp_path: Path,
) -> None:
    async def story(search: ForkSearch, session: Session, stream: StreamId) -> None:
        await search.begin(stream, 9)
        assert wants(session) == [(9, 9)]
        await search.hear(Declined(stream, Why.DIVERGED))
        assert wants(session) == [(8, 9)]
        assert not session.diverged

    tell(tmp_path, story)


def test_a_disputed_stream_is_searched_again_after_many_others_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transport.forks.MAX_SET_ASIDE", 1)

    async def story(search: ForkSearch, session: Session, stream: StreamId) -> None:
        await search.begin(stream, 4)
        await search.hear(Declined(stream, Why.UNKNOWN))
        assert wants(session) == [(4, 4)]
        await search.begin(stream, 9)
        assert wants(session) == [(9, 9)]

    tell(tmp_path, story)


Searching = Callable[[ForkSearch, Session, list[SealedRange]], Awaitable[None]]


def search(folder: Path, story: Searching) -> None:
    """One more stream of four events each is held than are searched at a time."""
    held = [Author(BOB, number).count(4) for number in range(MAX_SEARCHES + 1)]

    async def go() -> None:
        async with open_log(folder) as log:
            for one in held:
                await log.receive(one)
            session = lively(Holder(member()))
            await story(ForkSearch(session, log), session, held)

    asyncio.run(go())


def asked(session: Session) -> list[StreamId]:
    return [one.stream for one in said(session) if isinstance(one, Want)]


def test_searches_that_get_no_answer_make_room_for_others_and_are_asked_again_behind_them(
    tmp_path: Path,
) -> None:
    async def story(search: ForkSearch, session: Session, held: list[SealedRange]) -> None:
        streams = [one.stream for one in held]
        for stream in streams:
            await search.begin(stream, 3)
        assert asked(session) == streams[:-1]
        await search.review(0.0)
        await search.review(ANSWER_S - 1)
        assert asked(session) == []
        await search.review(ANSWER_S)
        assert asked(session) == [streams[-1], *streams[: MAX_SEARCHES - 1]]

    search(tmp_path, story)


def test_a_search_of_which_a_part_has_come_keeps_its_turn(tmp_path: Path) -> None:
    async def story(search: ForkSearch, session: Session, held: list[SealedRange]) -> None:
        first = held[0]
        for one in held:
            await search.begin(one.stream, 3)
        said(session)
        await search.review(0.0)
        part = replace(first, seal=replace(first.seal, offset=2))
        await search.hear(Events(part))
        await search.review(ANSWER_S)
        assert first.stream not in asked(session)

    search(tmp_path, story)


def test_a_search_whose_question_found_no_room_is_asked_again(tmp_path: Path) -> None:
    async def story(search: ForkSearch, session: Session, held: list[SealedRange]) -> None:
        for _ in range(MAX_CONTROL):
            session.say(Eager(yes=True))
        await search.begin(held[0].stream, 3)
        assert asked(session) == []
        await search.review(0.0)
        await search.review(ANSWER_S)
        assert asked(session) == [held[0].stream]

    search(tmp_path, story)


def test_a_search_that_is_answered_while_its_question_is_made_gives_its_slot_back(
    tmp_path: Path,
) -> None:
    async def story(search: ForkSearch, session: Session, held: list[SealedRange]) -> None:
        asking = [asyncio.create_task(search.begin(one.stream, 3)) for one in held[:-1]]
        await asyncio.sleep(0)
        for one in held[:-1]:
            await search.hear(Declined(one.stream, Why.UNKNOWN))
        await asyncio.gather(*asking)
        await search.begin(held[-1].stream, 3)
        assert asked(session) == [held[-1].stream]

    search(tmp_path, story)


def test_what_is_damaged_here_keeps_no_search_of_others_from_its_turn(tmp_path: Path) -> None:
    async def story(search: ForkSearch, session: Session, held: list[SealedRange]) -> None:
        with closing(sqlite3.connect(tmp_path / DATABASE_NAME)) as database:
            database.execute("UPDATE events SET bytes = zeroblob(length(bytes))")
            database.commit()
        for one in held[:-1]:
            await search.begin(one.stream, 3)
        await search.begin(held[-1].stream, 0)  # nothing that was altered stands before it
        await search.review(0.0)
        await search.review(ANSWER_S)
        assert asked(session) == [held[-1].stream]

    search(tmp_path, story)
