"""The state effects of the vectors, by name."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fish.effects import Effect, Enqueue
from tests.vectors.pond_reducers import Refused

DELAY_S = 0.01
"""How long an asynchronous effect takes, in virtual time."""


def _set(state: Any, enqueue: Enqueue, tags: list[str], number: int) -> None:
    if state["n"] != number - 1:
        raise Refused(f"{number} does not follow {state['n']}")
    enqueue(tags, {"type": "set", "n": number})


def _inc(state: Any, enqueue: Enqueue, tags: list[str]) -> None:
    enqueue(tags, {"type": "set", "n": state["n"] + 1})


def _inc_even(state: Any, enqueue: Enqueue, tags: list[str]) -> None:
    _inc_mod(state, enqueue, tags, 2, 0)


def _inc_mod(state: Any, enqueue: Enqueue, tags: list[str], modulus: int, rest: int) -> None:
    if state["n"] % modulus == rest:
        _inc(state, enqueue, tags)


async def _async_inc(state: Any, enqueue: Enqueue, tags: list[str]) -> None:
    await asyncio.sleep(DELAY_S)
    _inc(state, enqueue, tags)


def _check(state: Any, _enqueue: Enqueue, expected: Any) -> None:
    if state != expected:
        raise Refused(f"{state} is not {expected}")


def _emit(_state: Any, enqueue: Enqueue, events: list[tuple[list[str], Any]]) -> None:
    for tags, payload in events:
        enqueue(tags, payload)


def _emit_then_throw(state: Any, enqueue: Enqueue, events: list[tuple[list[str], Any]]) -> None:
    _emit(state, enqueue, events)
    raise Refused("told to")


def _stop_all(state: Any, enqueue: Enqueue, tags: list[str]) -> None:
    enqueue(tags, {"type": "stopped", "ended": state["open"]})


def _emit_if_absent(state: Any, enqueue: Enqueue, tags: list[str], payload: Any) -> None:
    if payload not in state:
        enqueue(tags, payload)


def _noop(_state: Any, _enqueue: Enqueue) -> None:
    pass


EFFECTS: Mapping[str, Callable[..., Any]] = {
    "set": _set,
    "inc": _inc,
    "incEven": _inc_even,
    "incMod": _inc_mod,
    "asyncInc": _async_inc,
    "check": _check,
    "emit": _emit,
    "emitThenThrow": _emit_then_throw,
    "stopAll": _stop_all,
    "emitIfAbsent": _emit_if_absent,
    "noop": _noop,
}


def effect_of(description: list[Any]) -> Effect[Any]:
    """The effect that a vector describes: its name, then its arguments."""
    name, *arguments = description
    run = EFFECTS[name]
    return lambda state, enqueue: run(state, enqueue, *arguments)


def auto_cancel_of(description: list[Any] | None) -> Callable[[Any], bool] | None:
    """The state for which a standing effect ends."""
    if description is None:
        return None
    name, number = description
    if name != "nEq":
        raise NotImplementedError(f"autoCancel {name!r}")
    return lambda state: bool(state["n"] == number)
