"""Open work: an add-wins set of work ids, for workflows that come back to where they were.

A work id is the key of the event that opened the work. Whoever closes work names the ids it closes, and exactly those
are closed. That is what keeps a healed partition from ending work that is still going on: a plain two-state machine
("started", "stopped") lets the last stop win over a start it has never heard of, and that start is lost. Here the stop
does not name it, and so it stays open.

The way of a datum. A reducer folds its opening events with `opened(metadata.event_key)`, a closing event carries
`open.texts` in its payload, and the reducer folds that with `closed(payload[...])`.

The set does not depend on the order in which streams arrive, so a fish of work ids may be commutative. An id that is
closed before its opening was seen is remembered (`early`), and the opening, when it comes, is swallowed. Streams arrive
in their own order: once a later opening of the same stream was folded (`seen`), an id before it has been seen or never
was, and is remembered no more. So the memory is one timestamp for each stream, and what is on its way.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lamport.errors import InvalidInput
from lamport.ids import EventKey, StreamId


@dataclass(frozen=True, slots=True)
class WorkIds:
    """The open work, in key order and without doubles; and what makes it independent of the order of arrival."""

    keys: tuple[EventKey, ...] = ()
    early: tuple[EventKey, ...] = ()
    """Closed already, and not seen open yet."""
    seen: tuple[EventKey, ...] = field(default=(), compare=False, repr=False)
    """Of each stream the last opening that was seen. It tells what is early; the same work is equal without it."""

    def __post_init__(self) -> None:
        latest: dict[StreamId, EventKey] = {}
        for key in sorted((*self.seen, *self.keys)):
            latest[key.stream] = key
        early = {key for key in self.early if not _is_seen(key, latest)}
        object.__setattr__(self, "keys", tuple(sorted(set(self.keys))))
        object.__setattr__(self, "early", tuple(sorted(early)))
        object.__setattr__(self, "seen", tuple(sorted(latest.values())))

    def opened(self, key: EventKey) -> "WorkIds":
        """With this work open, unless it was closed already."""
        keys = self.keys if key in self.early else (*self.keys, key)
        return WorkIds(keys, self.early, (*self.seen, key))

    def closed(self, keys: EventKey | str | Iterable[EventKey | str]) -> "WorkIds":
        """Without the work named by these keys or their text forms; what is not open yet is remembered as closed.

        What is no event key names nothing: a payload was written by another program, perhaps an older one, and a
        malformed id in it must not stop the fish of everybody who reads it.
        """
        named = set(_named(keys))
        early = (*self.early, *(key for key in named if key not in self))
        return WorkIds(tuple(key for key in self.keys if key not in named), early, self.seen)

    @property
    def texts(self) -> list[str]:
        """The ids in text form, in key order: what a closing event carries in its payload."""
        return [str(key) for key in self.keys]

    def to_json(self) -> list[str]:
        """The JSON form, the same texts."""
        return self.texts

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, EventKey):
            return False
        place = bisect_left(self.keys, key)
        return place < len(self.keys) and self.keys[place] == key

    def __iter__(self) -> Iterator[EventKey]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)

    def __bool__(self) -> bool:
        return bool(self.keys)


def _is_seen(key: EventKey, latest: Mapping[StreamId, EventKey]) -> bool:
    """Whether an opening has been seen, or will never be."""
    return key.stream in latest and key <= latest[key.stream]


def _named(keys: object) -> Iterator[EventKey]:
    """Every event key among what a payload names; one alone, or several."""
    several = (
        keys if isinstance(keys, Iterable) and not isinstance(keys, EventKey | str) else [keys]
    )
    for key in several:
        if isinstance(key, EventKey):
            yield key
        elif isinstance(key, str):
            yield from _parsed(key)


def _parsed(text: str) -> Iterator[EventKey]:
    try:
        yield EventKey.parse(text)
    except InvalidInput:
        return
