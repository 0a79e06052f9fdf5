"""Values that a definition computes: guards, assignments, arguments.

A value is written as a Python function of a `Scope`, or as JSON data, so that a definition can be stored and sent:

    "$ctx.price"  "$event.who"  "$meta.key"  "$work"      a look at what is there (absent: None)
    {"$add": [a, b]} $append $remove $len $eq $gt $lt $not $and $or $in $throw
    anything else                                          itself, looked through for values inside

A text that begins with a dollar sign is written with two. `compiled` turns a value into a function once, when the
definition is made; a fold calls that function for each event.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fish.machines.errors import InvalidMachine, MachineThrew


class Meta(NamedTuple):
    """What the log knows of an event. `key` is its text form, with `#n` where it was derived from another event.

    `ts` is the author's wall clock in microseconds, for display and for timers, never for order.
    """

    key: str = ""
    lamport: int = 0
    stream: str = ""
    ts: int = 0
    node: str = ""


NOTHING_KNOWN = Meta()
"""Of an event that no log holds."""


class Scope(NamedTuple):
    """All that guards and actions may look at. Nothing in it may be changed in place."""

    context: Mapping[str, Any]
    event: Mapping[str, Any]
    meta: Meta
    work: str | None = None


Compute = Callable[[Scope], Any]
"""A value as a function."""

_Operation = Callable[[list[Any]], Any]


def _add(parts: list[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _throw(parts: list[Any]) -> Any:
    raise MachineThrew(str(parts[0]))


_OPERATIONS: dict[str, _Operation] = {
    "$add": _add,
    "$append": lambda parts: [*parts[0], parts[1]],
    "$remove": lambda parts: [one for one in parts[0] if one != parts[1]],
    "$len": lambda parts: len(parts[0]),
    "$eq": lambda parts: parts[0] == parts[1],
    "$gt": lambda parts: parts[0] > parts[1],
    "$lt": lambda parts: parts[0] < parts[1],
    "$not": lambda parts: not parts[0],
    "$and": all,
    "$or": any,
    "$in": lambda parts: parts[0] in parts[1],
    "$throw": _throw,
}

_ONE = {"$len", "$not", "$throw"}
_TWO = {"$append", "$remove", "$eq", "$gt", "$lt", "$in"}
_ROOTS: dict[str, Compute] = {
    "$ctx": lambda scope: scope.context,
    "$event": lambda scope: scope.event,
    "$work": lambda scope: scope.work,
}


def compiled(value: Any, place: str) -> Compute:
    """The function behind a value.

    Raises:
        InvalidMachine: it names no operation, or nothing that can be looked at.
    """
    if callable(value):
        function: Compute = value
        return function
    if isinstance(value, str) and value.startswith("$"):
        return _look(value, place)
    if isinstance(value, Mapping):
        return _mapping(value, place)
    if isinstance(value, list | tuple):
        parts = [compiled(one, place) for one in value]
        return lambda scope: [part(scope) for part in parts]
    return lambda _: value


def _look(text: str, place: str) -> Compute:
    if text.startswith("$$"):
        return lambda _: text[1:]
    root, *path = text.split(".")
    if root == "$meta" and len(path) == 1 and path[0] in Meta._fields:
        name = path[0]
        return lambda scope: getattr(scope.meta, name)
    if root not in _ROOTS or (root == "$work" and path):
        raise InvalidMachine("unknown-value", place, f"there is nothing to look at as {text!r}")
    start = _ROOTS[root]
    return _walk(start, path) if len(path) != 1 else _field(start, path[0])


def _field(start: Compute, name: str) -> Compute:
    return lambda scope: start(scope).get(name)


def _walk(start: Compute, path: list[str]) -> Compute:
    def walked(scope: Scope) -> Any:
        found = start(scope)
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    return walked


def _mapping(value: Mapping[str, Any], place: str) -> Compute:
    operators = [name for name in value if str(name).startswith("$")]
    if not operators:
        entries = [(name, compiled(one, place)) for name, one in value.items()]
        return lambda scope: {name: one(scope) for name, one in entries}
    name = operators[0]
    if len(value) != 1 or name not in _OPERATIONS:
        raise InvalidMachine("unknown-operation", place, f"{name!r} is no operation")
    return _operation(name, value[name], place)


def _operation(name: str, parts: Any, place: str) -> Compute:
    apply = _OPERATIONS[name]
    several = [parts] if name in _ONE and not isinstance(parts, list) else parts
    if not isinstance(several, list):
        raise InvalidMachine("unknown-operation", place, f"{name} takes a list of values")
    if len(several) != (1 if name in _ONE else 2 if name in _TWO else max(1, len(several))):
        raise InvalidMachine("unknown-operation", place, f"{name} takes no {len(several)} values")
    computes = [compiled(one, place) for one in several]
    if name in ("$and", "$or"):
        decide = all if name == "$and" else any
        return lambda scope: decide(one(scope) for one in computes)
    return lambda scope: apply([one(scope) for one in computes])
