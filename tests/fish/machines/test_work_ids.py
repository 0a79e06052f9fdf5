"""Laws of cyclic states: what is open is what was started and not named since."""

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fish.machines import System, cyclic, machine, state, to
from fish.machines.instance import Instance
from fish.timeline import Timeline
from lamport.event import Event
from lamport.ids import NodeId
from tests.fish.machines.benches import fold, key, logged, reasons

WORKER = System(
    (
        machine(
            "w",
            initial="idle",
            states={
                "idle": state(on={"START": "busy"}),
                "busy": cyclic(closes="ids", on={"STOP": "idle", "PAUSE": "paused", "LOOK": to()}),
                "paused": cyclic(closes="ids", on={"RESUME": "busy", "DROP": "idle"}),
            },
        ),
    )
)
MOVES = {
    "PAUSE": ("busy", "paused"),
    "RESUME": ("paused", "busy"),
    "STOP": ("busy", None),
    "DROP": ("paused", None),
}


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, str, list[int]]]:
    """Events in key order: author, type, and which earlier events they name."""
    drawn = []
    for place in range(draw(st.integers(1, 14))):
        type_ = draw(st.sampled_from(["START", "START", *MOVES]))
        named = draw(st.lists(st.integers(0, max(0, place - 1)), max_size=4))
        drawn.append((draw(st.sampled_from("ABC")), type_, named))
    return drawn


def said(history: list[tuple[str, str, list[int]]]) -> list[tuple[int, str, str, dict[str, Any]]]:
    keys = [key(place + 1, author) for place, (author, _, _) in enumerate(history)]
    return [
        (place + 1, author, "w/x", {"type": type_, "ids": [keys[one] for one in named]})
        for place, (author, type_, named) in enumerate(history)
    ]


def expected(history: list[tuple[str, str, list[int]]]) -> dict[str, str]:
    """The model: a map from open ids to their states."""
    open_: dict[str, str] = {}
    for lamport, author, _, event in said(history):
        source, target = MOVES.get(event["type"], (None, "busy"))
        taken = [one for one in dict.fromkeys(event["ids"]) if source and open_.get(one) == source]
        for one in taken:
            del open_[one]
        if target is not None and (taken or source is None):
            open_[key(lamport, author)] = target
    return open_


def work(instance: Instance) -> dict[str, str]:
    return {one.id: one.state for one in instance.tokens}


@given(histories())
@settings(deadline=None)
def test_open_is_what_was_started_and_not_named_since(
    history: list[tuple[str, str, list[int]]],
) -> None:
    world = fold(WORKER, *said(history))
    found = world.instances.get("w/x")
    open_ = expected(history)
    assert found is not None
    assert work(found) == open_
    assert found.value == (open_[max(open_)] if open_ else "idle")


@given(histories(), st.integers())
@settings(deadline=None)
def test_any_order_of_arrival_leads_to_the_same_machines(
    history: list[tuple[str, str, list[int]]], seed: int
) -> None:
    offsets: dict[str, int] = {}
    events: list[Event] = []
    for lamport, author, address, event in said(history):
        offsets[author] = offsets.get(author, -1) + 1
        events.append(logged(offsets[author], lamport, author, address, event))
    fish = WORKER.fish("workers")
    timeline = Timeline(fish, NodeId(bytes(32)))
    known: list[Event] = []
    draw = random.Random(seed)
    waiting = {
        author: [one for one in events if one.stream.node == stream]
        for author, stream in {
            a: e.stream.node for a, e in zip((h[0] for h in history), events, strict=True)
        }.items()
    }
    while any(waiting.values()):
        stream = draw.choice([one for one in waiting.values() if one])
        arrived = stream.pop(0)
        known = sorted([*known, arrived], key=lambda one: one.key)
        late = timeline.late([arrived])
        if late is None:
            timeline.advance([arrived])
        else:
            after = timeline.rewind_to(late)
            timeline.advance([one for one in known if after is None or one.key > after])
    assert timeline.state == fold(WORKER, *said(history))


def test_an_event_that_names_no_ids_closes_nothing() -> None:
    world = fold(WORKER, (1, "A", "w/x", {"type": "START"}), (2, "A", "w/x", {"type": "STOP"}))
    assert reasons(world) == ["missing-closes"]
    assert work(world.instances["w/x"]) == {key(1): "busy"}


def test_an_event_that_leaves_nothing_needs_no_ids() -> None:
    world = fold(WORKER, (1, "A", "w/x", {"type": "START"}), (2, "A", "w/x", {"type": "LOOK"}))
    assert (reasons(world), world.passages[-1].kind) == ([], "internal")


def test_of_two_moves_of_one_id_the_first_wins() -> None:
    start = (1, "A", "w/x", {"type": "START"})
    pause = (5, "A", "w/x", {"type": "PAUSE", "ids": [key(1)]})
    stop = (6, "B", "w/x", {"type": "STOP", "ids": [key(1)]})
    world = fold(WORKER, start, pause, stop)
    assert (work(world.instances["w/x"]), reasons(world)) == (
        {key(5): "paused"},
        ["already-closed"],
    )
    world = fold(WORKER, start, (4, *stop[1:]), pause)
    assert (work(world.instances["w/x"]), reasons(world)) == ({}, ["already-closed"])


def test_send_stamps_the_ids_of_the_state_that_the_event_leaves() -> None:
    world = fold(WORKER, (1, "A", "w/x", {"type": "START"}), (2, "B", "w/x", {"type": "START"}))
    instance = world.instances["w/x"]
    stamped = WORKER.stamped(instance, {"type": "STOP"})
    assert stamped == {"type": "STOP", "ids": [key(1), key(2, "B")]}
    assert WORKER.stamped(instance, {"type": "STOP", "ids": []})["ids"] == []
    assert "ids" not in WORKER.stamped(instance, {"type": "RESUME"})
