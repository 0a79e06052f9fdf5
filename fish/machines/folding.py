"""One event of the log, and all that follows from it: the reducer's inside.

A `Turn` holds the instances as they change while one event is delivered, and then everything derived from it, first
come, first served. What comes out is the next `World`; where deliveries never end, nothing but a dropped event.

Types that begin with a dollar sign are records of the runtime:

    $init {context}                   start this instance        $stop {}                       end it
    $done {inv, output}               a service has ended        $error {inv, error}            it has failed
    $abort {inv, reason, deliver}     it was given up; the error comes `now`, or before the `next_event`
    $after {timer}                    a timer is due             $migrate {version}        go by a newer definition
    $ran $undone $orphaned            the ledger of effects: what a node did, took back, could not take back
    $owner {node}                     that node does what is to be done from now on; "": who logs the event behind it
    $seen {heads}                     how far its author's own streams reach: nothing of it is yet to come before this

Fields of any event: `$dedupe`, a key that lets it count once, and `$version`, the definition that a first event means.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from fish.machines.addresses import derived
from fish.machines.chart import CHILD_DONE, STATE_DONE, Chart
from fish.machines.chart import DONE as DONE_TYPE
from fish.machines.chart import ERROR as ERROR_TYPE
from fish.machines.contexts import require_small
from fish.machines.coordination import Carrier
from fish.machines.expressions import Meta, Scope
from fish.machines.instance import (
    ACTIVE,
    KEPT_DEDUPE_KEYS,
    KEPT_DEFERRED,
    MAX_DEDUPE_KEY,
    STOPPED,
    WAITING,
    Deferred,
    Entry,
    Flight,
    Instance,
    Link,
    Parked,
    Passage,
    Sighting,
    owned,
    recorded,
    stopped,
)
from fish.machines.messages import Emission, Message
from fish.machines.migrating import migration
from fish.machines.offspring import stopping
from fish.machines.register import Register
from fish.machines.shapes import SHAPES
from fish.machines.stepping import Step, attempt

MAX_DELIVERIES = 1_000
"""Events that may be derived from one: more is a circle that the check of the routes could not see."""

CHUNK, KEPT_CHUNKS = 32, 32
"""Passages that are kept in the state, in chunks so that an event copies few: as many as a large batch has events."""

JsonObject = Mapping[str, Any]

LEDGER = {"$ran": "done", "$undone": "undone", "$orphaned": "orphaned"}
NEXT_EVENT = "next_event"


class World(NamedTuple):
    """All machines at one point of the log, by address, and the newest passages in chunks."""

    instances: Register = Register()
    chunks: tuple[tuple[Passage, ...], ...] = ()
    seen: tuple[Sighting, ...] = ()
    """What each node said last of its own streams, in the order of nodes."""

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The newest passages, oldest first."""
        return tuple(passage for chunk in self.chunks for passage in chunk)

    def backwards(self) -> Iterator[Passage]:
        """The newest passages, newest first."""
        return (passage for chunk in reversed(self.chunks) for passage in reversed(chunk))

    def dropped(self, key: str) -> str | None:
        """Why the event with this key was dropped, if it was, and not long ago."""
        later = itertools.takewhile(lambda one: one.root >= key, self.backwards())
        return next((one.reason for one in later if (one.key, one.kind) == (key, "dropped")), None)


class Parts:
    """What a fold needs of the definitions, prepared once."""

    def __init__(
        self,
        charts: Mapping[str, Mapping[int, Chart]],
        children: frozenset[str],
        carriers: Mapping[tuple[str, str], list[Carrier]],
    ) -> None:
        """`children` are the machines that live only as somebody's child, until they are started by name."""
        self.charts = charts
        self.children = children
        self.carriers = carriers

    def chart_of(self, instance: Instance) -> Chart:
        """The definition that an instance goes by."""
        return self.charts[instance.machine][instance.version]

    def fresh(self, machine: str, name: str, version: Any = 1) -> Instance:
        """An instance that nothing has started yet."""
        versions = self.charts[machine]
        is_known = type(version) is int and version in versions
        chosen = version if is_known else min(versions)
        chart = versions[chosen]
        context = chart.machine.context
        return Instance(machine, name, chosen, WAITING, chart.root.leaf.path, context)


class _Delivery(NamedTuple):
    """An event on its way to an instance, with the key it has there."""

    address: str
    event: Any
    meta: Meta
    birth: Link | None = None


