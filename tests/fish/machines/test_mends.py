"""Corners of the fold in which something was lost, mixed up or forged."""

from fish.machines import (
    Cancel,
    Raise,
    Spawn,
    System,
    World,
    assign,
    child,
    cyclic,
    final,
    machine,
    state,
    to,
)
from fish.machines.definition import Action
from tests.fish.machines.benches import fold, one, reasons

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
