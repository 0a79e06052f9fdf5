"""Upcasters: events of older versions as today's readers expect them. The stored bytes never change.

An event's type is a tag, its version the integer that a payload's map has under a key (`version`), 1 where there is
none.
An `Upcaster` turns a payload of one version of a type into the next version:

    Upcasters(
        Upcaster("order", 1, lambda order: {**order, "currency": "EUR"}),
        Upcaster("order", 2, split_name),
    )

The way of a datum. `upcast` takes an event at the very moment it is handed to a reducer, a subscriber or whoever asked
for it, runs the upcasters of its type one after the other, and gives back the event with the new payload and version.
Bytes for peers, archives and the chain never come by here. An upcaster is a pure function of the payload; it is given a
copy of its own, so that one that changes what it is given spoils nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lamport.errors import InvalidInput, UpcastFailed
from lamport.event import Event
from lamport.tags import normal_tag

MAX_VERSIONS = 1_000
"""Upcasters of one type; an event runs through all of them at worst."""

VERSION_KEY = "version"
"""Where a payload's version stands, unless a registry says otherwise."""

FIRST_VERSION = 1
"""The version of a payload that names none."""

Change = Callable[[Any], Any]
"""The next version's payload from a payload."""


@dataclass(frozen=True, slots=True)
class Upcaster:
    """Turns payloads of one version of a type (a tag) into the next version.

    Raises:
        InvalidInput: the tag is none, the version is no integer from 1 on, or the change is no function.
    """

    tag: str
    version: int
    change: Change

    def __post_init__(self) -> None:
        object.__setattr__(self, "tag", normal_tag(self.tag))
        if type(self.version) is not int or self.version < FIRST_VERSION:
            raise InvalidInput(
                f"the version of an upcaster is an integer from {FIRST_VERSION} on, not {self.version!r}"
            )
        if not callable(self.change):
            raise InvalidInput(f"{self}: what changes a payload is a function")

    def __str__(self) -> str:
        return f"the upcaster of {self.tag!r} from version {self.version}"


class Upcasters:
    """The upcasters of a node. Frozen once made."""

    __slots__ = ("_chains", "_key")

    def __init__(self, *upcasters: Upcaster, version_key: str = VERSION_KEY) -> None:
        """Raise `InvalidInput` where a version of a type has two upcasters or, between two that have one, none."""
        if not version_key:
            raise InvalidInput("the key of a payload's version is a non-empty text")
        self._key = version_key
        self._chains: Mapping[str, Mapping[int, Upcaster]] = _chains(upcasters)

    def __bool__(self) -> bool:
        return bool(self._chains)

    def __iter__(self) -> Iterator[Upcaster]:
        for tag in sorted(self._chains):
            yield from (one for _, one in sorted(self._chains[tag].items()))

    @property
    def version_key(self) -> str:
        """Where a payload's version stands."""
        return self._key

    def upcast(self, event: Event) -> Event:
        """The event in the newest version of its type; the very same one where it is that already.

        Raises:
            UpcastFailed: an upcaster raised, or the event has several types.
        """
        types = [tag for tag in event.tags if tag in self._chains]
        if not types:
            return event
        if len(types) > 1:
            raise UpcastFailed(
                event.key,
                f"it bears the types {' and '.join(map(repr, types))}, each of which has upcasters:"
                " register them for one of these tags only",
            )
        return self._run(event, self._chains[types[0]])

    def _run(self, event: Event, chain: Mapping[int, Upcaster]) -> Event:
        version = first = self._version(event.payload)
        payload = _copied(event.payload) if version in chain else event.payload
        while version is not None and version in chain:
            payload = _changed(event, chain[version], payload)
            version += 1
        if version == first:
            return event
        if isinstance(payload, dict):
            payload = {**payload, self._key: version}
        return event._replace(payload=payload)

    def _version(self, payload: Any) -> int | None:
        """A payload's version; None where what stands in its place is no version."""
        if not isinstance(payload, dict):
            return FIRST_VERSION
        version = payload.get(self._key, FIRST_VERSION)
        return version if type(version) is int else None


def _chains(upcasters: Iterable[Upcaster]) -> Mapping[str, Mapping[int, Upcaster]]:
    chains: dict[str, dict[int, Upcaster]] = {}
    for one in upcasters:
        chain = chains.setdefault(one.tag, {})
        if one.version in chain:
            raise InvalidInput(f"{one} is registered twice: leave one of them out")
        chain[one.version] = one
    for tag, chain in chains.items():
        if len(chain) > MAX_VERSIONS:
            raise InvalidInput(f"a type has at most {MAX_VERSIONS} upcasters, {tag!r} has more")
        missing = sorted(set(range(min(chain), max(chain))) - set(chain))
        if missing:
            raise InvalidInput(
                f"{tag!r} has upcasters from versions {min(chain)} to {max(chain)}, but none from"
                f" {missing[0]}: an event of that version would stay as it is; register it"
            )
    return chains


def _changed(event: Event, upcaster: Upcaster, payload: Any) -> Any:
    try:
        return upcaster.change(payload)
    except Exception as error:
        raise UpcastFailed(
            event.key,
            f"{upcaster} raised {type(error).__name__}: {error};"
            " mend it where it is registered and start again, or retract the event",
        ) from error


def _copied(payload: Any) -> Any:
    """A copy that shares nothing changeable with the payload; what a payload can be nested has a limit."""
    if isinstance(payload, dict):
        return {key: _copied(value) for key, value in payload.items()}
    if isinstance(payload, list):
        return [_copied(value) for value in payload]
    return payload


NO_UPCASTERS = Upcasters()
"""What a node has that registers none."""