class Turn:
    """One event of the log at work."""

    __slots__ = (
        "_changed",
        "_derived",
        "_intents",
        "_meta",
        "_parts",
        "_queue",
        "_seen",
        "_world",
        "passages",
    )

    def __init__(self, parts: Parts, world: World, meta: Meta) -> None:
        self._parts = parts
        self._world = world
        self._meta = meta
        self._changed: dict[str, Instance] = {}
        self.passages: list[Passage] = []
        self._queue: deque[_Delivery] = deque()
        self._derived = 0
        self._intents = 0
        self._seen = world.seen

    def run(self, address: str, event: Any) -> World:
        """Deliver an event and all that follows from it."""
        self._deliver(address, event, self._meta)
        while self._queue:
            if self._derived > MAX_DELIVERIES:
                return self._abandoned(address, event)
            self._deliver(*self._queue.popleft())
        instances = self._world.instances
        if self._changed:
            instances = instances.put(self._changed)
        return World(instances, self._chunks(), self._seen)

    def tried(self, address: str, event: JsonObject) -> str | None:
        """Why an event would be dropped by this instance; None where it would not."""
        before = self._instance(address, event)
        if before is None or before.parked:
            return None
        self._deliver(address, event, self._meta)
        last = self.passages[-1] if self.passages else None
        return last.reason if last is not None and last.kind == "dropped" else None

    def _abandoned(self, address: str, event: Any) -> World:
        machine, _, name = address.partition("/")
        self.passages.clear()
        self._note(
            self._world.instances.get(address) or self._parts.fresh(machine, name),
            self._meta,
            _type_of(event),
            "dropped",
            "error:loop",
        )
        return World(self._world.instances, self._chunks(), self._seen)

    def _chunks(self) -> tuple[tuple[Passage, ...], ...]:
        """The newest passages with those of this turn."""
        chunks, new = self._world.chunks, tuple(self.passages)
        if chunks and len(chunks[-1]) < CHUNK:
            return (*chunks[:-1], chunks[-1] + new)
        return (*chunks[1 - KEPT_CHUNKS :], new)

    def _instance(self, address: str, event: Any) -> Instance | None:
        """The instance at an address; None where there is no such machine."""
        known: Instance | None
        known = self._changed.get(address) or self._world.instances.get(address)
        if known is not None and known.status != WAITING:
            return known
        machine, _, name = address.partition("/")
        if machine not in self._parts.charts:
            return None
        version = event.get("$version", 1) if isinstance(event, Mapping) else 1
        fresh = self._parts.fresh(machine, name, version)
        return fresh if known is None else fresh._replace(ledger=known.ledger)

    def _deliver(self, address: str, event: Any, meta: Meta, birth: Link | None = None) -> None:
        instance = self._instance(address, event)
        if instance is None:
            return
        type_ = _type_of(event)
        if not type_:
            self._note(instance, meta, "", "dropped", "bad-payload")
        elif type_ in LEDGER:
            self._record(instance, event, meta)
        elif type_ == "$init":
            self._init(instance, event, meta, birth)
        elif type_ == "$seen":
            self._sight(instance, event, meta)
        else:
            self._live(instance, event, type_, meta)
            self._resume(address)

    def _sight(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        heads = event.get("heads")
        if not isinstance(heads, Mapping) or not all(type(one) is int for one in heads.values()):
            self._note(instance, meta, "$seen", "dropped", "bad-payload")
            return
        others = [one for one in self._seen if one.node != meta.node]
        self._seen = tuple(sorted((*others, Sighting(meta.node, meta.lamport, heads))))

    def _record(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        entry = _entry(event, meta)
        if entry is None:
            self._note(instance, meta, event["type"], "dropped", "bad-payload")
        else:
            self._changed[instance.address] = recorded(instance, entry)

    def _init(self, instance: Instance, event: JsonObject, meta: Meta, birth: Link | None) -> None:
        if instance.status not in (WAITING, STOPPED):
            self._note(instance, meta, "$init", "dropped", "already-started")
            return
        context = event.get("context")
        given = context if isinstance(context, Mapping) else {}
        whole = {**self._parts.chart_of(instance).machine.context, **given}
        reason = attempt(require_small, whole) if given else None
        if reason is not None:
            self._note(instance, meta, "$init", "dropped", reason)
            return
        self._start(instance._replace(parent=birth), given, meta, "started")

    def _start(self, instance: Instance, context: JsonObject, meta: Meta, kind: str) -> Instance:
        chart = self._parts.chart_of(instance)
        ready = instance._replace(
            context={**chart.machine.context, **context},
            rest=chart.root.leaf.path,
            born=meta.key,
            external=meta.key,
        )
        step = Step(chart, ready, meta, self._meta.key, self._intents)
        reason = attempt(step.start, {"type": "$init"})
        after = ready._replace(status=ACTIVE) if reason else self._finish(step)
        self._changed[instance.address] = after
        words = () if reason else tuple(step.words)
        self._note(after, meta, "$init", "dropped" if reason else kind, reason, words=words)
        return after

    def _live(self, instance: Instance, event: JsonObject, type_: str, meta: Meta) -> None:
        """An event for an instance that runs, or is started by it."""
        if instance.status == WAITING:
            if instance.machine in self._parts.children or type_.startswith("$"):
                self._note(instance, meta, type_, "dropped", "not-started")
                return
            instance = self._start(instance, {}, meta._replace(key=f"{meta.key}!start"), "started")
        key = event.get("$dedupe")
        if key is not None and (not isinstance(key, str) or len(key) > MAX_DEDUPE_KEY):
            self._note(instance, meta, type_, "dropped", "bad-payload:$dedupe")
            return
        if key is not None and key in instance.seen:
            self._note(instance, meta, type_, "dropped", "duplicate")
            return
        if instance.status != ACTIVE:
            self._note(instance, meta, type_, "dropped", instance.status)
            return
        if key is not None:
            instance = instance._replace(seen=(*instance.seen, key)[-KEPT_DEDUPE_KEYS:])
            self._changed[instance.address] = instance
        if instance.flights and self._is_held(instance, type_, meta):
            self._defer(instance, event, meta)
            return
        if instance.parked and not (type_ == "$abort" and event.get("deliver") == NEXT_EVENT):
            instance = self._tell_errors(instance, meta, meta.key)
        self._dispatch(instance, event, type_, meta)

    def _is_held(self, instance: Instance, type_: str, meta: Meta) -> bool:
        """Whether an event waits until no service is in flight. Records and the machine's own timers do not."""
        is_ordinary = type_[0] != "$" and not self._is_forged(type_, meta)
        return is_ordinary and self._parts.chart_of(instance).machine.defer_while_busy

    def _defer(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        if len(instance.deferred) >= KEPT_DEFERRED:
            self._note(instance, meta, event["type"], "dropped", "too-many-deferred")
            return
        deferred = (*instance.deferred, Deferred(event, meta))
        self._changed[instance.address] = instance._replace(deferred=deferred)
        self._note(instance, meta, event["type"], "deferred", None)

    def _resume(self, address: str) -> None:
        """Take the events that have waited, in their order, as long as nothing holds them up again."""
        while True:
            instance = self._changed.get(address)
            if instance is None or not instance.deferred or instance.flights:
                return
            (event, meta), *others = instance.deferred
            if instance.parked:  # what they lead to may hold the event up again
                self._tell_errors(instance, meta, self._meta.key)  # a key of its own each time
                continue
            instance = instance._replace(deferred=tuple(others))
            self._changed[address] = instance
            if instance.status == ACTIVE:
                self._dispatch(instance, event, event["type"], meta)
            else:
                self._note(instance, meta, event["type"], "dropped", instance.status)

    def _dispatch(self, instance: Instance, event: JsonObject, type_: str, meta: Meta) -> None:
        if type_[0] == "$":
            record = _RECORDS.get(type_, Turn._unknown)
            record(self, instance, event, meta)
        elif self._is_forged(type_, meta):
            self._note(instance, meta, type_, "dropped", "reserved")
        elif fault := self._misshapen(instance, event):
            self._note(instance, meta, type_, "dropped", fault)
        else:
            self._take(instance, event, meta)

    def _is_forged(self, type_: str, meta: Meta) -> bool:
        """Only a service's own record says how it ended; that a state or a child is done is said in the fold only."""
        is_said = meta.key == self._meta.key
        return type_.startswith(_INSIDE) or (is_said and type_.startswith(_DERIVED))

    def _misshapen(self, instance: Instance, event: JsonObject) -> str | None:
        shapes = self._parts.chart_of(instance).shapes
        for name, shape in shapes.get(event["type"], {}).items() if shapes else ():
            value = event.get(name)
            wrong = isinstance(value, bool) and shape == "number"
            if wrong or name not in event or not isinstance(value, SHAPES[shape]):
                return f"bad-payload:{name}"
        return None

    def _tell_errors(self, instance: Instance, meta: Meta, cause: str) -> Instance:
        """Errors that were parked come before the next event; those of states left meanwhile never."""
        number = 0
        while instance.parked and instance.status == ACTIVE:
            first, *others = instance.parked
            number += 1
            instance = instance._replace(parked=tuple(others))
            at = meta._replace(key=f"{cause}!{number}")
            instance = self._ended(instance, first.flight, _failure(first.flight, first.reason), at)
        return instance

    def _take(self, instance: Instance, event: JsonObject, meta: Meta) -> Instance:
        step = Step(self._parts.chart_of(instance), instance, meta, self._meta.key, self._intents)
        return self._took(step, event, attempt(step.take, event))

    def _took(
        self, step: Step, event: JsonObject, reason: str | None, kind: str = "dropped"
    ) -> Instance:
        """Keep what a step has made, or what was before it; and say so."""
        before, meta = step.before, step.meta
        if reason is not None:
            self._changed[before.address] = before
            self._note(before, meta, event["type"], kind, reason)
            return before
        if not event["type"].startswith(_INSIDE):
            step.external = meta.key
        after = self._finish(step)
        self._changed[after.address] = after
        self.passages.append(
            Passage(
                meta.key,
                self._meta.key,
                before.machine,
                before.name,
                event["type"],
                before.value,
                after.value,
                "transition" if step.moved else "internal",
                None,
                tuple(step.words),
            )
        )
        return after

    def _finish(self, step: Step) -> Instance:
        """What a step has made; what it says to others goes on its way."""
        self._intents = step.number
        for one in step.out:
            if isinstance(one, Message):
                self._post(one.address, one.event, one.birth)
            else:
                self._emit(step.before, step.meta, one)
        return step.finished()

    def _post(self, address: str, event: JsonObject, birth: Link | None = None) -> None:
        self._derived += 1
        meta = self._meta._replace(key=f"{self._meta.key}#{self._derived}")
        self._queue.append(_Delivery(address, event, meta, birth))

    def _emit(self, before: Instance, meta: Meta, emission: Emission) -> None:
        event = emission.event
        for carrier in self._parts.carriers.get((before.machine, event["type"]), ()):
            reason = attempt(self._carry, carrier, event)
            if reason is not None:
                self._note(before, meta, event["type"], "warning", f"route:{reason}")

    def _carry(self, carrier: Carrier, event: JsonObject) -> str | None:
        """Send what was emitted along a route; returns why it goes nowhere."""
        route, scope = carrier.route, Scope({}, event, self._meta)
        fields = event if carrier.fields is None else carrier.fields(scope)
        name = carrier.instance(scope)
        if name is None or name == "":
            return "no-instance"
        self._post(derived(route.target, name), {**fields, "type": route.event})
        return None

    def _ended(self, instance: Instance, flight: Flight, event: JsonObject, meta: Meta) -> Instance:
        """A service has ended, one way or the other: it is no longer in flight, whatever becomes of the news."""
        flights = tuple(one for one in instance.flights if one.id != flight.id)
        instance = instance._replace(flights=flights)
        step = Step(self._parts.chart_of(instance), instance, meta, self._meta.key, self._intents)
        reason = attempt(step.take, event, flight.work)
        return self._took(step, event, reason, "warning" if reason == "not-enabled" else "dropped")

    # Records of the runtime.

    def _unknown(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        self._note(instance, meta, event["type"], "dropped", "unknown-record")

    def _done(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        flight = self._flight(instance, event, meta)
        if flight is None:
            return
        if event["type"] == "$done":
            news = {"type": DONE_TYPE + flight.invoke, "output": event.get("output")}
        else:
            news = {"type": ERROR_TYPE + flight.invoke, "error": event.get("error")}
        self._ended(instance, flight, news, meta)

    def _abort(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        flight = self._flight(instance, event, meta)
        if flight is None:
            return
        reason = str(event.get("reason"))
        if event.get("deliver") != NEXT_EVENT:
            self._ended(instance, flight, _failure(flight, reason), meta)
            return
        self._changed[instance.address] = instance._replace(
            flights=tuple(one for one in instance.flights if one.id != flight.id),
            parked=(*instance.parked, Parked(flight, reason)),
        )
        self._note(instance, meta, "$abort", "aborted", reason)

    def _flight(self, instance: Instance, event: JsonObject, meta: Meta) -> Flight | None:
        """The service that a record is about: the first record wins, later ones are about nothing."""
        found = next((one for one in instance.flights if one.id == event.get("inv")), None)
        if found is None:
            self._note(instance, meta, event["type"], "dropped", "unknown-invocation")
        return found

    def _after(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        timer = next((one for one in instance.timers if one.id == event.get("timer")), None)
        if timer is None:
            self._note(instance, meta, "$after", "dropped", "unknown-timer")
            return
        instance = instance._replace(
            timers=tuple(one for one in instance.timers if one.id != timer.id)
        )
        self._changed[instance.address] = instance
        if timer.event is not None:
            self._send_delayed(instance, timer, meta)
            return
        step = Step(self._parts.chart_of(instance), instance, meta, self._meta.key, self._intents)
        self._took(step, event, attempt(step.fire, timer))

    def _send_delayed(self, instance: Instance, timer: Any, meta: Meta) -> None:
        if timer.target is None:
            self._take(instance, timer.event, meta)
            return
        step = Step(self._parts.chart_of(instance), instance, meta, self._meta.key, self._intents)
        step.send(timer.target, timer.event, None, None, timer.work)
        self._took(step, {"type": "$after"}, None)

    def _stop(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        for address in stopping(self._parts.chart_of(instance), instance):
            self._post(address, {"type": "$stop"})
        self._changed[instance.address] = stopped(instance)
        self._note(instance, meta, event["type"], "stopped", None)

    def _own(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        node = event.get("node")
        if not isinstance(node, str):
            self._note(instance, meta, "$owner", "dropped", "bad-payload")
            return
        self._changed[instance.address] = owned(instance, node)
        self._note(instance, meta, "$owner", "internal", None)

    def _migrate(self, instance: Instance, event: JsonObject, meta: Meta) -> None:
        """Go on by the next definitions, one after the other; only while nothing is under way."""

        def begun(chart: Chart, before: Instance) -> Step:
            return Step(chart, before, meta, self._meta.key, self._intents)

        charts = self._parts.charts[instance.machine]
        step = migration(charts, instance, event.get("version"), begun)
        if isinstance(step, str):
            self._note(instance, meta, "$migrate", "dropped", step)
            return
        after = self._finish(step)
        self._changed[instance.address] = after
        words = tuple(step.words)
        self._note(after, meta, "$migrate", "transition", None, words=words, before=instance.value)

    def _note(
        self,
        instance: Instance,
        meta: Meta,
        type_: str,
        kind: str,
        reason: str | None,
        *,
        words: tuple[str, ...] = (),
        before: str | None = None,
    ) -> None:
        value = instance.value
        self.passages.append(
            Passage(
                meta.key,
                self._meta.key,
                instance.machine,
                instance.name,
                type_,
                value if before is None else before,
                value,
                kind,
                reason,
                words,
            )
        )


_INSIDE = (DONE_TYPE, ERROR_TYPE)
"""What the types of events begin with that do not start the time limit anew."""

_DERIVED = (CHILD_DONE, STATE_DONE)
"""What the types of events begin with that follow from other events, and are never logged."""

_Record = Callable[[Turn, Instance, JsonObject, Meta], None]

_RECORDS: dict[str, _Record] = {
    "$done": Turn._done,  # noqa: SLF001 - a table of the class's own methods
    "$error": Turn._done,  # noqa: SLF001 - a table of the class's own methods
    "$abort": Turn._abort,  # noqa: SLF001 - a table of the class's own methods
    "$after": Turn._after,  # noqa: SLF001 - a table of the class's own methods
    "$stop": Turn._stop,  # noqa: SLF001 - a table of the class's own methods
    "$owner": Turn._own,  # noqa: SLF001 - a table of the class's own methods
    "$migrate": Turn._migrate,  # noqa: SLF001 - a table of the class's own methods
}


def _entry(event: JsonObject, meta: Meta) -> Entry | None:
    """What a node says that it did about an effect; None where it says nothing of the kind."""
    texts = [event.get(name) for name in ("id", "name", "cause", "root")]
    numbers = [event.get(name) for name in ("attempt", "number")]
    undo = event.get("undo")
    if not all(isinstance(one, str) for one in texts) or not isinstance(undo, str | None):
        return None
    if not all(isinstance(one, int) for one in numbers):
        return None
    id_, name, cause, root = map(str, texts)
    attempt_, number = (int(one or 0) for one in numbers)
    state, args = LEDGER[event["type"]], event.get("args")
    return Entry(id_, state, attempt_, name, args, undo, cause, root, number, meta.node, meta.key)


def _failure(flight: Flight, reason: str) -> JsonObject:
    return {"type": ERROR_TYPE + flight.invoke, "error": {"reason": reason}}


def _type_of(event: Any) -> str:
    if type(event) is not dict and not isinstance(
        event, Mapping
    ):  # asking an abstract class takes its time
        return ""
    type_ = event.get("type")
    return type_ if isinstance(type_, str) else ""
