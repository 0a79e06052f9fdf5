"""Retractions: what the author or the admin retracts is hidden everywhere, whichever came first, and its bytes stay."""

import asyncio
import io
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lamport.follower
import lamport.retraction
from lamport.chain import SealedRange
from lamport.codec import encode_draft, encode_event
from lamport.errors import InvalidInput, LimitExceeded, QuarantinedRange, VoidRetraction
from lamport.event import Draft, Event, draft
from lamport.exchange import export_archive, import_archive
from lamport.healing import heal
from lamport.ids import EventKey
from lamport.log import EventLog
from lamport.offsets import OffsetMap, missing
from lamport.reader import Order
from lamport.retraction import MAX_TARGETS, RETRACT_TAG, signed_names
from lamport.sqlite import SqliteDisk
from lamport.stream_check import Finding
from lamport.tags import ALL_EVENTS, Tag
from lamport.verification import Verification
from tests.lamport.keys import (
    NOW_US,
    Author,
    Member,
    drafts,
    event_bytes,
    member,
    open_log,
    open_store,
    read_all,
)

SAID = Tag("said")


def retraction_bytes(lamport: int, *targets: EventKey, by: Member | None = None) -> bytes:
    """A retraction as its author wrote it; with `by` the admin of that member's swarm signed it."""
    payload: dict[str, Any] = {"keys": [str(key) for key in targets], "reason": "a slip"}
    if by is not None:
        payload["admin"] = by.admin.sign(signed_names(by.swarm, targets)).hex()
    return event_bytes(lamport, [RETRACT_TAG], payload)


def keys(events: Sequence[Event]) -> list[EventKey]:
    return [event.key for event in events]


def found(folder: Path) -> list[str]:
    """What verifying the log of this folder finds."""

    async def look() -> list[str]:
        connection = await SqliteDisk(folder).open_writer()
        try:
            looked = Verification(connection, member())
            return [str(one) async for one in looked.run() if isinstance(one, Finding)]
        finally:
            await connection.close()

    return asyncio.run(look())


def test_a_retracted_event_is_gone_from_every_query_and_its_retraction_stays(
    tmp_path: Path,
) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            first, second, third = await log.publish(drafts(3, "said"))
            retraction = await log.retract([second.key], "a slip")
            assert retraction.tags == (RETRACT_TAG,)
            assert retraction.payload == {"keys": [str(second.key)], "reason": "a slip"}
            for order in Order:
                assert set(keys(await read_all(log, SAID, order))) == {first.key, third.key}
            assert keys(await read_all(log)) == [first.key, third.key, retraction.key]
            assert second.key in log.retracted
            assert list(log.retracted) == [second.key]
            assert log.offsets.of(log.stream) == retraction.offset

    asyncio.run(go())


