"""A role's part in a swarm protocol: reactions to events, and commands that are offered when they make sense.

A `Part` folds the events of a protocol for one participant. In each state a reaction waits for a chain of event types;
what does not come next in it is dropped, and the chain goes on waiting. Commands are offered only when all known
events are folded in, no chain is half done, and the command given last has come back through the log and moved the
part. Time travel begins again from the initial state. A reaction that raises ends the part.

The rules are those of `@actyx/machine-runner`. One of its faults is not copied: there, a subscription that failed is
never started again.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fish.machines.errors import InvalidMachine, MachineError

React = Callable[[Any, tuple[Any, ...]], Any]
"""The next state's payload from this state's and the events of the chain."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """From a state, a chain of event types leads to the next state."""

    types: tuple[str, ...]
    target: str
    react: React = lambda payload, _: payload


@dataclass(frozen=True, slots=True)
class RoleState:
    """A state of a role: what it may command (name, event types), and what it reacts to."""

    name: str
    commands: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reactions: tuple[Reaction, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """A role's machine.

    Raises:
        InvalidMachine: a state is missing, or two reactions of one begin with the same event.
    """

    initial: str
    states: tuple[RoleState, ...]
    payload: Any = None

    def __post_init__(self) -> None:
        names = {state.name for state in self.states}
        for state in self.states:
            _check_state(state, names)
        if self.initial not in names:
            raise InvalidMachine("unknown-target", "role", f"there is no state {self.initial!r}")

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The event types that this role must hear, in the order of the definition."""
        types = (type_ for state in self.states for one in state.reactions for type_ in one.types)
        return tuple(dict.fromkeys(types))

    def to_json(self) -> dict[str, Any]:
        """The machine in the form that protocol checkers read."""
        commands = [
            _label(state.name, state.name, {"tag": "Execute", "cmd": name, "logType": list(types)})
            for state in self.states
            for name, types in state.commands
        ]
        inputs = [
            one
            for state in self.states
            for chain in state.reactions
            for one in _chain(state, chain)
        ]
        return {
            "initial": self.initial,
            "subscriptions": list(self.subscriptions),
            "transitions": [*commands, *inputs],
        }


class CommandRefused(MachineError):
    """A command is not offered now; the text says why."""


@dataclass(slots=True)
class Part:
    """One participant's run of a role. Feed it the protocol's events in key order; each is (type, event)."""

    role: Role
    notices: list[str] = field(default_factory=list)
    """What happened, oldest first, in the words of machine-runner's events: `change`, `next`, `audit.dropped`, ..."""
    dropped: list[Any] = field(default_factory=list)
    error: Exception | None = None
    _state: str = ""
    _payload: Any = None
    _queue: list[tuple[str, Any]] = field(default_factory=list)
    _told: tuple[str, Any] | None = None
    _is_caught_up: bool = False
    _is_shown: bool = False
    _is_locked: bool = False

    def __post_init__(self) -> None:
        self._reset()

    @property
    def snapshot(self) -> tuple[str, Any] | None:
        """State and payload; None before all known events were folded in once, and during time travel."""
        return (self._state, self._payload) if self._is_shown else None

    @property
    def is_destroyed(self) -> bool:
        """Whether a reaction has raised."""
        return self.error is not None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands offered now."""
        if self.why_not() is not None:
            return ()
        return tuple(name for name, _ in self._here().commands)

    @property
    def is_open(self) -> bool:
        """Whether commands would be offered now, if the state has any."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """Why no command is offered: not-caught-up, destroyed, expired or locked; None where they are."""
        if not self._is_caught_up:
            return "not-caught-up"
        if self.is_destroyed:
            return "destroyed"
        if self._queue:
            return "expired"
        return "locked" if self._is_locked else None

    def feed(self, events: Iterable[tuple[str, Any]], *, caught_up: bool = True) -> None:
        """Fold events; `caught_up` says that these are all there are."""
        if self.is_destroyed:
            return
        if not all(self._take(type_, event) for type_, event in events):
            return
        self._is_caught_up = caught_up
        if caught_up:
            self._is_shown = True
            self._tell()

    def time_travel(self) -> None:
        """An earlier event arrived: forget everything; all events are fed again."""
        if not self.is_destroyed:
            self._reset()
            self.notices.append("audit.reset")

    def command(self, name: str) -> tuple[str, ...]:
        """Give a command; returns the types of the events to publish.

        Commands stay locked until a reaction, or until `failed` says that publishing failed.

        Raises:
            CommandRefused: it is not offered now.
        """
        reason = self.why_not()
        if reason is not None:
            raise CommandRefused(f"the command {name!r} is not offered now: {reason}")
        types = dict(self._here().commands).get(name)
        if types is None:
            raise CommandRefused(f"the state {self._state!r} has no command {name!r}")
        self._is_locked = True
        self.notices += ["change", "commandPersisted"]
        return types

    def failed(self) -> None:
        """The events of a command could not be published: offer commands again."""
        self._is_locked = False

    def _reset(self) -> None:
        self._state, self._payload = self.role.initial, self.role.payload
        self._queue, self._is_locked = [], False
        self._is_caught_up = self._is_shown = False

    def _here(self) -> RoleState:
        return next(one for one in self.role.states if one.name == self._state)

    def _take(self, type_: str, event: Any) -> bool:
        """Fold one event; returns whether this part lives on."""
        place = len(self._queue)
        begun = tuple(one for one, _ in self._queue)
        for reaction in self._here().reactions:
            if reaction.types[:place] == begun and reaction.types[place] == type_:
                self._queue.append((type_, event))
                return len(self._queue) < len(reaction.types) or self._react(reaction)
        self.dropped.append(event)
        self.notices.append("audit.dropped")
        return True

    def _react(self, reaction: Reaction) -> bool:
        try:
            payload = reaction.react(self._payload, tuple(event for _, event in self._queue))
        except Exception as error:  # noqa: BLE001 - it is the user's: whatever it raises ends this part
            self.error = error
            self.notices += ["failure", "error", "destroyed"]
            return False
        self._state, self._payload = reaction.target, payload
        self._queue, self._is_locked = [], False
        return True

    def _tell(self) -> None:
        self.notices.append("change")
        if (self._state, self._payload) != self._told:
            self._told = (self._state, self._payload)
            self.notices.append("next")


def _check_state(state: RoleState, names: set[str]) -> None:
    place = f"role state {state.name!r}"
    firsts = [one.types[0] for one in state.reactions if one.types]
    if len(firsts) < len(state.reactions) or len(set(firsts)) < len(firsts):
        raise InvalidMachine(
            "two-reactions", place, "each reaction begins with an event of its own"
        )
    for one in state.reactions:
        if one.target not in names:
            raise InvalidMachine("unknown-target", place, f"there is no state {one.target!r}")
    for name, types in state.commands:
        if name.startswith("_") or not types:
            raise InvalidMachine("bad-command", place, f"{name!r}: a name without _, and events")


def _chain(state: RoleState, reaction: Reaction) -> list[Mapping[str, Any]]:
    """The inputs of a chain, with a state made up between each two."""
    middles = [
        f"§{state.name}§{'§'.join(reaction.types[:count])}"
        for count in range(1, len(reaction.types))
    ]
    places = [state.name, *middles, reaction.target]
    return [
        _label(places[number], places[number + 1], {"tag": "Input", "eventType": type_})
        for number, type_ in enumerate(reaction.types)
    ]


def _label(source: str, target: str, label: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"source": source, "target": target, "label": label}
