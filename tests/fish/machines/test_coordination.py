"""The pitfalls of machines that talk to each other, and what keeps one from them."""

from typing import Any

import pytest

from fish.machines import (
    Emit,
    InvalidCoordination,
    Machine,
    Raise,
    Route,
    System,
    World,
    assign,
    final,
    machine,
    state,
    to,
)
from tests.fish.machines.benches import fold, key, reasons


def relay(name: str, hears: str, says: str | None = None) -> Machine:
    """A machine that says something whenever it hears something, and keeps what it heard."""
    told = [] if says is None else [Emit({"type": says, "n": "$event.n"})]
    heard = assign(heard={"$append": ["$ctx.heard", "$event.n"]})
    states = {"s": state(on={hears: to(do=[heard, *told])})}
    return machine(name, initial="s", states=states, context={"heard": []})


A, B = relay("a", "GO", "went"), relay("b", "GO", "went")
THERE, BACK = Route("a", "went", "b", "GO"), Route("b", "went", "a", "GO")


def test_a_circle_of_routes_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidCoordination) as caught:
        System((A, B), (THERE, BACK))
    assert (caught.value.kind, caught.value.path) == ("coordination-cycle", ("a", "b", "a"))


def test_a_way_back_is_refused_where_an_event_would_lead_to_itself() -> None:
    back = Route("b", "went", "a", "GO", feedback=True)
    with pytest.raises(InvalidCoordination) as caught:
        System((A, B), (THERE, back))
    assert caught.value.kind == "event-cycle"
    System((A, B), (THERE, Route("b", "went", "a", "OTHER", feedback=True)))


@pytest.mark.parametrize("way", ["raised", "always", "entry"])
def test_an_event_that_leads_to_itself_in_a_roundabout_way_is_found(way: str) -> None:
    emit = Emit({"type": "went"})
    states = {
        "raised": {"s": state(on={"GO": to(do=Raise({"type": "X"})), "X": to(do=emit)})},
        "always": {"s": state(on={"GO": "t"}), "t": state(always=to("u", do=emit)), "u": state()},
        "entry": {"s": state(on={"GO": "t"}), "t": state(entry=emit)},
    }
    winding = machine("b", initial="s", states=states[way])
    with pytest.raises(InvalidCoordination, match="event-cycle"):
        System((A, winding), (THERE, Route("b", "went", "a", "GO", feedback=True)))


def test_one_event_that_leads_to_several_is_delivered_in_order_with_keys_derived_from_it() -> None:
    routes = (THERE, Route("a", "went", "c", "GO"), Route("b", "went", "c", "GO"))
    system = System((A, B, relay("c", "GO")), routes)
    world = fold(system, (1, "A", "a", {"type": "GO", "n": 7}))
    assert world.instances["c/c"].context == {"heard": [7, 7]}
    passages = [one for one in world.passages if one.kind == "internal"]
    found = [(one.machine, one.key) for one in passages]
    at = key(1)
    assert found == [("a", at), ("b", f"{at}#1"), ("c", f"{at}#2"), ("c", f"{at}#3")]


def test_a_route_may_rename_fields_and_choose_the_instance() -> None:
    route = Route("a", "went", "b", "GO", "$event.n", (("n", {"$add": ["$event.n", 1]}),))
    world = fold(System((A, B), (route,)), (1, "A", "a", {"type": "GO", "n": 7}))
    assert world.instances["b/7"].context == {"heard": [8]}


def test_a_message_that_comes_twice_counts_once() -> None:
    said = {"type": "GO", "n": 1, "$dedupe": "one"}
    world = fold(
        System((A,)),
        (1, "A", "a", said),
        (2, "B", "a", said),
        (3, "B", "a", {**said, "$dedupe": "two"}),
    )
    assert world.instances["a/a"].context == {"heard": [1, 1]}


def test_a_final_instance_takes_no_more_but_the_next_is_another() -> None:
    session = machine("s", initial="on", states={"on": state(on={"END": "off"}), "off": final()})
    user = machine(
        "u",
        initial="s",
        states={"s": state(on={"LOGIN": to(do=Emit({"type": "in", "id": "$meta.key"}))})},
    )
    shared = Route("u", "in", "s", "HELLO")
    own = Route("u", "in", "s", "HELLO", "$event.id")
    login, end, again = (
        (1, "A", "u", {"type": "LOGIN"}),
        (2, "A", "s", {"type": "END"}),
        (3, "A", "u", {"type": "LOGIN"}),
    )
    world = fold(System((user, session), (shared,)), login, end, again)
    assert world.passages[-1].reason == "done"
    world = fold(System((user, session), (own,)), login, again)
    assert {name for name in world.instances if name.startswith("s/")} == {
        f"s/{key(1)}",
        f"s/{key(3)}",
    }
    assert isinstance(world, World)


@pytest.mark.parametrize(
    ("route", "kind", "told"),
    [
        (Route("m", "SAD", "o", "HEAR"), "unknown-event", "never emits 'SAD', but SAID"),
        (Route("o", "SAID", "m", "GO"), "unknown-event", "'o' never emits 'SAID', but nothing"),
        (Route("m", "SAID", "o", "$stop"), "bad-event", "'$stop'"),
        (Route("m", "", "o", "HEAR"), "bad-event", "''"),
    ],
)
def test_a_route_that_would_never_carry_anything_is_refused(
    route: Route, kind: str, told: str
) -> None:
    said = machine("m", initial="a", states={"a": state(on={"GO": to(do=Emit({"type": "SAID"}))})})
    other = machine("o", initial="a", states={"a": state(on={"HEAR": to()})})
    System((said, other), (Route("m", "SAID", "o", "HEAR"),))
    with pytest.raises(InvalidCoordination) as caught:
        System((said, other), (route,))
    assert (caught.value.kind, told in str(caught.value)) == (kind, True), caught.value


def test_one_machine_is_a_system_and_what_is_none_is_refused() -> None:
    odd: Any = A
    assert System(odd) == System((A,)) == System([A])  # type: ignore[arg-type]
    for wrong in (None, "a", [A, 3]):
        with pytest.raises(InvalidCoordination, match="machines are given as a tuple"):
            System(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidCoordination, match="routes are given as a tuple"):
        System((A, B), ("a", "b"))  # type: ignore[arg-type]


@pytest.mark.parametrize("key", [3, ["x"], {"x": 1}, "x" * 257])
def test_an_idempotency_key_is_a_short_text(key: Any) -> None:
    system = System((A,))
    world = fold(system, (1, "A", "a/1", {"type": "GO", "n": 1, "$dedupe": key}))
    assert reasons(world) == ["bad-payload:$dedupe"]
    assert world.instances["a/1"].seen == ()
