"""Who lives in a pond, and who has to go where too many are of no use to anybody.

Whoever is asked for goes to the end of the row, so that those whom nobody asked for stand at its beginning. Of those
that are idle so many stay (`Limits.idle_fish`), however many others are watched. Who is idle is found out by a look at
each; that is done again only when a share more of them live here than the last time, or a share more than may stay have
fallen idle (`fell_idle`). Among ten thousand watched fish a new one thus costs a few looks, and not ten thousand.
"""

from typing import Generic, Protocol, TypeVar

from fish.time_slice import TimeSlice

SHARE = 8
"""Everybody is looked at again when one in so many more live here: about so many looks for each that comes."""

Key = tuple[str, int]
"""A fish's name and version."""


class Guest(Protocol):
    """Someone who lives here."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody has any use for it now."""
        ...


_Guest = TypeVar("_Guest", bound=Guest)


class Residents(Generic[_Guest]):
    """Guests by their keys; those come first who were not asked for the longest."""

    __slots__ = ("_by_key", "_enough", "_idle", "_resting")

    def __init__(self, idle: int) -> None:
        """Of those that are idle about so many may stay."""
        self._idle = idle
        self._enough = idle
        self._by_key: dict[Key, _Guest] = {}
        self._resting: dict[Key, None] = {}
        """Who fell idle, and was not asked for since."""

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def all(self) -> dict[Key, _Guest]:
        """All of them. Not to be changed."""
        return self._by_key

    @property
    def is_crowded(self) -> bool:
        """Whether it is time to see who may go."""
        many = self._idle + max(1, len(self._by_key) // SHARE)
        return len(self._by_key) > self._enough or len(self._resting) > many

    def asked_for(self, key: Key) -> _Guest | None:
        """The one with this key; it is now the last to go."""
        self._resting.pop(key, None)
        known = self._by_key.pop(key, None)
        if known is not None:
            self._by_key[key] = known
        return known

    def move_in(self, key: Key, guest: _Guest) -> None:
        """One more lives here."""
        self._by_key[key] = guest

    def fell_idle(self, key: Key) -> None:
        """Nobody has any use for this one now."""
        if key in self._by_key:
            self._resting[key] = None

    def move_out(self, key: Key, guest: _Guest) -> bool:
        """Let one go, if it still lives here, is of no use, and too many of those are left; returns whether it went."""
        is_resting = key in self._resting and len(self._resting) > self._idle
        goes = is_resting and guest.is_idle and self._by_key.get(key) is guest
        if goes:
            del self._by_key[key], self._resting[key]
        return goes

    async def surplus(self) -> list[tuple[Key, _Guest]]:
        """Those who may go, now that everybody was looked at; others had their turns meanwhile."""
        idle, time_slice = list[tuple[Key, _Guest]](), TimeSlice()
        for key, guest in tuple(self._by_key.items()):
            if guest.is_idle:
                idle.append((key, guest))
                self.fell_idle(key)
            else:
                self._resting.pop(key, None)
            await time_slice.give_way()
        staying = self._idle + len(self._by_key) - len(idle)
        self._enough = staying + staying // SHARE
        return idle[: max(0, len(idle) - self._idle)]
