"""Whom an event concerns: an index of selections by tag, so that nobody is asked who has not named one of its tags.

Each alternative of a selection stands under one of its tags, the one that the fewest others stand under: of `worker`
and `worker:w1` that is the second, and an event of one worker is not shown to the fish of ten thousand others. What
selects everything stands apart.
"""

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

from lamport.tags import Alternative, Where

_Member = TypeVar("_Member")

_Entry = tuple[_Member, tuple[Alternative, ...]]
"""A member, and those of its alternatives that stand under one tag."""


class Dispatch(Generic[_Member]):
    """Members and what they select. Members are hashable; those concerned come in the order of the index.

    Under most tags stands one member, and there are many of them: an entry is a tuple, and what is in it is shared.
    """

    __slots__ = ("_by_tag", "_places", "_untagged")

    def __init__(self) -> None:
        self._by_tag: dict[str, _Entry[_Member] | dict[_Member, _Entry[_Member]]] = {}
        self._untagged: dict[_Member, _Entry[_Member]] = {}
        self._places: dict[_Member, str | tuple[str | None, ...]] = {}
        """The tags that a member stands under, None for those of everything; one tag as it is."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[_Member]:
        return iter(self._places)

    def add(self, member: _Member, where: Where) -> None:
        """Let a member hear of what this selects."""
        every = where.alternatives
        places = tuple(self._rarest(one) for one in every)
        first = places[0] if len(places) == 1 else None
        self._places[member] = places if first is None else first
        for place in dict.fromkeys(places):
            here = tuple(one for one, its in zip(every, places, strict=True) if its == place)
            self._put(place, (member, every if len(here) == len(every) else here))

    def remove(self, member: _Member) -> None:
        """Let it hear no more; nothing where it is not here."""
        places = self._places.pop(member, ())
        for place in dict.fromkeys((places,) if isinstance(places, str) else places):
            bucket = self._untagged if place is None else self._by_tag[place]
            if isinstance(bucket, dict):
                del bucket[member]
            if place is not None and not (isinstance(bucket, dict) and bucket):
                del self._by_tag[place]

    def concerned(self, tags: Collection[str], *, is_local: bool) -> Iterator[_Member]:
        """The members that an event with these tags concerns, each once."""
        seen: dict[_Member, None] = {}
        for member, alternatives in self._candidates(tags):
            if member not in seen and any(
                one.matches(tags, is_local=is_local) for one in alternatives
            ):
                seen[member] = None
                yield member

    def _candidates(self, tags: Collection[str]) -> Iterator[_Entry[_Member]]:
        yield from self._untagged.values()
        for tag in tags:
            bucket = self._by_tag.get(tag)
            if isinstance(bucket, dict):
                yield from bucket.values()
            elif bucket is not None:
                yield bucket

    def _put(self, place: str | None, entry: _Entry[_Member]) -> None:
        bucket = self._untagged if place is None else self._by_tag.get(place)
        if isinstance(bucket, dict):
            bucket[entry[0]] = entry
        elif place is not None:
            self._by_tag[place] = entry if bucket is None else {bucket[0]: bucket, entry[0]: entry}

    def _rarest(self, alternative: Alternative) -> str | None:
        """The tag with the fewest others under it; of equals the longest, which says most."""
        return min(
            alternative.tags,
            key=lambda tag: (self._count(tag), -len(tag), tag),
            default=None,
        )

    def _count(self, tag: str) -> int:
        bucket = self._by_tag.get(tag, {})
        return len(bucket) if isinstance(bucket, dict) else 1
