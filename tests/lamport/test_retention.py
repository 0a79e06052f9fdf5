"""Policies, held against what they promise: what is kept is kept, what is pruned is whole blocks from the beginning."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput
from lamport.retention import MAX_BLOCKS, MICROSECONDS, SLACK, Block, Ledger, due_horizon
from lamport.routes import (
    DEFAULT_STREAM,
    MAX_NAMED_STREAMS,
    MAX_ROUTES,
    Policy,
    Route,
    Routes,
)
from lamport.tags import ALL_EVENTS, Tag

BLOCKS = st.lists(
    st.tuples(st.integers(1, 20), st.integers(1, 500), st.integers(0, 100)), max_size=40
)
"""Events, bytes and age in seconds of each block."""
NOW_S = 1_000
LIMITS = st.one_of(st.none(), st.integers(1, 300))
POLICIES = st.builds(
    Policy,
    st.one_of(st.none(), st.integers(1, 100)),
    LIMITS,
    st.one_of(st.none(), st.integers(1, 9_000)),
)


def ledger_of(blocks: Sequence[tuple[int, int, int]], first: int = 0) -> Ledger:
    ledger = Ledger(first)
    for events, size, age_s in blocks:
        newest = (NOW_S - age_s) * MICROSECONDS
        ledger.add(Block(ledger.next + events - 1, size, newest))
    return ledger


def passes(limit: int | None, measure: int) -> bool:
    return limit is not None and measure > limit + limit // SLACK


@given(BLOCKS, POLICIES, st.integers(0, 50))
def test_a_horizon_stands_at_a_seal_and_leaves_the_last_block(
    blocks: list[tuple[int, int, int]], policy: Policy, first: int
) -> None:
    ledger = ledger_of(blocks, first)
    horizon = due_horizon(policy, ledger, NOW_S * MICROSECONDS)
    assert horizon in {first, *(block.last + 1 for block in ledger.blocks[:-1])}
    ledger.drop(horizon)
    assert (ledger.first, ledger.bytes) == (horizon, sum(one.bytes for one in ledger.blocks))


@given(BLOCKS, st.integers(1, 300))
def test_the_newest_events_are_kept_and_hardly_more(
    blocks: list[tuple[int, int, int]], limit: int
) -> None:
    ledger = ledger_of(blocks)
    before = ledger.events
    horizon = due_horizon(Policy(max_events=limit), ledger, 0)
    left = ledger.next - horizon
    assert left >= min(limit, before)
    largest = max((events for events, _, _ in blocks), default=0)
    assert not passes(limit, before) or left < limit + largest
    assert passes(limit, before) or horizon == 0


@given(BLOCKS, st.integers(1, 9_000))
def test_the_newest_bytes_are_kept_and_hardly_more(
    blocks: list[tuple[int, int, int]], limit: int
) -> None:
    ledger = ledger_of(blocks)
    before = ledger.bytes
    ledger.drop(due_horizon(Policy(max_size_bytes=limit), ledger, 0))
    assert ledger.bytes >= min(limit, before)
    largest = max((size for _, size, _ in blocks), default=0)
    assert not passes(limit, before) or ledger.bytes < limit + largest


@given(BLOCKS, st.integers(1, 100))
def test_what_is_young_is_kept_with_all_behind_it(
    blocks: list[tuple[int, int, int]], age_s: int
) -> None:
    ledger = ledger_of(blocks)
    horizon = due_horizon(Policy(max_age_s=age_s), ledger, NOW_S * MICROSECONDS)
    gone = [one for one in ledger.blocks if one.last < horizon]
    assert all(one.newest < (NOW_S - age_s) * MICROSECONDS for one in gone)
    kept = ledger.blocks[len(gone) :]
    assert not gone or len(kept) == 1 or kept[0].newest >= (NOW_S - age_s) * MICROSECONDS


@given(BLOCKS, POLICIES)
def test_the_first_limit_that_is_passed_counts(
    blocks: list[tuple[int, int, int]], policy: Policy
) -> None:
    ledger, now = ledger_of(blocks), NOW_S * MICROSECONDS
    single = (
        Policy(max_age_s=policy.max_age_s),
        Policy(max_events=policy.max_events),
        Policy(max_size_bytes=policy.max_size_bytes),
    )
    assert due_horizon(policy, ledger, now) == max(due_horizon(one, ledger, now) for one in single)


@given(BLOCKS)
def test_without_limits_all_is_kept(blocks: list[tuple[int, int, int]]) -> None:
    assert Policy().keeps_all
    assert due_horizon(Policy(), ledger_of(blocks), NOW_S * MICROSECONDS) == 0


def test_a_ledger_joins_neighbours_and_never_the_newest() -> None:
    ledger = ledger_of([(1, 10, 5)] * (MAX_BLOCKS + 1))
    assert len(ledger.blocks) == MAX_BLOCKS // 2 + 1
    assert ledger.blocks[0] == Block(1, 20, (NOW_S - 5) * MICROSECONDS)
    assert ledger.blocks[-1].last - ledger.blocks[-2].last == 1
    assert (ledger.events, ledger.bytes) == (MAX_BLOCKS + 1, 10 * (MAX_BLOCKS + 1))


def test_the_first_route_that_matches_wins_and_the_default_takes_the_rest() -> None:
    routes = Routes(
        [Route(Tag("a") & Tag("b"), "both"), Route(Tag("a"), "one"), Route(Tag("c").local(), "own")]
    )
    found = [routes.stream_for(tags) for tags in (("a", "b"), ("a",), ("c",), ("b",), ())]
    assert found == ["both", "one", "own", DEFAULT_STREAM, DEFAULT_STREAM]


@pytest.mark.parametrize("name", ["max_age_s", "max_events", "max_size_bytes"])
@pytest.mark.parametrize("limit", [0, -1, True, float("nan"), float("inf"), 2**53, "7"])
def test_a_limit_is_a_positive_number(name: str, limit: object) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is a positive number"):
        Policy(**{name: limit})  # type: ignore[arg-type]  # that is the question


def test_routes_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(InvalidInput, match="different policies"):
        Routes([Route(Tag("a"), "s"), Route(Tag("b"), "s", Policy(max_events=1))])


def test_one_route_or_stream_too_many_is_refused() -> None:
    Routes([Route(ALL_EVENTS, "s")] * MAX_ROUTES)
    with pytest.raises(InvalidInput, match=f"at most {MAX_ROUTES} routes"):
        Routes([Route(ALL_EVENTS, "s")] * (MAX_ROUTES + 1))
    Routes([Route(ALL_EVENTS, f"s{number}") for number in range(MAX_NAMED_STREAMS)])
    with pytest.raises(InvalidInput, match=f"at most {MAX_NAMED_STREAMS} streams"):
        Routes([Route(ALL_EVENTS, f"s{number}") for number in range(MAX_NAMED_STREAMS + 1)])


@pytest.mark.parametrize("name", ["", "default", "x" * 129, 7, None])
def test_a_stream_has_a_name_of_its_own(name: object) -> None:
    with pytest.raises(InvalidInput):
        Route(ALL_EVENTS, name)  # type: ignore[arg-type]  # that is the question
