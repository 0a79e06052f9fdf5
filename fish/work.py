"""Open work: an add-wins set of work ids, for workflows that come back to where they were.

A work id is the key of the event that opened the work. Whoever closes work names the ids it closes, and exactly those
are closed. That is what keeps a healed partition from ending work that is still going on: a plain two-state machine
("started", "stopped") lets the last stop win over a start it has never heard of, and that start is lost. Here the stop
does not name it, and so it stays open.

The way of a datum. A reducer folds its opening events with `opened(metadata.event_key)`, a closing event carries
`open.texts` in its payload, and the reducer folds that with `closed(payload[...])`.

Folded in key order the set needs no tombstones. Who names an id has seen the event behind it, and an author's clock is
above everything it has seen; so a closing never sorts before the opening it names. An opening that arrives late is put
in its place by time travel, and the closings behind it are folded again.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lamport.errors import InvalidInput
from lamport.ids import EventKey


@dataclass(frozen=True, slots=True)
class WorkIds:
    """The open work, in key order and without doubles."""

    keys: tuple[EventKey, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", tuple(sorted(set(self.keys))))

    def opened(self, key: EventKey) -> "WorkIds":
        """With this work open."""
        return WorkIds((*self.keys, key))

    def closed(self, keys: EventKey | str | Iterable[EventKey | str]) -> "WorkIds":
        """Without the work named by these keys or their text forms; what is not open is passed over.

        What is no event key names nothing: a payload was written by another program, perhaps an older one, and a
        malformed id in it must not stop the fish of everybody who reads it.
        """
        named = set(_named(keys))
        return WorkIds(tuple(key for key in self.keys if key not in named))

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
