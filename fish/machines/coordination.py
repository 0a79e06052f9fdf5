"""Routes between machines, and the check that they lead nowhere in circles.

A route carries what one machine emits to another, renamed and with its fields mapped. The machines and their routes
form a graph without cycles. A way back is declared as `feedback`, and then no event may lead to itself: what a machine
may emit because of an event is read off its definition.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fish.machines.chart import Chart, Edge, Node
from fish.machines.definition import Action, Emit, Machine, Raise, State
from fish.machines.errors import InvalidCoordination
from fish.machines.expressions import Compute, compiled
from fish.machines.inventory import actions_of

Versions = Mapping[str, Mapping[int, Chart]]
"""The charts of machines by name and version."""

ANYTHING = "*"
"""The type of an event that a function computes: it may be any."""


@dataclass(frozen=True, slots=True)
class Route:
    """What `source` emits as `emit` reaches `target` as `event`.

    `to_instance` is the name of the instance, or a value of the emitted event (`$event.loginId`); without it the
    instance is named like its machine. `map` gives the fields of the new event; without it they stay as they are.
    """

    source: str
    emit: str
    target: str
    event: str
    to_instance: Any = None
    map: tuple[tuple[str, Any], ...] | None = None
    feedback: bool = False


def load_route(data: Any) -> Route:
    """A route from JSON data: `from`, `emit`, `to`, `event`, and optionally `to_instance`, `map`, `feedback`.

    Raises:
        InvalidCoordination: a field is missing or means nothing.
    """
    known = {"from", "emit", "to", "event", "to_instance", "map", "feedback"}
    if not isinstance(data, Mapping) or not isinstance(data.get("map") or {}, Mapping):
        raise InvalidCoordination("bad-shape", f"a route, and its map, are objects: {data!r}")
    for name in data:
        if name not in known:
            raise InvalidCoordination("unknown-word", f"a route has no field {name!r}")
    for name in ("from", "emit", "to", "event"):
        if not isinstance(data.get(name), str):
            raise InvalidCoordination("missing-field", f"a route lacks the text {name!r}")
    mapped = None if data.get("map") is None else tuple(data["map"].items())
    feedback = bool(data.get("feedback", False))
    ends = data["from"], data["emit"], data["to"], data["event"]
    return Route(*ends, data.get("to_instance"), mapped, feedback)


@dataclass(frozen=True, slots=True)
class Carrier:
    """A route, prepared."""

    route: Route
    instance: Compute
    fields: Compute | None

    @classmethod
    def of(cls, route: Route) -> "Carrier":
        """The functions behind a route's values."""
        place = f"route {route.source} {route.emit}"
        name = route.target if route.to_instance is None else route.to_instance
        fields = None if route.map is None else compiled(dict(route.map), place)
        return cls(route, compiled(name, place), fields)


def check_routes(charts: Versions, routes: Sequence[Route]) -> None:
    """See that routes fit the machines in all their versions, and that nothing runs in circles.

    Raises:
        InvalidCoordination: they do not.
    """
    for route in routes:
        for name in (route.source, route.target):
            if name not in charts:
                raise InvalidCoordination(
                    "unknown-machine", f"a route names the machine {name!r}, which is not here"
                )
    leads: dict[str, list[str]] = {}
    for route in routes:
        if not route.feedback:
            leads.setdefault(route.source, []).append(route.target)
    path = _cycle(leads)
    if path:
        raise InvalidCoordination(
            "coordination-cycle",
            f"machines tell each other in a circle: {' -> '.join(path)}; declare the way back as feedback",
            path,
        )
    if any(route.feedback for route in routes):
        _check_events(charts, routes)
    for route in routes:
        _check_types(charts, route)


def _check_types(charts: Versions, route: Route) -> None:
    """See that a route carries what is emitted: one with a misspelt type would carry nothing, for ever."""
    place = f"the route {route.source} {route.emit!r} -> {route.target} {route.event!r}"
    types: tuple[Any, ...] = route.emit, route.event
    for type_ in types:
        if not isinstance(type_, str) or not type_ or type_.startswith("$"):
            raise InvalidCoordination("bad-event", f"{place}: {type_!r} is no event's type")
    emits = {
        _type_of(one.event)
        for chart in charts[route.source].values()
        for one in actions_of(chart.machine)
        if isinstance(one, Emit)
    }
    if not emits & {route.emit, ANYTHING}:
        known = ", ".join(sorted(emits)) or "nothing"
        text = f"{place}: {route.source!r} never emits {route.emit!r}, but {known}"
        raise InvalidCoordination("unknown-event", text)