def test_it_stays_hidden_behind_a_restart(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            first, second = await log.publish(drafts(2, "said"))
            await log.retract([first.key], "a slip")
        async with open_log(tmp_path) as log:
            assert keys(await read_all(log, SAID)) == [second.key]

    asyncio.run(go())
    assert found(tmp_path) == []


def test_the_bytes_and_the_chain_of_a_retracted_event_stay(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1, "said"))
            before = await log.sealed_range(log.stream, 0, 1)
            await log.retract([event.key], "a slip")
            assert await log.served_range(log.stream, 0, 1) == before

    asyncio.run(go())


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_the_order_of_arrival_the_same_events_are_hidden(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ada, bob, eve = (Author(member(name)) for name in ("ada2", "bob", "eve"))
    authors = (ada, bob, eve)
    coins = st.booleans()
    ranges: list[list[SealedRange]] = []
    said: list[tuple[Author, EventKey, bool]] = []
    hidden: set[EventKey] = set()
    counting: set[EventKey] = set()
    for author in authors:
        streams = []
        for _ in range(data.draw(st.integers(0, 4))):
            lamport = author.head.lamport + data.draw(st.integers(1, 3))
            key = EventKey(lamport, author.stream)
            names_one = bool(said) and data.draw(coins)
            target = data.draw(st.sampled_from(said)) if names_one else None
            if target is None:
                streams.append(author.say(lamport))
            else:
                is_admin = data.draw(coins)
                signer = member() if is_admin else None
                streams.append(
                    author.write(retraction_bytes(lamport, target[1], by=signer), lamport=lamport)
                )
                if is_admin or target[0] is author:
                    hidden.add(target[1])
                    counting.add(key)
            said.append((author, key, target is not None))
        ranges.append(streams)
    turns = data.draw(st.permutations([n for n, one in enumerate(ranges) for _ in one]))
    expected = sorted(key for _, key, _ in said if key not in hidden - counting)

    async def go() -> None:
        folder = tmp_path_factory.mktemp("log")
        waiting = [list(one) for one in ranges]
        async with open_log(folder) as log:
            for turn in turns:
                await log.receive(waiting[turn].pop(0))
            assert keys(await read_all(log)) == expected
        async with open_log(folder) as log:
            assert keys(await read_all(log)) == expected

    asyncio.run(go())


def test_the_admins_signature_retracts_what_another_node_wrote(tmp_path: Path) -> None:
    async def go() -> None:
        bob = Author(member("bob"))
        async with open_log(tmp_path) as log:
            [event] = await log.receive(bob.say(5))
            names = signed_names(member().swarm, [event.key])
            await log.retract([event.key], "recalled", signature=member().admin.sign(names))
            assert await read_all(log, SAID) == []

    asyncio.run(go())


@pytest.mark.parametrize("signed", ["by nobody", "by bob", "other names", "another swarm"])
def test_what_another_node_wrote_is_not_retracted_otherwise(tmp_path: Path, signed: str) -> None:
    async def go() -> None:
        bob = Author(member("bob"))
        async with open_log(tmp_path) as log:
            [event] = await log.receive(bob.say(5))
            names = signed_names(member().swarm, [event.key])
            signature = {
                "by nobody": b"",
                "by bob": member("bob").sign(names),
                "other names": member().admin.sign(signed_names(member().swarm, [])),
                "another swarm": member(swarm="other").admin.sign(names),
            }[signed]
            with pytest.raises(VoidRetraction, match=r"another node's.*admin key"):
                await log.retract([event.key], "no", signature=signature)
            assert keys(await read_all(log)) == [event.key]

    asyncio.run(go())


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"keys": []},
        {"keys": "a"},
        {"keys": [7]},
        {"keys": ["nonsense"]},
        {"keys": ["0000000000000001/" + str(member("ada").node) + "-1"]},
        {"keys": ["0000000000000001/" + str(member("ada").node) + "-1"], "admin": "zz"},
        {"keys": ["0000000000000001/" + str(member("ada").node) + "-1"], "admin": "00" * 64},
        {"keys": ["0000000000000001/" + str(member("ada").node) + "-1"], "admin": ["00"]},
    ],
)
def test_a_retraction_that_does_not_count_hides_nothing_is_kept_and_told(
    tmp_path: Path, payload: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        bob = Author(member("bob"))
        async with open_log(tmp_path) as log:
            [own] = await log.publish(drafts(1, "said"))
            lamport = own.lamport + 1
            draft = encode_draft(Draft((RETRACT_TAG,), payload))
            [void] = await log.receive(
                bob.write(encode_event(lamport, NOW_US, draft), lamport=lamport)
            )
            assert keys(await read_all(log)) == [own.key, void.key]
            assert (len(log.retracted), log.retracted.void) == (0, 1)
        assert "hides nothing" in caplog.text

    asyncio.run(go())


def test_a_retraction_is_for_good(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1, "said"))
            retraction = await log.retract([event.key], "a slip")
            with pytest.raises(VoidRetraction, match="is a retraction, and those are for good"):
                await log.retract([retraction.key], "regret")
            assert keys(await read_all(log)) == [retraction.key]

    asyncio.run(go())


