"""Whom an event concerns: an index of selections by tag, so that nobody is asked who has not named one of its tags.

Each alternative of a selection stands under one of its tags, the one that the fewest others stand under: of `worker`
and `worker:w1` that is the second, and an event of one worker is not shown to the fish of ten thousand others. What
selects everything stands apart.
"""

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from lamport.tags import Alternative, Where

_Member = TypeVar("_Member")

_Bucket = dict[_Member, tuple[Alternative, ...]]


class Dispatch(Generic[_Member]):
    """Members and what they select. Members are hashable; those concerned come in the order of the index."""

    __slots__ = ("_by_tag", "_places", "_untagged")

    def __init__(self) -> None:
        self._by_tag: dict[str, _Bucket[_Member]] = {}
        self._untagged: _Bucket[_Member] = {}
        self._places: dict[_Member, tuple[str | None, ...]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[_Member]:
        return iter(self._places)

    def add(self, member: _Member, where: Where) -> None:
        """Let a member hear of what this selects."""
        places = tuple(self._rarest(one) for one in where.alternatives)
        self._places[member] = places
        for place, alternative in zip(places, where.alternatives, strict=True):
            bucket = self._untagged if place is None else self._by_tag.setdefault(place, {})
            bucket[member] = (*bucket.get(member, ()), alternative)

    def remove(self, member: _Member) -> None:
        """Let it hear no more; nothing where it is not here."""
        for place in self._places.pop(member, ()):
            bucket = self._untagged if place is None else self._by_tag.get(place, {})
            bucket.pop(member, None)
            if place is not None and not bucket:
                self._by_tag.pop(place, None)

    def concerned(self, tags: Collection[str], *, is_local: bool) -> Iterator[_Member]:
        """The members that an event with these tags concerns, each once."""
        seen: dict[_Member, None] = {}
        for bucket in (self._untagged, *(self._by_tag[tag] for tag in tags if tag in self._by_tag)):
            for member, alternatives in bucket.items():
                if member not in seen and any(
                    one.matches(tags, is_local=is_local) for one in alternatives
                ):
                    seen[member] = None
                    yield member

    def _rarest(self, alternative: Alternative) -> str | None:
        """The tag with the fewest others under it; of equals the longest, which says most."""
        return min(
            alternative.tags,
            key=lambda tag: (len(self._by_tag.get(tag, ())), -len(tag), tag),
            default=None,
        )
