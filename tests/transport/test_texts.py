"""Texts that people carry: they come back as they were, or it is said what is wrong."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import InvalidText
from transport.texts import MAX_TEXT, packed, unpacked

ALPHABET = string.ascii_letters + string.digits + "-_"
DATA = st.binary(max_size=200)
TEXT = packed("note", 1, bytes(range(40)))


@given(data=DATA)
def test_what_is_packed_is_unpacked(data: bytes) -> None:
    text = packed("note", 1, data)
    assert unpacked("note", 1, text) == data
    assert set(text) <= set(ALPHABET)


@given(data=DATA, place=st.integers(0), by=st.characters(exclude_categories=["Cs"]))
def test_no_altered_character_goes_unnoticed(data: bytes, place: int, by: str) -> None:
    text = packed("note", 1, data)
    place %= len(text)
    altered = text[:place] + by + text[place + 1 :]
    if altered != text:
        with pytest.raises(InvalidText):
            unpacked("note", 1, altered)


def test_every_single_alteration_is_noticed() -> None:
    for place, character in enumerate(TEXT):
        for by in set(ALPHABET) - {character}:
            with pytest.raises(InvalidText):
                unpacked("note", 1, TEXT[:place] + by + TEXT[place + 1 :])


@given(data=DATA, place=st.integers(0), by=st.text(ALPHABET, min_size=2, max_size=5))
def test_no_altered_run_of_five_characters_goes_unnoticed(data: bytes, place: int, by: str) -> None:
    text = packed("note", 1, data)
    place %= len(text)
    altered = text[:place] + by + text[place + len(by) :]
    if altered != text:
        with pytest.raises(InvalidText):
            unpacked("note", 1, altered)


@given(data=DATA, length=st.integers(0))
def test_no_truncation_goes_unnoticed(data: bytes, length: int) -> None:
    text = packed("note", 1, data)
    with pytest.raises(InvalidText):
        unpacked("note", 1, text[: length % len(text)])


@given(text=st.text() | st.text(ALPHABET).map("shoal-note-1-".__add__))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidText):
        unpacked("note", 1, text)


@given(places=st.lists(st.integers(0, len(TEXT)), max_size=9), space=st.sampled_from(" \n\r\t"))
def test_white_space_does_no_harm(places: list[int], space: str) -> None:
    text = TEXT
    for place in places:
        text = text[:place] + space + text[place:]
    assert unpacked("note", 1, text) == bytes(range(40))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "this is no note: it is empty"),
        (" \n", "this is no note: it is empty"),
        ("milk and eggs", "this is no note: it begins 'milkandeggs', not `shoal-note-1-`"),
        (packed("bill", 1, b""), "this is no note but a text that calls itself 'bill'"),
        (packed("note", 2, b""), "this note has version 2, and this Shoal reads version 1"),
        (TEXT[:-1], "is truncated, or was altered on its way: .* there are 61 characters, not 62"),
        (TEXT[:14], "is truncated: copy all"),
        (TEXT[:13], "is truncated: copy all"),
        (TEXT + "A", "is followed by something else"),
        (TEXT[:20] + "ä" + TEXT[21:], "'ä', its character 21, cannot be in it"),
        (TEXT[:20] + "~" + TEXT[21:], "'~', its character 21, cannot be in it"),
        (TEXT[:20] + "-" + TEXT[21:], "the note was altered on its way: copy all of it again"),
        ("a" * (MAX_TEXT + 1), "longer than 4096 characters"),
    ],
)
def test_what_is_wrong_with_a_text_is_said(text: str, why: str) -> None:
    with pytest.raises(InvalidText, match=why):
        unpacked("note", 1, text)


def test_the_check_covers_what_the_text_says_it_is() -> None:
    data = bytes(range(40))
    for kind, version in (("note", 2), ("bill", 1)):
        body = packed(kind, version, data).removeprefix(f"shoal-{kind}-{version}-")
        with pytest.raises(InvalidText, match="was altered"):
            unpacked("note", 1, f"shoal-note-1-{body}")


def test_a_text_has_one_form() -> None:
    text = packed("note", 1, b"")
    assert re.fullmatch(r"shoal-note-1-.{8}", text)
    stray = packed("note", 1, b"12")  # its last character has stray bits
    last = ALPHABET_IN_ORDER[ALPHABET_IN_ORDER.index(stray[-1]) + 1]
    with pytest.raises(InvalidText, match="was altered"):
        unpacked("note", 1, stray[:-1] + last)


ALPHABET_IN_ORDER = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
