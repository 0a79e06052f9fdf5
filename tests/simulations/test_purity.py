"""An impure reducer of every kind is named, a pure one is let alone."""

import copy
import datetime as dt
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import randint
from time import time as now
from typing import Any

import pytest

from fish import Fish, Metadata, WorkIds
from lamport import Event, EventKey, NodeId, StreamId, Tag
from simulations.errors import FishImpure
from simulations.purity import LOOKED_AT, check_purity

NODE = NodeId(bytes(range(32)))
X = Tag("x")
Reducer = Callable[[Any, Any, Metadata], Any]


def events(count: int = 12) -> list[Event]:
    """Events with texts enough for a set's order to show."""
    return [
        Event(
            key=EventKey(number + 1, StreamId(NODE, 7)),
            offset=number,
            timestamp=number,
            tags=("x",),
            app_id="test",
            payload={"name": f"machine {number}", "pieces": number, "parts": ["p1", f"p{number}"]},
        )
        for number in range(count)
    ]


def check(initial: Any, on_event: Reducer, count: int = 12, **more: Any) -> None:
    check_purity(Fish("the fish", X, initial, on_event, **more), events(count), NODE)


@dataclass(frozen=True)
class Machine:
    name: str
    parts: frozenset[str] = frozenset()


def in_place(state: list[Any], event: Any, _: Metadata) -> list[Any]:
    state.append(event["pieces"])
    return state


def in_payload(state: int, event: Any, _: Metadata) -> int:
    event["pieces"] += 1
    return state + int(event["pieces"])


def counting(calls: list[int], _state: int, _event: Any, _metadata: Metadata) -> int:
    calls.append(1)
    return len(calls)


def drawing(_state: int, _event: Any, _metadata: Metadata) -> int:
    """Draws by way of a builtin that calls without being seen."""
    return int(next(iter(random.random, 2.0)))


ASKING: dict[str, tuple[Reducer, str]] = {
    "time": (lambda *_: time.time(), "time.time"),
    "time by its own name": (lambda *_: now(), "time.time"),
    "monotonic": (lambda *_: int(time.monotonic_ns() * 0), "time.monotonic_ns"),
    "date": (lambda *_: str(dt.datetime.now(dt.UTC).date()), "datetime.now"),
    "today": (lambda *_: str(dt.date.today()), "date.today"),  # noqa: DTZ011 - as it says
    "random": (lambda *_: random.random(), "the module random"),
    "random by its own name": (lambda *_: randint(0, 0), "the module random"),
    "a draw out of sight": (drawing, "it draws from the module `random`"),
    "shuffle": (lambda *_: random.sample([1, 2, 3], 3), "the module random"),
    "urandom": (lambda *_: len(os.urandom(1)), "os.urandom"),
    "uuid": (lambda *_: len(str(uuid.uuid4())), "os.urandom"),
    "secrets": (lambda *_: len(secrets.token_hex()), "os.urandom"),
    "environment": (lambda *_: os.environ.get("NO SUCH", ""), "os.environ"),
    "identity": (lambda state, *_: id(state) * 0, "id()"),
    "hash": (lambda _state, event, _: hash(event["name"]) * 0, "hash()"),
}


@pytest.mark.parametrize("kind", ASKING)
def test_a_reducer_that_asks_the_world_is_named(kind: str) -> None:
    on_event, what = ASKING[kind]
    with pytest.raises(FishImpure, match="the fish") as failure:
        check(0, on_event)
    assert what in str(failure.value)
    line = on_event.__code__.co_firstlineno
    assert f"test_purity.py:{line})" in str(failure.value)


