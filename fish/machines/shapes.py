"""What a definition is made of: parts of the wrong kind, refused with their place before anything is made of them.

Definitions are written by people and loaded from data. A state that is a plain dictionary, a delay that is a word or an
event without a type would otherwise end in an error of Python somewhere inside, or at the first event on every node.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from fish.machines.contexts import require_small
from fish.machines.definition import (
    Action,
    After,
    Assign,
    Cancel,
    Effect,
    Emit,
    Invoke,
    Log,
    Machine,
    Persistent,
    Raise,
    SendParent,
    SendTo,
    Spawn,
    State,
    Transition,
)
from fish.machines.errors import InvalidMachine, MachineThrew
from lamport.tags import tag_fault

MAX_NAME_BYTES = 64
"""Longest name of a machine: with an instance's it must fit into a tag."""

SHAPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "any": object,
}
"""The JSON types that fields of an event may be said to have."""

MAX_NESTING = 32
"""Deepest nesting of states, and of values: people draw three, and every fold goes along it."""

_TEXTS: Mapping[type, tuple[str, ...]] = {
    Effect: ("name",),
    Cancel: ("id",),
    Spawn: ("machine", "ref"),
    Persistent: ("machine",),
    Invoke: ("id",),
}
"""Fields that are texts of at least a character."""

_MAYBE_TEXTS: Mapping[type, tuple[str, ...]] = {
    Effect: ("undo",),
    Raise: ("id",),
    SendTo: ("id",),
    Invoke: ("src",),
    Transition: ("target",),
    State: ("initial", "closes"),
}
"""Fields that are such texts or nothing."""

_SAID = (Emit, Raise, SendParent, SendTo)

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_machine(made: Machine) -> None:
    """See that a machine is made of the right parts.

    Raises:
        InvalidMachine: it is not; the error names the place.
    """
    machine: Any = made
    place = f"machine {machine.id!r}"
    _check_name(machine.id, place)
    if type(machine.version) is not int or machine.version < 1:
        _fail("bad-version", place, "its version is a number from 1", machine.version)
    if not isinstance(machine.context, Mapping):
        _fail("bad-shape", f"{place} context", "an object is wanted", machine.context)
    try:
        require_small(machine.context)
    except (MachineThrew, ValueError) as error:
        raise InvalidMachine("bad-context", f"{place} context", str(error)) from error
    if not isinstance(machine.root, State) or not machine.root.states:
        raise InvalidMachine("bad-initial", place, "it has no states")
    _check_state(machine.root, place, "")
    for name, guard in machine.guards:
        _check_value(guard, f"{place} guard {name}")
    for name, explained in machine.actions:
        _check_actions(explained, f"{place} action {name}")
    for type_, named in machine.events:
        _check_type(type_, f"{place} events")
        for name, shape in named:
            if not isinstance(shape, str) or shape not in SHAPES:
                text = f"{name} is one of {', '.join(SHAPES)}"
                _fail("bad-shape", f"{place} event {type_}", text, shape)


def _check_name(name: Any, place: str) -> None:
    is_text = isinstance(name, str) and not any(mark in name for mark in ":/")
    if (
        not is_text
        or tag_fault(name)
        or len(name.encode()) > MAX_NAME_BYTES
        or _CONTROL.search(name)
    ):
        text = f"a name has 1 to {MAX_NAME_BYTES} bytes in normal form C, and no colon, slash or control character"
        raise InvalidMachine("bad-name", place, text)


def _check_state(state: Any, place: str, path: str, depth: int = 0) -> None:
    at = f"{place} state {path!r}" if path else place
    if not isinstance(state, State):
        _fail(
            "bad-shape", at, "a state is wanted, as `state`, `cyclic` and `final` make it,", state
        )
    if depth > MAX_NESTING:
        raise InvalidMachine("too-deep", at, f"states nest at most {MAX_NESTING} deep")
    _check_texts(state, at)
    _check_value(state.output, f"{at} output")
    _check_actions(state.entry, f"{at} entry")
    _check_actions(state.exit, f"{at} exit")
    for type_, several in state.on:
        _check_type(type_, f"{at} on")
        for one in several or ():
            _check_transition(one, f"{at} on {type_}")
    for one in state.always:
        _check_transition(one, f"{at} always")
    for one in state.after:
        _check_after(one, f"{at} after")
    for one in state.invoke:
        _check_invoke(one, f"{at} invoke")
    for name, inner in state.states:
        if not isinstance(name, str) or not name or _CONTROL.search(name):
            raise InvalidMachine("bad-name", at, f"{name!r} is no name of a state")
        _check_state(inner, place, f"{path}.{name}" if path else name, depth + 1)


