"""Whether two machines behave alike, whatever their states are called.

Both are deterministic if they are fit to run: in a state there is one edge for each command and each event type. Two
such machines behave alike if, going along equal labels from the two initial states, one meets only pairs of states with
equal labels. There may be as many pairs as the product of the two sizes, but states that were found alike form classes,
and a pair within one class says nothing new: at most as many pairs are compared as there are states (Hopcroft and Karp,
1971). A class only ever grows by a pair that was compared, so no pair is passed over because its two states were seen
with others.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fish.protocols.problems import Kind, Problem
from fish.protocols.values import Edge, Execute, Input, Machine

_Name = tuple[type[Execute | Input], str]
"""What must be unique in a state: the name of a command, or an event type."""

_Numbered = tuple[int, Edge]
"""An edge with its place in the machine."""


class _Side(NamedTuple):
    """One of the two machines, by state; which edge counts where a name is not unique, and how states are told."""

    leaving: Mapping[str, Mapping[Execute | Input, _Numbered]]
    repeated: Mapping[str, tuple[_Numbered, ...]]
    names: Mapping[str, str]


def unusable(machine: Machine) -> Iterator[Problem]:
    """What makes a machine unfit for any comparison."""
    for number, edge in enumerate(machine.edges):
        if isinstance(edge.label, Execute) and edge.source != edge.target:
            text = f"command {edge.label.command} is not a self-loop in state {edge.source}"
            yield Problem(Kind.COMMAND_NOT_SELF_LOOP, text, edge.source, number)
    if machine.initial not in machine.states():
        text = "initial machine state has no transitions"
        yield Problem(Kind.INITIAL_MACHINE_STATE_DISCONNECTED, text, machine.initial)


def ambiguous(machine: Machine) -> Iterator[Problem]:
    """Commands and event types that a state has twice."""
    for state, edges in _side(machine, {}).repeated.items():
        for number, edge in edges:
            text = f"non-deterministic transition {edge.label} in state {state} of the specimen"
            yield Problem(Kind.NON_DETERMINISTIC_SPECIMEN, text, state, number)


def differences(
    reference: Machine, names: Mapping[str, str], specimen: Machine
) -> Iterator[Problem]:
    """Where the specimen behaves otherwise than the reference, each place once.

    What lies behind two states that differ is not compared. `names` says how the states of the reference are told.
    """
    comparison = _Comparison(_side(reference, names), _side(specimen, {}))
    found: dict[Problem, None] = {}
    waiting = [(reference.initial, specimen.initial)]
    while waiting:
        pair = waiting.pop()
        if comparison.is_known(pair):
            continue
        found.update(dict.fromkeys(comparison.compared(pair)))
        waiting += comparison.behind(pair)
    yield from found


class _Comparison:
    """Pairs of states that were compared, and the classes of those that were alike."""

    def __init__(self, reference: _Side, specimen: _Side) -> None:
        self._reference = reference
        self._specimen = specimen
        self._parents: dict[tuple[int, str], tuple[int, str]] = {}
        self._unlike: set[tuple[str, str]] = set()

    def is_known(self, pair: tuple[str, str]) -> bool:
        """Whether comparing the two would say nothing new."""
        return pair in self._unlike or self._class(0, pair[0]) == self._class(1, pair[1])

    def compared(self, pair: tuple[str, str]) -> Iterator[Problem]:
        """Compare two states and remember what came of it."""
        left, right = pair
        yield from self._repeated(pair)
        expected = self._reference.leaving.get(left, {})
        given = self._specimen.leaving.get(right, {})
        shown = self._reference.names[left]
        for label in sorted(expected.keys() - given.keys(), key=_order):
            text = f"missing transition {label} in state {right} (from reference state {shown})"
            yield Problem(Kind.MISSING_TRANSITION, text, right)
        for label in sorted(given.keys() - expected.keys(), key=_order):
            text = f"extraneous transition {label} in state {shown}"
            yield Problem(Kind.EXTRANEOUS_TRANSITION, text, right, given[label][0])
        if expected.keys() == given.keys():
            self._parents[self._class(1, right)] = self._class(0, left)
        else:
            self._unlike.add(pair)

    def behind(self, pair: tuple[str, str]) -> list[tuple[str, str]]:
        """The pairs that equal labels lead to, from two states that were alike."""
        if pair in self._unlike:
            return []
        expected = self._reference.leaving.get(pair[0], {})
        given = self._specimen.leaving.get(pair[1], {})
        return [(edge.target, given[label][1].target) for label, (_, edge) in expected.items()]

    def _repeated(self, pair: tuple[str, str]) -> Iterator[Problem]:
        for _, edge in self._reference.repeated.get(pair[0], ()):
            state = self._reference.names[pair[0]]
            text = f"non-deterministic transition {edge.label} in state {state} of the reference"
            yield Problem(Kind.NON_DETERMINISTIC_REFERENCE, text, state)
        for number, edge in self._specimen.repeated.get(pair[1], ()):
            text = f"non-deterministic transition {edge.label} in state {pair[1]} of the specimen"
            yield Problem(Kind.NON_DETERMINISTIC_SPECIMEN, text, pair[1], number)

    def _class(self, side: int, state: str) -> tuple[int, str]:
        """Who stands for the class of a state; the way there is halved in passing."""
        one = (side, state)
        while (parent := self._parents.get(one, one)) != one:
            above = self._parents.get(parent, parent)
            self._parents[one] = above
            one = above
        return one


def _side(machine: Machine, names: Mapping[str, str]) -> _Side:
    leaving: dict[str, dict[Execute | Input, _Numbered]] = {}
    repeated: dict[str, list[_Numbered]] = {}
    taken: set[tuple[str, _Name]] = set()
    # From the end: where a name is not unique, the edge written last counts, as for the tool that users know.
    for number, edge in reversed(list(enumerate(machine.edges))):
        name = (edge.source, _name(edge.label))
        if name in taken:
            repeated.setdefault(edge.source, []).append((number, edge))
        else:
            taken.add(name)
            leaving.setdefault(edge.source, {})[edge.label] = (number, edge)
    return _Side(leaving, {state: tuple(edges) for state, edges in repeated.items()}, names)


def _name(label: Execute | Input) -> _Name:
    if isinstance(label, Execute):
        return Execute, label.command
    return Input, label.event_type


def _order(label: Execute | Input) -> tuple[bool, str, tuple[str, ...]]:
    """Commands before events, each by name."""
    if isinstance(label, Execute):
        return False, label.command, label.log
    return True, label.event_type, ()
