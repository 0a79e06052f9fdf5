"""Queries: what they mean, and that a text which means nothing is refused with its place."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamport.errors import InvalidQuery
from lamport.query import MAX_NESTING, MAX_QUERY_CHARACTERS, parse_query
from lamport.tags import ALL_EVENTS, Alternative, Tag, Tags, Where

A, B, C = Tag("a"), Tag("b"), Tag("c")
PLACE = re.compile(r"character (\d+)")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("FROM 'a'", A),
        ('FROM "a"', A),
        ("FROM 'a' & 'b' | 'c'", (A & B) | C),
        ("FROM 'a' | 'b' & 'c'", A | (B & C)),
        ("FROM ('a' | 'b') & 'c'", (A & C) | (B & C)),
        ("FROM'a'&'b'", Tags("a", "b")),
        ("  FROM\n\t'a'  \n", A),
        ("FROM allEvents", ALL_EVENTS),
        ("FROM allEvents & 'a'", A),
        ("FROM isLocal", ALL_EVENTS.local()),
        ("FROM isLocal & ('a' | 'b')", (A | B).local()),
        ("FROM 'it''s'", Tag("it's")),
        ("FROM 'say \"hi\"'", Tag('say "hi"')),
        ('FROM "say ""hi"""', Tag('say "hi"')),
        ("FROM ''''", Tag("'")),
        ("FROM 'a' -- 'b'", A),
        ("-- first\nFROM -- second\n'a' -- third\n& 'b'", Tags("a", "b")),
        ("FROM 'a -- b'", Tag("a -- b")),
        ("FROM 'two\nlines'", Tag("two\nlines")),
        ("FROM 'e\u0301'", Tag("\u00e9")),
        (f"FROM {'(' * MAX_NESTING}'a'{')' * MAX_NESTING}", A),
    ],
)
def test_a_query_selects_what_it_says(text: str, where: Where) -> None:
    assert parse_query(text) == where


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 1),
        ("   ", 4),
        ("'a'", 1),
        ("from 'a'", 1),
        ("FROMM 'a'", 1),
        ("FROM", 5),
        ("FROM -- 'a'", 12),
        ("FROM a", 6),
        ("FROM allevents", 6),
        ("FROM allEvents2", 15),
        ("FROM ''", 6),
        ("FROM 'a", 6),
        ("FROM 'a''", 9),
        ('FROM "a', 6),
        ("FROM 'a' 'b'", 10),
        ("FROM 'a' &", 11),
        ("FROM 'a' & | 'b'", 12),
        ("FROM & 'a'", 6),
        ("FROM ('a'", 10),
        ("FROM 'a')", 9),
        ("FROM ()", 7),
        ("FROM 'a' && 'b'", 11),
        ("FROM 'a' - 'b'", 10),
        ("FROM 'a';", 9),
        ("FROM 'a' FILTER 1", 10),
        (f"FROM '{'x' * 129}'", 6),
        ("FROM 'a' & '\ud800'", 12),
        (f"FROM {'(' * (MAX_NESTING + 1)}'a'{')' * (MAX_NESTING + 1)}", 6 + MAX_NESTING),
    ],
)
def test_a_malformed_query_is_refused_with_its_place(text: str, place: int) -> None:
    with pytest.raises(InvalidQuery, match=rf"character {place}\b"):
        parse_query(text)


def test_too_many_alternatives_are_refused_with_their_place() -> None:
    product = " & ".join(f"('x{n}' | 'y{n}')" for n in range(9))
    wide = " | ".join(f"'z{n}'" for n in range(9))
    with pytest.raises(InvalidQuery, match=r"character \d+: .*at most 256 alternatives"):
        parse_query(f"FROM {product} & ({wide})")


def test_the_work_of_a_long_query_is_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0
    implies = Alternative.implies

    def counting(self: Alternative, other: Alternative) -> bool:
        nonlocal compared
        compared += 1
        return implies(self, other)

    monkeypatch.setattr(Alternative, "implies", counting)
    names = [f"t{number}" for number in range(120)]
    where = parse_query("FROM " + " | ".join(f"'{name}'" for name in names))
    assert len(where.alternatives) == len(names)
    assert compared <= len(names) ** 2


def test_a_query_beyond_its_longest_is_refused() -> None:
    longest = "FROM 'a'".ljust(MAX_QUERY_CHARACTERS)
    assert parse_query(longest) == A
    with pytest.raises(InvalidQuery, match="at most 16384 characters"):
        parse_query(longest + " ")


PIECES = ("FROM", " ", "'a'", '"b"', "'", '"', *"&|()", "allEvents", "isLocal", "--", "\n")
TEXTS = st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@given(TEXTS, st.booleans())
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str, begun: bool) -> None:  # noqa: FBT001 - drawn
    text = f"FROM {text}" if begun else text
    try:
        where = parse_query(text)
    except InvalidQuery as refused:
        place = PLACE.search(str(refused))
        assert place is not None
        assert 1 <= int(place[1]) <= len(text) + 1
    else:
        assert parse_query(f"FROM {where}") == where