def _check_type(type_: Any, place: str) -> None:
    if not isinstance(type_, str) or not type_ or type_.startswith("$") or _CONTROL.search(type_):
        _fail(
            "bad-event", place, "an event's type is a text that begins with no dollar sign", type_
        )


def _check_transition(one: Any, place: str) -> None:
    if not isinstance(one, Transition):
        _fail("bad-shape", place, "a target or a transition (`to`) is wanted", one)
    _check_texts(one, place)
    if isinstance(one.guard, bool | int | float | list | tuple):
        _fail("bad-guard", place, "a guard is a function, a name or an expression", one.guard)
    _check_value(one.guard, f"{place} guard")
    _check_actions(one.actions, place)


def _check_after(one: Any, place: str) -> None:
    if not isinstance(one, After):
        _fail("bad-shape", place, "a delayed transition (`after`) is wanted", one)
    _check_delay(one.delay, place)
    _check_transition(one.transition, place)


def _check_delay(delay: Any, place: str) -> None:
    is_computed = callable(delay) or isinstance(delay, Mapping)
    is_computed = is_computed or (isinstance(delay, str) and delay.startswith("$"))
    is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
    if not is_computed and not (is_number and 0 <= delay < math.inf):
        _fail("bad-delay", place, "a delay is a number of seconds, 0 or more, or computed", delay)


def _check_invoke(one: Any, place: str) -> None:
    if not isinstance(one, Invoke):
        _fail("bad-shape", place, "an `invoke` or a `child` is wanted", one)
    _check_texts(one, place)
    at = f"{place} {one.id}"
    _check_value(one.args, at)
    if one.persistent is not None:
        _check_texts(one.persistent, at)
        _check_value(one.persistent.name, at)
        _check_value(one.persistent.context, at)
    for candidate in (*one.on_done, *one.on_error):
        _check_transition(candidate, at)


def _check_actions(actions: Any, place: str) -> None:
    if not isinstance(actions, tuple):
        _fail("bad-shape", place, "actions are wanted", actions)
    for action in actions:
        if not isinstance(action, Action):
            _fail("unknown-action", place, "this is no action:", action)
        if not isinstance(action, str):
            _check_action(action, place)


def _check_action(action: Any, place: str) -> None:
    _check_texts(action, place)
    if isinstance(action, _SAID):
        _check_said(action.event, place)
    if isinstance(action, Raise | SendTo) and action.delay is not None:
        _check_delay(action.delay, place)
    if isinstance(action, Assign):
        values: Any = action.values
        for path, value in values:
            if not isinstance(path, str) or not all(path.split(".")):
                _fail("bad-shape", place, "what is assigned is a dotted path", path)
            _check_value(value, place)
    for value in _values(action):
        _check_value(value, place)


def _values(action: Any) -> Iterator[Any]:
    if isinstance(action, Effect | Emit | Raise | SendParent | SendTo | Spawn | Log):
        yield from (getattr(action, one.name) for one in fields(action))


def _check_said(event: Any, place: str) -> None:
    if callable(event) or (isinstance(event, str) and event.startswith("$")):
        return
    if not isinstance(event, Mapping) or "type" not in event:
        _fail("bad-event", place, "an event is an object with a type", event)
    if not callable(event["type"]) and not str(event["type"]).startswith("$"):
        _check_type(event["type"], place)


def _check_texts(part: Any, place: str) -> None:
    assert is_dataclass(part), "the parts of a definition are"
    for name in _TEXTS.get(type(part), ()):
        value = getattr(part, name)
        if not isinstance(value, str) or not value:
            _fail("bad-name", place, f"{name} is a text that is not empty", value)
    for name in _MAYBE_TEXTS.get(type(part), ()):
        value = getattr(part, name)
        if value is not None and (not isinstance(value, str) or not value):
            _fail("bad-name", place, f"{name} is a text that is not empty", value)


def _check_value(value: Any, place: str) -> None:
    """See that a value is not nested too deeply to be gone along."""
    layer, depth = [value], 0
    while layer:
        if depth > MAX_NESTING:
            raise InvalidMachine("too-deep", place, f"values nest at most {MAX_NESTING} deep")
        lists = [one for one in layer if isinstance(one, list | tuple)]
        objects = [one for one in layer if isinstance(one, Mapping)]
        layer = [inner for one in lists for inner in one]
        layer += [inner for one in objects for inner in one.values()]
        depth += 1


def _fail(kind: str, place: str, text: str, value: Any) -> None:
    shown = f"{value!r:.60}"
    raise InvalidMachine(kind, place, f"{text}, not {shown}")
