"""Queries in text: `FROM 'tag' & 'other' | 'third'`.

The language is the selecting part of AQL: quoted tags (a quote inside is doubled), `&` before `|`, parentheses,
`allEvents`, `isLocal`, and `--` comments. Keywords are case-sensitive. A text becomes a `Where`, or an `InvalidQuery`
that shows the place.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import NoReturn

from lamport.errors import InvalidInput, InvalidQuery
from lamport.tags import ALL_EVENTS, Tags, Where

MAX_QUERY_CHARACTERS = 16_384
"""Longest query text."""

MAX_NESTING = 64
"""Deepest nesting of parentheses."""

_TOKEN = re.compile(
    r"""(?:\s|--[^\n]*(?:\n|$))*
        (?P<token> '(?:[^']|'')*' | "(?:[^"]|"")*" | [&|()] | [A-Za-z]+ | $ | . )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int


def parse_query(text: str) -> Where:
    """Read a query.

    Raises:
        InvalidQuery: it does not parse; the text says what was expected where.
    """
    if len(text) > MAX_QUERY_CHARACTERS:
        raise InvalidQuery(
            f"a query has at most {MAX_QUERY_CHARACTERS} characters, not {len(text)}"
        )
    parser = _Parser(text)
    parser.take("FROM", "FROM at its beginning")
    where = parser.alternatives(depth=0)
    parser.take("", "'&', '|' or the end of the query")
    return where


class _Parser:
    """Recursive descent over the tokens of one query."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._token = self._read(0)

    def alternatives(self, depth: int) -> Where:
        parts = [self._requirements(depth)]
        while self._token.text == "|":
            self._advance()
            parts.append(self._requirements(depth))
        return self._checked(Where.union, parts)

    def take(self, expected: str, wording: str) -> None:
        """Step over one token, which must be this one."""
        if self._token.text != expected:
            self._fail(wording)
        if expected:
            self._advance()

    def _requirements(self, depth: int) -> Where:
        parts = [self._atom(depth)]
        while self._token.text == "&":
            self._advance()
            parts.append(self._atom(depth))
        return self._checked(_intersection, parts)

    def _atom(self, depth: int) -> Where:
        text = self._token.text
        if text == "(":
            return self._group(depth + 1)
        if text[:1] in {"'", '"'} and len(text) > 1:
            return self._tag()
        if text not in {"allEvents", "isLocal"}:
            self._fail("a quoted tag, '(', allEvents or isLocal")
        self._advance()
        return ALL_EVENTS if text == "allEvents" else ALL_EVENTS.local()

    def _group(self, depth: int) -> Where:
        if depth > MAX_NESTING:
            self._refuse(f"at most {MAX_NESTING} nested parentheses are read")
        self._advance()
        where = self.alternatives(depth)
        self.take(")", "')'")
        return where

    def _tag(self) -> Where:
        quote, inner = self._token.text[0], self._token.text[1:-1]
        try:
            tag = Tags(inner.replace(quote * 2, quote))
        except InvalidInput as fault:
            self._refuse(str(fault))
        self._advance()
        return tag

    def _checked(self, join: Callable[[list[Where]], Where], parts: list[Where]) -> Where:
        try:
            return join(parts)
        except InvalidInput as fault:
            self._refuse(str(fault))

    def _advance(self) -> None:
        self._token = self._read(self._token.start + len(self._token.text))

    def _read(self, start: int) -> _Token:
        match = _TOKEN.match(self._text, start)
        assert match is not None, "the last two branches of the pattern match anything"
        return _Token(match["token"], match.start("token"))

    def _fail(self, wording: str) -> NoReturn:
        found = repr(self._token.text) if self._token.text else "the end"
        self._refuse(f"expected {wording}, found {found}")

    def _refuse(self, why: str) -> NoReturn:
        raise InvalidQuery(f"query, character {self._token.start + 1}: {why}")


def _intersection(parts: list[Where]) -> Where:
    """What all of these select; plain tags are joined in one go, for there may be thousands."""
    tags = Tags(*(name for part in parts if isinstance(part, Tags) for name in part.names))
    others = [part for part in parts if not isinstance(part, Tags)]
    return reduce(and_, others, tags) if others else tags
