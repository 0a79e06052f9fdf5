"""A definition prepared for folding: paths resolved, values compiled, rules checked.

The chart is a tree of `Node`s, one for each state, and `Edge`s between them. What a fold needs for each event (the
line from a leaf to the root, the handlers of a state by event type, what lies between source and target) stands ready
in it. Making a chart is the check of the definition: whatever is wrong raises `InvalidMachine` and names its place.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fish.machines.acts import Act, prepared
from fish.machines.definition import Invoke, Machine, State, Transition
from fish.machines.errors import InvalidMachine
from fish.machines.expressions import Compute, compiled
from fish.machines.shapes import check_machine

WILDCARD = "*"

DONE, ERROR, CHILD_DONE, STATE_DONE = "done.invoke.", "error.invoke.", "done.child.", "done.state."
"""What the types of events begin with that say how something ended; its id follows."""

_TOLD = (DONE, ERROR, CHILD_DONE, STATE_DONE, WILDCARD)
"""What nobody sends from outside."""


@dataclass(eq=False, slots=True)
class Edge:
    """A candidate, resolved.

    `scope` is the innermost state that stays active, None where nothing is left. `leaf` is where one ends up, and
    `entered` are the states on the way there from the scope, outermost first.
    """

    source: "Node"
    target: "Node | None"
    guard: Compute | None
    acts: tuple[Act, ...]
    scope: "Node | None"
    place: str
    leaf: "Node | None" = None
    entered: tuple["Node", ...] = ()


@dataclass(eq=False, slots=True)
class Job:
    """An invoke, prepared."""

    id: str
    definition: Invoke
    args: Compute
    name: Compute
    context: Compute
    on_done: tuple[Edge, ...]
    on_error: tuple[Edge, ...]


@dataclass(eq=False, slots=True)
class Node:
    """A state at its place. `line` leads from it up to the root, both included."""

    path: str
    name: str
    state: State
    parent: "Node | None"
    number: int
    children: dict[str, "Node"] = field(default_factory=dict)
    line: tuple["Node", ...] = ()
    handlers: dict[str, tuple[Edge, ...] | None] = field(default_factory=dict)
    always: tuple[Edge, ...] = ()
    timers: tuple[tuple[Compute, Edge], ...] = ()
    jobs: tuple[Job, ...] = ()
    entry: tuple[Act, ...] = ()
    exit: tuple[Act, ...] = ()
    output: Compute = field(default=lambda _: None)
    is_cyclic: bool = False
    begins: bool = False
    """Whether something begins with it: a timer, a service, a child."""
    ends: bool = False
    """Whether the machine is done that rests in it."""

    @property
    def leaf(self) -> "Node":
        """Where one ends up that enters here."""
        node = self
        while node.children:
            assert node.state.initial is not None, "checked when the chart was made"
            node = node.children[node.state.initial]
        return node

    def handled(self, type_: str) -> str | None:
        """Under which name this state has something to say about events of a type: that, or the wildcard."""
        if type_ in self.handlers:
            return type_
        return WILDCARD if WILDCARD in self.handlers else None

    def enabled(self) -> Iterator[str]:
        """The types of events from outside that this state or one around it has transitions for, guards aside."""
        decided: set[str] = set()
        for node in self.line:
            fresh = [one for one in node.handlers if one not in decided]
            yield from (one for one in fresh if node.handlers[one] and not one.startswith(_TOLD))
            decided.update(one for one in fresh if node.handlers[one] is None)
            if node.handlers.get(WILDCARD, ()) is None:
                return

    def edges(self) -> Iterator[Edge]:
        """All transitions that begin here."""
        for candidates in self.handlers.values():
            yield from candidates or ()
        yield from self.always
        yield from (edge for _, edge in self.timers)


class Chart:
    """A machine, ready to be folded."""

    def __init__(self, machine: Machine) -> None:
        check_machine(machine)
        self.machine = machine
        self.nodes: dict[str, Node] = {}
        self.root = self._grow("", "", machine.root, None)
        for node in self.nodes.values():
            self._check_initial(node)
        for node in self.nodes.values():
            self._connect(node)
        self.cyclic = tuple(node for node in self.nodes.values() if node.is_cyclic)
        self.has_always = any(node.always for node in self.nodes.values())
        self.shapes = {type_: dict(fields) for type_, fields in machine.events}
        self._check()

    @classmethod
    def of(cls, machine: Machine) -> "Chart":
        """The chart of a machine.

        Raises:
            InvalidMachine: the definition breaks a rule; the error names the place.
        """
        return cls(machine)

    def require_reachable(self) -> None:
        """See that every state can be reached.

        Raises:
            InvalidMachine: one cannot.
        """
        for path in self.unreachable:
            raise InvalidMachine("unreachable-state", self._at(path), "nothing leads here", (path,))

    @property
    def unreachable(self) -> tuple[str, ...]:
        """The states to which nothing leads."""
        reached: set[str] = set()
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node.path not in reached:
                reached.add(node.path)
                waiting += node.line
                if node.children:
                    waiting.append(node.children[str(node.state.initial)])
                waiting += [edge.target for edge in node.edges() if edge.target is not None]
        return tuple(path for path in self.nodes if path not in reached)

    @property
    def unprotected_cycles(self) -> tuple[tuple[str, ...], ...]:
        """Groups of states that lead to each other and hold no work ids: two writers can end each other's work."""
        leads = {leaf.path: self._leads(leaf) for leaf in self._leaves()}
        groups = [group for group in components(leads) if len(group) > 1]
        return tuple(
            group for group in groups if not any(self.nodes[path].is_cyclic for path in group)
        )

    def _grow(self, path: str, name: str, state: State, parent: Node | None) -> Node:
        node = Node(path, name, state, parent, len(self.nodes))
        node.is_cyclic = state.closes is not None
        node.begins = bool(state.after or state.invoke)
        node.ends = state.is_final and parent is not None and parent.parent is None
        node.line = (node, *(parent.line if parent is not None else ()))
        self.nodes[path] = node
        for child, inner in state.states:
            if not child or "." in child or child.startswith("#"):
                raise InvalidMachine("bad-name", self._at(path), f"{child!r} is no name of a state")
            below = f"{path}.{child}" if path else child
            node.children[child] = self._grow(below, child, inner, node)
        return node

    def _connect(self, node: Node) -> None:
        state, place = node.state, self._at(node.path)
        node.entry = prepared(state.entry, self.machine, f"{place} entry")
        node.exit = prepared(state.exit, self.machine, f"{place} exit")
        node.output = compiled(state.output, f"{place} output")
        for type_, several in state.on:
            node.handlers[type_] = (
                None if several is None else self._edges(node, several, f"{place} on {type_}")
            )
        node.always = self._edges(node, state.always, f"{place} always")
        node.timers = tuple(
            (
                compiled(one.delay, f"{place} after"),
                self._edge(node, one.transition, f"{place} after"),
            )
            for one in state.after
        )
        node.jobs = tuple(self._job(node, one) for one in state.invoke)
        for job in node.jobs:
            for type_, edges in ((DONE + job.id, job.on_done), (ERROR + job.id, job.on_error)):
                if edges:
                    node.handlers[type_] = (*edges, *(node.handlers.get(type_) or ()))

    def _job(self, node: Node, invoke: Invoke) -> Job:
        place = f"{self._at(node.path)} invoke {invoke.id}"
        if (invoke.src is None) == (invoke.persistent is None):
            raise InvalidMachine(
                "bad-invoke", place, "it runs either a service or a persistent child"
            )
        child = invoke.persistent
        return Job(
            invoke.id,
            invoke,
            compiled(invoke.args, place),
            compiled(child.name if child else None, place),
            compiled(child.context if child else None, place),
            self._edges(node, invoke.on_done, f"{place} done"),
            self._edges(node, invoke.on_error, f"{place} error"),
        )

    def _edges(self, node: Node, several: Iterable[Transition], place: str) -> tuple[Edge, ...]:
        return tuple(self._edge(node, one, place) for one in several)

    def _edge(self, node: Node, transition: Transition, place: str) -> Edge:
        acts = prepared(transition.actions, self.machine, place)
        guard = None if transition.guard is None else self._guard(transition.guard, place)
        target = None
        if transition.target is not None:
            target = self._resolved(node, transition.target, place)
        if target is None or (target is node and not transition.reenter):
            return Edge(node, None, guard, acts, None, place)
        scope = _scope(node, target, transition.reenter)
        leaf = target.leaf
        return Edge(node, target, guard, acts, scope, place, leaf, way(scope, leaf))

    def _guard(self, guard: Any, place: str) -> Compute:
        if isinstance(guard, str) and not guard.startswith("$"):
            explained = dict(self.machine.guards)
            if guard not in explained:
                raise InvalidMachine(
                    "unknown-guard", place, f"nothing explains the guard {guard!r}"
                )
            return compiled(explained[guard], place)
        return compiled(guard, place)

    def _resolved(self, node: Node, target: str, place: str) -> Node:
        """The state meant: a sibling, a sibling of a state around, or a path from the root; `.x` is a child."""
        if target.startswith("."):
            found = _below(node, target[1:])
        else:
            around = (below for below in (_below(one, target) for one in node.line[1:]) if below)
            found = next(around, None) or _below(self.root, target)
        if found is None:
            raise InvalidMachine("unknown-target", place, f"there is no state {target!r}")
        return found

    def _at(self, path: str) -> str:
        return f"machine {self.machine.id!r}" + (f" state {path!r}" if path else "")

    def _leaves(self) -> list[Node]:
        return [node for node in self.nodes.values() if not node.children]

    def _leads(self, leaf: Node) -> list[str]:
        return [
            edge.target.leaf.path
            for node in leaf.line
            for edge in node.edges()
            if edge.target is not None
        ]

    def _check(self) -> None:
        for node in self.nodes.values():
            self._check_node(node)
        parents = {node.parent.path for node in self.cyclic if node.parent is not None}
        if len(parents) > 1:
            raise InvalidMachine(
                "cyclic-apart", self._at(""), "all cyclic states stand in the same state"
            )
        if self.machine.strict:
            self.require_reachable()
            for group in self.unprotected_cycles:
                states = tuple(sorted(group))
                raise InvalidMachine(
                    "cycle-without-work-id",
                    self._at(""),
                    f"the states {', '.join(states)} lead to each other and none of them is cyclic",
                    states,
                )

    def _check_initial(self, node: Node) -> None:
        place, state = self._at(node.path), node.state
        if node.children and state.initial not in node.children:
            raise InvalidMachine("bad-initial", place, f"there is no state {state.initial!r} in it")
        if not node.children and state.initial is not None:
            raise InvalidMachine("bad-initial", place, "it has an initial state, but no states")

    def _check_node(self, node: Node) -> None:
        place, state = self._at(node.path), node.state
        if node.is_cyclic and node.children:
            raise InvalidMachine("cyclic-compound", place, "a cyclic state holds no other states")
        if state.is_final and (node.children or list(node.edges()) or node.jobs):
            raise InvalidMachine("final-with-more", place, "a final state leads nowhere")
        for type_, several in state.on:
            if several is not None and not several:
                raise InvalidMachine(
                    "no-candidates", f"{place} on {type_}", "there is no candidate"
                )
        if len({one.id for one in state.invoke}) < len(state.invoke):
            raise InvalidMachine("bad-invoke", place, "two of its invokes share an id")


