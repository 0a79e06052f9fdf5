"""What a definition names: all of its actions, and through them effects, services and the machines it spawns."""

from collections.abc import Iterator

from fish.machines.definition import Action, Effect, Machine, Spawn, State, Transition


def states_of(machine: Machine) -> Iterator[State]:
    """All states, the root first."""
    waiting = [machine.root]
    while waiting:
        state = waiting.pop()
        yield state
        waiting += [inner for _, inner in reversed(state.states)]


def transitions_of(state: State) -> Iterator[Transition]:
    """All candidates that are written in a state."""
    for _, several in state.on:
        yield from several or ()
    yield from state.always
    yield from (one.transition for one in state.after)
    for one in state.invoke:
        yield from (*one.on_done, *one.on_error)


def actions_of(machine: Machine) -> Iterator[Action]:
    """All actions, those that a name explains included."""
    for state in states_of(machine):
        yield from (*state.entry, *state.exit)
        for transition in transitions_of(state):
            yield from transition.actions
    for _, explained in machine.actions:
        yield from explained


def effects_of(machine: Machine) -> tuple[str, ...]:
    """The names of its effects, and of what undoes them."""
    effects = [one for one in actions_of(machine) if isinstance(one, Effect)]
    names = (name for one in effects for name in (one.name, one.undo) if name is not None)
    return tuple(dict.fromkeys(names))


def services_of(machine: Machine) -> tuple[str, ...]:
    """The names of its services."""
    invokes = (one for state in states_of(machine) for one in state.invoke)
    return tuple(dict.fromkeys(one.src for one in invokes if one.src is not None))


def spawned_by(machine: Machine) -> tuple[str, ...]:
    """The machines of its children."""
    invokes = (one for state in states_of(machine) for one in state.invoke)
    wanted = [one.persistent.machine for one in invokes if one.persistent is not None]
    wanted += [one.machine for one in actions_of(machine) if isinstance(one, Spawn)]
    return tuple(dict.fromkeys(wanted))