def test_keys_of_nothing_and_too_many_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            [event] = await log.publish(drafts(1, "said"))
            with pytest.raises(InvalidInput, match="nothing was written at"):
                await log.retract([EventKey(event.lamport + 1, log.stream)], "a slip")
            with pytest.raises(VoidRetraction, match="it names 1 to"):
                await log.retract([], "a slip")
            with pytest.raises(LimitExceeded, match="names at most 256"):
                await log.retract([event.key] * (MAX_TARGETS + 1), "a slip")
            with pytest.raises(LimitExceeded, match="at most 1000 characters"):
                await log.retract([event.key], "x" * 1_001)
            await log.retract([event.key] * MAX_TARGETS, "x" * 1_000)
            with pytest.raises(InvalidInput, match="the engine's own"):
                draft([RETRACT_TAG], {"keys": [str(event.key)]})
            assert log.offsets.of(log.stream) == 1

    asyncio.run(go())


def test_nobody_fills_everybodys_memory_with_retractions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.log, "MAX_RETRACTED_BY_NODE", 2)
    monkeypatch.setattr(lamport.commit, "MAX_ACCEPTED_FROM_NODE", 2)

    async def go() -> None:
        bob = Author(member("bob"))
        async with open_log(tmp_path) as log:
            events = await log.publish(drafts(3, "said"))
            await log.retract([event.key for event in events[:2]], "a slip")
            with pytest.raises(LimitExceeded, match="one node retracts at most 2"):
                await log.retract([events[2].key], "a slip")
            await log.receive(bob.say(1, 2, 3))
            targets = [EventKey(n, bob.stream) for n in (1, 2, 3)]
            data = retraction_bytes(4, *targets)
            with pytest.raises(QuarantinedRange, match="retracts more than 2"):
                await log.receive(bob.write(data, lamport=4))
            assert len(await read_all(log, SAID)) == 4

    asyncio.run(go())


