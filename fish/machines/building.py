"""Short words to write state machines with.

    door = machine(
        "door",
        initial="closed",
        states={
            "closed": state(on={"OPEN": to("opened", guard="$ctx.unlocked")}),
            "opened": state(on={"CLOSE": to("closed")}, after=[after(30, "closed")]),
        },
        context={"unlocked": True},
    )

Each word makes a value of `fish.machines.definition`; `machine` checks the whole.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fish.machines.chart import Chart
from fish.machines.definition import (
    Action,
    After,
    Assign,
    Candidates,
    Invoke,
    Machine,
    Migrate,
    Persistent,
    State,
    Transition,
    Value,
)
from fish.machines.errors import InvalidMachine

OneOrMore = Transition | str | Iterable[Transition | str] | None
"""How candidates may be written: a target, a transition, several, or None to forbid."""

Actions = Action | Iterable[Action]


def machine(
    name: str,
    *,
    initial: str,
    states: Mapping[str, State],
    context: Mapping[str, Any] | None = None,
    on: Mapping[str, OneOrMore] | None = None,
    guards: Mapping[str, Value] | None = None,
    actions: Mapping[str, Actions] | None = None,
    events: Mapping[str, Mapping[str, str]] | None = None,
    version: int = 1,
    migrate: Migrate | None = None,
    strict: bool = False,
    defer_while_busy: bool = False,
) -> Machine:
    """Define a machine, and check it.

    Raises:
        InvalidMachine: it breaks a rule; the error names the place.
    """
    root = state(on=on, initial=initial, states=states)
    at = f"machine {name!r}"
    shapes = tuple(
        (type_, _pairs(one, at, f"events {type_}")) for type_, one in _pairs(events, at, "events")
    )
    explained = tuple((key, several(one)) for key, one in _pairs(actions, at, "actions"))
    made = Machine(
        name,
        root,
        dict(_pairs(context, at, "context")),
        _pairs(guards, at, "guards"),
        explained,
        shapes,
        version,
        migrate,
        strict,
        defer_while_busy,
    )
    Chart.of(made).require_reachable()
    return made


def state(
    *,
    on: Mapping[str, OneOrMore] | None = None,
    always: OneOrMore = (),
    after: After | Iterable[After] = (),
    entry: Actions = (),
    exit: Actions = (),  # noqa: A002 - the field's standard word
    invoke: Invoke | Iterable[Invoke] = (),
    initial: str | None = None,
    states: Mapping[str, State] | None = None,
    closes: str | None = None,
) -> State:
    """A state; `states` and `initial` nest others in it."""
    handlers = tuple((type_, candidates(one)) for type_, one in _pairs(on, "a state", "on"))
    return State(
        handlers,
        candidates(always) or (),
        (after,) if isinstance(after, After) else tuple(after),
        several(entry),
        several(exit),
        (invoke,) if isinstance(invoke, Invoke) else tuple(invoke),
        initial,
        _pairs(states, "a state", "states"),
        closes,
    )


def cyclic(
    *,
    closes: str = "closes",
    on: Mapping[str, OneOrMore] | None = None,
    after: After | Iterable[After] = (),
    entry: Actions = (),
    exit: Actions = (),  # noqa: A002 - the field's standard word
    invoke: Invoke | Iterable[Invoke] = (),
) -> State:
    """A state that holds work ids: entering mints one, and an event that leaves names those it closes."""
    return state(on=on, after=after, entry=entry, exit=exit, invoke=invoke, closes=closes)


def final(*, output: Value = None, entry: Actions = (), exit: Actions = ()) -> State:  # noqa: A002 - as in `state`
    """A state in which the machine, or the state around it, is done."""
    return State(entry=several(entry), exit=several(exit), is_final=True, output=output)


def to(
    target: str | None = None, *, guard: Value = None, do: Actions = (), reenter: bool = True
) -> Transition:
    """A transition; without a target it only acts."""
    return Transition(target, guard, several(do), reenter)


def after(
    delay: Value, target: str | None = None, *, guard: Value = None, do: Actions = ()
) -> After:
    """A transition that is due `delay` seconds after the state was entered."""
    return After(delay, to(target, guard=guard, do=do))


def invoke(
    src: str,
    *,
    id: str | None = None,  # noqa: A002 - the field's standard word
    args: Value = None,
    done: OneOrMore = (),
    error: OneOrMore = (),
) -> Invoke:
    """A service that runs while the state is active, and what its end leads to."""
    return Invoke(id or src, src, args, None, candidates(done) or (), candidates(error) or ())


def child(
    machine: str,
    *,
    id: str,  # noqa: A002 - the field's standard word
    name: Value = None,
    context: Value = None,
    stops_on_exit: bool = False,
) -> Invoke:
    """A persistent child, spawned when the state is entered."""
    return Invoke(id, persistent=Persistent(machine, name, context, stops_on_exit))


def assign(
    values: Mapping[str, Value] | Callable[[Any], Mapping[str, Any]] | None = None, **more: Value
) -> Assign:
    """Set parts of the context, by dotted path."""
    if callable(values):
        return Assign(compute=values)
    return Assign(tuple({**(values or {}), **more}.items()))


def candidates(value: OneOrMore) -> Candidates:
    """Candidates, however they were written."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Iterable):
        value = (value,)
    return tuple(Transition(one) if isinstance(one, str) else one for one in value)


def several(value: Actions) -> tuple[Action, ...]:
    """Actions, however they were written."""
    if isinstance(value, Action) or not isinstance(value, Iterable):
        return (value,)
    return tuple(value)


def _pairs(value: Mapping[str, Any] | None, place: str, what: str) -> tuple[tuple[str, Any], ...]:
    """The entries of what is written as a mapping."""
    if value is not None and not isinstance(value, Mapping):
        raise InvalidMachine("bad-shape", f"{place} {what}", f"a mapping is wanted, not {value!r}")
    return tuple((value or {}).items())
