"""Machines as JSON, in the words of XState where it has them.

    {"id": "door", "initial": "closed", "context": {}, "states": {"closed": {"on": {"OPEN": [{"target": "opened"}]}}}}

A candidate is an object, a target, or a list of them; null forbids. An action is an object with one of the keys
`assign`, `effect` (with `args`, `undo`, `stable`), `emit`, `raise`, `cancel`, `send_parent`, `send_to`, `spawn`, `log`,
or a name.
What is not known here is refused: a word that is misspelt must not be passed over.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fish.machines.chart import Chart
from fish.machines.definition import (
    Action,
    After,
    Assign,
    Cancel,
    Candidates,
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
from fish.machines.errors import InvalidMachine

_MACHINE = {
    "id",
    "initial",
    "context",
    "states",
    "on",
    "guards",
    "actions",
    "events",
    "version",
    "strict",
    "defer_while_busy",
}
_STATE = {
    *("on", "always", "after", "entry", "exit", "invoke", "initial", "states"),
    *("cyclic", "type", "output"),
}
_TRANSITION = {"target", "guard", "actions", "reenter"}
_INVOKE = {"id", "src", "args", "persistent", "on_done", "on_error"}
_PERSISTENT = {"machine", "name", "context", "on_exit"}


def load_machine(data: Mapping[str, Any], *, strict: bool = False) -> Machine:
    """A machine from JSON data; `strict` refuses unreachable states and cycles that no work id protects.

    Raises:
        InvalidMachine: the data break a rule; the error names the place.
    """
    _known(data, _MACHINE, "machine")
    place = f"machine {data.get('id')!r}"
    inner = {name: data[name] for name in ("initial", "states", "on") if name in data}
    made = Machine(
        _text(data.get("id"), place),
        _state(inner, place),
        dict(_items(data, "context", place)),
        tuple(_items(data, "guards", place)),
        tuple((name, _actions(one, place)) for name, one in _items(data, "actions", place)),
        tuple((type_, _shape(one, type_, place)) for type_, one in _items(data, "events", place)),
        data.get("version", 1),
        None,
        strict or bool(data.get("strict", False)),
        bool(data.get("defer_while_busy", False)),
    )
    Chart.of(made)
    return made


def _shape(data: Any, type_: str, place: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(data, Mapping):
        text = f"an object of fields and their types is wanted, not {data!r}"
        raise InvalidMachine("bad-shape", f"{place} event {type_}", text)
    return tuple(data.items())


def _state(data: Any, place: str) -> State:
    _known(data, _STATE, place)
    if data.get("type") not in (None, "final"):
        raise InvalidMachine(
            "unknown-word",
            place,
            f"a state is final or of no type; {data['type']!r} is not supported",
        )
    return State(
        tuple(
            (type_, _candidates(one, f"{place} on {type_}"))
            for type_, one in _items(data, "on", place)
        ),
        _candidates(data.get("always") or [], place) or (),
        tuple(_after(one, place) for one in _several(data.get("after"))),
        _actions(data.get("entry"), place),
        _actions(data.get("exit"), place),
        tuple(_invoke(one, place) for one in _several(data.get("invoke"))),
        data.get("initial"),
        tuple(
            (name, _state(one, f"{place} state {name!r}"))
            for name, one in _items(data, "states", place)
        ),
        _closes(data.get("cyclic"), place),
        data.get("type") == "final",
        data.get("output"),
    )


def _closes(data: Any, place: str) -> str | None:
    if data is None:
        return None
    _known(data, {"closes"}, f"{place} cyclic")
    return _text(data.get("closes", "closes"), f"{place} cyclic")


def _candidates(data: Any, place: str) -> Candidates:
    if data is None:
        return None
    return tuple(_transition(one, place) for one in _several(data))


def _transition(data: Any, place: str) -> Transition:
    if isinstance(data, str):
        return Transition(data)
    _known(data, _TRANSITION, place)
    return Transition(
        data.get("target"),
        data.get("guard"),
        _actions(data.get("actions"), place),
        bool(data.get("reenter", True)),
    )


def _after(data: Any, place: str) -> After:
    _known(data, _TRANSITION | {"delay"}, f"{place} after")
    rest = {name: one for name, one in data.items() if name != "delay"}
    return After(data.get("delay"), _transition(rest, f"{place} after"))


def _invoke(data: Any, place: str) -> Invoke:
    place = f"{place} invoke"
    _known(data, _INVOKE, place)
    child = data.get("persistent")
    return Invoke(
        _text(data.get("id", data.get("src")), place),
        data.get("src"),
        data.get("args"),
        None if child is None else _persistent(child, place),
        _candidates(data.get("on_done") or [], place) or (),
        _candidates(data.get("on_error") or [], place) or (),
    )


def _persistent(data: Any, place: str) -> Persistent:
    _known(data, _PERSISTENT, place)
    leaving = data.get("on_exit", "detach")
    if leaving not in ("detach", "stop"):
        raise InvalidMachine("unknown-word", place, f"on_exit is detach or stop, not {leaving!r}")
    machine = _text(data.get("machine"), place)
    return Persistent(machine, data.get("name"), data.get("context"), leaving == "stop")


def _actions(data: Any, place: str) -> tuple[Action, ...]:
    return tuple(_action(one, place) for one in _several(data))


def _action(data: Any, place: str) -> Action:
    if isinstance(data, str):
        return data
    for word, (known, make) in _ACTIONS.items():
        if isinstance(data, Mapping) and word in data:
            _known(data, known | {word}, f"{place} {word}")
            for name in _REQUIRED.get(word, ()):
                if name not in data:
                    raise InvalidMachine("bad-shape", f"{place} {word}", f"it lacks {name!r}")
            _items(data, "assign", place)
            return make(data)
    raise InvalidMachine("unknown-action", place, f"this is no action: {data!r}")


_ACTIONS: dict[str, tuple[set[str], Callable[[Mapping[str, Any]], Action]]] = {
    "assign": (set(), lambda data: Assign(tuple(data["assign"].items()))),
    "effect": (
        {"args", "undo", "stable"},
        lambda data: Effect(
            data["effect"], data.get("args"), data.get("undo"), bool(data.get("stable", False))
        ),
    ),
    "emit": (set(), lambda data: Emit(data["emit"])),
    "raise": (
        {"delay", "id"},
        lambda data: Raise(data["raise"], data.get("delay"), data.get("id")),
    ),
    "cancel": (set(), lambda data: Cancel(data["cancel"])),
    "send_parent": (set(), lambda data: SendParent(data["send_parent"])),
    "send_to": (
        {"event", "delay", "id"},
        lambda data: SendTo(data["send_to"], data["event"], data.get("delay"), data.get("id")),
    ),
    "spawn": (
        {"ref", "name", "context"},
        lambda data: Spawn(data["spawn"], data["ref"], data.get("name"), data.get("context")),
    ),
    "log": (set(), lambda data: Log(data["log"])),
}


_REQUIRED: dict[str, tuple[str, ...]] = {"send_to": ("event",), "spawn": ("ref",)}


def _known(data: Any, known: set[str], place: str) -> None:
    if not isinstance(data, Mapping):
        raise InvalidMachine("bad-shape", place, f"an object is wanted here, not {data!r}")
    for name in data:
        if name not in known:
            raise InvalidMachine("unknown-word", place, f"{name!r} means nothing here")


def _several(data: Any) -> list[Any]:
    if data is None:
        return []
    return list(data) if isinstance(data, list | tuple) else [data]


def _items(data: Mapping[str, Any], name: str, place: str) -> list[tuple[str, Any]]:
    inner = data.get(name)
    if inner is not None and not isinstance(inner, Mapping):
        raise InvalidMachine("bad-shape", f"{place} {name}", f"an object is wanted, not {inner!r}")
    return list((inner or {}).items())


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidMachine("bad-name", place, f"a non-empty text is wanted here, not {value!r}")
    return value