def _check_events(charts: Versions, routes: Sequence[Route]) -> None:
    leads: dict[str, list[str]] = {}
    each = [(name, chart) for name, versions in charts.items() for chart in versions.values()]
    for name, chart in each:
        for type_ in _types(chart):
            emitted = _Emitted(chart).because_of(type_)
            leads.setdefault(f"{name}.{type_}", []).extend(
                f"{route.target}.{route.event}"
                for route in routes
                if route.source == name and (route.emit in emitted or ANYTHING in emitted)
            )
    path = _cycle(leads)
    if path:
        raise InvalidCoordination(
            "event-cycle", f"an event leads to itself: {' -> '.join(path)}", path
        )


def _types(chart: Chart) -> list[str]:
    return list(dict.fromkeys(type_ for node in chart.nodes.values() for type_ in node.handlers))


class _Emitted:
    """What a machine may emit because of an event; rather too much than too little."""

    def __init__(self, chart: Chart) -> None:
        self._chart = chart
        self._actions = dict(chart.machine.actions)
        self._emitted: set[str] = set()
        self._raised: set[str] = set()
        self._entered: set[str] = set()

    def because_of(self, type_: str) -> set[str]:
        """The types of what may be emitted."""
        if type_ in self._raised:
            return self._emitted
        self._raised.add(type_)
        for node in self._chart.nodes.values():
            for name in (type_, "*"):
                for edge in node.handlers.get(name) or ():
                    self._follow(edge)
        return self._emitted

    def _follow(self, edge: Edge) -> None:
        self._collect(self._written(edge))
        if edge.target is None:
            return
        for node in self._chart.nodes.values():
            if edge.source in node.line or node in edge.source.line:
                self._collect(node.state.exit)
        for node in edge.target.leaf.line:
            self._enter(node)

    def _enter(self, node: Node) -> None:
        if node.path in self._entered:
            return
        self._entered.add(node.path)
        self._collect(node.state.entry)
        if node.state.is_final:
            self._collect(node.state.exit)
        for edge in node.always:
            self._follow(edge)

    def _written(self, edge: Edge) -> Iterable[Action]:
        """The actions of all transitions of the edge's place: the edge itself keeps only functions."""
        return transitions_at(edge.source.state, edge.place)

    def _collect(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, str):
                self._collect(self._actions.get(action, ()))
            elif isinstance(action, Emit):
                self._emitted.add(_type_of(action.event))
            elif isinstance(action, Raise):
                self.because_of(_type_of(action.event))


def transitions_at(state: State, place: str) -> list[Action]:
    """The actions of the candidates of a state that stand at a place."""
    found: list[Action] = []
    for type_, several in state.on:
        if place.endswith(f" on {type_}"):
            found += [action for one in several or () for action in one.actions]
    if place.endswith(" always"):
        found += [action for one in state.always for action in one.actions]
    for job in state.invoke:
        ended = {f" invoke {job.id} done": job.on_done, f" invoke {job.id} error": job.on_error}
        for ending, candidates in ended.items():
            if place.endswith(ending):
                found += [action for one in candidates for action in one.actions]
    return found


def _type_of(event: Any) -> str:
    type_ = event.get("type") if isinstance(event, Mapping) else None
    return type_ if isinstance(type_, str) and not type_.startswith("$") else ANYTHING


def _cycle(leads: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The first way from a node back to itself, or nothing."""
    done: set[str] = set()
    for start in leads:
        path = {} if start in done else {start: iter(leads[start])}
        while path:
            node = next(reversed(path))
            other = next(path[node], None)
            if other is None:
                done.add(node)
                del path[node]
            elif other in path:
                names = list(path)
                return (*names[names.index(other) :], other)
            elif other not in done:
                path[other] = iter(leads.get(other, ()))
    return ()


def machines_of(machines: Iterable[Machine]) -> dict[str, dict[int, Chart]]:
    """The charts of machines by name and version.

    Raises:
        InvalidCoordination: two of them share name and version.
    """
    charts: dict[str, dict[int, Chart]] = {}
    for machine in machines:
        versions = charts.setdefault(machine.id, {})
        if machine.version in versions:
            raise InvalidCoordination(
                "two-machines",
                f"there are two machines {machine.id!r} of version {machine.version}",
            )
        versions[machine.version] = Chart.of(machine)
    return charts
