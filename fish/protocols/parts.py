"""When a role's commands are offered: in the state that has them, and only while they make sense.

A `Part` is shown where its role is by now, and answers. Nothing is offered before all known events are folded in, in
the middle of a chain, or between a command and the return of its events: what is decided then is decided on a state
that is known to be over.

The rules are those of `@actyx/machine-runner`, whose faults are not copied: there, a subscription that failed is never
started again, and a command whose events come back but are dropped locks the role for good.
"""

from dataclasses import dataclass, field
from typing import Any

from fish.protocols.errors import CommandRefused
from fish.protocols.roles import Place, Role

_WHY = {
    "not-caught-up": "the node has not read up to its end what it knows to be there",
    "destroyed": "a reaction has raised",
    "expired": "the log of a command has arrived in part",
    "locked": "another command is under way",
}


@dataclass(slots=True)
class Part:
    """One participant of a protocol."""

    role: Role
    is_ended: bool = False
    """Whether a reaction has raised: set by who folds."""
    _place: Place = field(init=False)
    _told: tuple[str, Any] | None = None
    _is_caught_up: bool = False
    _is_shown: bool = False
    _is_locked: bool = False

    def __post_init__(self) -> None:
        self._place = self.role.start

    def see(self, place: Place, *, caught_up: bool) -> bool:
        """Take note of a place; returns whether this shows another state or payload than was shown last.

        `caught_up` says that all known events are in it.
        """
        if place.steps != self._place.steps:
            self._is_locked = False
        if place.steps < self._place.steps:  # time travel: what was shown is no longer true
            self._is_shown = False
        self._place, self._is_caught_up = place, caught_up
        self._is_shown = self._is_shown or caught_up
        if not caught_up or self.snapshot == self._told:
            return False
        self._told = self.snapshot
        return True

    def unlock(self) -> None:
        """The last command is over: its events have come back, to whatever effect, or could not be published."""
        self._is_locked = False

    @property
    def snapshot(self) -> tuple[str, Any] | None:
        """State and payload; None before all known events were folded in once, and during time travel."""
        return (self._place.state, self._place.payload) if self._is_shown else None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands offered now, in the order of the definition."""
        if self.why_not() is not None:
            return ()
        return tuple(name for name, _ in self._here)

    def why_not(self) -> str | None:
        """Why no command is offered: not-caught-up, destroyed, expired or locked; None where they are."""
        if not self._is_caught_up:
            return "not-caught-up"
        if self.is_ended:
            return "destroyed"
        if self._place.begun:
            return "expired"
        return "locked" if self._is_locked else None

    def command(self, name: str) -> tuple[str, ...]:
        """Give a command; returns the types of the events to publish. Until they return there is no other one.

        Raises:
            CommandRefused: it is not offered now; the text says why.
        """
        reason = self.why_not()
        if reason is not None:
            raise CommandRefused(f"{name} is not offered now: {_WHY[reason]} [{reason}]")
        types = dict(self._here).get(name)
        if types is None:
            others = " and ".join(self.commands)
            offered = f"{others} {'are' if ' and ' in others else 'is'}" if others else "nothing is"
            raise CommandRefused(
                f"{name} is not offered in state {self._place.state}, where {offered}"
            )
        self._is_locked = True
        return types

    @property
    def _here(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return self.role.by_name[self._place.state].commands
