"""Tags and selections: an algebra, a normal form, and limits."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidInput, LimitExceeded
from lamport.query import parse_query
from lamport.tags import (
    ALL_EVENTS,
    MAX_ALTERNATIVES,
    MAX_PRODUCT,
    MAX_TAG_BYTES,
    MAX_TAGS,
    Alternative,
    Tag,
    Tags,
    Where,
    normal_tag,
    publishable,
)

NAMES = ("a", "b", "c", "d")
Matcher = Callable[[frozenset[str], bool], bool]


class Pair:
    """A selection beside the boolean function it is to equal."""

    def __init__(self, where: Where, matches: Matcher) -> None:
        self.where = where
        self.matches = matches

    def __repr__(self) -> str:
        return repr(self.where)


def leaf(name: str) -> Pair:
    return Pair(Tag(name), lambda tags, _: name in tags)


def both(a: Pair, b: Pair) -> Pair:
    return Pair(a.where & b.where, lambda tags, own: a.matches(tags, own) and b.matches(tags, own))


def either(a: Pair, b: Pair) -> Pair:
    return Pair(a.where | b.where, lambda tags, own: a.matches(tags, own) or b.matches(tags, own))


def local(a: Pair) -> Pair:
    return Pair(a.where.local(), lambda tags, own: own and a.matches(tags, own))


def nested(inner: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    return st.builds(both, inner, inner) | st.builds(either, inner, inner) | st.builds(local, inner)


PAIRS = st.recursive(
    st.sampled_from(NAMES).map(leaf) | st.just(Pair(ALL_EVENTS, lambda _tags, _own: True)),
    nested,
    max_leaves=8,
)
EVENT_TAGS = st.frozensets(st.sampled_from(NAMES))
EVENTS = [
    (frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1), own)
    for bits in range(2 ** len(NAMES))
    for own in (False, True)
]
TAG_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).map(
    lambda text: unicodedata.normalize("NFC", text)
)


@given(PAIRS)
def test_any_nesting_matches_like_boolean_evaluation(pair: Pair) -> None:
    for tags, own in EVENTS:
        assert pair.where.matches(tags, is_local=own) == pair.matches(tags, own)


@given(PAIRS, PAIRS, PAIRS)
def test_the_laws_of_a_distributive_lattice_hold(x: Pair, y: Pair, z: Pair) -> None:
    a, b, c = x.where, y.where, z.where
    assert a & b == b & a
    assert a | b == b | a
    assert a & (b & c) == (a & b) & c
    assert a | (b | c) == (a | b) | c
    assert a & (b | c) == a & b | a & c
    assert a & (a | b) == a == a | (a & b)
    assert a & ALL_EVENTS == a
    assert a | ALL_EVENTS == ALL_EVENTS


@given(PAIRS, PAIRS)
def test_selections_that_match_alike_are_equal(x: Pair, y: Pair) -> None:
    alike = all(x.matches(*event) == y.matches(*event) for event in EVENTS)
    assert (x.where == y.where) == alike
    if alike:
        assert hash(x.where) == hash(y.where)
        assert str(x.where) == str(y.where)


@given(PAIRS)
def test_the_text_form_parses_back(pair: Pair) -> None:
    assert parse_query(f"FROM {pair.where}") == pair.where


@given(st.lists(TAG_TEXTS, min_size=1, max_size=4))
def test_the_text_form_of_any_tags_parses_back(names: list[str]) -> None:
    where = Tags(*names) | Tag("other")
    assert parse_query(f"FROM {where}") == where


def test_local_selects_this_nodes_events_only() -> None:
    where = (Tag("a") | Tag("b")).local()
    assert where.matches(["a"], is_local=True)
    assert not where.matches(["a"], is_local=False)
    assert str(where) == "'a' & isLocal | 'b' & isLocal"


def test_with_id_bears_both_tags_and_id_only_the_second() -> None:
    worker = Tag("worker")
    assert worker.with_id("w1").names == ("worker", "worker:w1")
    assert worker.id("w1").names == ("worker:w1",)
    assert worker.with_id("w1") == worker & worker.id("w1")


def test_an_empty_id_is_refused() -> None:
    for make in (Tag("worker").with_id, Tag("worker").id):
        with pytest.raises(InvalidInput, match="id behind 'worker'"):
            make("")


def test_tags_are_kept_in_normal_form_c() -> None:
    assert Tag("e\u0301").names == ("\u00e9",)
    assert Tags("e\u0301", "\u00e9").names == ("\u00e9",)


def test_quotes_are_doubled_in_the_text_form() -> None:
    assert str(Tag("it's")) == "'it''s'"
    assert str(ALL_EVENTS) == "allEvents"
    assert str((Tag("a") & Tag("b")) | Tag("c")) == "'a' & 'b' | 'c'"


@pytest.mark.parametrize("tag", ["", 1, None, b"a", "\ud800", ["a"], {"a": 1}], ids=ascii)
def test_what_is_no_tag_is_refused(tag: Any) -> None:
    with pytest.raises(InvalidInput):
        normal_tag(tag)
    with pytest.raises(InvalidInput):
        publishable([tag])


@pytest.mark.parametrize("character", ["a", "é", "語", "🐟"])
def test_a_tag_has_at_most_128_bytes_of_utf_8(character: str) -> None:
    size = len(character.encode())
    longest = character * (MAX_TAG_BYTES // size) + "x" * (MAX_TAG_BYTES % size)
    assert len(longest.encode()) == 128
    assert Tag(longest).names == (longest,)
    with pytest.raises(LimitExceeded, match="at most 128 bytes"):
        Tag(longest + "x")


def test_the_normal_form_is_what_is_measured() -> None:
    assert len(Tag("e\u0301" * 64).names[0].encode()) == 128
    with pytest.raises(LimitExceeded):
        Tag("e\u0301" * 64 + "x")


def test_an_event_bears_at_most_32_tags() -> None:
    names = [f"t{number:02}" for number in range(MAX_TAGS + 1)]
    assert publishable(names[:32]) == tuple(names[:32])
    assert publishable([*names[:32], "t00"]) == tuple(names[:32])
    with pytest.raises(LimitExceeded, match="at most 32 tags, not 33"):
        publishable(names)


def test_the_engines_own_tags_are_not_published() -> None:
    assert publishable("shoal") == ("shoal",)
    with pytest.raises(InvalidInput, match="shoal:"):
        publishable("shoal:x")


def test_alternatives_are_not_published() -> None:
    where: Any = Tag("a") | Tag("b")
    with pytest.raises(InvalidInput, match="not a selection of alternatives"):
        publishable(where)


def test_a_selection_has_at_most_4096_alternatives() -> None:
    most = Where(Alternative((f"z{n}",)) for n in range(MAX_ALTERNATIVES))
    assert len(most.alternatives) == MAX_ALTERNATIVES
    with pytest.raises(LimitExceeded, match="not 4097"):
        _ = most | Tag("one more")


def test_a_product_has_at_most_256_alternatives() -> None:
    sixteen = Where(Alternative((f"x{n}",)) for n in range(16))
    others = Where(Alternative((f"y{n}",)) for n in range(16))
    assert len((sixteen & others).alternatives) == MAX_PRODUCT
    with pytest.raises(LimitExceeded, match="at most 256"):
        _ = sixteen & (others | Tag("one more"))


def test_a_selection_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        Tag("a").alternatives = ()
