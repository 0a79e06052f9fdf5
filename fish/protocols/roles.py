"""What one role of a protocol runs: how events move it, and which commands a state has.

The way of an event. A state waits for chains of event types: the log of a command arrives as such a chain. What does
not come next is dropped, and a chain goes on waiting; who logged it could not know that another step was taken first,
and in a well-formed protocol all drop the same. Where a chain is complete, its reaction makes the next state of it.
Nothing is decided by arrival: a history is folded in the order of the log, and again when an earlier event turns up.

A `Role` is written by hand, or made of a machine (`Role.of`), as `project` gives it. It is the reducer of a fish.
Commands are offered by a `fish.protocols.parts.Part`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fish.definition import Fish, Metadata
from fish.protocols.equivalence import ambiguous, unusable
from fish.protocols.errors import InvalidProtocol
from fish.protocols.values import Execute, Machine
from lamport.tags import Where

React = Callable[[Any, tuple[Any, ...]], Any]
"""The next state's payload from this state's and the events of the chain."""

TypeOf = Callable[[Any], str | None]
"""The event type that a payload has in the protocol; None where it is no event of it."""


def type_field(payload: Any) -> str | None:
    """The text in the field `type` of an object."""
    found = payload.get("type") if isinstance(payload, Mapping) else None
    return found if isinstance(found, str) else None


def unchanged(payload: Any, _: tuple[Any, ...]) -> Any:
    """The reaction that keeps the payload."""
    return payload


@dataclass(frozen=True, slots=True)
class Reaction:
    """From a state, a chain of event types leads to the next state."""

    types: tuple[str, ...]
    target: str
    react: React = unchanged


@dataclass(frozen=True, slots=True)
class RoleState:
    """A state of a role: what it may command (name, event types), and what it reacts to."""

    name: str
    commands: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reactions: tuple[Reaction, ...] = ()


class Place(NamedTuple):
    """Where a role is: its state and payload, the events of a chain that is half done, and how many were completed."""

    state: str
    payload: Any = None
    begun: tuple[tuple[str, Any], ...] = ()
    steps: int = 0


@dataclass(frozen=True)
class Role:
    """A role's machine, with the data it carries along. Calling it folds one event.

    Raises:
        InvalidProtocol: a state is missing, two reactions or two commands of one are alike, or a command logs nothing.
    """

    initial: str
    states: tuple[RoleState, ...]
    payload: Any = None
    type_of: TypeOf = type_field
    by_name: Mapping[str, RoleState] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name = {state.name: state for state in self.states}
        for state in self.states:
            _check_state(state, by_name)
        if self.initial not in by_name:
            raise InvalidProtocol("role", "initial", f"there is no state {self.initial!r}")
        object.__setattr__(self, "by_name", by_name)

    @classmethod
    def of(
        cls,
        machine: Machine,
        *,
        payload: Any = None,
        reactions: Mapping[str, React] | None = None,
        type_of: TypeOf = type_field,
    ) -> "Role":
        """The role of a machine. `reactions` say, by event type, what an event that is taken makes of the payload.

        Raises:
            InvalidProtocol: the machine is not fit to run; the text says where.
        """
        if machine.edges:  # a role that takes no part has none
            for problem in (*unusable(machine), *ambiguous(machine)):
                raise InvalidProtocol("machine", "", f"{problem}: {problem.advice}")
        commands: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        chains: dict[str, list[Reaction]] = {}
        reacts = reactions or {}
        for edge in machine.edges:
            if isinstance(edge.label, Execute):
                offered = edge.label.command, edge.label.log
                commands.setdefault(edge.source, []).append(offered)
            else:
                type_ = edge.label.event_type
                reaction = Reaction((type_,), edge.target, reacts.get(type_, unchanged))
                chains.setdefault(edge.source, []).append(reaction)
        names = dict.fromkeys((machine.initial, *machine.states()))
        states = tuple(
            RoleState(name, tuple(commands.get(name, ())), tuple(chains.get(name, ())))
            for name in names
        )
        return cls(machine.initial, states, payload, type_of)

    @property
    def start(self) -> Place:
        """Where it begins."""
        return Place(self.initial, self.payload)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The event types that this role must hear, in the order of the definition."""
        types = (type_ for state in self.states for one in state.reactions for type_ in one.types)
        return tuple(dict.fromkeys(types))

    def after(self, place: Place, type_: str, event: Any = None) -> Place:
        """The place behind an event; the very same one where the event is dropped.

        Raises:
            Exception: whatever the reaction raises.
        """
        number, types = len(place.begun), tuple(one for one, _ in place.begun)
        for reaction in self.by_name[place.state].reactions:
            if reaction.types[:number] == types and reaction.types[number] == type_:
                begun = (*place.begun, (type_, event))
                if len(begun) < len(reaction.types):
                    return place._replace(begun=begun)
                payload = reaction.react(place.payload, tuple(one for _, one in begun))
                return Place(reaction.target, payload, (), place.steps + 1)
        return place

    def fold(self, types: Iterable[str]) -> Place:
        """The place behind a history, from the start."""
        place = self.start
        for type_ in types:
            place = self.after(place, type_)
        return place

    def __call__(self, place: Place, payload: Any, _: Metadata) -> Place:
        """The reducer."""
        type_ = self.type_of(payload)
        return place if type_ is None else self.after(place, type_, payload)

    def fish(self, name: str, where: Where, *, version: int = 1) -> Fish[Place]:
        """A fish whose state is this role's place: the fold of the selected events, those that do not fit dropped.

        Raises:
            InvalidFish: name or version break the rules for fish.
        """
        return Fish(name, where, self.start, self, version=version)

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


def _check_state(state: RoleState, known: Mapping[str, RoleState]) -> None:
    place = f"state {state.name!r}"
    firsts = [one.types[0] for one in state.reactions if one.types]
    if len(firsts) < len(state.reactions) or len(set(firsts)) < len(firsts):
        raise InvalidProtocol("role", place, "each reaction begins with an event of its own")
    for one in state.reactions:
        if one.target not in known:
            raise InvalidProtocol("role", place, f"there is no state {one.target!r}")
    for name, types in state.commands:
        if name.startswith("_") or not types:
            raise InvalidProtocol("role", place, f"command {name!r}: a name without _, and events")
    if len(dict(state.commands)) < len(state.commands):
        raise InvalidProtocol("role", place, "two of its commands share a name")


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
