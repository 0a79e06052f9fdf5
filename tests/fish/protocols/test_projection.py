"""Projections, and machines that are compared with them."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fish.protocols import (
    Edge,
    Execute,
    Input,
    Kind,
    Machine,
    Protocol,
    Subscriptions,
    Transition,
    check_projection,
    project,
)
from fish.protocols.equivalence import differences, unusable
from tests.fish.histories import patient
from tests.fish.protocols.made import (
    ALL_HEAR_ALL,
    ALL_TYPES,
    WORK,
    deterministic_machines,
    well_formed,
)

Made = tuple[Protocol, Subscriptions]


def test_a_projection_has_the_commands_of_the_role_and_a_chain_for_each_log_it_hears() -> None:
    assert project(WORK, ALL_HEAR_ALL, "worker") == Machine(
        "idle",
        (
            Edge("idle", Execute("start", ("workStarted",)), "idle"),
            Edge("working", Execute("stop", ("workStopped",)), "working"),
            Edge("idle", Input("workStarted"), "working"),
            Edge("working", Input("workStopped"), "idle"),
            Edge("working", Input("sentHome"), "working+sentHome"),
            Edge("working+sentHome", Input("reason"), "idle"),
        ),
    )


def test_the_states_of_two_chains_are_two_states() -> None:
    first = Transition("a", "x", "R", ("A", "B"), "b")
    second = Transition("a", "y", "R", ("A", "C"), "a+A")
    machine = project(Protocol("a", (first, second)), {"R": ["A", "B", "C"]}, "R")
    middle = [edge.target for edge in machine.edges if edge.label == Input("A")]
    assert len({*middle, "a", "b", "a+A"}) == 5


def test_what_is_reached_only_through_a_step_that_is_not_heard_is_left_out() -> None:
    steps = (Transition("a", "x", "R", ("A",), "b"), Transition("b", "y", "R", ("B",), "c"))
    assert project(Protocol("a", steps), {"O": ["B"]}, "O") == Machine("a", ())


def test_a_step_that_cannot_be_reached_does_not_matter() -> None:
    steps = (Transition("a", "x", "R", ("A",), "b"), Transition("z", "y", "R", ("B",), "b"))
    protocol, heard = Protocol("a", steps), {"R": ["A", "B"]}
    assert check_projection(protocol, heard, "R", project(protocol, heard, "R")) == ()


def test_a_role_that_takes_no_part_does_nothing() -> None:
    nothing = Machine("anywhere", ())
    assert check_projection(WORK, ALL_HEAR_ALL, "nobody", nothing) == ()
    (problem,) = check_projection(WORK, ALL_HEAR_ALL, "worker", nothing)
    assert problem.kind is Kind.INITIAL_MACHINE_STATE_DISCONNECTED


def test_a_machine_is_not_accepted_because_its_states_were_seen_with_others() -> None:
    steps = (
        Transition("S0", "a", "R", ("A",), "S1"),
        Transition("S0", "b", "R", ("B",), "S2"),
        Transition("S1", "c", "R", ("C",), "S0"),
        Transition("S2", "d", "R", ("D",), "S0"),
    )
    protocol, heard = Protocol("S0", steps), {"R": ["A", "B", "C", "D"]}
    right = project(protocol, heard, "R")
    wrong = tuple(
        Edge(edge.source, edge.label, "S2")
        if isinstance(edge.label, Input) and edge.target == "S0"
        else edge
        for edge in right.edges
    )
    found = check_projection(protocol, heard, "R", Machine("S0", wrong))
    assert {problem.kind for problem in found} == {
        Kind.MISSING_TRANSITION,
        Kind.EXTRANEOUS_TRANSITION,
    }


def test_a_command_that_moves_is_told_with_its_place() -> None:
    machine = Machine("idle", (Edge("idle", Execute("start", ("workStarted",)), "working"),))
    (problem,) = check_projection(WORK, ALL_HEAR_ALL, "worker", machine)
    assert problem.kind is Kind.COMMAND_NOT_SELF_LOOP
    assert (problem.state, problem.transition) == ("idle", 0)


def test_a_machine_that_could_go_two_ways_is_told() -> None:
    machine = project(WORK, ALL_HEAR_ALL, "worker")
    twice = Machine(machine.initial, (*machine.edges, Edge("idle", Input("workStarted"), "idle")))
    kinds = [one.kind for one in check_projection(WORK, ALL_HEAR_ALL, "worker", twice)]
    assert Kind.NON_DETERMINISTIC_SPECIMEN in kinds


def test_what_makes_a_projection_meaningless_is_told_as_well() -> None:
    steps = (Transition("a", "x", "R", ("A",), "b"), Transition("b", "y", "R", ("A",), "c"))
    protocol, heard = Protocol("a", steps), {"R": ["A"]}
    (problem,) = check_projection(protocol, heard, "R", project(protocol, heard, "R"))
    assert problem.kind is Kind.GUARD_NOT_INVARIANT


@pytest.mark.parametrize("role", ["boss", "worker"])
def test_machines_of_many_states_may_stand_for_few(role: str) -> None:
    machine = project(WORK, ALL_HEAR_ALL, role)
    assert check_projection(WORK, ALL_HEAR_ALL, role, _unrolled(machine)) == ()


def _unrolled(machine: Machine) -> Machine:
    """The machine twice, every input leading into the other half."""
    edges = [
        Edge(f"{edge.source}{half}", edge.label, f"{edge.target}{half ^ moves}")
        for half in (0, 1)
        for edge in machine.edges
        for moves in (isinstance(edge.label, Input),)
    ]
    return Machine(f"{machine.initial}0", tuple(edges))


@patient
@given(well_formed(strict=True), st.data())
def test_a_projection_of_a_well_formed_protocol_is_accepted_whatever_its_states_are_called(
    made: Made, data: st.DataObject
) -> None:
    """Strictly so: the published rules let a role hear the end of a log without its guard, and stand before two steps
    that look alike to it.
    """
    protocol, heard = made
    role = data.draw(st.sampled_from(sorted(heard)))
    machine = project(protocol, heard, role)
    states = [machine.initial, *(one for one in machine.states() if one != machine.initial)]
    names = dict(zip(states, data.draw(st.permutations(states)), strict=True))
    renamed = [Edge(names[edge.source], edge.label, names[edge.target]) for edge in machine.edges]
    edges = data.draw(st.permutations(renamed))
    assert not check_projection(protocol, heard, role, machine)
    assert not check_projection(
        protocol, heard, role, Machine(names[machine.initial], tuple(edges))
    )
    assert not check_projection(protocol, heard, role, _unrolled(machine))


@patient
@given(well_formed(), st.data())
def test_a_machine_that_lacks_an_edge_or_has_one_more_is_refused(
    made: Made, data: st.DataObject
) -> None:
    protocol, heard = made
    role = data.draw(st.sampled_from(sorted(heard)))
    machine = project(protocol, heard, role)
    for number, edge in enumerate(machine.edges):
        without = machine.edges[:number] + machine.edges[number + 1 :]
        added = Edge(edge.source, Input("never logged"), edge.target)
        assert check_projection(protocol, heard, role, Machine(machine.initial, without))
        assert check_projection(
            protocol, heard, role, Machine(machine.initial, (*machine.edges, added))
        )


@patient
@given(deterministic_machines(), deterministic_machines())
def test_machines_are_equal_exactly_if_no_history_tells_them_apart(
    left: Machine, right: Machine
) -> None:
    names = {state: state for state in (left.initial, *left.states())}
    assert (not list(differences(left, names, right))) == _alike(left, right)


@patient
@given(deterministic_machines(), st.data())
def test_a_machine_that_goes_wrong_at_one_place_is_refused_unless_nobody_can_tell(
    machine: Machine, data: st.DataObject
) -> None:
    names = {state: state for state in (machine.initial, *machine.states())}
    wrong = list(_unrolled(machine).edges)
    for _ in range(data.draw(st.integers(1, 2))):
        inputs = [n for n, edge in enumerate(wrong) if isinstance(edge.label, Input)]
        assume(inputs)
        number, target = data.draw(st.sampled_from(inputs)), data.draw(st.sampled_from(wrong))
        wrong[number] = Edge(wrong[number].source, wrong[number].label, target.source)
    specimen = Machine(f"{machine.initial}0", tuple(wrong))
    assert (not list(differences(machine, names, specimen))) == _alike(machine, specimen)


def _alike(left: Machine, right: Machine) -> bool:
    """Partitions of all states by what can be seen within so many steps, until nothing new is seen."""
    sides = [(0, left), (1, right)]
    states = {(n, state) for n, one in sides for state in (one.initial, *one.states())}
    classes: dict[tuple[int, str], object] = dict.fromkeys(states, 0)
    for _ in states:
        seen = {
            state: frozenset(
                (str(edge.label), classes[n, edge.target])
                for n, one in sides
                for edge in one.edges
                if (n, edge.source) == state
            )
            for state in states
        }
        numbers = {look: number for number, look in enumerate(dict.fromkeys(seen.values()))}
        classes = {state: numbers[look] for state, look in seen.items()}
    return classes[0, left.initial] == classes[1, right.initial]


def test_two_large_loops_of_coprime_lengths_are_compared_without_all_pairs_of_states() -> None:
    def loop(length: int) -> Machine:
        states = [f"s{number}" for number in range(length)]
        nexts = states[1:] + states[:1]
        return Machine(
            "s0", tuple(Edge(a, Input("A"), b) for a, b in zip(states, nexts, strict=True))
        )

    large = loop(20_011)
    names = {state: state for state in large.states()}
    assert not list(differences(large, names, loop(20_021)))


def test_a_machine_without_edges_is_unusable_but_says_only_that() -> None:
    assert [problem.kind for problem in unusable(Machine("a", ()))] == [
        Kind.INITIAL_MACHINE_STATE_DISCONNECTED
    ]


def test_all_types_are_heard_in_the_order_in_which_they_are_logged() -> None:
    machine = project(WORK, {"boss": reversed(ALL_TYPES)}, "boss")
    chain = [str(edge.label) for edge in machine.edges if edge.source.startswith("working")]
    assert chain == ["sendHome/sentHome,reason", "workStopped?", "sentHome?", "reason?"]
