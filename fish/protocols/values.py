"""What a swarm protocol is made of: plain frozen values, to write down in a program or to read from JSON.

A `Protocol` says for a whole swarm which role may give which command in which state, and which event types the command
then logs. `Subscriptions` say which event types a role hears. A `Machine` is what one role runs: in a state it offers
commands (`Execute`) and goes on when it hears an event (`Input`).

The words are those of the calculus of swarm protocols (Kuhn, Melgratti, Tuosto: "Behavioural Types for Local-First
Software", ECOOP 2023): the first type of a log is its *guard*; a role with a command in a state is *active* there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fish.protocols.errors import InvalidProtocol

MAX_TRANSITIONS = 4_096
"""Most transitions of a protocol: people draw tens and generate hundreds; a check of so many still takes seconds."""

MAX_LOG_TYPES = 64
"""Most event types that one command logs: they are one commit, and one chain of states in every machine."""

MAX_ROLES = 256
"""Most roles that subscribe: each is looked at for each transition."""

MAX_ROLE_TYPES = MAX_TRANSITIONS
"""Most event types that a role subscribes to: as many as there can be guards."""

MAX_MACHINE_TRANSITIONS = MAX_TRANSITIONS * (MAX_LOG_TYPES + 1)
"""Most transitions of a machine: those of the largest protocol, each with a chain and a command."""


@dataclass(frozen=True, slots=True)
class Transition:
    """In `source`, `role` may give `command`, which logs events of the types in `log` and leads to `target`."""

    source: str
    command: str
    role: str
    log: tuple[str, ...]
    target: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", _types("protocol", "log", self.log, MAX_LOG_TYPES))

    def __str__(self) -> str:
        label = f"{self.command}@{self.role}<{','.join(self.log)}>"
        return f"({self.source})--[{label}]-->({self.target})"


@dataclass(frozen=True, slots=True)
class Protocol:
    """All transitions of a swarm, and the state where it begins.

    Raises:
        InvalidProtocol: there are more than `MAX_TRANSITIONS`.
    """

    initial: str
    transitions: tuple[Transition, ...]

    def __post_init__(self) -> None:
        transitions = tuple(self.transitions)
        object.__setattr__(self, "transitions", transitions)
        _check_count("protocol", "transitions", len(transitions), MAX_TRANSITIONS)


class Subscriptions(Mapping[str, frozenset[str]]):
    """Per role the event types it hears: a read-only mapping in the order of the roles' names.

    Raises:
        InvalidProtocol: there are more than `MAX_ROLES`, one with more than `MAX_ROLE_TYPES`, or a text where types
            are to be listed.
    """

    __slots__ = ("_types",)

    def __init__(self, types: Mapping[str, Iterable[str]]) -> None:
        _check_count("subscriptions", "", len(types), MAX_ROLES)
        heard = {role: _types("subscriptions", role, types[role], MAX_ROLE_TYPES) for role in types}
        self._types = MappingProxyType({role: frozenset(heard[role]) for role in sorted(heard)})

    def __getitem__(self, role: str) -> frozenset[str]:
        return self._types[role]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)

    def __hash__(self) -> int:
        return hash(tuple(self._types.items()))

    def __repr__(self) -> str:
        return f"Subscriptions({ {role: sorted(types) for role, types in self.items()} })"

    def heard(self, role: str) -> frozenset[str]:
        """The types that a role hears: none where it is not listed."""
        return self._types.get(role, frozenset())


@dataclass(frozen=True, slots=True)
class Execute:
    """A command that is offered in a state; given, it logs events of these types."""

    command: str
    log: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "log", _types("machine", "log", self.log, MAX_LOG_TYPES))

    def __str__(self) -> str:
        return f"{self.command}/{','.join(self.log)}"


@dataclass(frozen=True, slots=True)
class Input:
    """An event of a type is heard."""

    event_type: str

    def __str__(self) -> str:
        return f"{self.event_type}?"


@dataclass(frozen=True, slots=True)
class Edge:
    """One transition of a machine. A command leaves the state as it is: its events change it when they are heard."""

    source: str
    label: Execute | Input
    target: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What one role runs: the state where it begins, and all edges.

    Raises:
        InvalidProtocol: it has more than `MAX_MACHINE_TRANSITIONS`.
    """

    initial: str
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        edges = tuple(self.edges)
        object.__setattr__(self, "edges", edges)
        _check_count("machine", "transitions", len(edges), MAX_MACHINE_TRANSITIONS)

    def states(self) -> dict[str, None]:
        """All ends of edges, in the order in which they are first named."""
        return dict.fromkeys(end for edge in self.edges for end in (edge.source, edge.target))


def _types(part: str, place: str, types: Iterable[str], most: int) -> tuple[str, ...]:
    if isinstance(types, str):
        raise InvalidProtocol(part, place, f"event types are listed; {types!r} is a text")
    listed = tuple(types)
    _check_count(part, place, len(listed), most)
    return listed


def _check_count(part: str, place: str, count: int, most: int) -> None:
    if count > most:
        raise InvalidProtocol(part, place, f"{count} entries, and at most {most} are allowed")
