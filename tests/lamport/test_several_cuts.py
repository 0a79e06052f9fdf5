"""Several revocations of one copied device: what counts is the same in whichever order all of it arrives."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from lamport.chain import Seal, SealedRange
from lamport.errors import QuarantinedRange
from lamport.forks import MAX_BRANCHES_OF_NODE
from lamport.seams import INLINE
from tests.lamport.keys import Author, findings, open_log, open_store
from tests.lamport.test_disputed_cuts import (
    ADA,
    BOB,
    Copied,
    Item,
    Watcher,
    _entry,
    copied,
    joined,
    revoked,
    shown,
    split,
    take,
    theirs,
    told,
)


@dataclass(frozen=True)
class Case:
    """A stream with two histories, revocations with cuts on either, and in which order all that arrives at a node."""

    stream: Copied
    revocations: tuple[tuple[Seal, ...], ...]
    order: tuple[Item, ...]
    restarts: frozenset[int]
    packings: frozenset[int]

    def __str__(self) -> str:
        names = {one.seal: f"common {one.seal.offset}" for one in self.stream.common}
        names |= {one.seal: f"named {one.seal.offset}" for one in self.stream.named}
        names |= {one.seal: f"other {one.seal.offset}" for one in self.stream.other}
        return str(
            (
                [[names[cut] for cut in one] for one in self.revocations],
                [
                    f"{one.first}-{names[one.seal]}" if isinstance(one, SealedRange) else type(one)
                    for one in self.order
                ],
                self.restarts,
                self.packings,
            )
        )

    def counted(self) -> list[tuple[int, str]]:
        """What counts once all is known: of each history what every revocation has a cut on or behind."""
        common = sum(len(one.events) for one in self.stream.common)
        left = [self._left_by(cuts) for cuts in self.revocations]
        shared = min(max(one.values()) for one in left)
        counted = [(at, "common") for at in range(min(common, shared + 1))]
        for name in ("named", "other"):
            last = min(one[name] for one in left)
            counted += [(at, name) for at in range(common, last + 1)]
        return sorted(counted)

    def _left_by(self, cuts: Sequence[Seal]) -> dict[str, int]:
        lines = {
            "named": (*self.stream.common, *self.stream.named),
            "other": (*self.stream.common, *self.stream.other),
        }
        return {
            name: max((cut.offset for cut in cuts if cut in [one.seal for one in line]), default=-1)
            for name, line in lines.items()
        }


@st.composite
def streams(draw: st.DrawFn) -> Copied:
    sizes = st.lists(st.integers(1, 3), min_size=1, max_size=3)
    return copied(draw(st.lists(st.integers(1, 3), max_size=2)), draw(sizes), draw(sizes))


def revocations(*parts: Sequence[SealedRange]) -> st.SearchStrategy[tuple[Seal, ...]]:
    seals = [one.seal for part in parts for one in part]
    return st.lists(st.sampled_from(seals), max_size=3, unique=True).map(tuple)


def case(
    draw: st.DrawFn, stream: Copied, cuts: Sequence[tuple[Seal, ...]], *, notices_last: bool = False
) -> Case:
    line = [*stream.common, *stream.other]
    other = [joined(line)] if draw(st.booleans()) else line
    items: list[Item] = [*stream.common, *stream.named, *other, stream.proof]
    notices: list[Item] = [revoked(*one) for one in cuts]
    if notices_last:
        order = (*draw(st.permutations(items)), *items, *draw(st.permutations(notices)))
    else:
        order = tuple(draw(st.permutations([*items, *notices])))
    places = st.frozensets(st.integers(0, len(order) - 1), max_size=2)
    return Case(stream, tuple(cuts), order, draw(places), draw(places))


@st.composite
def cuts_of_one_revocation(draw: st.DrawFn) -> Case:
    stream = draw(streams())
    return case(draw, stream, [draw(revocations(stream.common, stream.named, stream.other))])


@st.composite
def revocations_that_name_one_history(draw: st.DrawFn) -> Case:
    stream = draw(streams())
    cuts = revocations(stream.common, stream.named)
    return case(draw, stream, draw(st.lists(cuts, min_size=2, max_size=3)))


@st.composite
def revocations_of_what_is_held(draw: st.DrawFn) -> Case:
    """Of two that name a history each, none may be told any more that is beyond the lower cut."""
    stream = draw(streams())
    cuts = revocations(stream.common, stream.named, stream.other)
    return case(draw, stream, draw(st.lists(cuts, min_size=2, max_size=3)), notices_last=True)


@settings(deadline=None, max_examples=100)
@given(
    cuts_of_one_revocation() | revocations_that_name_one_history() | revocations_of_what_is_held()
)
def test_what_counts_follows_from_all_cuts_in_whichever_order_they_arrive(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("log")
    rest = iter(enumerate(case.order))
    note(str(case))

    async def run_on() -> bool:
        """Run until the next restart; returns whether there was none."""
        async with open_log(folder) as log:
            watcher = Watcher(log)
            for number, item in rest:
                await take(log, item)
                await watcher.catch_up()
                if number in case.packings:
                    await log.store.merge_events(INLINE)
                if number in case.restarts:
                    return False
            stream = case.stream
            served = (*stream.common, *stream.named, *stream.other)
            for _ in range(4):  # peers send what is asked for, up to the seals on which cuts stand
                for item in (*case.order, *served):
                    await take(log, item)
            await watcher.catch_up()
            assert await shown(log) == case.counted()
            assert watcher.books() == sorted(map(_entry, await theirs(log)), key=str)
            return True

    async def go() -> None:
        while not await run_on():
            pass
        async with open_log(folder) as log:
            assert await shown(log) == case.counted()
        assert await findings(folder) == []

    asyncio.run(go())


@pytest.mark.parametrize("first", ["named", "other"])
def test_of_two_cuts_at_one_offset_each_ends_its_own_history(tmp_path: Path, first: str) -> None:
    stream = copied([2], [2], [2, 3])
    notice = revoked(stream.named[-1].seal, stream.other[0].seal)
    halves = {
        "named": joined([*stream.common, *stream.named]),
        "other": joined([*stream.common, *stream.other]),
    }

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [notice, halves[first]])
            assert [tag for _, tag in await shown(log)] == ["common"] * 2 + [first] * 2
            await told(log, [stream.proof, stream.named[0], stream.other[0]])
            assert sorted(await shown(log)) == [
                *enumerate(["common"] * 2),
                *((at, tag) for at in (2, 3) for tag in ("named", "other")),
            ]

    asyncio.run(go())


def crowd(count: int) -> tuple[SealedRange, list[Author]]:
    """What histories of one stream have in common, and somebody to go on with each."""
    original = Author(BOB)
    common = original.count(2, ["common"])
    return common, [original, *(split(original) for _ in range(count - 1))]


def test_the_history_that_a_cut_names_is_let_in_where_a_copy_has_made_as_many_as_are_kept(
    tmp_path: Path,
) -> None:
    common, authors = crowd(MAX_BRANCHES_OF_NODE + 1)
    *filling, named = authors

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await log.receive(common)
            for number, author in enumerate(filling):
                await log.receive(author.count(1, [str(number)]))
            ranges = [named.count(1, ["named"]), named.count(3, ["named"])]
            with pytest.raises(QuarantinedRange, match="branches"):
                await log.receive(ranges[0])
            await log.learn(revoked(ranges[-1].seal))
            await told(log, ranges)
            assert [tag for _, tag in await shown(log)] == ["common"] * 2 + ["named"] * 4

    asyncio.run(go())


@pytest.mark.parametrize("size", [1, 4])
def test_beyond_that_only_a_history_is_let_in_that_is_seen_to_bear_the_cut(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamport.commit.MAX_BRANCHES_OF_NODE", 2)
    monkeypatch.setattr("lamport.commit.MAX_BRANCHES_OF_REVOKED", 3)
    common, (one, two, three, named) = crowd(4)
    ranges = [named.count(size, ["named"]), named.count(5 - size, ["named"])]
    cut = ranges[0 if size == 4 else 1].seal

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [common, one.count(1, ["one"]), two.count(1, ["two"])])
            await log.learn(revoked(cut))
            await log.receive(three.count(1, ["three"]))
            if size < 4:
                with pytest.raises(QuarantinedRange, match="revoke the node again"):
                    await log.receive(ranges[0])
            else:
                await log.receive(ranges[0])
                assert [tag for _, tag in await shown(log)] == ["common"] * 2 + ["named"] * 4

    asyncio.run(go())


def test_how_far_a_history_counts_that_does_not_reach_its_cut_yet_is_kept_over_a_restart(
    tmp_path: Path,
) -> None:
    stream = copied([], [1, 2], [3])
    notice = revoked(*(one[-1].seal for one in (stream.named, stream.other)))

    async def go() -> None:
        async with open_log(tmp_path) as log:
            await told(log, [stream.proof, *stream.other, stream.named[0], notice])
            limits = dict(log.store.cuts.limits)
        async with open_store(tmp_path, ADA) as store:
            assert store.cuts.limits == limits

    asyncio.run(go())
