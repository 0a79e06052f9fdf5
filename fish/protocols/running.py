"""Running a machine of a protocol: the state that a history leads to, and the commands that are offered there.

The way of an event. A state waits for the types that leave it; any other event is dropped. Such a one was logged by
somebody who could not know that another step was taken first, and in a well-formed protocol all drop the same. The log
of a command arrives as a chain, one state for each event; within a chain no command is offered. Nothing is decided by
arrival: a history is folded in the order of the log, and again when an earlier event turns up.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fish.definition import Fish, Metadata
from fish.protocols.equivalence import ambiguous, unusable
from fish.protocols.errors import CommandRefused, InvalidProtocol
from fish.protocols.values import Execute, Input, Machine
from lamport.tags import Where

_NO_INPUTS: Mapping[str, str] = MappingProxyType({})
_NO_COMMANDS: Mapping[str, Execute] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RoleMachine:
    """A machine that is fit to run: commands stay in their state, and no name is twice in one state.

    Raises:
        InvalidProtocol: it is not fit; the text says where.
    """

    machine: Machine
    _inputs: Mapping[str, Mapping[str, str]] = field(init=False, repr=False, compare=False)
    _commands: Mapping[str, Mapping[str, Execute]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.machine.edges:  # a role that takes no part has none
            for problem in (*unusable(self.machine), *ambiguous(self.machine)):
                raise InvalidProtocol("machine", "", f"{problem}: {problem.advice}")
        inputs: dict[str, dict[str, str]] = {}
        commands: dict[str, dict[str, Execute]] = {}
        for edge in self.machine.edges:
            if isinstance(edge.label, Input):
                inputs.setdefault(edge.source, {})[edge.label.event_type] = edge.target
            else:
                commands.setdefault(edge.source, {})[edge.label.command] = edge.label
        object.__setattr__(self, "_inputs", inputs)
        object.__setattr__(self, "_commands", commands)

    def after(self, state: str, event_type: str) -> str:
        """The state behind an event; the same one where the event is dropped."""
        return self._inputs.get(state, _NO_INPUTS).get(event_type, state)

    def accepts(self, state: str, event_type: str) -> bool:
        """Whether an event of this type is taken in this state, and not dropped."""
        return event_type in self._inputs.get(state, _NO_INPUTS)

    def fold(self, event_types: Iterable[str]) -> str:
        """The state behind a history, from the initial state on."""
        state = self.machine.initial
        for event_type in event_types:
            state = self.after(state, event_type)
        return state

    def offered(self, state: str, *, caught_up: bool) -> tuple[Execute, ...]:
        """The commands that the role may give now, in the order of the machine.

        None before the node has caught up: what it has not read yet may have led elsewhere. A command that is given
        logs events of the types of its `log`, in one commit; only their return through the log changes the state.
        """
        return tuple(self._commands.get(state, _NO_COMMANDS).values()) if caught_up else ()

    def command(self, state: str, command: str, *, caught_up: bool) -> Execute:
        """A command that is offered now.

        Raises:
            CommandRefused: it is not; the text says why.
        """
        reason = self.refusal(state, command, caught_up=caught_up)
        if reason is not None:
            raise CommandRefused(reason)
        return self._commands[state][command]

    def refusal(self, state: str, command: str, *, caught_up: bool) -> str | None:
        """Why a command is not offered now, and what is; None where it is offered."""
        if not caught_up:
            return f"{command} is not offered: the log is not read up to its end yet"
        offered = [one.command for one in self.offered(state, caught_up=True)]
        if command in offered:
            return None
        others = ", ".join(offered) or "nothing"
        return f"{command} is not offered in state {state}, where {others} is"


TypeOf = Callable[[Any], str | None]
"""The event type that a payload has in the protocol; None where it is no event of it."""


def type_field(payload: Any) -> str | None:
    """The text in the field `type` of an object."""
    found = payload.get("type") if isinstance(payload, dict) else None
    return found if isinstance(found, str) else None


def role_fish(
    name: str,
    where: Where,
    machine: Machine,
    *,
    type_of: TypeOf = type_field,
    version: int = 1,
) -> Fish[str]:
    """A fish whose state is the machine's: the fold of the selected events, those that do not fit dropped.

    Raises:
        InvalidProtocol: the machine is not fit to run.
        InvalidFish: name or version break the rules for fish.
    """
    runs = RoleMachine(machine)

    def on_event(state: str, payload: Any, _: Metadata) -> str:
        event_type = type_of(payload)
        return state if event_type is None else runs.after(state, event_type)

    return Fish(name, where, machine.initial, on_event, version=version)
