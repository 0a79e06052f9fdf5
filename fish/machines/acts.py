"""Actions prepared for folding: each becomes a function that acts upon the step under way.

A step is whoever keeps the draft of the next state (`Performer`); it is thrown away as a whole when anything raises.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from fish.machines.definition import (
    Action,
    Assign,
    Cancel,
    Effect,
    Emit,
    Log,
    Machine,
    Raise,
    SendParent,
    SendTo,
    Spawn,
)
from fish.machines.errors import InvalidMachine
from fish.machines.expressions import Scope, compiled


class Performer(Protocol):
    """What actions can do to a step."""

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set parts of the context."""
        ...

    def effect(self, wanted: Effect, args: Any, work: str | None) -> None:
        """Want something done in the world."""
        ...

    def emit(self, event: Mapping[str, Any]) -> None:
        """Tell the coordination."""
        ...

    def send(
        self,
        target: str | None,
        event: Mapping[str, Any],
        delay: float | None,
        id_: str | None,
        work: str | None = None,
    ) -> None:
        """An event for a machine: None is this one, `..` its parent. Of several children that of the work is meant."""
        ...

    def cancel(self, id_: str) -> None:
        """Take back what was delayed."""
        ...

    def spawn(self, wanted: Spawn, name: str | None, context: Mapping[str, Any] | None) -> None:
        """Start a persistent child."""
        ...

    def log(self, text: str) -> None:
        """A word into the trace."""
        ...


Act = Callable[[Performer, Scope], None]
"""An action as a function."""

PARENT = ".."
"""The target that stands for the parent, wherever it is."""

MAX_NESTED_NAMES = 16
"""Names of actions that stand for names of actions: beyond, they stand for themselves."""


def prepared(
    actions: tuple[Action, ...], machine: Machine, place: str, depth: int = 0
) -> tuple[Act, ...]:
    """The functions behind actions; a name becomes what the machine explains it with.

    Raises:
        InvalidMachine: a name that nothing explains, or a value that cannot be computed.
    """
    acts: list[Act] = []
    for action in actions:
        if isinstance(action, str):
            acts += _named(action, machine, place, depth)
        else:
            acts.append(_PREPARE[type(action)](action, place))
    return tuple(acts)


def _named(name: str, machine: Machine, place: str, depth: int) -> tuple[Act, ...]:
    explained = dict(machine.actions)
    if name not in explained or depth > MAX_NESTED_NAMES:
        raise InvalidMachine("unknown-action", place, f"nothing explains the action {name!r}")
    return prepared(explained[name], machine, place, depth + 1)


def _assign(action: Assign, place: str) -> Act:
    compute = action.compute
    if compute is not None:
        whole = compute
        return lambda step, scope: step.assign(whole(scope))
    values = [(path, compiled(value, place)) for path, value in action.values]
    return lambda step, scope: step.assign({path: value(scope) for path, value in values})


def _effect(action: Effect, place: str) -> Act:
    args = compiled(action.args, place)
    return lambda step, scope: step.effect(action, args(scope), scope.work)


def _emit(action: Emit, place: str) -> Act:
    event = compiled(action.event, place)
    return lambda step, scope: step.emit(event(scope))


def _raise(action: Raise, place: str) -> Act:
    event, delay = compiled(action.event, place), compiled(action.delay, place)
    return lambda step, scope: step.send(None, event(scope), delay(scope), action.id)


def _cancel(action: Cancel, _: str) -> Act:
    return lambda step, _scope: step.cancel(action.id)


def _send_parent(action: SendParent, place: str) -> Act:
    event = compiled(action.event, place)
    return lambda step, scope: step.send(PARENT, event(scope), None, None)


def _send_to(action: SendTo, place: str) -> Act:
    target, event = compiled(action.target, place), compiled(action.event, place)
    delay = compiled(action.delay, place)
    return lambda step, scope: step.send(
        str(target(scope)), event(scope), delay(scope), action.id, scope.work
    )


def _spawn(action: Spawn, place: str) -> Act:
    name, context = compiled(action.name, place), compiled(action.context, place)
    return lambda step, scope: step.spawn(action, name(scope), context(scope))


def _log(action: Log, place: str) -> Act:
    text = compiled(action.text, place)
    return lambda step, scope: step.log(str(text(scope)))


_PREPARE: dict[type, Callable[[Any, str], Act]] = {
    Assign: _assign,
    Effect: _effect,
    Emit: _emit,
    Raise: _raise,
    Cancel: _cancel,
    SendParent: _send_parent,
    SendTo: _send_to,
    Spawn: _spawn,
    Log: _log,
}
