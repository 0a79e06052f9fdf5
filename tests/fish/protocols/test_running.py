"""Running projections: what is offered to whom, and that a swarm whose protocol is well-formed agrees in the end."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fish import InvalidFish, Metadata
from fish.protocols import (
    Edge,
    Execute,
    Input,
    InvalidProtocol,
    Kind,
    Machine,
    Part,
    Protocol,
    Role,
    Subscriptions,
    Transition,
    check_projection,
    check_protocol,
    project,
)
from lamport import Tag
from tests.fish.histories import patient
from tests.fish.memory_log import event_of
from tests.fish.protocols.made import ALL_HEAR_ALL, WORK, well_formed

WORKER = Role.of(project(WORK, ALL_HEAR_ALL, "worker"))
BOSS = Role.of(project(WORK, ALL_HEAR_ALL, "boss"))


def offered(role: Role, *history: str) -> list[str]:
    part = Part(role)
    part.see(role.fold(history), caught_up=True)
    return list(part.commands)


def test_a_command_is_offered_only_to_its_role_and_in_its_state() -> None:
    assert (offered(WORKER), offered(BOSS)) == (["start"], [])
    assert offered(WORKER, "workStarted") == ["stop"]
    assert offered(BOSS, "workStarted") == ["sendHome"]
    assert offered(BOSS, "workStarted", "workStopped") == []


def test_nothing_is_offered_within_a_chain() -> None:
    assert offered(BOSS, "workStarted", "sentHome") == []
    assert offered(WORKER, "workStarted", "sentHome") == []
    assert offered(WORKER, "workStarted", "sentHome", "reason") == ["start"]


def test_an_event_that_does_not_fit_is_dropped() -> None:
    start = WORKER.start
    assert WORKER.after(start, "workStopped") is start
    assert WORKER.fold(["workStopped", "workStarted", "workStarted", "other"]).state == "working"


def test_a_chain_waits_for_its_next_event_and_drops_all_others() -> None:
    history = ["workStarted", "sentHome", "workStopped", "sentHome", "reason"]
    assert WORKER.fold(history).state == "idle"


@pytest.mark.parametrize(
    "edges",
    [
        (Edge("a", Execute("x", ("A",)), "b"),),
        (Edge("b", Input("A"), "c"),),
        (Edge("a", Input("A"), "b"), Edge("a", Input("A"), "c")),
        (Edge("a", Execute("x", ("A",)), "a"), Edge("a", Execute("x", ("B",)), "a")),
    ],
)
def test_a_machine_that_is_not_fit_to_run_is_refused(edges: tuple[Edge, ...]) -> None:
    with pytest.raises(InvalidProtocol, match="state"):
        Role.of(Machine("a", edges))


def test_a_fish_of_a_machine_has_its_state_and_drops_strange_payloads() -> None:
    fish = WORKER.fish("worker", Tag("a"))
    place = fish.initial
    for number, payload in enumerate([{"type": "workStarted"}, 7, {"type": 7}, {}, None]):
        event = event_of(0, number + 1, number, payload, "a")
        place = fish.on_event(place, payload, Metadata.of(event, event.stream.node))
    assert (place.state, place.steps) == ("working", 1)


def test_a_fish_of_another_machine_has_another_definition() -> None:
    one, same, other = (
        role.fish("one", Tag("a"))
        for role in (WORKER, Role.of(project(WORK, ALL_HEAR_ALL, "worker")), BOSS)
    )
    assert one.definition == same.definition != other.definition
    with pytest.raises(InvalidFish, match="name"):
        WORKER.fish("", Tag("a"))


class Batch(NamedTuple):
    """The events of one command: they are logged together, and known together."""

    lamport: int
    node: int
    log: tuple[str, ...]


Together = Callable[[Iterable[Batch]], list[str]]
"""The types of all known events, in the order of a log."""


def one_after_the_other(known: Iterable[Batch]) -> list[str]:
    return [event_type for batch in sorted(known) for event_type in batch.log]


def interleaved(known: Iterable[Batch]) -> list[str]:
    """As Lamport timestamps order them: with equal ones, events of one batch lie between those of another."""
    events = [
        (batch.lamport + place, batch.node, event_type)
        for batch in known
        for place, event_type in enumerate(batch.log)
    ]
    return [event_type for _, _, event_type in sorted(events)]


def left_behind(
    protocol: Protocol, heard: Subscriptions, order: Together, data: st.DataObject
) -> list[str]:
    """Let the roles act, each on what it knows, and tell them everything; who takes part further, but elsewhere."""
    roles = sorted(heard)
    machines = _fit_to_run(protocol, heard)
    assume(machines is not None)
    assert machines is not None
    knows: list[set[Batch]] = [set() for _ in roles]
    for _ in range(data.draw(st.integers(1, 12))):
        node = data.draw(st.integers(0, len(roles) - 1))
        knows[node] |= knows[data.draw(st.integers(0, len(roles) - 1))]
        if commands := _offered(machines[node], order(knows[node])):
            clock = max((one.lamport + len(one.log) for one in knows[node]), default=1)
            chosen = data.draw(st.sampled_from(commands))
            knows[node].add(Batch(clock, node, chosen))
    everything = order(set[Batch]().union(*knows))
    witness = Role.of(project(protocol, {"witness": set().union(*heard.values())}, "witness"))
    rest = Protocol(witness.fold(everything).state, protocol.transitions)
    return [
        role
        for role, machine in zip(roles, machines, strict=True)
        if project(rest, heard, role).edges
        and check_projection(
            rest,
            heard,
            role,
            Machine(machine.fold(everything).state, _edges(protocol, heard, role)),
        )
    ]


def _offered(role: Role, history: Iterable[str]) -> list[tuple[str, ...]]:
    """The logs of the commands that are offered behind a history."""
    part, place = Part(role), role.fold(history)
    part.see(place, caught_up=True)
    return [log for name, log in role.by_name[place.state].commands if name in part.commands]


def _edges(protocol: Protocol, heard: Subscriptions, role: str) -> tuple[Edge, ...]:
    return project(protocol, heard, role).edges


def _fit_to_run(protocol: Protocol, heard: Subscriptions) -> list[Role] | None:
    """The machines of all roles; None where one cannot tell two branches apart after which it takes no part."""
    try:
        return [Role.of(project(protocol, heard, role)) for role in sorted(heard)]
    except InvalidProtocol:
        return None


@patient
@given(well_formed(), st.data())
def test_all_roles_agree_in_the_end_whatever_they_did_while_they_were_cut_off(
    made: tuple[Protocol, Subscriptions], data: st.DataObject
) -> None:
    assert left_behind(*made, one_after_the_other, data) == []


@patient
@given(well_formed(strict=True), st.data())
def test_of_a_strictly_well_formed_protocol_logs_may_even_be_interleaved(
    made: tuple[Protocol, Subscriptions], data: st.DataObject
) -> None:
    assert left_behind(*made, interleaved, data) == []


def test_a_log_that_is_heard_in_part_only_parts_the_roles_where_logs_are_interleaved() -> None:
    steps = (
        Transition("S0", "leave", "R", ("Left",), "S1"),
        Transition("S0", "stay", "P", ("Stayed", "Why"), "S0"),
        Transition("S1", "back", "P", ("Back",), "S0"),
    )
    protocol = Protocol("S0", steps)
    heard = {role: ["Back", "Left", "Stayed", "Why"] for role in ("P", "R")}
    heard["display"] = ["Back", "Left", "Stayed"]
    assert check_protocol(protocol, heard) == ()
    (problem,) = check_protocol(protocol, heard, strict=True)
    assert (problem.kind, problem.role) == (Kind.LOG_PARTLY_HEARD, "display")
    both = interleaved([Batch(1, 0, ("Stayed", "Why")), Batch(1, 1, ("Left",))])
    ends = [Role.of(project(protocol, heard, role)).fold(both) for role in ("P", "display")]
    assert [one.state for one in ends] == ["S0", "S1"]


def test_a_tail_that_is_heard_without_its_guard_parts_the_roles() -> None:
    steps = (
        Transition("S0", "begin", "R", ("Begun", "Note"), "S1"),
        Transition("S1", "cancel", "R", ("Cancelled", "Note"), "end"),
        Transition("S1", "ask", "R", ("Asked",), "S2"),
        Transition("S2", "answer", "P", ("Answered",), "end"),
    )
    protocol = Protocol("S0", steps)
    types = ["Begun", "Note", "Asked", "Answered"]
    heard = {"P": types, "R": [*types, "Cancelled"]}
    assert check_protocol(protocol, heard) == ()
    (problem,) = check_protocol(protocol, heard, strict=True)
    assert (problem.kind, problem.role, problem.transition) == (Kind.LOG_PARTLY_HEARD, "P", 1)
    log = ("Begun", "Note")
    twice = one_after_the_other([Batch(1, 0, log), Batch(1, 1, log)])
    ends = [Role.of(project(protocol, heard, role)).fold(twice) for role in ("P", "R")]
    assert [one.state for one in ends] == ["end", "S1"]
