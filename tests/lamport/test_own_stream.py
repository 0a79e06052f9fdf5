"""What others know of a node's own stream: taken in before it is written to, and left to them where they write it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from lamport.errors import CorruptRange, DivergedStream, LogClosed
from lamport.log import EventLog
from tests.lamport.keys import (
    NOW_US,
    Author,
    drafts,
    event_bytes,
    member,
    open_log,
    open_store,
    read_all,
)


@asynccontextmanager
async def settling_log(folder: Path) -> AsyncIterator[EventLog]:
    async with open_store(folder, member()) as store:
        log = EventLog(store, member(), lambda: NOW_US, settling=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(log.write())
            try:
                yield log
            finally:
                log.close()


def test_a_settling_log_takes_its_tail_in_and_publishes_behind_it(tmp_path: Path) -> None:
    once = Author(member())

    async def run() -> None:
        async with settling_log(tmp_path) as log:
            assert log.stream == once.stream
            publishing = asyncio.create_task(log.publish(drafts(1)))
            await log.receive(once.say(3, 7))
            assert not publishing.done()
            log.settle()
            [event] = await publishing
            assert (event.stream, event.offset, event.lamport) == (once.stream, 2, 8)

    asyncio.run(run())


def test_a_settling_log_can_be_closed(tmp_path: Path) -> None:
    async def run() -> None:
        async with settling_log(tmp_path) as log:
            publishing = asyncio.create_task(log.publish(drafts(1)))
            await asyncio.sleep(0)
            log.close()
            with pytest.raises(LogClosed):
                await publishing

    asyncio.run(run())


def test_a_tail_is_taken_in_later_too_as_long_as_nothing_was_appended(tmp_path: Path) -> None:
    once = Author(member())

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(once.say(1))
            await log.receive(once.say(2))
            assert log.stream == once.stream
            assert [event.offset for event in await log.publish(drafts(1))] == [2]

    asyncio.run(run())


def test_whoever_goes_on_behind_what_was_appended_here_gets_the_stream(tmp_path: Path) -> None:
    """A copy of this device took in what was appended here, and writes on."""

    async def run() -> None:
        async with open_log(tmp_path) as log:
            old = log.stream
            await log.publish(drafts(2))
            sealed = await log.sealed_range(old, 0, 10)
            assert sealed is not None
            copy = Author(member())
            copy.head = log.store.head(old)
            [event] = await log.receive(copy.say(9))
            assert (event.stream, event.offset) == (old, 2)
            assert log.stream != old
            [event] = await log.publish(drafts(1))
            assert (event.stream, event.offset) == (log.stream, 0)
            assert len(await log.receive(copy.say(20))) == 1
            assert len(await read_all(log)) == 5

    asyncio.run(run())


def test_two_histories_make_a_new_stream_and_neither_is_overwritten(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            old = log.stream
            published = await log.publish(drafts(2))
            other = await log.receive(Author(member()).say(5, 6, 7))
            assert log.stream != old
            texts = [str(event.key) for event in await read_all(log)]
            assert texts == [str(event.key) for event in (*published, *other)]

    asyncio.run(run())


@pytest.mark.parametrize("length", [1, 2])
def test_another_history_no_longer_than_ours_is_proof_as_well(tmp_path: Path, length: int) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            old = log.stream
            await log.publish(drafts(1))
            await log.publish(drafts(1))
            assert len(await log.receive(Author(member()).say(*range(5, 5 + length)))) == length
            assert log.stream != old

    asyncio.run(run())


def test_altered_events_under_a_true_seal_are_no_proof(tmp_path: Path) -> None:
    once = Author(member())

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(once.say(1))
            sealed = once.say(2, 3)
            altered = replace(sealed, events=(sealed.events[0], event_bytes(3, ["x"])))
            with pytest.raises(DivergedStream):
                await log.receive(altered)
            assert log.stream == once.stream
            assert len(await log.receive(sealed)) == 2

    asyncio.run(run())


def test_what_is_not_sealed_by_our_key_changes_nothing(tmp_path: Path) -> None:
    liar = Author(replace(member(), key=member("eve").key))
    liar.stream = Author(member()).stream

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.publish(drafts(1))
            with pytest.raises(CorruptRange):
                await log.receive(liar.say(5, 6))
            assert log.stream == liar.stream

    asyncio.run(run())


def test_a_tail_and_an_append_that_meet_in_one_commit_make_two_streams(tmp_path: Path) -> None:
    """Whichever of them comes first, no offset is taken twice."""

    async def run() -> None:
        async with open_log(tmp_path) as log:
            old, once = log.stream, Author(member())
            publishing = asyncio.create_task(log.publish(drafts(2)))
            await asyncio.sleep(0)
            [adopted] = await log.receive(once.say(5))
            appended = await publishing
            assert adopted.offset == appended[0].offset
            assert [event.stream for event in appended] == [old, old]
            assert log.stream != old
        async with open_log(tmp_path) as log:
            assert len(await read_all(log)) == 3

    asyncio.run(run())


def test_an_append_behind_a_foreign_tail_in_one_commit_goes_to_the_new_stream(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            old, copy = log.stream, Author(member())
            await log.publish(drafts(1))
            copy.head = log.store.head(old)
            added, [event] = await asyncio.gather(log.receive(copy.say(9)), log.publish(drafts(1)))
            assert [one.offset for one in added] == [1]
            assert (event.stream, event.offset) == (log.stream, 0)
            assert log.stream != old

    asyncio.run(run())