def test_a_follower_is_told_of_what_it_was_handed_and_of_nothing_else(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            follower = log.follow()
            [event, other] = await log.publish(drafts(2, "said"))
            assert keys((await follower.next()).events) == [event.key, other.key]
            late = log.follow(OffsetMap())
            first = await log.retract([event.key], "a slip")
            batch = await follower.next()
            assert keys(batch.events) == [first.key]
            assert batch.retracted == (event,)
            batch = await late.next()
            assert (keys(batch.events), batch.retracted) == ([other.key, first.key], ())
            [third] = await log.publish(drafts(1, "said"))
            second = await log.retract([third.key], "a slip")
            batch = await follower.next()
            assert (keys(batch.events), batch.retracted) == ([second.key], ())
            assert batch.offsets == log.offsets

    asyncio.run(go())


@pytest.mark.parametrize("kept", [1, 256])
def test_a_follower_that_lags_is_told_as_well(
    tmp_path: Path, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lamport.follower, "KEPT_BATCHES", kept)

    async def go() -> None:
        async with open_log(tmp_path) as log:
            follower = log.follow()
            events = [(await log.publish(drafts(1, "said")))[0] for _ in range(3)]
            shown = dict.fromkeys(keys((await follower.next()).events))
            await log.retract([events[0].key], "a slip")
            last = await log.publish(drafts(1, "said"))
            await log.retract([last[0].key], "a slip")
            while not follower.offsets.covers(log.offsets):
                batch = await follower.next()
                shown |= dict.fromkeys(keys(batch.events))
                for event in batch.retracted:
                    del shown[event.key]
            assert list(shown) == keys(await read_all(log))

    asyncio.run(go())


def test_a_batch_of_hidden_events_alone_moves_the_cursor(tmp_path: Path) -> None:
    async def go() -> None:
        bob = Author(member("bob"))
        key = EventKey(5, bob.stream)
        async with open_log(tmp_path) as log:
            names = signed_names(member().swarm, [key])
            await log.retract([key], "recalled", signature=member().admin.sign(names))
            follower = log.follow()
            await log.receive(bob.say(5))
            batch = await follower.next()
            assert (batch.events, batch.retracted, batch.offsets) == ((), (), log.offsets)

    asyncio.run(go())


def test_a_subscriber_is_told_of_what_it_had(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_log(tmp_path) as log:
            [event, other] = await log.publish([draft("said", 1), draft("other", 2)])
            told: list[Event] = []
            events = log.subscribe(SAID, on_retracted=told.append)
            assert await anext(events) == event
            await log.retract([event.key, other.key], "a slip")
            await log.publish(drafts(1, "said"))
            await anext(events)
            assert told == [event]
            again: list[Event] = []
            lower = OffsetMap({log.stream: 1})
            await anext(log.subscribe(ALL_EVENTS, lower=lower, on_retracted=again.append))
            assert again == [event, other]

    asyncio.run(go())


def test_an_event_that_the_disk_damaged_can_be_retracted(tmp_path: Path) -> None:
    async def fill() -> tuple[Event, Event]:
        async with open_log(tmp_path) as log:
            first, second, _ = await log.publish(drafts(3, "said"))
            return first, second

    first, second = asyncio.run(fill())
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("UPDATE events SET bytes = x'c1' WHERE \"offset\" = 0")

    async def go() -> None:
        async with open_log(tmp_path) as log:
            follower = log.follow()
            await log.retract([first.key], "damaged")
            [told] = (await follower.next()).retracted
            assert (told.key, told.tags) == (first.key, ())
            assert second.key in keys(await read_all(log, SAID))

    asyncio.run(go())


def test_archives_keep_retracted_events_and_their_retractions(tmp_path: Path) -> None:
    async def go() -> None:
        file = io.BytesIO()
        (tmp_path / "ada").mkdir()
        (tmp_path / "bob").mkdir()
        async with open_log(tmp_path / "ada") as log:
            event, other = await log.publish(drafts(2, "said"))
            await log.retract([event.key], "a slip")
            exported = await export_archive(
                log.store, member(), missing(OffsetMap(), log.offsets), file
            )
            assert exported.events == 3
        file.seek(0)
        async with open_log(tmp_path / "bob", member("bob")) as log:
            assert (await import_archive(log, member("bob"), file)).added == 3
            assert keys(await read_all(log, SAID)) == [other.key]

    asyncio.run(go())


def filled(folder: Path) -> tuple[Event, Event]:
    async def fill() -> tuple[Event, Event]:
        async with open_log(folder) as log:
            event, other = await log.publish(drafts(2, "said"))
            await log.retract([event.key], "a slip")
            return event, other

    return asyncio.run(fill())


def shown(folder: Path) -> list[EventKey]:
    async def read() -> list[EventKey]:
        async with open_log(folder) as log:
            return keys(await read_all(log, SAID))

    return asyncio.run(read())


def test_a_log_of_an_older_program_finds_its_retractions_when_it_is_opened(tmp_path: Path) -> None:
    _, other = filled(tmp_path)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("DELETE FROM retractions")
        database.execute("DELETE FROM facts WHERE name = 'retractions'")
    assert shown(tmp_path) == [other.key]
    assert found(tmp_path) == []


def test_a_table_that_disagrees_is_found_and_healed(tmp_path: Path) -> None:
    _, other = filled(tmp_path)
    with sqlite3.connect(tmp_path / "log.sqlite") as database:
        database.execute("UPDATE retractions SET lamport = 2")
    assert shown(tmp_path) != [other.key]
    assert found(tmp_path) == [
        "database: what is filed as retracted disagrees with the retractions"
    ]

    async def mend() -> None:
        connection = await SqliteDisk(tmp_path).open_writer()
        looked = Verification(connection, member())
        async for _ in looked.run():
            pass
        await heal(connection, looked, member())
        await connection.close()

    asyncio.run(mend())
    assert shown(tmp_path) == [other.key]
    assert found(tmp_path) == []


def test_a_commit_that_fails_hides_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with open_store(tmp_path, member()) as store:
            log = EventLog(store, member(), lambda: NOW_US)
            writing = asyncio.create_task(log.write())
            [event] = await log.publish(drafts(1, "said"))
            retracting = asyncio.create_task(log.retract([event.key], "a slip"))
            retracting.cancel()
            await asyncio.gather(retracting, return_exceptions=True)
            await log.publish(drafts(1, "said"))
            assert len(log.retracted) == 0
            log.close()
            await writing

    asyncio.run(go())
