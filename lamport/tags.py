"""Tags, and selections built from them.

A tag is a non-empty string on an event. A selection (`Where`) is what fish and queries ask for: tags joined by `&` and
`|` in any nesting. It is kept in one normal form, a set of alternatives each of which requires a set of tags, so that
equal selections compare equal, print alike and are matched by the same few lines.

    Tag("worker").with_id("w1")             # 'worker' & 'worker:w1': events owned by worker w1
    Tag("worker").id("w1")                  # 'worker:w1': events that mention w1
    (Tag("a") | Tag("b")) & Tag("c")        # any nesting
    Tag("a").local()                        # only events of this node

The same `Tags` value also says which tags an event is published with.
"""

import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from lamport.errors import InvalidInput, LimitExceeded

MAX_TAG_BYTES = 128
"""Longest tag, in bytes of UTF-8."""

MAX_TAGS = 32
"""Most tags on one event."""

MAX_ALTERNATIVES = 4_096
"""Most alternatives of a selection in normal form."""

MAX_PRODUCT = 256
"""Most alternatives that `&` makes out of those on both sides: it multiplies, and a query must stay affordable."""

_KEPT_TAGS = 16_384
"""Tags whose check is remembered: a device uses the same ones again and again."""

RESERVED_PREFIX = "shoal:"
"""Tags that begin so are the engine's own."""


def tag_fault(tag: object, what: str = "a tag") -> str | None:
    """What is wrong with a tag (or with `what` follows the same rules), in words, or None."""
    if not isinstance(tag, str):
        return f"{what} is a string, not {type(tag).__name__}"
    if not tag:
        return f"{what} may not be empty"
    try:
        size = len(tag.encode())
    except UnicodeEncodeError:
        return f"{what} is valid Unicode, which {tag!r} is not"
    if size > MAX_TAG_BYTES:
        return f"{what} has at most {MAX_TAG_BYTES} bytes of UTF-8, {tag[:20]!r}… has {size}"
    if not unicodedata.is_normalized("NFC", tag):
        return f"{what} is in Unicode normal form C, which {tag!r} is not"
    return None


def normal_tag(text: object) -> str:
    """Return a tag in normal form C.

    Raises:
        LimitExceeded: it is too long.
        InvalidInput: it is empty or no valid text.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a tag is a string, not {type(text).__name__}")
    return _normal(text)


@lru_cache(maxsize=_KEPT_TAGS)
def _normal(text: str) -> str:
    tag = unicodedata.normalize("NFC", text)
    fault = tag_fault(tag)
    if fault is not None:
        raise (LimitExceeded if "at most" in fault else InvalidInput)(fault)
    return tag


@dataclass(frozen=True, slots=True, order=True)
class Alternative:
    """One way for an event to match: it bears all these tags, and comes from this node if `local`."""

    tags: tuple[str, ...]
    local: bool = False

    def matches(self, tags: Collection[str], *, is_local: bool) -> bool:
        """Whether an event with these tags matches."""
        return (is_local or not self.local) and all(tag in tags for tag in self.tags)

    def implies(self, other: "Alternative") -> bool:
        """Whether everything that matches this matches the other, too."""
        return (self.local or not other.local) and set(other.tags) <= set(self.tags)

    def joined(self, other: "Alternative") -> "Alternative":
        """What matches both."""
        return Alternative(tuple(sorted({*self.tags, *other.tags})), self.local or other.local)

    def __str__(self) -> str:
        terms = [f"'{tag.replace(chr(39), chr(39) * 2)}'" for tag in self.tags]
        if self.local:
            terms.append("isLocal")
        return " & ".join(terms) or "allEvents"


class Where:
    """A selection: alternatives, each a conjunction of tags. Immutable; equal selections are equal values.

    `str()` gives the text form that queries use, `'a' & 'b' | 'c'`.
    """

    __slots__ = ("alternatives",)

    alternatives: tuple[Alternative, ...]

    def __init__(self, alternatives: Iterable[Alternative]) -> None:
        """Keep the alternatives that no wider one makes superfluous, in a fixed order."""
        distinct = sorted(set(alternatives), key=lambda one: (len(one.tags), one))
        if len(distinct) > MAX_ALTERNATIVES:
            raise LimitExceeded(
                f"a selection has at most {MAX_ALTERNATIVES} alternatives, not {len(distinct)}"
            )
        object.__setattr__(self, "alternatives", tuple(sorted(_widest(distinct))))

    @classmethod
    def union(cls, parts: "Iterable[Where]") -> "Where":
        """What any of these selections selects; cheaper than joining them one by one."""
        return Where(one for part in parts for one in part.alternatives)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a selection is immutable; {name} cannot be set")

    def matches(self, tags: Collection[str], *, is_local: bool) -> bool:
        """Whether an event with these tags is selected."""
        return any(one.matches(tags, is_local=is_local) for one in self.alternatives)

    def local(self) -> "Where":
        """The same selection among this node's own events."""
        return Where(Alternative(one.tags, local=True) for one in self.alternatives)

    def __and__(self, other: "Where") -> "Where":
        if len(self.alternatives) * len(other.alternatives) > MAX_PRODUCT:
            raise LimitExceeded(f"`&` joins at most {MAX_PRODUCT} alternatives with each other")
        return Where(a.joined(b) for a in self.alternatives for b in other.alternatives)

    def __or__(self, other: "Where") -> "Where":
        return Where((*self.alternatives, *other.alternatives))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Where) and self.alternatives == other.alternatives

    def __hash__(self) -> int:
        return hash(self.alternatives)

    def __str__(self) -> str:
        return " | ".join(str(one) for one in self.alternatives)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"


