"""An instance's context: set by dotted paths, never changed in place, and never larger than a device can carry.

A context travels in every snapshot, and lives as long as its instance. One that would outgrow its bound (lists that
only ever grow, texts that double) is no state: the step that leads there is rolled back, on every node alike.
"""

from collections.abc import Mapping
from typing import Any

import msgpack

from fish.machines.errors import MachineThrew

MAX_CONTEXT_BYTES = 400_000
"""Largest context, encoded: several events of the largest size, and ten thousand instances still fit a small device."""

SMALL_BYTES = 512
"""Values up to this size are added without measuring what stands beside them."""

_PLAIN = (int, float, bool, type(None))


def assigned(context: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The context with parts of it set, by dotted path.

    Raises:
        MachineThrew: it would be too large.
    """
    after, is_large = dict(context), False
    for path, value in values.items():
        is_new = path not in after
        if type(value) not in _PLAIN or is_new:
            is_large = is_large or is_new or _size(value) > SMALL_BYTES
        if "." in path:
            _put(after, path, value)
        else:
            after[path] = value
    if is_large:
        require_small(after)
    return after


def require_small(context: Mapping[str, Any]) -> None:
    """See that a context is within its bound.

    Raises:
        MachineThrew: it is not.
    """
    if _size(context) > MAX_CONTEXT_BYTES:
        raise MachineThrew("context-too-large")


def _size(value: Any) -> int:
    """The encoded size of a value. What no message could hold counts as if it were a text."""
    if isinstance(value, str):
        return len(value)
    return len(msgpack.packb(value, default=_shown))


def _shown(value: Any) -> Any:
    return list(value) if isinstance(value, set | frozenset) else f"{value!r:.100}"


def _put(context: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted path; what is around is copied, never changed."""
    name, dot, rest = path.partition(".")
    if not dot:
        context[name] = value
        return
    inner = context.get(name)
    copy = dict(inner) if isinstance(inner, Mapping) else {}
    _put(copy, rest, value)
    context[name] = copy
