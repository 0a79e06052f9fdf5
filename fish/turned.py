"""Sets that show their elements the other way round: what a text of one looks like in a process that hashes otherwise.

`fish.walks` leads what becomes text through `turned`. A set becomes one that equals it and has another `repr`; of
lists, tuples and dictionaries copies are made, at any depth, because they may hold sets. Each is copied once: what is
shared stays shared, and what holds itself does so in the copy. Anything else stays what it is.
"""

from collections.abc import Callable
from typing import Any

IsTurned = Callable[[Any], bool]
"""Whether a set is to be turned around."""


class _Set(set[Any]):
    """A set with a text of its own."""

    shown: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self.shown))}}}"


class _FrozenSet(frozenset[Any]):
    """The same for one that is frozen."""

    shown: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        return f"frozenset({{{', '.join(map(repr, self.shown))}}})"


def turned(value: Any, is_turned: IsTurned) -> Any:
    """The value, with sets that are shown the other way round."""
    return _Copies(is_turned).of(value)


class _Copies:
    """The copies of one value and of what it holds."""

    def __init__(self, is_turned: IsTurned) -> None:
        self._is_turned = is_turned
        self._by_id: dict[int, Any] = {}
        """Of what was met already; the value holds all of that, so that no `id` is given away anew."""

    def of(self, value: Any) -> Any:
        make = _MAKERS.get(type(value))
        if make is None:
            return value
        known = self._by_id.get(id(value))
        if known is not None:
            return known
        made = make(self, value)
        # A tuple that holds itself does so by way of a list, and was made there.
        return self._by_id.setdefault(id(value), made)

    def set(self, value: Any) -> Any:
        made = (_Set if type(value) is set else _FrozenSet)(value)
        if not made:
            return value
        elements = tuple(map(self.of, value))
        made.shown = elements[::-1] if self._is_turned(value) else elements
        return made

    def list(self, value: list[Any]) -> Any:
        made: list[Any] = []
        self._by_id[id(value)] = made
        made.extend(map(self.of, value))
        return made

    def tuple(self, value: tuple[Any, ...]) -> Any:
        return tuple(map(self.of, value))

    def mapping(self, value: dict[Any, Any]) -> Any:
        made: dict[Any, Any] = {}
        self._by_id[id(value)] = made
        made.update((self.of(key), self.of(one)) for key, one in value.items())
        return made


_MAKERS: dict[type, Callable[[_Copies, Any], Any]] = {
    set: _Copies.set,
    frozenset: _Copies.set,
    list: _Copies.list,
    tuple: _Copies.tuple,
    dict: _Copies.mapping,
}
