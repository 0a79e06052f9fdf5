"""Protocols and machines to check: a worker's, and random ones."""

from hypothesis import strategies as st

from fish.protocols import (
    Edge,
    Execute,
    Input,
    Machine,
    Protocol,
    Subscriptions,
    Transition,
    check_protocol,
)

START = Transition("idle", "start", "worker", ("workStarted",), "working")
STOP = Transition("working", "stop", "worker", ("workStopped",), "idle")
SEND_HOME = Transition("working", "sendHome", "boss", ("sentHome", "reason"), "idle")
WORK = Protocol("idle", (START, STOP, SEND_HOME))
ALL_TYPES = ("workStarted", "workStopped", "sentHome", "reason")
ALL_HEAR_ALL = Subscriptions({"boss": ALL_TYPES, "worker": ALL_TYPES})

ROLES = ("P", "Q", "R")
STATES = ("S0", "S1", "S2", "S3")
TYPES = ("A", "B", "C", "D")

_names = st.sampled_from(STATES)


@st.composite
def protocols(draw: st.DrawFn) -> Protocol:
    """Any protocol over a few names: hardly one of them is well-formed."""
    logs = st.lists(st.sampled_from(TYPES), max_size=3).map(tuple)
    commands, roles = st.sampled_from("xyz"), st.sampled_from(ROLES)
    transition = st.builds(Transition, _names, commands, roles, logs, _names)
    return Protocol(draw(_names), tuple(draw(st.lists(transition, max_size=7))))


@st.composite
def subscriptions(draw: st.DrawFn) -> Subscriptions:
    types = st.frozensets(st.sampled_from(TYPES))
    return Subscriptions(draw(st.dictionaries(st.sampled_from((*ROLES, "O")), types)))


@st.composite
def well_formed(draw: st.DrawFn, *, strict: bool = False) -> tuple[Protocol, Subscriptions]:
    """A well-formed protocol whose roles hear as little as chance and the rules allow."""
    count = draw(st.integers(1, 6))
    transitions: list[Transition] = []
    for number in range(count):
        known = ("S0", *(one.target for one in transitions))
        source, target = draw(st.sampled_from(known)), draw(st.sampled_from(STATES))
        tail = draw(st.lists(st.sampled_from(("Z", f"T{source}", f"X{number}")), max_size=2))
        log = (f"G{number}", *tail)
        role = draw(st.sampled_from(ROLES))
        transitions.append(Transition(source, f"c{number}", role, log, target))
    protocol = Protocol("S0", tuple(transitions))
    types = sorted({one for transition in transitions for one in transition.log})
    heard = {role: set(types) for role in (*ROLES, "O")}
    pairs = [(role, one) for role in heard for one in types]
    for role, event_type in draw(st.lists(st.sampled_from(pairs), max_size=40, unique=True)):
        heard[role].discard(event_type)
        if check_protocol(protocol, heard, strict=strict):
            heard[role].add(event_type)
    return protocol, Subscriptions(heard)


@st.composite
def deterministic_machines(draw: st.DrawFn) -> Machine:
    """A machine that is fit to run, with few labels, so that states are often alike."""
    edges = []
    states = draw(st.integers(1, 6))
    for state in range(states):
        for event_type in draw(st.sampled_from(["AB", "AB", "AB", "A", ""])):
            target = draw(st.integers(0, states - 1))
            edges.append(Edge(f"m{state}", Input(event_type), f"m{target}"))
        if draw(st.integers(0, 5)) == 0:
            edges.append(Edge(f"m{state}", Execute("x", ("A",)), f"m{state}"))
    edges.sort(key=str)
    return Machine("m0", tuple(edges))
