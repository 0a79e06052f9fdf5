"""One macrostep: what an event makes of a machine. Pure; values in, values out.

The order is that of SCXML: the first candidate whose guard passes, from the leaf to the root; leave from the leaf up,
act, enter from the root down; then transitions without events, then raised events in their order, until nothing moves.
Services, timers and children of the states that are active at the end begin; those of states that were only passed
through never do. Whatever raises on the way leaves no trace but the reason: the draft (`Step`) is thrown away.

In a machine that holds work ids an event that leaves a cyclic state closes the ids it names, and no others. The state
it leads to is reached when the last one is closed, or at once if that is cyclic too: then the step mints a new id.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec

from fish.machines.acts import PARENT, Act
from fish.machines.chart import CHILD_DONE, STATE_DONE, WILDCARD, Chart, Edge, Job, Node, way
from fish.machines.chart import DONE as DONE_TYPE
from fish.machines.chart import ERROR as ERROR_TYPE
from fish.machines.contexts import assigned
from fish.machines.definition import Effect, Spawn
from fish.machines.errors import MachineThrew, StepLimitReached, text_of
from fish.machines.expressions import Meta, Scope
from fish.machines.instance import (
    ACTIVE,
    DONE,
    KEPT_INTENTS,
    Flight,
    Instance,
    Intent,
    Link,
    Timer,
    Token,
)
from fish.machines.messages import Emission, Message, bears, require_event, seconds_of
from fish.machines.offspring import Offspring, address_of, done, work_of

MAX_MICROSTEPS = 1_000
"""Microsteps in one macrostep: a chart that needs more turns in a circle."""

_ENDS = (DONE_TYPE, ERROR_TYPE, CHILD_DONE, STATE_DONE)

NOT_ENABLED, ALREADY_CLOSED, MISSING_CLOSES = "not-enabled", "already-closed", "missing-closes"

JsonObject = Mapping[str, Any]
_Arguments = ParamSpec("_Arguments")


class Step:
    """The draft of a machine's next state. Use it for one macrostep, then `finished`."""

    __slots__ = (
        "_context",
        "_delayed",
        "_entered",
        "_event",
        "_flights",
        "_intents",
        "_microsteps",
        "_offspring",
        "_output",
        "_parked",
        "_queue",
        "_rest",
        "_status",
        "_timers",
        "_tokens",
        "before",
        "chart",
        "external",
        "meta",
        "moved",
        "number",
        "out",
        "root",
        "words",
    )

    def __init__(
        self, chart: Chart, before: Instance, meta: Meta, root: str, number: int = 0
    ) -> None:
        """`root` is the key of the log's event that this step follows from, `number` counts its intents so far."""
        self.chart = chart
        self.before = before
        self.meta = meta
        self.root = root
        self.number = number
        self.out: list[Message | Emission] = []
        self.words: list[str] = []
        self.moved = False
        self.external = before.external
        self._event: JsonObject = {}
        self._rest = chart.nodes[before.rest]
        self._context: Mapping[str, Any] = before.context
        self._tokens = before.tokens
        self._flights = before.flights
        self._timers = before.timers
        self._parked = before.parked
        self._offspring = Offspring(before.children, before.workers)
        self._intents: list[Intent] = []
        self._queue: list[JsonObject] = []
        self._entered: dict[tuple[str, str | None], Node] = {}
        self._status = before.status
        self._output = before.output
        self._microsteps = self._delayed = 0

    def start(self, event: JsonObject) -> str | None:
        """Enter the initial state; there is never a reason not to."""
        self._event, self._status, self.moved = event, ACTIVE, True
        root = self.chart.root
        self._enter(root.leaf, way(root, root.leaf))
        self._stabilise()
        return None

    def go_on(
        self, entered: Iterable[Node], stayed: Iterable[tuple[Node, str | None, int]]
    ) -> str | None:
        """Begin what a newer definition adds: all of states that are entered, of others the timers from a number on."""
        self._event, self.moved = {"type": "$migrate"}, True
        self._entered = {(node.path, None): node for node in entered}
        for node, work, first in stayed:
            self._arm(node, work, work or self.meta.key, first)
        self._stabilise()
        return None

    def take(self, event: JsonObject, only: str | None = None) -> str | None:
        """Handle an event; returns why it is dropped, or None. `only` is the one work id that it concerns."""
        if only is None and self._tokens:
            only = work_of(event)
        reason = self._handle(event, only)
        if reason is None:
            self._stabilise()
        return reason

    def fire(self, timer: Timer) -> str | None:
        """Handle a state's timer."""
        node = self.chart.nodes[timer.state]
        edge = node.timers[timer.number][1]
        self._event = {"type": f"after.{timer.number}"}
        if not self._passes(edge, timer.work):
            return NOT_ENABLED
        if self._tokens:  # a timer of a state around work ids ends all of them
            self._take_edge(edge, [one for one in self._tokens if timer.work in (None, one.id)])
        else:
            self._perform(edge)
        self._stabilise()
        return None

    def finished(self) -> Instance:
        """The next state."""
        before = self.before
        intents = before.intents
        if self._intents:
            intents = (*intents, *self._intents)[-KEPT_INTENTS:]
        return Instance(
            before.machine,
            before.name,
            before.version,
            self._status,
            self._rest.path,
            self._context,
            self._tokens,
            self._flights,
            self._timers,
            self._parked,
            self._offspring.children,
            before.parent,
            before.seen,
            intents,
            before.ledger,
            self._output,
            before.born,
            self.external,
            before.deferred,
            before.owner,
            self._offspring.of_open(self._tokens),
        )

    # What actions do; see `acts.Performer`.

    def assign(self, values: Mapping[str, Any]) -> None:
        """Set parts of the context."""
        self._context = assigned(self._context, values)

    def effect(self, wanted: Effect, args: Any, work: str | None) -> None:
        """Want something done in the world."""
        name = wanted.name
        digest = self._digest("effect", name, args, work)
        twins = sum(1 for one in self._intents if one.id.startswith(digest))
        id_, cause, owner = f"{digest}.{twins}", self.meta.key, self._owner
        self._intents.append(
            Intent(
                id_, name, args, wanted.undo, cause, self.root, self.number, owner, wanted.stable
            )
        )
        self.number += 1

    def emit(self, event: JsonObject) -> None:
        """Tell the coordination."""
        require_event(event)
        self.out.append(Emission(event))

    def send(
        self,
        target: str | None,
        event: JsonObject,
        delay: float | None,
        id_: str | None,
        work: str | None = None,
    ) -> None:
        """An event for a machine."""
        require_event(event)
        if delay is not None:
            self._delay(target, event, delay, id_, work)
        elif target is None:
            self._queue.append(event)
        else:
            self._post(target, event, work)

    def cancel(self, id_: str) -> None:
        """Take back what was delayed."""
        self._timers = tuple(one for one in self._timers if one.name != id_)

    def spawn(self, wanted: Spawn, name: str | None, context: JsonObject | None) -> None:
        """Start a persistent child from an action."""
        twins = sum(1 for one in self.out if bears(one, wanted.ref))
        entry = f"{self.meta.key}.{twins}" if twins else self.meta.key
        link = Link(self.before.address, wanted.ref, entry)
        address = address_of(wanted.machine, name, "", link)
        self._bear(address, link, context, None)
        self.assign({wanted.ref: address})

    def log(self, text: str) -> None:
        """A word into the trace."""
        self.words.append(text)

    # Selecting.

    def _handle(self, event: JsonObject, only: str | None = None) -> str | None:
        self._event = event
        if not self._tokens:
            edge = self._select(self._rest.line, event["type"])
            if edge is None:
                return self._why_not(event)
            self._perform(edge)
            return None
        reason = self._handle_work(event, only)
        if reason is not None and all(one.id != only for one in self._tokens):
            edge = self._select(self._rest.line, event["type"], into_cyclic=True)
            if edge is not None:
                self._perform(edge)
                return None
        return reason

    def _handle_work(self, event: JsonObject, only: str | None) -> str | None:
        """Offer an event to the cyclic states that hold work ids."""
        chosen: list[tuple[Edge, list[Token]]] = []
        is_open = only is None or any(one.id == only for one in self._tokens)
        reason = NOT_ENABLED if is_open else ALREADY_CLOSED
        for node in self.chart.cyclic:
            open_ = [
                one for one in self._tokens if one.state == node.path and only in (None, one.id)
            ]
            edge = self._select(node.line, event["type"]) if open_ else None
            if edge is not None:
                tokens, why = _named(node, edge, open_, event, only)
                if why is None:
                    # what is said around several cyclic states is one transition, taken once
                    same = next((one for known, one in chosen if known is edge), None)
                    if same is None:
                        chosen.append((edge, list(tokens)))
                    else:
                        same.extend(tokens)
                else:
                    reason = why
            elif event["type"] in node.handlers and node.state.closes in event:
                reason = ALREADY_CLOSED
        for edge, tokens in chosen:
            self._take_edge(edge, tokens)
        return None if chosen else reason

    def _why_not(self, event: JsonObject) -> str:
        """An event that closes work, where none is open, comes too late; others are not enabled."""
        for node in self.chart.cyclic:
            if node.handlers.get(event["type"]) and node.state.closes in event:
                return ALREADY_CLOSED
        return NOT_ENABLED

    def _select(
        self, line: Iterable[Node], type_: str, *, into_cyclic: bool = False
    ) -> Edge | None:
        for node in line:
            handlers = node.handlers
            name = type_ if type_ in handlers else WILDCARD
            if name in handlers:
                candidates = handlers[name]
                if candidates is None:
                    return None
                for edge in candidates:
                    if into_cyclic and (edge.leaf is None or not edge.leaf.is_cyclic):
                        continue
                    if edge.guard is None or self._passes(edge, None):
                        return edge
        return None

    def _eventless(self) -> tuple[Edge, list[Token]] | None:
        if not self._tokens:
            return next(((edge, []) for edge in self._always(self._rest.line)), None)
        for node in self.chart.cyclic:
            tokens = [one for one in self._tokens if one.state == node.path]
            for edge in self._always(node.line) if tokens else ():
                return edge, tokens
        return None

    def _always(self, line: Iterable[Node]) -> Iterable[Edge]:
        return (edge for node in line for edge in node.always if self._passes(edge, None))

    def _passes(self, edge: Edge, work: str | None) -> bool:
        return edge.guard is None or bool(edge.guard(self._scope(work)))

    def _scope(self, work: str | None) -> Scope:
        return Scope(self._context, self._event, self.meta, work)

    # Moving.

    def _stabilise(self) -> None:
        """Follow what needs no event, then what was raised, until nothing moves."""
        has_always = self.chart.has_always
        while (has_always or self._queue) and not self._is_final():
            found = self._eventless() if has_always else None
            if found is not None:
                self._take_edge(*found) if found[1] else self._perform(found[0])
            elif self._queue:
                self._handle(self._queue.pop(0))
            else:
                break
            self._microsteps += 1
            if self._microsteps > MAX_MICROSTEPS:
                raise StepLimitReached
        if self._is_final():
            self._end()
        elif self._entered:
            self._begin()

    def _perform(self, edge: Edge) -> None:
        """Take a transition of the state that the machine rests in."""
        if edge.target is None:
            self._act(edge.acts, None)
            return
        assert edge.scope is not None, "it has a target"
        assert edge.leaf is not None, "it has a target"
        self.moved = True
        if not self._tokens:
            self._exit(self._rest, edge.scope)
        self._act(edge.acts, None)
        if self._tokens:
            self._mint(edge.leaf)
        else:
            self._enter(edge.leaf, edge.entered)

    def _take_edge(self, edge: Edge, tokens: list[Token]) -> None:
        """Take a transition of cyclic states with these work ids."""
        work = tokens[0].id if tokens else None
        if edge.target is None:
            self._act(edge.acts, work)
            return
        self.moved = True
        for token in sorted(tokens):
            self._act(self.chart.nodes[token.state].exit, token.id)
            self._forget(token.state, token.id)
            self._tokens = tuple(one for one in self._tokens if one != token)
        leaf = edge.leaf
        assert leaf is not None, "it has a target"
        ends = not self._tokens and not leaf.is_cyclic
        around = self.chart.nodes[tokens[0].state].parent
        if ends and edge.scope is not None and around is not None:
            self._exit(around, edge.scope)
        self._act(edge.acts, work)
        if leaf.is_cyclic:
            self._mint(leaf)
        elif ends:
            self._enter(leaf, edge.entered)

    def _exit(self, leaf: Node, scope: Node) -> None:
        for node in leaf.line:
            if node is scope:
                break
            if node.exit:
                self._act(node.exit, None)
            if node.begins:
                self._forget(node.path, None)

    def _enter(self, leaf: Node, entered: tuple[Node, ...]) -> None:
        for node in entered:
            if node.is_cyclic:
                self._mint(node)
            else:
                if node.begins:
                    self._entered[node.path, None] = node
                if node.entry:
                    self._act(node.entry, None)
        if not leaf.is_cyclic:
            self._rest = leaf
            if leaf.state.is_final and not leaf.ends:
                self._tell_compound(leaf)

    def _mint(self, node: Node) -> None:
        token = Token(self.meta.key, node.path)
        if token not in self._tokens:
            self._tokens = (*self._tokens, token)
            self._entered[node.path, token.id] = node
            self._act(node.entry, token.id)

    def _tell_compound(self, leaf: Node) -> None:
        """A final state inside another one ends that, which is told."""
        assert leaf.parent is not None, "only the root has none"
        output = leaf.output(self._scope(None))
        self._queue.append({"type": STATE_DONE + leaf.parent.path, "output": output})

    def _act(self, acts: tuple[Act, ...], work: str | None) -> None:
        for act in acts:
            act(self, Scope(self._context, self._event, self.meta, work))

    def _forget(self, path: str, work: str | None) -> None:
        """What belongs to a state that is left ends with it."""
        self._entered.pop((path, work), None)
        if self._flights or self._parked:
            self._flights = tuple(
                one for one in self._flights if (one.state, one.work) != (path, work)
            )
            self._parked = tuple(
                one for one in self._parked if (one.flight.state, one.flight.work) != (path, work)
            )
        if self._timers:
            self._timers = tuple(
                one for one in self._timers if (one.state, one.work) != (path, work)
            )
        self._offspring, ended = self._offspring.minus(self.chart.nodes[path], work)
        self.out += (Message(address, {"type": "$stop"}) for address in ended)

    # Beginning and ending.

    def _is_final(self) -> bool:
        return self._rest.ends and not self._tokens

    def _end(self) -> None:
        leaf = self._rest
        for node in leaf.line:
            self._act(node.exit, None)
        self._output = leaf.output(self._scope(None))
        self._status, self._flights, self._timers, self._parked = DONE, (), (), ()
        self._entered.clear()
        parent = self.before.parent
        if parent is not None:
            self.out.append(Message(parent.address, done(parent, self._output)))

    def _begin(self) -> None:
        """Timers, services and children of the states that were entered and not left again."""
        for (_, work), node in self._entered.items():
            entry = work or self.meta.key
            self._arm(node, work, entry)
            for job in node.jobs:
                self._invoke(job, node, entry, work)
        self._entered.clear()

    def _arm(self, node: Node, work: str | None, entry: str, first: int = 0) -> None:
        for number, (delay, _) in enumerate(node.timers[first:], first):
            seconds = seconds_of(delay(self._scope(work)))
            id_ = f"{self.before.address}|{node.path}|{entry}|after:{number}"
            self._timers += (
                Timer(id_, node.path, work, number, seconds, self.meta.ts, self._owner),
            )

    def _invoke(self, job: Job, node: Node, entry: str, work: str | None) -> None:
        scope = self._scope(work)
        child = job.definition.persistent
        if child is not None:
            link = Link(self.before.address, job.id, entry, work)
            address = address_of(child.machine, job.name(scope), node.path, link)
            token = None if work is None else Token(work, node.path)
            self._bear(address, link, job.context(scope), token)
            return
        id_ = f"{self.before.address}|{node.path}|{entry}|{job.id}"
        src = job.definition.src or ""
        self._flights += (
            Flight(id_, node.path, entry, work, job.id, src, job.args(scope), self._owner),
        )

    def _bear(
        self, address: str, link: Link, context: JsonObject | None, token: Token | None
    ) -> None:
        self._offspring = self._offspring.plus(link.invoke, address, token)
        self.out.append(Message(address, {"type": "$init", "context": context or {}}, link))

    def _post(self, target: str, event: JsonObject, work: str | None) -> None:
        parent = self.before.parent
        if target == PARENT:
            address = parent.address if parent is not None else None
        else:
            address = self._offspring.reached(target, work)
        if address is None:
            self.words.append(f"nobody to send {event.get('type')!r} to: {target}")
        else:
            self.out.append(Message(address, event))

    def _delay(
        self,
        target: str | None,
        event: JsonObject,
        delay: float,
        id_: str | None,
        work: str | None,
    ) -> None:
        key, number = self.meta.key, self._delayed
        self._delayed += 1
        self._timers += (
            Timer(
                f"{self.before.address}|{key}|send:{number}",
                "",
                work,
                number,
                seconds_of(delay),
                self.meta.ts,
                self._owner,
                event,
                target,
                id_,
            ),
        )

    @property
    def _owner(self) -> str:
        """The node that does what this leads to."""
        return self.before.owner or self.meta.node

    def _digest(self, *parts: Any) -> str:
        told = json.dumps([self.before.address, self.meta.key, *parts], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def attempt(
    run: Callable[_Arguments, str | None], *args: _Arguments.args, **more: _Arguments.kwargs
) -> str | None:
    """Run a step; returns why its event is dropped. What raises is the same reason on every node."""
    try:
        return run(*args, **more)
    except MachineThrew as error:
        return f"error:{text_of(error)}"
    except StepLimitReached:
        return "error:loop"
    except Exception as error:  # noqa: BLE001 - guards and actions are the user's: whatever they raise drops the event
        return f"error:{type(error).__name__}"


def _named(
    node: Node, edge: Edge, open_: list[Token], event: JsonObject, only: str | None
) -> tuple[list[Token], str | None]:
    """The work ids that an event concerns in a cyclic state, or why there are none."""
    is_own = edge.source is not node and event["type"].startswith(_ENDS)
    if only is not None or is_own:  # what was begun around work ends all of it
        return open_, None
    listed = event.get(node.state.closes or "")
    if not isinstance(listed, list | tuple):
        return (open_[-1:], None) if edge.target is None else ([], MISSING_CLOSES)
    tokens = [one for one in open_ if one.id in listed]
    return (tokens, None) if tokens else ([], ALREADY_CLOSED)
