"""Forks: two sealed histories of a stream are proven, both are kept, and everybody comes to tell them apart alike."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lamport.forks
from lamport.chain import SealedRange
from lamport.errors import CorruptRange, DivergedStream, OutdatedPlan, QuarantinedRange
from lamport.event import Event
from lamport.forks import (
    MAX_PROOF_BYTES,
    ForkProof,
    branch_of,
    check_proof,
    decode_proof,
    encode_proof,
    make_proof,
)
from lamport.healing import heal
from lamport.log import EventLog
from lamport.offsets import OffsetMap
from lamport.proving import Fork
from lamport.reader import Order
from lamport.seams import Statement
from lamport.sqlite import SqliteDisk
from lamport.stream_check import Finding
from lamport.verification import Verification, damaged_heads
from tests.lamport.keys import Author, Member, drafts, event_bytes, member, open_log, read_all

BOB = member("bob")


def split(author: Author) -> Author:
    """Somebody else who goes on writing where this one stands now."""
    other = Author(author.keys, author.stream.number)
    other.head = author.head
    return other


def histories(common: int = 3) -> tuple[SealedRange | None, Author, Author]:
    one = Author(BOB)
    beginning = one.count(common) if common else None
    return beginning, one, split(one)


def small_proof() -> ForkProof:
    one = Author(BOB)
    one.count(2)
    other, hash_ = split(one), one.head.hash
    return make_proof(hash_, one.say(3, 4), other.say(5))


async def facts(log: EventLog) -> list[tuple[str, int, object]]:
    """What a log tells of its events, in its order."""
    return [(event.key.address, event.offset, event.payload) for event in await read_all(log)]


def keys_of(events: Sequence[Event]) -> list[str]:
    return [str(event.key) for event in events]


# proofs


def test_a_proof_is_the_same_whoever_makes_it() -> None:
    one = Author(BOB)
    other, hash_ = split(one), one.head.hash
    ranges = one.say(1, 2), other.say(3)
    proof = make_proof(hash_, *ranges)
    assert proof == make_proof(hash_, *reversed(ranges))
    checked = check_proof(proof, member())
    assert [half.range.stream for half in checked.ranges] == sorted(proof.branches)
    assert decode_proof(encode_proof(proof)) == proof


@settings(deadline=None)
@given(st.data())
def test_a_proof_with_any_byte_altered_is_refused(data: st.DataObject) -> None:
    raw = encode_proof(small_proof())
    place = data.draw(st.integers(0, len(raw) - 1))
    altered = bytearray(raw)
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptRange):
        check_proof(decode_proof(bytes(altered)), member())


@given(st.binary(max_size=200))
def test_bytes_that_are_no_proof_are_refused(raw: bytes) -> None:
    with pytest.raises(CorruptRange):
        decode_proof(raw)


def test_bytes_beyond_the_limit_are_not_even_read() -> None:
    with pytest.raises(CorruptRange, match="at most"):
        decode_proof(bytes(MAX_PROOF_BYTES + 1))


def test_one_history_twice_proves_nothing() -> None:
    one = Author(BOB)
    other, hash_ = split(one), one.head.hash
    with pytest.raises(CorruptRange, match="two branches"):
        check_proof(make_proof(hash_, one.say(1), other.say(1, 2)), member())


def test_branches_in_the_wrong_order_are_refused() -> None:
    proof = small_proof()
    with pytest.raises(CorruptRange, match="lower first"):
        check_proof(replace(proof, one=proof.other, other=proof.one), member())


def test_streams_of_two_authors_prove_nothing() -> None:
    one, other = Author(BOB), Author(member("eve"))
    with pytest.raises(CorruptRange):
        check_proof(make_proof(one.head.hash, one.say(1), other.say(2)), member())


def test_ranges_behind_different_offsets_prove_nothing() -> None:
    one = Author(BOB)
    other, hash_ = split(one), one.head.hash
    other.say(1)
    with pytest.raises(CorruptRange):
        check_proof(make_proof(hash_, one.say(2), other.say(3)), member())


# both branches are kept


@pytest.mark.parametrize("common", [0, 1, 3])
def test_whichever_history_comes_first_all_logs_become_equal(tmp_path: Path, common: int) -> None:
    beginning, one, other = histories(common)
    first, second = [one.count(2), one.count(2)], [other.count(3, ["other"])]

    async def told(folder: Path, ranges: list[SealedRange]) -> tuple[object, OffsetMap]:
        folder.mkdir()  # noqa: ASYNC240 - a test
        async with open_log(folder) as log:
            for sealed in ranges:
                await log.receive(sealed)
            seen = await facts(log), log.offsets
        async with open_log(folder) as log:
            assert (await facts(log), log.offsets) == seen
        return seen

    async def run() -> None:
        orders = [[*first, *second], [*second, *first], [first[0], *second, first[1]]]
        orders = [[beginning, *order] if beginning else order for order in orders]
        all_told = [await told(tmp_path / str(n), one) for n, one in enumerate(orders)]
        assert all_told[0] == all_told[1] == all_told[2]
        told_facts, offsets = all_told[0]
        assert isinstance(told_facts, list)
        assert len(told_facts) == common + 7
        assert sorted(offsets.values()) == sorted(
            [common - 1] * bool(common) + [common + 3, common + 2]
        )

    asyncio.run(run())


def test_three_histories_that_part_at_one_place_are_told_alike_whatever_came_first(
    tmp_path: Path,
) -> None:
    """Each proof shows two of them; which ones, depends on the order."""
    beginning, *both = histories()
    assert beginning is not None
    authors = [*both, split(both[0])]
    said = [author.count(2, [name]) for author, name in zip(authors, "abc", strict=True)]

    async def told(folder: Path, ranges: Sequence[SealedRange]) -> tuple[Fork, ...]:
        folder.mkdir()  # noqa: ASYNC240 - a test
        async with open_log(folder) as log:
            for sealed in (beginning, *ranges):
                await log.receive(sealed)
            return log.forks.prover.forks()

    async def run() -> None:
        orders = [*itertools.permutations(said)]
        all_told = [await told(tmp_path / str(n), one) for n, one in enumerate(orders)]
        assert all(one == all_told[0] for one in all_told)
        [fork] = all_told[0]
        assert (fork.offset, [one.last for one in fork.branches]) == (2, [4, 4, 4])

    asyncio.run(run())


def test_event_keys_stay_what_they_were(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            held = [*await log.receive(beginning), *await log.receive(one.count(2))]
            added = await log.receive(other.count(1, ["other"]))
            events = await read_all(log)
            assert sorted(keys_of(events)) == sorted(keys_of([*held, *added]))
            assert keys_of(events) == sorted(keys_of(events))
            twice = [event for event in events if event.lamport == 4]
            assert len(twice) == 2
            assert twice[0].stream.branch < twice[1].stream.branch

    asyncio.run(run())


def test_both_branches_grow_on_under_either_name(tmp_path: Path) -> None:
    """Whoever does not know of the fork goes on sending under the name of the stream."""
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, one.count(1), other.count(1, ["other"])):
                await log.receive(sealed)
            assert len(await log.receive(one.count(2))) == 2
            assert len(await log.receive(other.count(3, ["other"]))) == 3
            parts = log.store.branches.of(one.stream)
            assert [log.offsets.of(part) for part in parts] in ([2, 5, 6], [2, 6, 5])
            served = await log.served_range(parts[1], 3, 10)
            assert served is not None
            assert served.stream == parts[1]

    asyncio.run(run())


def test_a_log_that_holds_nothing_keeps_a_proof_until_the_beginning_comes(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None
    hash_ = one.head.hash
    proof = make_proof(hash_, one.count(2), other.count(1, ["other"]))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            assert await log.forks.learn(proof) == ()
            await log.receive(beginning)
            assert len(log.offsets) == 3
            assert len(await read_all(log)) == 6
            [fork] = log.forks.prover.forks()
            assert (fork.stream, fork.offset) == (one.stream, 2)
            assert [branch.last for branch in fork.branches] in ([3, 4], [4, 3])
            assert not log.forks.alarmed.is_set()
            assert await log.forks.prover.unraised() == []

    asyncio.run(run())


def test_a_proof_that_is_known_adds_nothing(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None
    proof = make_proof(one.head.hash, ours := one.count(2), theirs := other.count(1, ["other"]))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, ours, theirs):
                await log.receive(sealed)
            before = await facts(log)
            assert await log.forks.learn(proof) == ()
            assert await facts(log) == before

    asyncio.run(run())


def test_a_proof_that_came_from_two_peers_at_once_is_taken_in_once(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None
    proof = make_proof(one.head.hash, one.count(2), other.count(1, ["other"]))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(beginning)
            plan = await log.forks.prover.plan(check_proof(proof, member()), found=False)
            assert plan is not None
            await log.forks.learn(proof)
            with pytest.raises(OutdatedPlan):
                log.store.new_commit(member()).fork(plan)

    asyncio.run(run())


def test_the_finder_is_to_raise_the_alarm_until_it_has(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, one.count(1), other.count(1, ["other"])):
                await log.receive(sealed)
            assert log.forks.alarmed.is_set()
        async with open_log(tmp_path) as log:
            await log.forks.prover.load()
            [fork] = await log.forks.prover.unraised()
            await log.forks.prover.raised(fork)
            assert await log.forks.prover.unraised() == []
            assert len(log.forks.prover.forks()) == 1

    asyncio.run(run())


def test_a_fork_is_told_though_nobody_waits_for_its_commit_any_more(tmp_path: Path) -> None:
    """A link may end while its log takes a proof in."""
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(beginning)
            await log.receive(one.count(1))
            receiving = asyncio.create_task(log.receive(other.count(1, ["other"])))
            while not log.store.branches.known:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0)
            receiving.cancel()
            while not log.forks.prover.forks():  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            assert log.forks.alarmed.is_set()

    asyncio.run(run())


def test_a_forged_proof_is_refused(tmp_path: Path) -> None:
    proof = small_proof()
    events = (event_bytes(7), *proof.one.events[1:])
    forged = replace(proof, one=replace(proof.one, events=events))

    async def run() -> None:
        async with open_log(tmp_path) as log:
            with pytest.raises(CorruptRange):
                await log.forks.learn(forged)
            assert not log.offsets

    asyncio.run(run())


def test_a_range_that_begins_nowhere_in_common_proves_nothing(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, one.count(3)):
                await log.receive(sealed)
            other.count(1, ["other"])
            with pytest.raises(DivergedStream):
                await log.receive(other.count(1))

    asyncio.run(run())


def test_followers_are_handed_every_event_once_over_a_fork(tmp_path: Path) -> None:
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            quick, slow = log.follow(), log.follow()
            seen: list[Event] = []
            for sealed in (beginning, one.count(2), other.count(1, ["other"]), one.count(2)):
                await log.receive(sealed)
                seen += (await quick.next()).events
            late = log.follow(OffsetMap({one.stream: 3}))
            assert len(seen) == 8
            assert (await slow.next()).renamed
            assert slow.offsets == quick.offsets == log.offsets
            assert sorted(event.offset for event in (await late.next()).events) == [3, 4, 5, 6]

    asyncio.run(run())


@pytest.mark.parametrize("order", list(Order))
def test_every_order_of_reading_gives_each_event_once(tmp_path: Path, order: Order) -> None:
    beginning, one, other = histories()
    assert beginning is not None

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in (beginning, one.count(2), other.count(2, ["other"])):
                await log.receive(sealed)
            events = await read_all(log, order=order)
            assert len(events) == 7
            assert len({(event.stream, event.offset) for event in events}) == 7
            some = await read_all(log, order=order, lower=OffsetMap({one.stream: 2}))
            assert sorted(event.offset for event in some) == [3, 3, 4, 4]

    asyncio.run(run())


def test_own_publishing_goes_on_in_a_new_stream_behind_a_proof(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_log(tmp_path) as log:
            old = log.stream
            await log.publish(drafts(2))
            copy = Author(member())
            await log.receive(copy.say(9))
            [event] = await log.publish(drafts(1))
            assert event.stream not in log.store.branches.of(old)
            assert len(await read_all(log)) == 4

    asyncio.run(run())


@pytest.mark.parametrize("first", [0, 1], ids=["one history first", "the other first"])
def test_what_is_damaged_of_a_forked_stream_is_cut_and_comes_back(
    tmp_path: Path, first: int
) -> None:
    beginning, one, other = histories()
    assert beginning is not None
    branches = [one.count(2), other.count(2, ["other"])]
    ranges = [beginning, branches[first], branches[1 - first]]

    async def run() -> None:
        async with open_log(tmp_path) as log:
            for sealed in ranges:
                await log.receive(sealed)
            whole = await facts(log)
        for damaged in range(5):
            connection = await SqliteDisk(tmp_path).open_writer()
            await connection.transact(
                [
                    Statement(
                        "UPDATE events SET bytes = x'00' WHERE key IN"
                        " (SELECT key FROM events ORDER BY key LIMIT 1 OFFSET ?)",
                        [(damaged,)],
                    )
                ]
            )
            look = Verification(connection, member())
            found = [step async for step in look.run() if isinstance(step, Finding)]
            assert found
            await heal(connection, look, member())
            await connection.close()
            async with open_log(tmp_path) as log:
                again = Verification(log.store.reader, member())
                assert not [step async for step in again.run() if isinstance(step, Finding)]
                for sealed in ranges:
                    await log.receive(sealed)
                assert await facts(log) == whole

    asyncio.run(run())


# trees of histories


class Tree:
    """Histories of one stream that part again and again, as sealed ranges."""

    def __init__(self, seed: int, keys: Member) -> None:
        self.draw = random.Random(seed)
        self.paths: list[list[SealedRange]] = []
        writers: list[tuple[Author, list[SealedRange]]] = [(Author(keys), [])]
        for number in range(self.draw.randint(3, 7)):
            author, path = self.draw.choice(writers)
            fork = self.draw.random() < 0.5
            writer = split(author) if fork else author
            told = [*path] if fork else path
            told.append(writer.count(self.draw.randint(1, 3), [f"step {number}"]))
            if fork:
                writers.append((writer, told))
        self.paths = [path for _, path in writers if path]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6))
def test_any_tree_of_histories_is_cut_in_the_same_parts_everywhere(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    tree = Tree(seed, BOB)
    folders = (tmp_path_factory.mktemp(f"tree{number}") for number in itertools.count())

    async def told() -> object:
        paths = [path[:] for path in tree.paths]
        tree.draw.shuffle(paths)
        folder = next(folders)
        async with open_log(folder) as log:
            for path in paths:
                for sealed in path:
                    await log.receive(sealed)
            seen = await facts(log), log.offsets
            verification = Verification(log.store.reader, member())
            steps = [step async for step in verification.run()]
            assert [step for step in steps if isinstance(step, Finding)] == []
            assert await damaged_heads(log.store.reader, member()) == []
        async with open_log(folder) as log:
            assert (await facts(log), log.offsets) == seen
        return seen

    async def run() -> None:
        first = await told()
        for _ in range(2):
            assert await told() == first

    asyncio.run(run())


def test_more_branches_than_are_kept_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.commit.MAX_BRANCHES_OF_NODE", 3)
    assert lamport.forks.MAX_BRANCHES_OF_NODE == 32
    beginning, one, other = histories()
    assert beginning is not None
    third, fourth = split(one), split(one)

    async def run() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(beginning)
            for number, author in enumerate((one, other, third)):
                await log.receive(author.count(1, [str(number)]))
            held = await facts(log)
            with pytest.raises(QuarantinedRange, match="branches"):
                await log.receive(fourth.count(1, ["fourth"]))
            assert await facts(log) == held
            assert branch_of(b"", beginning)

    asyncio.run(run())
