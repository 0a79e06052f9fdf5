"""What is wrong with a definition is said when it is made, with its place."""

from typing import Any

import pytest

from fish.machines import (
    InvalidCoordination,
    InvalidMachine,
    Machine,
    Route,
    System,
    after,
    assign,
    child,
    cyclic,
    final,
    load_machine,
    load_route,
    machine,
    state,
    to,
)

AB: dict[str, Any] = {"a": {"on": {"GO": "b"}}, "b": {}}


@pytest.mark.parametrize(
    ("change", "kind", "place"),
    [
        ({"initial": "z"}, "bad-initial", "machine 'm'"),
        ({"id": "a:b"}, "bad-name", "machine 'a:b'"),
        ({"id": "x" * 65}, "bad-name", "machine"),
        ({"states": {}}, "bad-initial", "machine 'm'"),
        ({"states": {"a": {"on": {"GO": "nowhere"}}}}, "unknown-target", "state 'a' on GO"),
        ({"states": {"a": {"on": {"GO": [{"guard": "huh"}]}}}}, "unknown-guard", "state 'a' on GO"),
        ({"states": {"a": {"entry": ["huh"]}}}, "unknown-action", "state 'a' entry"),
        ({"states": {"a": {"entry": [{"huh": 1}]}}}, "unknown-action", "state 'a'"),
        ({"states": {"a": {"on": {"GO": []}}}}, "no-candidates", "state 'a' on GO"),
        ({"states": {"a": {"after": [{"delay": -1}]}}}, "bad-delay", "state 'a' after"),
        ({"states": {"a": {"onn": {}}}}, "unknown-word", "state 'a'"),
        ({"states": {"a": {"type": "parallel"}}}, "unknown-word", "state 'a'"),
        ({"states": {"a": {"invoke": {"id": "x"}}}}, "bad-invoke", "state 'a' invoke x"),
        ({"states": {"a": {"cyclic": {}, "initial": "b", "states": {"b": {}}}}}, "cyclic-compound", "state 'a'"),
        ({"states": {"a": {"type": "final", "on": {"GO": "a"}}}}, "final-with-more", "state 'a'"),
        ({"states": {"a": {"entry": [{"effect": "x", "args": "$huh.x"}]}}}, "unknown-value", "state 'a' entry"),
        ({"states": {"a": {"entry": [{"log": {"$huh": 1}}]}}}, "unknown-operation", "state 'a' entry"),
        ({"states": {"a.b": {}}, "initial": "a.b"}, "bad-name", "machine 'm'"),
        ({"events": {"GO": {"x": "huh"}}}, "bad-shape", "machine 'm' event GO"),
        ({"states": {"a": {"on": []}}}, "bad-shape", "state 'a' on"),
    ],
)  # fmt: skip
def test_a_fault_in_a_definition_is_named_with_its_place(
    change: dict[str, Any], kind: str, place: str
) -> None:
    with pytest.raises(InvalidMachine) as caught:
        load_machine({"id": "m", "initial": "a", "states": AB, **change})
    assert caught.value.kind == kind
    assert place in caught.value.place


def test_a_state_to_which_nothing_leads_is_refused_by_the_builder_and_in_strict_mode() -> None:
    with pytest.raises(InvalidMachine, match=r"state 'lost': nothing leads here"):
        machine("m", initial="a", states={"a": state(), "lost": state()})
    data = {"id": "m", "initial": "a", "states": {"a": {}, "lost": {}}}
    load_machine(data)
    with pytest.raises(InvalidMachine, match="unreachable"):
        load_machine(data, strict=True)


def test_two_states_that_lead_to_each_other_need_work_ids_in_strict_mode() -> None:
    rest = state(on={"START": "work"})
    with pytest.raises(InvalidMachine) as caught:
        machine(
            "m",
            initial="rest",
            states={"rest": rest, "work": state(on={"STOP": "rest"})},
            strict=True,
        )
    assert (caught.value.kind, caught.value.states) == ("cycle-without-work-id", ("rest", "work"))
    machine(
        "m", initial="rest", states={"rest": rest, "work": cyclic(on={"STOP": "rest"})}, strict=True
    )


def test_guards_and_actions_may_be_named() -> None:
    made = machine(
        "m",
        initial="a",
        states={"a": state(on={"GO": to("b", guard="rich", do="pay")}), "b": state()},
        guards={"rich": lambda scope: scope.context["money"] > 1},
        actions={"pay": ["spend", assign(paid=True)], "spend": assign(money=0)},
        context={"money": 5},
    )
    assert isinstance(made, Machine)


def test_an_action_that_explains_itself_by_itself_is_refused() -> None:
    with pytest.raises(InvalidMachine, match="unknown-action"):
        machine("m", initial="a", states={"a": state(entry="x")}, actions={"x": "x"})


A = machine("a", initial="s", states={"s": state()})


@pytest.mark.parametrize(
    ("machines", "routes", "kind"),
    [
        ((A, A), (), "two-machines"),
        ((A,), (Route("a", "x", "b", "y"),), "unknown-machine"),
        (
            (machine("p", initial="s", states={"s": state(invoke=child("q", id="c"))}),),
            (),
            "unknown-machine",
        ),
        ((A,), (Route("a", "x", "a", "y"),), "coordination-cycle"),
    ],
)
def test_machines_that_do_not_fit_together_are_refused(
    machines: tuple[Machine, ...], routes: tuple[Route, ...], kind: str
) -> None:
    with pytest.raises(InvalidCoordination) as caught:
        System(machines, routes)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "data", [{"from": "a"}, {"from": "a", "emit": "x", "to": "b", "event": "y", "huh": 1}]
)
def test_a_route_with_a_missing_or_a_strange_field_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InvalidCoordination):
        load_route(data)


def test_a_fish_of_machines_is_told_from_one_with_another_guard() -> None:
    def made(least: int) -> str:
        states = {
            "a": state(on={"GO": to("b", guard=lambda s: s.context["n"] > least)}),
            "b": final(),
        }
        return System((machine("m", initial="a", states=states),)).fish("f").definition

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert after(3, "a").delay == 3
