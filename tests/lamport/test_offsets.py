"""Offset maps: comparing two says exactly what one lacks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput
from lamport.ids import NodeId, StreamId
from lamport.offsets import OffsetMap, OffsetRange, missing

A, B, C = (StreamId(NodeId(bytes([n]) * 32), n) for n in range(3))
MAPS = st.dictionaries(st.sampled_from([A, B, C]), st.integers(0, 4)).map(OffsetMap)


@given(MAPS, MAPS)
def test_applying_what_is_missing_covers_theirs(ours: OffsetMap, theirs: OffsetMap) -> None:
    ranges = missing(ours, theirs)
    after = ours.raised({one.stream: one.last for one in ranges})
    assert after.covers(theirs)
    assert after.covers(ours)
    assert after == ours.raised(theirs)


@given(MAPS, MAPS)
def test_nothing_is_missing_exactly_where_ours_covers_theirs(
    ours: OffsetMap, theirs: OffsetMap
) -> None:
    assert (missing(ours, theirs) == ()) == ours.covers(theirs)


@given(MAPS, MAPS)
def test_what_is_missing_is_what_they_hold_and_we_do_not(
    ours: OffsetMap, theirs: OffsetMap
) -> None:
    def held(offsets: OffsetMap) -> set[tuple[StreamId, int]]:
        return {(stream, n) for stream, top in offsets.items() for n in range(top + 1)}

    ranges = missing(ours, theirs)
    lacking = [(one.stream, n) for one in ranges for n in range(one.first, one.last + 1)]
    assert lacking == sorted(held(theirs) - held(ours))
    assert sum(map(len, ranges)) == len(lacking)


@given(MAPS, MAPS, MAPS)
def test_covering_is_transitive_and_mutual_only_for_equals(
    a: OffsetMap, b: OffsetMap, c: OffsetMap
) -> None:
    if a.covers(b) and b.covers(c):
        assert a.covers(c)
    assert (a.covers(b) and b.covers(a)) == (a == b)


@given(MAPS, MAPS)
def test_equal_maps_hash_alike(a: OffsetMap, b: OffsetMap) -> None:
    assert hash(a) == hash(OffsetMap(dict(sorted(a.items(), reverse=True))))
    assert (a == b) == (dict(a) == dict(b))


@given(MAPS)
def test_json_reads_back(offsets: OffsetMap) -> None:
    assert OffsetMap.from_json(offsets.to_json()) == offsets
    assert list(offsets.to_json()) == sorted(offsets.to_json())


@given(MAPS, MAPS)
def test_raising_changes_neither_operand(a: OffsetMap, b: OffsetMap) -> None:
    before = dict(a), dict(b)
    a.raised(b)
    assert (dict(a), dict(b)) == before


def test_an_unknown_stream_stands_before_its_first_event() -> None:
    assert OffsetMap().of(A) == -1
    assert missing(OffsetMap(), OffsetMap({A: 0})) == (OffsetRange(A, 0, 0),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {str(A): -1},
        {str(A): "1"},
        {str(A): 1.0},
        {str(A): True},
        {str(A): None},
        {"nonsense": 1},
    ],
)
def test_what_is_no_offset_map_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        OffsetMap.from_json(value)


def test_an_offset_below_zero_is_refused() -> None:
    with pytest.raises(InvalidInput, match="start at 0"):
        OffsetMap({A: -1})