def _below(node: Node, path: str) -> Node | None:
    found: Node | None = node
    for name in path.split("."):
        found = found.children.get(name) if found is not None else None
    return found


def _scope(source: Node, target: Node, reenter: bool) -> Node:  # noqa: FBT001 - internal, and named by its only caller
    """The innermost state around both; without `reenter` the source itself where it is around the target."""
    around = source.line if not reenter else source.line[1:]
    proper = target.line[1:]
    return next((node for node in around if node in proper), source.line[-1])


def way(scope: Node, leaf: Node) -> tuple[Node, ...]:
    """The states from below the scope down to a leaf, outermost first."""
    above = scope.line
    return tuple(node for node in reversed(leaf.line) if node not in above)


def components(leads: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Strongly connected groups of a graph (Tarjan), each in the order of the graph's nodes.

    Without recursion: a generated machine may be a chain of thousands of states.
    """
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: dict[str, None] = {}
    groups: list[tuple[str, ...]] = []
    places = {node: place for place, node in enumerate(leads)}
    for start, first in leads.items():
        path = [] if start in order else [(start, iter(first))]
        while path:
            node, others = path[-1]
            if node not in order:
                order[node] = low[node] = len(order)
                stack[node] = None
            other = next(others, None)
            if other is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == order[node]:
                    groups.append(_cut_off(stack, node, places))
            elif other not in order:
                path.append((other, iter(leads.get(other, ()))))
            elif other in stack:
                low[node] = min(low[node], order[other])
    return groups


def _cut_off(stack: dict[str, None], node: str, places: Mapping[str, int]) -> tuple[str, ...]:
    """Take a node, and all that lie above it, off the stack."""
    group: list[str] = []
    while not group or group[-1] != node:
        group.append(stack.popitem()[0])
    return tuple(sorted((one for one in group if one in places), key=places.__getitem__))
