"""Well-formedness: each rule by a protocol that breaks it, and what holds of all protocols."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish.protocols import (
    InvalidProtocol,
    Kind,
    Protocol,
    Subscriptions,
    Transition,
    check_protocol,
)
from fish.protocols.problems import MAX_PROBLEMS
from fish.protocols.values import MAX_LOG_TYPES, MAX_ROLES, MAX_TRANSITIONS
from tests.fish.histories import patient
from tests.fish.protocols.made import (
    ALL_HEAR_ALL,
    ALL_TYPES,
    START,
    STOP,
    WORK,
    protocols,
    subscriptions,
    well_formed,
)

HEARD = Subscriptions({"R": ["A", "B", "C"]})


def kinds(protocol: Protocol, heard: Subscriptions = HEARD) -> list[str]:
    return [problem.kind.value for problem in check_protocol(protocol, heard)]


def step(source: str, command: str, log: str, target: str) -> Transition:
    return Transition(source, command, "R", tuple(log), target)


def test_a_protocol_that_everybody_can_follow_is_well_formed() -> None:
    assert check_protocol(WORK, ALL_HEAR_ALL) == ()


def test_subscriptions_may_be_any_mapping_of_lists() -> None:
    assert check_protocol(WORK, {"boss": list(ALL_TYPES), "worker": set(ALL_TYPES)}) == ()


def test_a_problem_names_its_place_and_what_to_do() -> None:
    deaf = {"worker": ALL_TYPES, "boss": [one for one in ALL_TYPES if one != "workStopped"]}
    (problem,) = check_protocol(WORK, deaf)
    assert problem.kind is Kind.LATER_INVOLVED_NOT_GUARDED
    assert "role boss" in str(problem)
    assert "(working)--[stop@worker<workStopped>]-->(idle)" in str(problem)
    assert (problem.state, problem.transition, problem.role) == ("working", 1, "boss")
    assert "subscribe the role" in problem.advice


def test_all_problems_are_told_and_not_only_the_first() -> None:
    problems = check_protocol(WORK, {})
    assert [problem.transition for problem in problems] == [0, 0, 0, 1, 1, 2, 2]


def test_a_log_must_not_be_empty() -> None:
    assert kinds(Protocol("a", (step("a", "x", "", "b"),))) == ["LogTypeEmpty"]


def test_the_initial_state_is_one_of_a_transition() -> None:
    assert kinds(Protocol("z", (step("a", "x", "A", "b"),))) == ["InitialStateDisconnected"]
    assert kinds(Protocol("z", ())) == ["InitialStateDisconnected"]


def test_a_state_that_cannot_be_reached_is_told() -> None:
    protocol = Protocol("a", (step("a", "x", "A", "b"), step("c", "y", "A", "d")))
    found = check_protocol(protocol, HEARD)
    assert [problem.state for problem in found] == ["c", "d"]
    assert {problem.kind for problem in found} == {Kind.STATE_UNREACHABLE}


def test_two_logs_of_a_state_begin_differently() -> None:
    steps = (step("a", "x", "A", "b"), step("a", "y", "AB", "b"), step("a", "z", "AC", "b"))
    assert kinds(Protocol("a", steps)) == ["NonDeterministicGuard"]


def test_each_repetition_of_a_command_is_told() -> None:
    steps = (step("a", "x", "A", "b"), step("a", "x", "B", "b"), step("a", "x", "C", "b"))
    assert kinds(Protocol("a", steps)) == ["NonDeterministicCommand"] * 2


def test_two_roles_may_give_a_command_of_one_name() -> None:
    steps = (step("a", "x", "A", "b"), Transition("a", "x", "Q", ("B",), "b"))
    assert kinds(Protocol("a", steps), Subscriptions({"R": ["A", "B"], "Q": ["A", "B"]})) == []


def test_a_guard_tells_which_state_was_left() -> None:
    steps = (step("a", "x", "A", "b"), step("b", "y", "BA", "c"))
    assert kinds(Protocol("a", steps)) == ["GuardNotInvariant"]


def test_a_role_that_takes_part_only_before_may_miss_what_follows() -> None:
    steps = (step("a", "x", "A", "b"), step("b", "y", "B", "c"))
    assert kinds(Protocol("a", steps), Subscriptions({"R": ["A", "B"], "O": ["A"]})) == []


def test_a_role_that_takes_part_in_a_loop_takes_part_in_all_of_it() -> None:
    steps = (step("a", "x", "A", "b"), step("b", "y", "B", "a"))
    found = check_protocol(Protocol("a", steps), {"R": ["A", "B"], "O": ["B"]})
    assert [(problem.kind, problem.role) for problem in found] == [
        (Kind.LATER_INVOLVED_NOT_GUARDED, "O")
    ]


def test_a_role_that_takes_part_at_the_end_hears_every_guard_before_it() -> None:
    steps = tuple(step(f"s{n}", f"c{n}", f"{n}", f"s{n + 1}") for n in range(6))
    found = check_protocol(Protocol("s0", steps), {"R": [*"012345"], "O": ["5"]})
    told = [(problem.kind, problem.role, problem.transition) for problem in found]
    assert told == [(Kind.LATER_INVOLVED_NOT_GUARDED, "O", n) for n in range(5)]


def test_a_text_is_no_list_of_types() -> None:
    with pytest.raises(InvalidProtocol, match="subscriptions, R: event types are listed"):
        check_protocol(WORK, {"R": "AB"})
    with pytest.raises(InvalidProtocol, match="'A' is a text"):
        Transition("a", "x", "R", "A", "b")  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "make",
    [
        lambda: Protocol("a", (step("a", "x", "A", "b"),) * (MAX_TRANSITIONS + 1)),
        lambda: Transition("a", "x", "R", ("A",) * (MAX_LOG_TYPES + 1), "b"),
        lambda: Subscriptions({f"r{number}": [] for number in range(MAX_ROLES + 1)}),
    ],
)
def test_what_is_too_large_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(InvalidProtocol, match="at most"):
        make()


def test_more_problems_than_anybody_reads_are_counted_out() -> None:
    steps = tuple(step("a", f"c{number}", "A", "b") for number in range(200))
    many = {f"r{number}": ["B"] for number in range(100)}
    found = check_protocol(Protocol("a", (*steps, step("b", "y", "B", "a"))), many)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].kind is Kind.MORE_PROBLEMS


@patient
@given(protocols(), subscriptions(), st.randoms(use_true_random=False))
def test_neither_order_nor_names_matter(
    protocol: Protocol, heard: Subscriptions, dice: random.Random
) -> None:
    shuffled = list(protocol.transitions)
    dice.shuffle(shuffled)
    reordered = Protocol(protocol.initial, tuple(shuffled))
    renamed = Protocol(
        f'"{protocol.initial}\n',
        tuple(
            Transition(f'"{one.source}\n', one.command, one.role, one.log, f'"{one.target}\n')
            for one in protocol.transitions
        ),
    )
    assert sorted(kinds(reordered, heard)) == sorted(kinds(protocol, heard))
    assert kinds(renamed, heard) == kinds(protocol, heard)


@patient
@given(protocols(), subscriptions())
def test_a_check_is_repeatable_and_leaves_no_question_open(
    protocol: Protocol, heard: Subscriptions
) -> None:
    found = check_protocol(protocol, heard)
    assert check_protocol(protocol, Subscriptions(dict(reversed(list(heard.items()))))) == found
    for problem in found:
        assert problem.text
        assert problem.advice
        assert problem.to_json()["kind"] == problem.kind


@patient
@given(well_formed())
def test_who_hears_nothing_of_a_step_that_it_takes_is_told(
    made: tuple[Protocol, Subscriptions],
) -> None:
    protocol, heard = made
    taken = protocol.transitions[0]
    deaf = {**heard, taken.role: heard[taken.role] - set(taken.log)}
    assert "ActiveRoleNotSubscribed" in kinds(protocol, Subscriptions(deaf))


def test_the_worker_alone_is_well_formed_whatever_the_boss_hears() -> None:
    assert check_protocol(Protocol("idle", (START, STOP)), {"worker": ALL_TYPES}) == ()