WRONG: dict[str, tuple[Any, Reducer, str]] = {
    "state in place": ([], in_place, "it changes the state it is given"),
    "payload in place": (0, in_payload, "it changes the payload it is given"),
    "memory": (0, partial(counting, []), "two calls with equal inputs give different states"),
    "an object": (0, lambda *_: object(), "the new state has no bytes to compare"),
    "identity of a text": (
        {"seen": "m"},
        lambda state, *_: {"seen": "m", "same": state["seen"] is sys.intern("m")},
        "a state that comes back from a snapshot goes on differently",
    ),
    "order of a set": (
        (set(), ""),
        lambda state, event, _: (state[0] | {event["name"]}, next(iter(state[0]), "")),
        "the order of a set's elements",
    ),
    "order of a frozen set": (
        (frozenset(), ""),
        lambda state, event, _: (state[0] | {event["name"]}, ",".join(state[0])),
        "the order of a set's elements",
    ),
    "order in a dataclass": (
        (Machine("m"), ""),
        lambda state, event, _: (
            Machine("m", state[0].parts | {event["name"]}),
            ",".join(state[0].parts),
        ),
        "the order of a set's elements",
    ),
    "order of keys": (
        [],
        lambda _state, event, _: list(event),
        "the order in which the payload's keys were written",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_reducer_that_is_no_function_of_its_inputs_is_named(kind: str) -> None:
    initial, on_event, what = WRONG[kind]
    with pytest.raises(FishImpure, match="the fish") as failure:
        check(initial, on_event)
    assert what in str(failure.value)
    assert "test_purity.py:" in str(failure.value)


@pytest.mark.parametrize(
    ("is_reset", "what"),
    [
        (lambda *_: time.time() < 0, "time.time"),
        (lambda event, _: event.pop("pieces") < 0, "it changes the payload"),
        (lambda *_, calls=[]: calls.append(1) or len(calls) % 2, "different answers"),
    ],
)
def test_an_impure_reset_is_named(is_reset: Callable[[Any, Metadata], bool], what: str) -> None:
    with pytest.raises(FishImpure) as failure:
        check(0, lambda state, *_: state + 1, is_reset=is_reset)
    assert what in str(failure.value)


def test_the_event_and_its_payload_are_told() -> None:
    with pytest.raises(FishImpure) as failure:
        check(0, lambda _state, event, _: now() if event["pieces"] == 5 else 0)
    assert str(events()[5].key) in str(failure.value)
    assert "'machine 5'" in str(failure.value)


def copied(state: dict[str, Any], event: Any, _: Metadata) -> dict[str, Any]:
    """Deep copies go by identity inside, and that is nobody's business."""
    state = copy.deepcopy(state)
    state.setdefault("names", []).append(event["name"])
    return state


PURE: dict[str, tuple[Any, Reducer]] = {
    "count": (0, lambda count, *_: count + 1),
    "counts": ({}, lambda state, event, _: {**state, event["name"]: event["pieces"]}),
    "work": (WorkIds(), lambda work, _event, metadata: work.opened(metadata.event_key)),
    "a set": (set(), lambda state, event, _: state | set(event["parts"])),
    "a sorted set": (
        (frozenset(), ()),
        lambda state, event, _: (state[0] | {event["name"]}, tuple(sorted(state[0]))),
    ),
    "a set of dataclasses": (
        frozenset(),
        lambda state, event, _: state | {Machine(event["name"], frozenset(event["parts"]))},
    ),
    "a deep copy": ({}, copied),
    "a generator of its own": (0, lambda _s, event, _: random.Random(event["pieces"]).random()),
    "a date of the metadata": (
        0,
        lambda *seen: str(dt.datetime.fromtimestamp(seen[-1].offset, dt.UTC)),
    ),
    "the order of a state's keys": ({}, lambda state, event, _: {event["name"]: 1, **state}),
}


@pytest.mark.parametrize("kind", PURE)
def test_a_pure_reducer_is_let_alone(kind: str) -> None:
    initial, on_event = PURE[kind]
    check(initial, on_event)


def test_a_reducer_that_raises_is_not_called_impure() -> None:
    check(0, lambda state, event, _: state + 1 // (5 - event["pieces"]))


def test_the_watch_leaves_no_trace() -> None:
    before = (sys.getprofile(), random.getstate())
    check(0, lambda count, *_: count + 1)
    assert (sys.getprofile(), random.getstate()) == before


def test_of_many_events_only_some_are_looked_at() -> None:
    calls: list[int] = []

    def on_event(count: int, _event: Any, _: Metadata) -> int:
        calls.append(1)
        return count + 1

    check(0, on_event, count=10 * LOOKED_AT)
    assert 10 * LOOKED_AT <= len(calls) <= 15 * LOOKED_AT
