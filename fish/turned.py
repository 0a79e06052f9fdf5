"""Sets that show their elements the other way round: what a text of one looks like in a process that hashes otherwise.

`fish.walks` leads what becomes text through `turned`. A set becomes one that equals it and has another `repr`; of
lists, tuples and dictionaries that hold sets, at any depth, copies are made. Anything else stays what it is.
"""

from collections.abc import Callable, Iterable
from typing import Any

Turns = Callable[[Any], bool]
"""Whether a value is a set that is to be turned around."""


class _Set(set[Any]):
    """A set with a text of its own."""

    text = ""

    def __repr__(self) -> str:
        return self.text


class _FrozenSet(frozenset[Any]):
    """The same for one that is frozen."""

    text = ""

    def __repr__(self) -> str:
        return self.text


def turned(value: Any, turns: Turns, above: tuple[int, ...] = ()) -> Any:
    """The value, with sets that are shown the other way round; what holds itself (`above`) is left as it is."""
    make = _MAKERS.get(type(value))
    if make is None or id(value) in above:
        return value
    above = (*above, id(value))
    return make(value, lambda one: turned(one, turns, above), turns)


def _set(value: Any, inside: Callable[[Any], Any], turns: Turns) -> Any:
    elements = list(value)
    made = (_Set if type(value) is set else _FrozenSet)(elements)
    if not elements:
        return value
    shown = ", ".join(repr(inside(one)) for one in (elements[::-1] if turns(value) else elements))
    made.text = f"{{{shown}}}" if type(value) is set else f"frozenset({{{shown}}})"
    return made


def _sequence(value: Iterable[Any], inside: Callable[[Any], Any], _: Turns) -> Any:
    return type(value)(map(inside, value))  # type: ignore[call-arg]  # a list or a tuple


def _mapping(value: dict[Any, Any], inside: Callable[[Any], Any], _: Turns) -> dict[Any, Any]:
    return {inside(key): inside(one) for key, one in value.items()}


_MAKERS: dict[type, Callable[[Any, Callable[[Any], Any], Turns], Any]] = {
    set: _set,
    frozenset: _set,
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
}
