"""A test kit for fish: does what a definition claims hold?

`check_commutative` folds the same events in many orders, each stream in its own order as the log delivers it, and holds
the states against each other, byte by byte.
"""

import copy
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fish.definition import Fish, Metadata
from fish.errors import NotCommutative
from fish.states import encode_state
from lamport.event import Event
from lamport.ids import NodeId, StreamId

TRIES = 100
"""Orders that are tried, if not said otherwise."""


def check_commutative(
    fish: Fish[Any],
    events: Iterable[Event],
    node: NodeId,
    *,
    tries: int = TRIES,
    seed: int = 0,
) -> None:
    """Fold the events that a fish selects in many orders. One that is given twice is one, as in a log.

    A reducer that refuses an event in one order only makes a difference, too. With `on_error="skip"` it is skipped, as
    the pond does.

    Raises:
        Exception: the fish stops at one of these events in their own order: there is nothing to compare.
        NotCommutative: the state depends on the order; the text shows two orders that are as near to each other as
            could be found.
        StateCodecError: a state has no bytes that could be compared.
    """
    each = {one.key: one for one in events if fish.selects(one, node)}
    selected = [each[key] for key in sorted(each)]
    expected = _bytes_of(fish, _folded(fish, selected, node))
    randomness = random.Random(seed)  # noqa: S311 - a test is repeatable
    for _ in range(tries):
        order = mixed(selected, randomness)
        if _outcome(fish, order, node) != expected:
            raise NotCommutative(_difference(fish, selected, order, node))


def mixed(events: Sequence[Event], randomness: random.Random) -> list[Event]:
    """The same events, the streams mixed in another way, each in its own order."""
    waiting: dict[StreamId, list[Event]] = {}
    for event in reversed(events):
        waiting.setdefault(event.stream, []).append(event)
    turns = [event.stream for event in events]
    randomness.shuffle(turns)
    return [waiting[stream].pop() for stream in turns]


def _folded(fish: Fish[Any], order: Iterable[Event], node: NodeId) -> Any:
    state = fish.initial
    for event in order:
        given, metadata = state, Metadata.of(event, node)
        payload = event.payload
        if fish.mutates:
            given, payload = copy.deepcopy((state, payload))
        try:
            state = fish.on_event(given, payload, metadata)
        except Exception:
            if fish.on_error == "stop":
                raise
    return state


def _outcome(fish: Fish[Any], order: Iterable[Event], node: NodeId) -> bytes | None:
    """The bytes of the state; None where the fish stops."""
    try:
        state = _folded(fish, order, node)
    except Exception:  # noqa: BLE001 - whatever a reducer raises
        return None
    return _bytes_of(fish, state)


def _bytes_of(fish: Fish[Any], state: Any) -> bytes:
    """A state's bytes, as a snapshot keeps it."""
    serialize = fish.serialize_state
    return encode_state(state if serialize is None else serialize(state))


def _difference(
    fish: Fish[Any], order: Sequence[Event], other: Sequence[Event], node: NodeId
) -> str:
    """Two events next to each other whose exchange makes a difference, somewhere on the way from one order to another.

    `order` gives the state that is expected, `other` does not.
    """

    def is_expected(events: Sequence[Event]) -> bool:
        return _outcome(fish, events, node) == expected

    expected = _outcome(fish, order, node)
    before, after = _first_exchange(order, other, is_expected)
    text = f"fish {fish.name!r} is not commutative"
    if is_expected(before) or not is_expected(after):  # it does not even agree with itself
        return f"{text}: {len(order)} events gave two states in two orders"
    first, second = next(
        pair for pair in zip(after, before, strict=True) if pair[0].key != pair[1].key
    )
    return (
        f"{text}: it makes a difference whether {first.key} {first.payload!r} or {second.key}"
        f" {second.payload!r} is folded first"
    )


def _first_exchange(
    order: Sequence[Event], other: Sequence[Event], is_expected: Callable[[Sequence[Event]], bool]
) -> tuple[list[Event], list[Event]]:
    """Two orders that differ by an exchange of neighbours, and of which the second only is as expected.

    The way from `other` to `order` brings one event after the other to its place, and each from neighbour to neighbour.
    First is asked how many are in their places when it is as expected, then how far the last of them has come. It takes
    about as many folds as there are binary digits in the number of exchanges.
    """

    def placed(count: int) -> list[Event]:
        there = {event.key for event in order[:count]}
        return [*order[:count], *(event for event in other if event.key not in there)]

    def moved(steps: int) -> list[Event]:
        at = start - steps
        return [*rest[:at], last, *rest[at:]]

    count = _least(len(order), lambda number: is_expected(placed(number)))
    rest = placed(count - 1)
    last = order[count - 1]
    start = next(n for n, event in enumerate(rest) if event.key == last.key)
    del rest[start]
    steps = _least(start - count + 1, lambda number: is_expected(moved(number)))
    return moved(steps - 1), moved(steps)


def _least(most: int, holds: Callable[[int], bool]) -> int:
    """A number up to `most` for which something holds, and for the one before it does not.

    It is known to hold for `most`, and not for 0.
    """
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        if holds(middle):
            most = middle
        else:
            least = middle
    return most
