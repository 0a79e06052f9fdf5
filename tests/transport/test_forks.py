"""The search of a disputed stream: what the cut of a revocation names is asked for as long as it is missing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lamport.ids import StreamId
from lamport.notices import Notice, NoticeKind, signed_bytes
from lamport.revocation import revocation_of
from tests.lamport.keys import Author, member, open_log
from tests.transport.test_session import Holder, lively, said
from transport.forks import ForkSearch
from transport.messages import Declined, Want, Why
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
