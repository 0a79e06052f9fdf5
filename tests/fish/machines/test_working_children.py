"""Children of cyclic states: one for each work id, and what becomes of it belongs to that id."""

from typing import Any

import pytest

from fish.machines import (
    SendTo,
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
from fish.machines.instance import child_address
from tests.fish.machines.benches import fold, key, reasons

KID = machine(
    "kid",
    initial="on",
    states={
        "on": state(on={"END": "off", "LOOK": to(do=assign(seen=True))}),
        "off": final(output=7),
    },
    context={"seen": False, "work": None},
)


def crew(**more: Any) -> System:
    """A machine that works with a child for each work id."""
    events = {"STOP": "idle", "PAUSE": "paused", **more.pop("on", {})}
    kid = child("kid", id="k", context={"work": "$work"}, **more)
    states = {
        "idle": state(on={"START": "busy"}),
        "busy": cyclic(closes="ids", on=events, invoke=kid),
        "paused": cyclic(closes="ids", on={"DROP": "idle"}),
    }
    made = machine("w", initial="idle", states=states, context={"got": []})
    return System((made, KID))


def address(work: str) -> str:
    """The address of the child that belongs to a work id."""
    return child_address("kid", "w/x", "busy", work, "k")


STARTS = ((1, "A", "w/x", {"type": "START"}), (2, "B", "w/x", {"type": "START"}))
ONE, TWO = key(1), key(2, "B")


def states_of(world: World) -> dict[str, str]:
    """What became of the children."""
    return {
        work: world.instances[address(work)].status
        for work in (ONE, TWO)
        if address(work) in world.instances
    }


def test_each_work_id_has_a_child_of_its_own_that_ends_with_it() -> None:
    system = crew(stops_on_exit=True)
    stop = (3, "A", "w/x", {"type": "STOP", "ids": [ONE]})
    world = fold(system, *STARTS, stop)
    assert states_of(world) == {ONE: "stopped", TWO: "active"}
    assert [one.token.id for one in world.instances["w/x"].workers] == [TWO]
    assert world.instances[address(TWO)].context["work"] == TWO
    world = fold(system, *STARTS, stop, (4, "A", "w/x", {"type": "STOP", "ids": [TWO]}))
    assert states_of(world) == {ONE: "stopped", TWO: "stopped"}
    assert world.instances["w/x"].workers == ()


def test_a_move_to_another_cyclic_state_ends_the_child_of_what_it_uses_up() -> None:
    pause = (3, "A", "w/x", {"type": "PAUSE", "ids": [TWO]})
    assert states_of(fold(crew(stops_on_exit=True), *STARTS, pause)) == {
        ONE: "active",
        TWO: "stopped",
    }


def test_who_is_stopped_stops_the_children_of_all_its_work() -> None:
    stop = (3, "A", "w/x", {"type": "$stop"})
    world = fold(crew(stops_on_exit=True), *STARTS, stop)
    assert states_of(world) == {ONE: "stopped", TWO: "stopped"}
    assert world.instances["w/x"].workers == ()
    assert states_of(fold(crew(), *STARTS, stop)) == {ONE: "active", TWO: "active"}


def test_the_end_of_a_child_closes_the_work_id_that_it_belongs_to() -> None:
    system = crew(on={"done.child.k": to("idle", do=assign(got="$event.output"))})
    world = fold(system, *STARTS, (3, "A", address(ONE), {"type": "END"}))
    parent = world.instances["w/x"]
    assert ([one.id for one in parent.tokens], parent.context["got"]) == ([TWO], 7)
    assert reasons(world) == []
    world = fold(
        system,
        *STARTS,
        (3, "A", address(TWO), {"type": "END"}),
        (4, "A", address(ONE), {"type": "END"}),
    )
    assert (world.instances["w/x"].value, reasons(world)) == ("idle", [])


def test_what_a_child_leads_to_without_leaving_knows_its_work_id() -> None:
    take = assign(got={"$append": ["$ctx.got", "$work"]})
    system = crew(on={"done.child.k": to(do=take)})
    world = fold(system, *STARTS, (3, "A", address(ONE), {"type": "END"}))
    assert world.instances["w/x"].context["got"] == [ONE]


def test_the_end_of_a_child_whose_work_is_closed_ends_nobody_elses_work() -> None:
    system = crew(on={"done.child.k": "idle"})
    stop = (3, "A", "w/x", {"type": "STOP", "ids": [ONE]})
    end = (4, "A", address(ONE), {"type": "END"})
    world = fold(system, *STARTS, stop, end)
    parent = world.instances["w/x"]
    assert [one.id for one in parent.tokens] == [one.token.id for one in parent.workers] == [TWO]
    assert reasons(world) == ["already-closed"]
    world = fold(system, STARTS[0], stop, end)
    assert reasons(world) == ["not-enabled"]


@pytest.mark.parametrize("work", [ONE, TWO])
@pytest.mark.parametrize("delay", [None, 5])
def test_what_is_sent_by_the_id_of_an_invoke_reaches_the_child_of_that_work(
    work: str, delay: int | None
) -> None:
    system = crew(on={"CALL": to(do=SendTo("k", {"type": "LOOK"}, delay=delay))})
    said = (*STARTS, (3, "A", "w/x", {"type": "CALL", "ids": [work]}))
    timers = fold(system, *said).instances["w/x"].timers
    rung = ((4, "A", "w/x", {"type": "$after", "timer": one.id}) for one in timers)
    world = fold(system, *said, *rung)
    assert [one for one in (ONE, TWO) if world.instances[address(one)].context["seen"]] == [work]


def test_an_action_that_closes_work_still_reaches_its_child() -> None:
    system = crew(on={"STOP": to("idle", do=SendTo("k", {"type": "LOOK"}))})
    world = fold(system, *STARTS, (3, "A", "w/x", {"type": "STOP", "ids": [ONE]}))
    assert world.instances[address(ONE)].context["seen"]
    assert not world.instances[address(TWO)].context["seen"]


def test_the_child_of_a_state_around_work_is_not_taken_for_that_of_the_work() -> None:
    around = state(
        initial="busy",
        states={"busy": cyclic(closes="ids", invoke=child("kid", id="k"), on={"STOP": "idle"})},
        invoke=child("kid", id="k"),
        on={"done.child.k": "idle"},
    )
    states = {"idle": state(on={"START": "at"}), "at": around}
    system = System((machine("w", initial="idle", states=states), KID))
    outer = child_address("kid", "w/x", "at", ONE, "k")
    inner = child_address("kid", "w/x", "at.busy", ONE, "k")
    for who, left in ((outer, []), (inner, [TWO])):
        world = fold(system, *STARTS, (3, "A", who, {"type": "END"}))
        tokens = world.instances["w/x"].tokens
        assert ([one.id for one in tokens], reasons(world)) == (left, [])


def test_the_end_of_a_child_whose_work_is_closed_may_begin_work_again() -> None:
    kid = child("kid", id="k")
    busy = cyclic(closes="ids", on={"STOP": "idle"}, invoke=kid)
    idle = state(on={"START": "busy", "done.child.k": "busy"})
    system = System((machine("w", initial="idle", states={"idle": idle, "busy": busy}), KID))
    stop = (3, "A", "w/x", {"type": "STOP", "ids": [ONE]})
    world = fold(system, *STARTS, stop, (4, "A", address(ONE), {"type": "END"}))
    assert [one.id for one in world.instances["w/x"].tokens] == [TWO, f"{key(4)}#1"]


def test_a_child_that_is_kept_outlives_the_work_of_an_invoke_with_the_same_id() -> None:
    kept = state(invoke=child("kid", id="k"), on={"START": "busy"})
    ended = cyclic(closes="ids", invoke=child("kid", id="k", stops_on_exit=True))
    system = System((machine("w", initial="idle", states={"idle": kept, "busy": ended}), KID))
    said = (*STARTS[:1], (3, "A", "w/x", {"type": "$stop"}))
    world = fold(system, *said)
    [(_, outer)] = world.instances["w/x"].children
    assert (world.instances[outer].status, states_of(world)) == ("active", {ONE: "stopped"})
