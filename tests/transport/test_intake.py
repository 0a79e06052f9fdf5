"""What a link hands to its log: short ranges ahead of long ones, and nothing ahead of what they are judged by."""

import asyncio

import pytest

from lamport.chain import HASH_BYTES, SealedRange
from lamport.forks import ForkProof
from lamport.notices import Notice, NoticeKind
from lamport.requests import SHORT_EVENTS
from tests.lamport.keys import Author, member
from transport.intake import WAITING_RANGES, Intake, Line, Received

ADA, BOB = member("ada"), member("bob")
NOTICE = Notice(NoticeKind.RELEASE, b"", b"")


def short(author: Author) -> SealedRange:
    return author.count(1)


def long(author: Author) -> SealedRange:
    return author.count(SHORT_EVENTS + 1)


def proof() -> ForkProof:
    return ForkProof(bytes(HASH_BYTES), short(Author(ADA)), short(Author(ADA)))


async def put(intake: Intake, *received: Received) -> list[int]:
    """How many wait in the quick and in the steady line when these have come."""
    for one in received:
        await intake.put(one)
    return [len(line) for line in intake.lines]


def test_a_short_range_overtakes_the_long_ones_of_others() -> None:
    async def story() -> None:
        assert await put(Intake(), long(Author(ADA)), short(Author(BOB))) == [1, 1]

    asyncio.run(story())


def test_a_short_range_stays_behind_what_its_author_wrote_in_whichever_stream() -> None:
    async def story() -> None:
        one, other = Author(ADA, 1), Author(ADA, 2)
        assert await put(Intake(), long(one), short(one), short(other)) == [0, 3]

    asyncio.run(story())


@pytest.mark.parametrize("judge", [NOTICE, proof()], ids=["notice", "proof"])
def test_nothing_overtakes_a_notice_or_a_proof_before_it_was_taken_in(judge: Received) -> None:
    async def story() -> None:
        intake = Intake()
        assert await put(intake, judge, short(Author(BOB))) == [0, 2]
        assert await intake.steady.get() is judge
        assert await put(intake, short(Author(BOB))) == [0, 2]
        intake.steady.done(judge)
        intake.steady.done(await intake.steady.get())
        intake.steady.done(await intake.steady.get())
        assert await put(intake, short(Author(BOB))) == [1, 0]

    asyncio.run(story())


def test_a_full_line_holds_up_whoever_brings_more_and_leaves_the_other_open() -> None:
    async def story() -> None:
        intake = Intake()
        await put(intake, *[long(Author(ADA, number)) for number in range(WAITING_RANGES)])
        waiting = asyncio.create_task(intake.put(long(Author(ADA, 9))))
        await asyncio.sleep(0)
        assert intake.is_full
        assert intake.steady.is_full
        assert not waiting.done()
        assert await put(intake, short(Author(BOB))) == [1, WAITING_RANGES]
        await intake.steady.get()
        await waiting
        assert len(intake.steady) == WAITING_RANGES

    asyncio.run(story())


def first_of(line: Line) -> asyncio.Task[Received]:
    return asyncio.create_task(line.get())


async def pause() -> None:
    """Let everything come to where it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_long_range_waits_for_the_short_ones_of_its_author_that_came_before_it() -> None:
    async def story() -> None:
        intake, ada, bob = Intake(), Author(ADA), Author(BOB)
        others, before = short(bob), short(ada)
        assert await put(intake, others, before, long(ada)) == [2, 1]
        waiting = first_of(intake.steady)
        intake.quick.done(await intake.quick.get())
        await pause()
        assert not waiting.done()
        assert await intake.quick.get() is before
        await pause()
        assert not waiting.done()
        intake.quick.done(before)
        await pause()
        assert waiting.done()

    asyncio.run(story())


def test_a_long_range_does_not_wait_for_the_short_ones_of_others() -> None:
    async def story() -> None:
        intake = Intake()
        await put(intake, short(Author(BOB)), long(Author(ADA)))
        waiting = first_of(intake.steady)
        await pause()
        assert waiting.done()

    asyncio.run(story())


@pytest.mark.parametrize("judge", [NOTICE, proof()], ids=["notice", "proof"])
def test_a_notice_or_a_proof_waits_for_all_that_came_before_it(judge: Received) -> None:
    async def story() -> None:
        intake = Intake()
        assert await put(intake, short(Author(BOB)), judge, short(Author(ADA))) == [1, 2]
        waiting = first_of(intake.steady)
        await pause()
        assert not waiting.done()
        intake.quick.done(await intake.quick.get())
        assert await waiting is judge

    asyncio.run(story())


def test_what_was_taken_out_is_undone_like_what_stands_in_line_and_at_the_door() -> None:
    async def story() -> None:
        intake, in_line = Intake(), [proof() for _ in range(WAITING_RANGES)]
        await put(intake, short(Author(BOB)), NOTICE)
        taken_out = first_of(intake.steady)
        await pause()
        await put(intake, *in_line)
        at_the_door = asyncio.create_task(intake.put(NOTICE))
        await pause()
        for one in (taken_out, at_the_door):
            one.cancel()
        await pause()
        assert intake.steady.undone == (NOTICE, *in_line, NOTICE)

    asyncio.run(story())


def test_what_is_in_the_log_is_undone_no_more() -> None:
    async def story() -> None:
        intake = Intake()
        await put(intake, NOTICE)
        intake.steady.done(await intake.steady.get())
        assert not intake.steady.undone

    asyncio.run(story())
