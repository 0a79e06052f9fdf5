"""Corners of the fold in which something was lost, mixed up or forged."""

import pytest

from fish.machines import (
    Cancel,
    Effect,
    Raise,
    Spawn,
    System,
    World,
    after,
    assign,
    child,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.definition import Action
from tests.fish.machines.benches import Said, fold, one, reasons

PLAIN = machine("kid", initial="a", states={"a": state()})


def test_what_is_delayed_in_one_step_are_as_many_timers_whatever_is_taken_back_between() -> None:
    said: list[Action] = [
        Raise({"type": "P"}, delay=1, id="p"),
        Raise({"type": "Q"}, delay=2),
        Cancel("p"),
        Raise({"type": "R"}, delay=3),
        Raise({"type": "S"}, delay=4, id="s"),
        Raise({"type": "T"}, delay=4, id="s"),
    ]
    system = System((machine("m", initial="a", states={"a": state(on={"GO": to(do=said)})}),))
    timers = one(system, "m/1", "GO").timers
    assert [timer.event["type"] for timer in timers if timer.event] == ["Q", "R", "S", "T"]
    assert len({timer.id for timer in timers}) == 4


def test_two_children_spawned_in_one_step_are_two() -> None:
    keep = assign(kids={"$append": ["$ctx.kids", "$ctx.ref"]})
    twice: list[Action] = [Spawn("kid", "ref"), keep, Spawn("kid", "ref"), keep]
    parent = machine(
        "m", initial="a", context={"kids": []}, states={"a": state(on={"GO": to(do=twice)})}
    )
    world = fold(System((parent, PLAIN)), (1, "A", "m/1", {"type": "GO"}))
    kids = world.instances["m/1"].context["kids"]
    assert len(set(kids)) == 2
    assert {*kids, "m/1"} == set(world.instances)


def test_who_is_stopped_stops_the_children_that_end_with_its_state() -> None:
    top = machine(
        "top",
        initial="on",
        states={
            "on": state(
                invoke=child("middle", id="m", name="m", stops_on_exit=True), on={"OFF": "off"}
            ),
            "off": state(),
        },
    )
    kept = child("kid", id="kept", name="kept")
    ended = child("kid", id="ended", name="ended", stops_on_exit=True)
    middle = machine("middle", initial="a", states={"a": state(invoke=[kept, ended])})
    world = fold(System((top, middle, PLAIN)), (1, "A", "top/t", {"type": "OFF"}))
    assert {name: one.status for name, one in world.instances.items()} == {
        "top/t": "active",
        "middle/m": "stopped",
        "kid/kept": "active",
        "kid/ended": "stopped",
    }


def test_only_a_child_itself_says_that_it_is_done() -> None:
    parent = machine(
        "m",
        initial="a",
        states={
            "a": state(invoke=child("kid", id="k", name="k"), on={"done.child.k": "b"}),
            "b": state(),
        },
    )
    kid = machine("kid", initial="a", states={"a": state(on={"END": "z"}), "z": final()})
    system = System((parent, kid))
    said = (1, "A", "m/1", {"type": "done.child.k"})
    world = fold(system, said)
    assert (world.instances["m/1"].value, reasons(world)) == ("a", ["reserved"])
    world = fold(system, said, (2, "A", "kid/k", {"type": "END"}))
    assert world.instances["m/1"].value == "b"
    assert system.why_not(World(), "m/2", {"type": "done.state.x"}) == "reserved"


def test_work_is_left_by_any_event_where_any_event_leaves_it() -> None:
    states = {"idle": state(on={"START": "busy"}), "busy": cyclic(closes="ids", on={"*": "idle"})}
    system = System((machine("m", initial="idle", states=states),))
    world = fold(system, (1, "A", "m/1", {"type": "START"}))
    instance = world.instances["m/1"]
    stop = system.stamped(instance, {"type": "WHATEVER"})
    assert stop["ids"] == [instance.tokens[0].id]
    assert system.why_not(world, "m/1", stop) is None


def test_what_is_forbidden_inside_is_not_told_to_be_enabled_outside() -> None:
    inner = {"a": state(on={"X": None, "Y": "b"}), "b": state(on={"*": None})}
    states = {"o": state(initial="a", on={"X": "z", "W": "z"}, states=inner), "z": final()}
    system = System((machine("m", initial="o", states=states),))
    assert system.enabled(system.instance(World(), "m/1")) == ("W", "Y")
    inside = fold(system, (1, "A", "m/1", {"type": "Y"})).instances["m/1"]
    assert system.enabled(inside) == ()


def test_a_child_in_an_explained_action_must_be_there_too() -> None:
    parent = machine(
        "m", initial="a", states={"a": state(entry="go")}, actions={"go": Spawn("kid", "ref")}
    )
    system = System((parent, PLAIN))
    assert system.instance(World(), "kid/x").status == "stopped", "it lives as a child only"


def test_what_only_the_fold_says_is_not_taken_from_a_log_by_waiting() -> None:
    states = {
        "a": state(on={"GO": "w"}),
        "w": state(invoke=invoke("s", done="z")),
        "z": state(invoke=child("kid", id="k", name="k"), on={"done.child.k": "forged"}),
        "forged": state(),
    }
    parent = machine("m", initial="a", defer_while_busy=True, states=states)
    system = System((parent, PLAIN))
    said: list[Said] = [
        (1, "A", "m/1", {"type": "GO"}),
        (2, "A", "m/1", {"type": "done.child.k"}),
    ]
    waiting = fold(system, *said).instances["m/1"]
    assert waiting.deferred == ()
    done = {"type": "$done", "inv": waiting.flights[0].id}
    world = fold(system, *said, (3, "A", "m/1", done))
    assert (world.instances["m/1"].value, reasons(world)) == ("z", ["reserved"])


def test_errors_that_are_told_while_an_event_waits_lead_to_new_work_each_time() -> None:
    work = state(entry=Effect("try"), invoke=invoke("s", error="w"))
    states = {"a": state(on={"GO": "w"}), "w": work}
    system = System((machine("m", initial="a", defer_while_busy=True, states=states),))
    said: list[Said] = [(1, "A", "m/1", {"type": "GO"}), (2, "A", "m/1", {"type": "GO"})]
    flights: list[str] = []
    for lamport in range(3, 7):
        flights.append(fold(system, *said).instances["m/1"].flights[0].id)
        parked = {"type": "$abort", "inv": flights[-1], "deliver": "next_event"}
        said.append((lamport, "A", "m/1", parked))
    intents = fold(system, *said).instances["m/1"].intents
    assert (len(set(flights)), len({one.id for one in intents})) == (4, 5)


AROUND = System(
    (
        machine(
            "m",
            initial="idle",
            states={
                "idle": state(on={"START": "shift"}),
                "shift": state(
                    initial="busy",
                    after=after(10, "late"),
                    invoke=invoke("s", done="late"),
                    states={"busy": cyclic(closes="ids", on={"STOP": "idle"})},
                ),
                "late": state(on={"RESET": "idle"}),
            },
        ),
    )
)


def test_what_was_begun_around_work_ends_all_of_it() -> None:
    start: list[Said] = [(1, author, "m/1", {"type": "START"}) for author in "AB"]
    open_ = fold(AROUND, *start).instances["m/1"]
    assert len(open_.tokens) == 2
    ends = (
        {"type": "$after", "timer": open_.timers[0].id},
        {"type": "$done", "inv": open_.flights[0].id},
    )
    for end in ends:
        ended = fold(AROUND, *start, (2, "A", "m/1", end)).instances["m/1"]
        assert (ended.value, ended.tokens) == ("late", ())
        over = fold(AROUND, *start, (2, "A", "m/1", end), (3, "A", "m/1", {"type": "RESET"}))
        assert over.instances["m/1"].value == "idle"


def test_a_version_is_a_number() -> None:
    system = System((PLAIN,))
    assert type(one(system, "kid/1", {"type": "X", "$version": True}).version) is int


def test_what_is_over_leaves_the_ledger_before_what_still_stands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fish.machines.instance.KEPT_INTENTS", 4)
    system = System((machine("m", initial="a", states={"a": state(entry=Effect("try"))}),))
    start: Said = (1, "A", "m/1", {"type": "X"})
    [intent] = fold(system, start).instances["m/1"].intents
    told = {"name": "try", "cause": intent.cause, "root": intent.root, "attempt": 1, "number": 0}
    ran: Said = (2, "A", "m/1", {**told, "type": "$ran", "id": intent.id})
    undone: list[Said] = [
        (lamport, "A", "m/1", {**told, "type": "$undone", "id": f"gone {lamport}"})
        for lamport in range(3, 9)
    ]
    kept = [one.id for one in fold(system, start, ran, *undone).instances["m/1"].ledger]
    assert kept == [intent.id, "gone 6", "gone 7", "gone 8"]
