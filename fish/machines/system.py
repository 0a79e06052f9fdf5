"""Machines that live together, compiled to one fish.

    workflows = System((user, session), (Route("user", "user/LOGIN", "session", "LOGIN"),))
    fish = workflows.fish("workflows")

An event bears the tags of `tags_of(machine, instance)` and has an object with a `type` as its payload. The way of a
datum: the fish's reducer (the `System` itself) finds the instance that the tags name, lets it take the event in one
macrostep (`fish.machines.stepping`), and then delivers, first come, first served, what this led to: emissions along
the routes, events for parents and children, births of children. All of that happens in the fold
(`fish.machines.folding`), with keys derived from the event's (`K#1`, `K#2`). Nothing of it is published: so there is
nothing to repeat, nothing to own, and nothing to take back when time travel takes the cause away.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fish.definition import Fish, Metadata
from fish.machines.addresses import KNOWN_ADDRESSES, TAG, split
from fish.machines.chart import Chart
from fish.machines.coordination import Carrier, Route, check_routes, machines_of
from fish.machines.definition import Machine
from fish.machines.errors import InvalidCoordination, NoSuchMachine
from fish.machines.expressions import NOTHING_KNOWN, Meta
from fish.machines.folding import Parts, Turn, World
from fish.machines.instance import ACTIVE, STOPPED, WAITING, Instance, Passage
from fish.machines.inventory import spawned_by
from fish.machines.stepping import Step, attempt
from lamport.ids import StreamId
from lamport.tags import Tag, Where

KNOWN_STREAMS = 1_024
"""Streams whose texts are remembered; a swarm has fewer."""

JsonObject = Mapping[str, Any]


@dataclass(frozen=True)
class System:
    """Machines and the routes between them. Calling it folds one event.

    Of a machine several versions may be given. What is logged begins an instance by the version that it names, for a
    runtime the newest; what is derived (a route's event, a birth) by the oldest: a newer one changes no history.

    Raises:
        InvalidMachine: a machine's definition breaks a rule.
        InvalidCoordination: the machines do not fit together.
    """

    machines: tuple[Machine, ...]
    routes: tuple[Route, ...] = ()
    parts: Parts = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "machines", _all(Machine, self.machines, "machines"))
        object.__setattr__(self, "routes", _all(Route, self.routes, "routes"))
        charts = machines_of(self.machines)
        check_routes(charts, self.routes)
        carriers: dict[tuple[str, str], list[Carrier]] = {}
        for route in self.routes:
            carriers.setdefault((route.source, route.emit), []).append(Carrier.of(route))
        object.__setattr__(self, "parts", Parts(charts, _children(charts), carriers))

    def __call__(self, world: World, payload: Any, metadata: Metadata) -> World:
        """The reducer."""
        address = _addressed(metadata.tags)
        if address is None:
            return world
        return Turn(self.parts, world, _meta(metadata)).run(address, payload)

    def told(self, world: World, payload: Any, metadata: Metadata) -> tuple[World, list[Passage]]:
        """Fold one event; returns what it did to which machine, too."""
        address = _addressed(metadata.tags)
        if address is None:
            return world, []
        turn = Turn(self.parts, world, _meta(metadata))
        return turn.run(address, payload), turn.passages

    @property
    def where(self) -> Where:
        """What the machines listen to."""
        return Where.union(Tag(f"{TAG}:{name}") for name in self.parts.charts)

    def fish(self, name: str, *, version: int = 1) -> Fish[World]:
        """The fish that all of this compiles to."""
        return Fish(name, self.where, World(), self, version=version)

    def newest(self, machine: str) -> Chart:
        """The newest definition of a machine.

        Raises:
            NoSuchMachine: there is none of this name.
        """
        versions = self.parts.charts.get(machine)
        if versions is None:
            raise NoSuchMachine(f"there is no machine {machine!r} here")
        return versions[max(versions)]

    def instance(self, world: World, address: str) -> Instance:
        """An instance; one that no event has reached stands in its initial state.

        A child that nobody spawned (any more) is stopped: what is sent to it is dropped.

        Raises:
            NoSuchMachine: there is no machine of this name.
        """
        machine, name = split(address)
        version = self.newest(machine).machine.version
        known: Instance | None = world.instances.get(f"{machine}/{name}")
        if known is not None and known.status != WAITING:
            return known
        if machine in self.parts.children:
            return self.parts.fresh(machine, name, version)._replace(status=STOPPED)
        return self._preview(self.parts.fresh(machine, name, version))

    def why_not(
        self, world: World, address: str, event: JsonObject, meta: Meta = NOTHING_KNOWN
    ) -> str | None:
        """Why an event would be dropped now; None where it would be taken. `meta` is what guards may ask for.

        Raises:
            NoSuchMachine: there is no machine of this name.
        """
        known = world.instances.get(address)
        if known is None or known.status == WAITING:
            version = self.newest(split(address)[0]).machine.version
            event = {**event, "$version": version}
        return Turn(self.parts, world, meta).tried(address, event)

    def upgraded(self, world: World, address: str, meta: Meta) -> tuple[World, str | None]:
        """The world in which an instance goes by the newest definition, and why it does not where it fails to."""
        known = world.instances.get(address)
        newest = self.newest(split(address)[0]).machine.version
        if known is None or known.status == WAITING or known.version >= newest:
            return world, None
        if not known.is_settled or known.status != ACTIVE:
            return world, None
        turn = Turn(self.parts, world, meta)
        after = turn.run(address, {"type": "$migrate", "version": newest})
        own = (one for one in turn.passages if one.key == meta.key)
        refused = next((one.reason for one in own if one.kind == "dropped"), None)
        return (world if refused else after), refused

    def enabled(self, instance: Instance) -> tuple[str, ...]:
        """The types of events for which the instance has transitions now, guards aside."""
        chart = self.parts.chart_of(instance)
        if instance.status not in (ACTIVE, WAITING):
            return ()
        leaves = dict.fromkeys((*(one.state for one in instance.tokens), instance.rest))
        return tuple(sorted({type_ for leaf in leaves for type_ in chart.nodes[leaf].enabled()}))

    def stamped(self, instance: Instance, event: JsonObject) -> JsonObject:
        """The event with the open work ids that it closes, where it names none itself."""
        chart = self.parts.chart_of(instance)
        stamps: dict[str, list[str]] = {}
        for node in chart.cyclic:
            closes = node.state.closes or ""
            open_ = [one.id for one in instance.tokens if one.state == node.path]
            is_taken = any(one.handled(event["type"]) for one in node.line)
            if open_ and is_taken and closes not in event:
                stamps.setdefault(closes, []).extend(open_)
        return {**event, **{name: sorted(ids) for name, ids in stamps.items()}}

    def _preview(self, instance: Instance) -> Instance:
        """How an instance will begin; nothing of it is under way before an event has started it."""
        step = Step(self.parts.chart_of(instance), instance, Meta(), "")
        if attempt(step.start, {"type": "$init"}) is not None:
            return instance._replace(status=ACTIVE)
        begun = step.finished()
        return begun._replace(flights=(), timers=(), intents=(), children=(), workers=())


def _all(kind: type, given: Any, what: str) -> tuple[Any, ...]:
    """What was given, one or several, as several."""
    several = (given,) if isinstance(given, kind) else given
    if not isinstance(several, list | tuple) or not all(isinstance(one, kind) for one in several):
        raise InvalidCoordination("bad-shape", f"{what} are given as a tuple, not {given!r:.60}")
    return tuple(several)


def _children(charts: Mapping[str, Mapping[int, Chart]]) -> frozenset[str]:
    """The machines that others spawn.

    Raises:
        InvalidCoordination: one of them is not here.
    """
    found: set[str] = set()
    for name, versions in charts.items():
        wanted = [one for chart in versions.values() for one in spawned_by(chart.machine)]
        for child in wanted:
            if child not in charts:
                raise InvalidCoordination(
                    "unknown-machine", f"machine {name!r} spawns {child!r}, which is not here"
                )
        found.update(wanted)
    return frozenset(found)


def _meta(metadata: Metadata) -> Meta:
    lamport, stream = metadata.event_key
    stream_text, node = _texts(stream)
    key = f"{lamport:016d}/{stream_text}"
    return Meta(key, lamport, stream_text, metadata.timestamp, node)


@functools.lru_cache(maxsize=KNOWN_STREAMS)
def _texts(stream: StreamId) -> tuple[str, str]:
    """The texts of a stream and of its node: spelling them out takes longer than folding an event."""
    return str(stream), str(stream.node)


@functools.lru_cache(maxsize=KNOWN_ADDRESSES)
def _addressed(tags: tuple[str, ...]) -> str | None:
    """The instance that an event's tags name: the first, in the order of the tags."""
    for tag in tags:
        head, _, rest = tag.partition(":")
        machine, colon, instance = rest.partition(":")
        if head == TAG and colon:
            return f"{machine}/{instance}"
    return None
