"""Protocols, subscriptions and machines out of JSON values, and what a value of the wrong shape is told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish.protocols import (
    InvalidProtocol,
    Protocol,
    Subscriptions,
    machine_from_json,
    machine_to_json,
    project,
    protocol_from_json,
    protocol_to_json,
    subscriptions_from_json,
)
from fish.protocols.reading import MAX_NAME
from fish.protocols.values import MAX_LOG_TYPES, MAX_ROLES, MAX_TRANSITIONS
from tests.fish.histories import patient
from tests.fish.protocols.made import ALL_HEAR_ALL, WORK, protocols, well_formed

LABEL = {"cmd": "x", "role": "R", "logType": ["A"]}
STEP = {"source": "a", "target": "b", "label": LABEL}
EXECUTE = {"tag": "Execute", "cmd": "x", "logType": ["A"]}


def protocol_with(**changes: Any) -> dict[str, Any]:
    return {"initial": "a", "transitions": [STEP, {**STEP, **changes}]}


def labelled(**changes: Any) -> dict[str, Any]:
    return protocol_with(label={**LABEL, **changes})


def machine_with(**changes: Any) -> dict[str, Any]:
    step = {"source": "a", "target": "a", "label": EXECUTE, **changes}
    return {"initial": "a", "transitions": [step]}


@patient
@given(protocols())
def test_a_protocol_comes_back_as_it_was(protocol: Protocol) -> None:
    assert protocol_from_json(protocol_to_json(protocol)) == protocol


@patient
@given(well_formed(), st.sampled_from("PQRO"))
def test_a_machine_comes_back_as_it_was(made: tuple[Protocol, Subscriptions], role: str) -> None:
    machine = project(*made, role)
    assert machine_from_json(machine_to_json(machine)) == machine


def test_subscriptions_are_read_by_role() -> None:
    read = subscriptions_from_json({role: sorted(types) for role, types in ALL_HEAR_ALL.items()})
    assert read == ALL_HEAR_ALL
    assert hash(read) == hash(ALL_HEAR_ALL)
    assert repr(subscriptions_from_json({"R": ["b", "a"]})) == "Subscriptions({'R': ['a', 'b']})"


def test_other_fields_are_passed_over() -> None:
    value = {**protocol_to_json(WORK), "title": 7}
    value["transitions"] = [{**one, "note": None} for one in value["transitions"]]
    assert protocol_from_json(value) == WORK
    assert machine_from_json({**machine_with(), "subscriptions": ["A"]}).initial == "a"


def test_names_may_hold_anything_that_is_text() -> None:
    name = 'Tür "§"\n\\'
    assert protocol_from_json(protocol_with(source=name)).transitions[1].source == name


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (7, "protocol: an object is expected, not 7"),
        ([], "protocol: an object is expected, not []"),
        ({}, "protocol: the field 'transitions' is missing"),
        ({"transitions": []}, "protocol: the field 'initial' is missing"),
        ({"initial": 7, "transitions": []}, "protocol, initial: a text is expected, not 7"),
        ({"initial": "a", "transitions": {}}, "protocol, transitions: a list is expected, not {}"),
        (
            protocol_with(source=None),
            "protocol, transitions[1].source: a text is expected, not None",
        ),
        (
            protocol_with(target=True),
            "protocol, transitions[1].target: a text is expected, not True",
        ),
        (
            protocol_with(label="x"),
            "protocol, transitions[1].label: an object is expected, not 'x'",
        ),
        (
            labelled(logType="A"),
            "protocol, transitions[1].label.logType: a list is expected, not 'A'",
        ),
        (
            labelled(logType=[7]),
            "protocol, transitions[1].label.logType[0]: a text is expected, not 7",
        ),
        (labelled(role="\ud800"), r"transitions[1].label.role: valid Unicode is expected"),
        (labelled(cmd="x" * (MAX_NAME + 1)), f"label.cmd: a name of at most {MAX_NAME} characters"),
        (
            labelled(logType=["A"] * (MAX_LOG_TYPES + 1)),
            "label.logType: 65 entries, and at most 64",
        ),
        (
            {"initial": "a", "transitions": [STEP] * (MAX_TRANSITIONS + 1)},
            "protocol, transitions: 4097 entries, and at most 4096 are allowed",
        ),
    ],
)
def test_a_protocol_of_the_wrong_shape_is_told_where(value: Any, told: str) -> None:
    with pytest.raises(InvalidProtocol) as raised:
        protocol_from_json(value)
    assert told in str(raised.value)
    assert len(str(raised.value)) < 200
    assert raised.value.part == "protocol"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "subscriptions: an object is expected, not []"),
        ({"R": "A"}, "subscriptions, R: a list is expected, not 'A'"),
        ({"R": ["A", 7]}, "subscriptions, R[1]: a text is expected, not 7"),
        ({f"r{number}": [] for number in range(MAX_ROLES + 1)}, "subscriptions: 257 entries"),
        ({"\ud800": []}, "valid Unicode is expected"),
    ],
)
def test_subscriptions_of_the_wrong_shape_are_told_where(value: Any, told: str) -> None:
    with pytest.raises(InvalidProtocol) as raised:
        subscriptions_from_json(value)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "machine: an object is expected, not None"),
        (machine_with(label={}), "machine, transitions[0].label: the field 'tag' is missing"),
        (
            machine_with(label={**EXECUTE, "tag": "Run"}),
            "machine, transitions[0].label.tag: one of Execute and Input is expected, not 'Run'",
        ),
        (machine_with(label={"tag": "Input"}), "transitions[0].label: the field 'eventType'"),
        (machine_with(label={"tag": "Execute"}), "transitions[0].label: the field 'cmd'"),
    ],
)
def test_a_machine_of_the_wrong_shape_is_told_where(value: Any, told: str) -> None:
    with pytest.raises(InvalidProtocol) as raised:
        machine_from_json(value)
    assert told in str(raised.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["initial", "transitions", "label", "tag", "source", "cmd"]), inner
        )
    ),
)


@patient
@given(json_values)
def test_any_value_is_read_or_refused(value: Any) -> None:
    for read in (protocol_from_json, subscriptions_from_json, machine_from_json):
        try:
            read(value)
        except InvalidProtocol as error:
            assert error.part in {"protocol", "subscriptions", "machine"}  # noqa: PT017 - both ways