def _widest(alternatives: Iterable[Alternative]) -> Iterable[Alternative]:
    """Those that no other makes superfluous; they come with fewer tags first.

    A wider one requires a subset of the tags, and so its first tag is among them: only those need comparing.
    """
    kept: dict[str, list[Alternative]] = {}
    for one in alternatives:
        wider = (other for tag in ("", *one.tags) for other in kept.get(tag, ()))
        if not any(one.implies(other) for other in wider):
            kept.setdefault(one.tags[0] if one.tags else "", []).append(one)
            yield one


class Tags(Where):
    """A selection of one alternative: all of these tags. Also what an event is published with."""

    __slots__ = ()

    def __init__(self, *names: str) -> None:
        """`Tags()` selects everything.

        Raises:
            InvalidInput: a name is empty or no valid text, or beyond its limit (`LimitExceeded`).
        """
        super().__init__([Alternative(tuple(sorted({normal_tag(name) for name in names})))])

    @property
    def names(self) -> tuple[str, ...]:
        """The tags, sorted."""
        return self.alternatives[0].tags

    def __and__(self, other: Where) -> Where:
        if isinstance(other, Tags):
            return Tags(*self.names, *other.names)
        return super().__and__(other)


class Tag(Tags):
    """One tag, and the tags of single things of its kind: `Tag("worker").with_id("w1")`."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)

    def with_id(self, id_: str) -> Tags:
        """This tag and its form for one thing: what belongs to that thing."""
        return Tags(self.names[0], self._of(id_))

    def id(self, id_: str) -> Tags:
        """Only the form for one thing: what mentions it, whatever else it is about."""
        return Tags(self._of(id_))

    def _of(self, id_: str) -> str:
        if not id_:
            raise InvalidInput(f"the id behind {self.names[0]!r} may not be empty")
        return f"{self.names[0]}:{id_}"


ALL_EVENTS = Tags()
"""The selection of everything."""


def publishable(tags: "Tags | str | Iterable[str]") -> tuple[str, ...]:
    """The tags an event is published with, sorted, in normal form and without doubles.

    Raises:
        InvalidInput: a tag is empty, is no valid text or is the engine's own; there is an `isLocal` among them.
        LimitExceeded: there are more than 32, or one is longer than 128 bytes.
    """
    names = _names(tags)
    if len(names) > MAX_TAGS:
        raise LimitExceeded(f"an event bears at most {MAX_TAGS} tags, not {len(names)}")
    for name in names:
        if name.startswith(RESERVED_PREFIX):
            raise InvalidInput(
                f"tags that begin with {RESERVED_PREFIX!r} are the engine's own: {name!r}"
            )
    return names


def _names(tags: "Tags | str | Iterable[str]") -> tuple[str, ...]:
    if isinstance(tags, Tags):
        return tags.names
    if isinstance(tags, Where):
        raise InvalidInput(f"an event bears tags, not a selection of alternatives: {tags}")
    given = [tags] if isinstance(tags, str) else tags
    return tuple(sorted({normal_tag(tag) for tag in given}))
