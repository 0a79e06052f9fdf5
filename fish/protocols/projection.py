"""What a protocol asks of one role: its projection, a machine.

The way of a transition. A role that hears nothing of its log does not see the step: it is left out, and with it what
can only be reached through it. Otherwise the types of the log that the role hears become a chain of inputs from source
to target, with a state of its own between each two; a command of the role itself is offered in the source.

Whoever runs the projections of a well-formed protocol runs the protocol. Of one that is not, a projection means little:
a role that misses a guard, for one, loses all that follows.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from fish.protocols.equivalence import differences, unusable
from fish.protocols.problems import Problem, told
from fish.protocols.values import Edge, Execute, Input, Machine, Protocol, Subscriptions, Transition
from fish.protocols.wellformed import FATAL, reachable, unprepared


class Projection(NamedTuple):
    """A projected machine, and of each of its states the name of the protocol's state that it belongs to.

    A state within a chain belongs to the chain's source, and is told as so many steps behind it.
    """

    machine: Machine
    names: Mapping[str, str]


def project(protocol: Protocol, subscriptions: Mapping[str, Iterable[str]], role: str) -> Machine:
    """The machine of a role: states of the protocol keep their names, commands come before inputs.

    A role that takes no part gets a machine without edges.

    Raises:
        InvalidProtocol: the subscriptions have the wrong shape or size.
    """
    return projected(protocol, Subscriptions(subscriptions), role).machine


def check_projection(
    protocol: Protocol,
    subscriptions: Mapping[str, Iterable[str]],
    role: str,
    machine: Machine,
) -> tuple[Problem, ...]:
    """All in which a machine behaves otherwise than the protocol asks of the role; empty if it does as asked.

    States may have any names, and there may be more of them than necessary. What makes a projection meaningless is
    told as well; whether the protocol is well-formed is for `check_protocol` to say.

    Raises:
        InvalidProtocol: the subscriptions have the wrong shape or size.
    """
    heard = Subscriptions(subscriptions)
    found = list(unprepared(protocol))
    if any(problem.kind in FATAL for problem in found):
        return told(found)
    return told(chain(found, _deviations(projected(protocol, heard, role), machine)))


def projected(protocol: Protocol, subscriptions: Subscriptions, role: str) -> Projection:
    """The projection, with what its states stand for."""
    heard = subscriptions.heard(role)
    seen = [one for one in protocol.transitions if not heard.isdisjoint(one.log)]
    reached = reachable(protocol.initial, seen)
    kept = [one for one in seen if one.source in reached]
    names = _Names(protocol.initial, kept)
    commands = [
        Edge(one.source, Execute(one.command, one.log), one.source)
        for one in kept
        if one.role == role
    ]
    inputs = [edge for one in kept for edge in _chain(one, heard, names)]
    # Two transitions of which a role hears the same, and which end alike, are one to it.
    edges = dict.fromkeys((*commands, *inputs))
    return Projection(Machine(protocol.initial, tuple(edges)), names.shown)


class _Names:
    """Names for the states within chains that nothing else has."""

    def __init__(self, initial: str, kept: Iterable[Transition]) -> None:
        ends = (end for one in kept for end in (one.source, one.target))
        self.shown = {state: state for state in (initial, *ends)}

    def between(self, source: str, consumed: tuple[str, ...]) -> str:
        name = "+".join((source, *consumed))
        while name in self.shown:
            name += "'"
        self.shown[name] = f"{source}(+{len(consumed)})"
        return name


def _chain(one: Transition, heard: frozenset[str], names: _Names) -> Iterator[Edge]:
    types = tuple(event_type for event_type in one.log if event_type in heard)
    middle = [names.between(one.source, types[:number]) for number in range(1, len(types))]
    states = [one.source, *middle, one.target]
    for source, event_type, target in zip(states, types, states[1:], strict=False):
        yield Edge(source, Input(event_type), target)


def _deviations(projection: Projection, machine: Machine) -> Iterator[Problem]:
    if not projection.machine.edges and not machine.edges:
        return  # a role that takes no part, and a machine that does nothing
    unfit = list(unusable(machine))
    yield from unfit or differences(projection.machine, projection.names, machine)
