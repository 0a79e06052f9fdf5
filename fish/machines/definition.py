"""What a state machine is: plain frozen data. The words to write it with stand in `fish.machines.building`.

Guards, arguments and assigned values are values of `fish.machines.expressions`: functions of a `Scope`, or JSON. A
guard or an action may also be a name that the machine's `guards` or `actions` explain. A definition is checked as it
is made, and holds nothing that runs: `fish.machines.chart` checks it and prepares it for folding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = Any
"""A function of a `Scope`, or JSON in which texts beginning with a dollar sign and operations are computed."""

Migrate = Callable[[str, dict[str, Any]], tuple[str, dict[str, Any]]]
"""The state's path and the context of this version, from those of the version before."""


@dataclass(frozen=True, slots=True)
class Assign:
    """Set parts of the context: dotted paths and values; `compute` gives such a mapping as a whole."""

    values: tuple[tuple[str, Value], ...] = ()
    compute: Callable[[Any], Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """Do something in the world, on one node, at least once; `undo` names what takes it back.

    One that is `stable` is done only when no event that is still unknown can take its cause away: every member has to
    be heard, and one that is absent holds it up.
    """

    name: str
    args: Value = None
    undo: str | None = None
    stable: bool = False


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the other machines of the coordination; routes carry it on."""

    event: Value


@dataclass(frozen=True, slots=True)
class Raise:
    """An event for this machine itself, before the next one from outside; with `delay` (seconds) when that is over."""

    event: Value
    delay: Value = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take back a delayed `Raise` or `SendTo` of this id."""

    id: str


@dataclass(frozen=True, slots=True)
class SendParent:
    """An event for the machine that spawned this one."""

    event: Value


@dataclass(frozen=True, slots=True)
class SendTo:
    """An event for another machine: an invoke id of this one, an address `machine/instance`, or a spawned ref."""

    target: Value
    event: Value
    delay: Value = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a persistent child from an action; its address is kept in the context at `ref`."""

    machine: str
    ref: str
    name: Value = None
    context: Value = None


@dataclass(frozen=True, slots=True)
class Log:
    """A word into the trace; it changes nothing."""

    text: Value


Action = Assign | Effect | Emit | Raise | Cancel | SendParent | SendTo | Spawn | Log | str
"""What a transition, an entry or an exit does, in order; a text names actions of the machine."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One candidate for an event. Without a target nothing is left or entered; the own state is left and re-entered."""

    target: str | None = None
    guard: Value = None
    actions: tuple[Action, ...] = ()
    reenter: bool = True


Candidates = tuple[Transition, ...] | None
"""In order, the first whose guard passes is taken; None forbids the event here and above."""


@dataclass(frozen=True, slots=True)
class After:
    """A transition that is due so many seconds after the state was entered."""

    delay: Value
    transition: Transition


@dataclass(frozen=True, slots=True)
class Persistent:
    """A child with a life of its own: its machine, name and context. When its state is left it is kept or stopped."""

    machine: str
    name: Value = None
    context: Value = None
    stops_on_exit: bool = False


@dataclass(frozen=True, slots=True)
class Invoke:
    """What runs while a state is active: a service (`src`) until it is done, or a persistent child."""

    id: str
    src: str | None = None
    args: Value = None
    persistent: Persistent | None = None
    on_done: tuple[Transition, ...] = ()
    on_error: tuple[Transition, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """One state. With `closes` it is cyclic and holds work ids; events that leave it name them in that field."""

    on: tuple[tuple[str, Candidates], ...] = ()
    always: tuple[Transition, ...] = ()
    after: tuple[After, ...] = ()
    entry: tuple[Action, ...] = ()
    exit: tuple[Action, ...] = ()
    invoke: tuple[Invoke, ...] = ()
    initial: str | None = None
    states: tuple[tuple[str, "State"], ...] = ()
    closes: str | None = None
    is_final: bool = False
    output: Value = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A state machine. `strict` makes a cycle that no work id protects, and a state that nothing reaches, an error.

    `events` gives the shape of payloads: for each event type the fields and their JSON types (`string`, `number`,
    `boolean`, `array`, `object`, `any`). `migrate` takes an instance over from the version before. With
    `defer_while_busy` events wait, on every node alike, until no service of the instance is in flight.
    """

    id: str
    root: State
    context: dict[str, Any] = field(default_factory=dict)
    guards: tuple[tuple[str, Value], ...] = ()
    actions: tuple[tuple[str, tuple[Action, ...]], ...] = ()
    events: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    version: int = 1
    migrate: Migrate | None = None
    strict: bool = False
    defer_while_busy: bool = False
