"""Definitions made of the wrong parts are refused with their place, never with an error of Python."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish.machines import (
    Cancel,
    Effect,
    Emit,
    InvalidCoordination,
    InvalidMachine,
    Raise,
    SendTo,
    Spawn,
    System,
    after,
    assign,
    child,
    invoke,
    load_machine,
    load_route,
    machine,
    state,
    to,
)
from fish.machines.chart import Chart, components

odd: Any = 3
"""Anything that is no part of a definition."""


def deep(value: Any, times: int) -> Any:
    for _ in range(times):
        value = [value]
    return value


def nested(times: int) -> Any:
    inner = state()
    for _ in range(times):
        inner = state(initial="x", states={"x": inner})
    return inner


@pytest.mark.parametrize(
    ("make", "kind", "place"),
    [
        (lambda: odd, "bad-shape", "state 'a'"),
        (lambda: {"on": {}}, "bad-shape", "state 'a'"),
        (lambda: state(entry=odd), "unknown-action", "state 'a' entry"),
        (lambda: state(exit=[odd]), "unknown-action", "state 'a' exit"),
        (lambda: state(on={"X": odd}), "bad-shape", "state 'a' on X"),
        (lambda: state(on={"X": [odd]}), "bad-shape", "state 'a' on X"),
        (lambda: state(on={"X": to(odd)}), "bad-name", "state 'a' on X"),
        (lambda: state(on={"X": to(guard=3)}), "bad-guard", "state 'a' on X"),
        (lambda: state(on={"$X": "a"}), "bad-event", "state 'a' on"),
        (lambda: state(on={"": "a"}), "bad-event", "state 'a' on"),
        (lambda: state(on={odd: "a"}), "bad-event", "state 'a' on"),
        (lambda: state(after=[odd]), "bad-shape", "state 'a' after"),
        (lambda: state(after=after("soon", "a")), "bad-delay", "state 'a' after"),
        (lambda: state(after=after(float("nan"), "a")), "bad-delay", "state 'a' after"),
        (lambda: state(after=after(float("inf"), "a")), "bad-delay", "state 'a' after"),
        (lambda: state(after=after(None, "a")), "bad-delay", "state 'a' after"),
        (lambda: state(invoke=[odd]), "bad-shape", "state 'a' invoke"),
        (lambda: state(invoke=invoke(odd)), "bad-name", "state 'a' invoke"),
        (lambda: state(invoke=child(odd, id="x")), "bad-name", "state 'a' invoke x"),
        (lambda: state(entry=Effect(odd)), "bad-name", "state 'a' entry"),
        (lambda: state(entry=Effect("x", undo="")), "bad-name", "state 'a' entry"),
        (lambda: state(entry=Cancel(odd)), "bad-name", "state 'a' entry"),
        (lambda: state(entry=Spawn("m", odd)), "bad-name", "state 'a' entry"),
        (lambda: state(entry=Raise("X")), "bad-event", "state 'a' entry"),
        (lambda: state(entry=Emit({"typ": "X"})), "bad-event", "state 'a' entry"),
        (lambda: state(entry=SendTo("m/x", {"type": 3})), "bad-event", "state 'a' entry"),
        (lambda: state(entry=Raise({"type": "X"}, delay=-1)), "bad-delay", "state 'a' entry"),
        (lambda: state(entry=assign({"a..b": 1})), "bad-shape", "state 'a' entry"),
        (lambda: state(entry=assign(x=deep(1, 5_000))), "too-deep", "state 'a' entry"),
        (lambda: state(entry=assign(x={"$eq": [1]})), "unknown-operation", "state 'a' entry"),
        (lambda: state(entry=assign(x={"$add": []})), "unknown-operation", "state 'a' entry"),
        (lambda: nested(1_000), "too-deep", "state 'a.x"),
        (lambda: state(initial=odd), "bad-name", "state 'a'"),
        (lambda: state(states=odd), "bad-shape", "a state states"),
        (lambda: state(on=odd), "bad-shape", "a state on"),
    ],
)
def test_a_part_of_the_wrong_kind_is_named_with_its_place(make: Any, kind: str, place: str) -> None:
    with pytest.raises(InvalidMachine) as caught:
        machine("m", initial="a", states={"a": make()})
    assert (caught.value.kind, place in caught.value.place) == (kind, True), caught.value


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"name": odd}, "bad-name"),
        ({"name": "a\ud800"}, "bad-name"),
        ({"name": "a\u0308"}, "bad-name"),
        ({"name": "a\n"}, "bad-name"),
        ({"initial": odd}, "bad-name"),
        ({"version": "2"}, "bad-version"),
        ({"version": True}, "bad-version"),
        ({"version": 0}, "bad-version"),
        ({"context": [1]}, "bad-shape"),
        ({"context": {"x": "x" * 500_000}}, "bad-context"),
        ({"context": {"x": deep(1, 5_000)}}, "bad-context"),
        ({"events": ["X"]}, "bad-shape"),
        ({"events": {"X": ["f"]}}, "bad-shape"),
        ({"events": {"X": {"f": "int"}}}, "bad-shape"),
        ({"events": {"X": {"f": []}}}, "bad-shape"),
        ({"guards": [1]}, "bad-shape"),
        ({"actions": [1]}, "bad-shape"),
        ({"actions": {"x": odd}}, "unknown-action"),
        ({"states": {"a": state(), "b\n": state()}}, "bad-name"),
        ({"states": {"a": state(), "s\ud83d": state()}}, "bad-name"),
    ],
)
def test_so_is_what_belongs_to_the_machine_itself(more: dict[str, Any], kind: str) -> None:
    with pytest.raises(InvalidMachine) as caught:
        machine(**{"name": "m", "initial": "a", "states": {"a": state()}, **more})
    assert caught.value.kind == kind, caught.value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["a", "b", "", "$ctx.x", "*"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["a", "b", "type", "target", "guard", "actions", "assign", "send_to", "event"]
            )
            | st.sampled_from(
                ["spawn", "ref", "delay", "src", "id", "initial", "states", "on", "entry"]
            )
            | st.sampled_from(
                ["after", "always", "invoke", "persistent", "machine", "cyclic", "output"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@given(
    states=st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2),
    more=st.dictionaries(
        st.sampled_from(["context", "guards", "actions", "events", "version", "on", "initial"]),
        VALUES,
    ),
)
def test_data_of_any_shape_are_a_machine_or_refused(states: Any, more: Any) -> None:
    with contextlib.suppress(InvalidMachine, InvalidCoordination):
        System((load_machine({"id": "m", "initial": "a", "states": states, **more}),))


@pytest.mark.parametrize(
    "data", [None, [], {"from": "a", "emit": "b", "to": "c", "event": "d", "map": 3}]
)
def test_a_route_of_the_wrong_shape_is_refused(data: Any) -> None:
    with pytest.raises(InvalidCoordination):
        load_route(data)


def test_candidates_may_be_written_as_texts_and_one_delay_without_a_list() -> None:
    made = machine(
        "m", initial="a", states={"a": state(on={"X": ["b"]}, after=after(1, "b")), "b": state()}
    )
    assert [edge.leaf and edge.leaf.path for edge in Chart.of(made).nodes["a"].edges()] == [
        "b",
        "b",
    ]


def test_a_chain_of_thousands_of_states_is_a_machine() -> None:
    states = {f"s{n}": state(on={"N": f"s{n + 1}", "B": f"s{max(0, n - 1)}"}) for n in range(3_000)}
    made = machine("m", initial="s0", states={**states, "s3000": state()})
    assert [len(group) for group in Chart.of(made).unprotected_cycles] == [3_000]


@given(
    st.dictionaries(st.integers(0, 7).map(str), st.lists(st.integers(0, 7).map(str), max_size=3))
)
def test_states_are_of_one_group_exactly_if_each_leads_to_the_other(
    leads: dict[str, list[str]],
) -> None:
    leads = {name: [one for one in others if one in leads] for name, others in leads.items()}

    def reached(start: str) -> set[str]:
        found, waiting = {start}, [start]
        while waiting:
            for other in leads[waiting.pop()]:
                if other not in found:
                    found.add(other)
                    waiting.append(other)
        return found

    expected = {frozenset(o for o in reached(n) if n in reached(o)) for n in leads}
    assert {frozenset(group) for group in components(leads)} == expected
