"""Whether a protocol is well-formed: whether its swarm agrees in the end, whoever acts while cut off.

Three properties of protocol and subscriptions together make it so (ECOOP 2023):

* *causal consistency*: who acts hears of it; who acts next hears of it, and no less of it than those do that take part
  later;
* *determinacy*: in a state, guards and commands are unique, and all who take part later hear the guard;
* *confusion-freeness*: a guard is logged in one state only, so that hearing it tells which step was taken.

A machine of such a protocol may still lose: a step that was taken elsewhere first makes its own one void. But all then
drop the same events.

The three are not enough where a log of several events is heard in part. *Strict* checking finds that, and asks that of
each log all that take part later hear the same, and everybody who hears anything hears the guard:

* Logs may be interleaved: two nodes that act at the same time share Lamport timestamps. A role that waits for the rest
  of a log drops what another one takes that does not hear the rest.
* A role that hears the tail of a log, but not its guard, takes it for that step although it is the tail of another,
  void one that all others drop.

The way of a protocol. `prepared` makes the graph of the states that are reachable, with the roles that are active and
involved in each, and looks for what would make any further question meaningless. `check_protocol` then looks at each
transition that can be taken.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from fish.protocols.problems import Kind, Problem, told
from fish.protocols.values import Protocol, Subscriptions, Transition

Numbered = tuple[int, Transition]
"""A transition with its place in the protocol."""


def check_protocol(
    protocol: Protocol, subscriptions: Mapping[str, Iterable[str]], *, strict: bool = False
) -> tuple[Problem, ...]:
    """All that is wrong with a protocol and its subscriptions; empty if it is well-formed.

    A role that is not in `subscriptions` hears nothing. With `strict`, logs of several events may be interleaved and
    share types. A command that logs nothing, or an initial state that is none, leaves no question to ask about the
    rest: that is then all that is told.

    Raises:
        InvalidProtocol: the subscriptions have the wrong shape or size.
    """
    heard = Subscriptions(subscriptions)
    found = list(unprepared(protocol))
    if any(problem.kind in FATAL for problem in found):
        return told(found)
    broken = _Rules(protocol, heard).broken(strict=strict)
    return told(chain(found, _unreachable(protocol), broken))


FATAL = frozenset({Kind.LOG_TYPE_EMPTY, Kind.INITIAL_STATE_DISCONNECTED})
"""Problems after which nothing else can be asked."""


def unprepared(protocol: Protocol) -> Iterator[Problem]:
    """What is wrong with a protocol, whoever subscribes to what."""
    for number, one in enumerate(protocol.transitions):
        if not one.log:
            text = f"log type must not be empty {one}"
            yield Problem(Kind.LOG_TYPE_EMPTY, text, one.source, number, one.role)
    if protocol.initial not in _states(protocol):
        text = "initial swarm protocol state has no transitions"
        yield Problem(Kind.INITIAL_STATE_DISCONNECTED, text, protocol.initial)
    else:
        yield from _confusing(protocol)


def reachable(initial: str, transitions: Iterable[Transition]) -> dict[str, None]:
    """The states that are reached from a state by these transitions, itself included."""
    targets: dict[str, list[str]] = {}
    for one in transitions:
        targets.setdefault(one.source, []).append(one.target)
    found, waiting = {initial: None}, [initial]
    while waiting:
        for target in targets.get(waiting.pop(), ()):
            if target not in found:
                found[target] = None
                waiting.append(target)
    return found


def _states(protocol: Protocol) -> dict[str, None]:
    return dict.fromkeys(end for one in protocol.transitions for end in (one.source, one.target))


def _unreachable(protocol: Protocol) -> Iterator[Problem]:
    reached = reachable(protocol.initial, protocol.transitions)
    for state in _states(protocol):
        if state not in reached:
            text = f"state {state} is unreachable from the initial state"
            yield Problem(Kind.STATE_UNREACHABLE, text, state)


def _confusing(protocol: Protocol) -> Iterator[Problem]:
    """Guards that are logged in more than one state that can be reached."""
    reached = reachable(protocol.initial, protocol.transitions)
    sources: dict[str, set[str]] = {}
    guards: dict[str, Numbered] = {}
    for number, one in enumerate(protocol.transitions):
        if one.source in reached:
            for event_type in one.log:
                sources.setdefault(event_type, set()).add(one.source)
            for guard in one.log[:1]:
                guards.setdefault(guard, (number, one))
    for guard, (number, one) in guards.items():
        if len(sources[guard]) > 1:
            text = f"guard event type {guard} appears in transitions from multiple states"
            yield Problem(Kind.GUARD_NOT_INVARIANT, text, one.source, number)


@dataclass(frozen=True, slots=True)
class _Later:
    """Who comes after a step: roles that are active in its target, and those involved there or later, both sorted."""

    active: tuple[str, ...]
    involved: tuple[str, ...]


class _Rules:
    """The rules of well-formedness, over the transitions that can be taken. Every log has a guard."""

    def __init__(self, protocol: Protocol, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions
        self._heard = subscriptions.heard
        self._anywhere = frozenset().union(*subscriptions.values())
        reached = reachable(protocol.initial, protocol.transitions)
        self._leaving: dict[str, list[Numbered]] = {state: [] for state in reached}
        for number, one in enumerate(protocol.transitions):
            if one.source in reached:
                self._leaving[one.source].append((number, one))
        involved = self._involved(subscriptions)
        self._later = {
            state: _Later(tuple(sorted({one.role for _, one in leaving})), tuple(involved[state]))
            for state, leaving in self._leaving.items()
        }

    def broken(self, *, strict: bool) -> Iterator[Problem]:
        for leaving in self._leaving.values():
            yield from self._ambiguous(leaving)
            for number, one in leaving:
                yield from self._causally_inconsistent(number, one)
                yield from self._unguarded(number, one)
                if strict:
                    yield from self._partly_heard(number, one)

    def _involved(self, subscriptions: Subscriptions) -> dict[str, list[str]]:
        """Per state the roles that hear something of a step taken there or later.

        Going back from the steps that a role hears reaches all states before them once.
        """
        sources: dict[str, list[str]] = {state: [] for state in self._leaving}
        for state, leaving in self._leaving.items():
            for _, one in leaving:
                sources[one.target].append(state)
        involved: dict[str, list[str]] = {state: [] for state in self._leaving}
        for role, types in subscriptions.items():
            waiting = [state for state in self._leaving if self._hears_of(state, types)]
            found = set(waiting)
            while waiting:
                before = [state for state in sources[waiting.pop()] if state not in found]
                found.update(before)
                waiting += dict.fromkeys(before)
            for state in self._leaving:
                if state in found:
                    involved[state].append(role)
        return involved

    def _hears_of(self, state: str, types: frozenset[str]) -> bool:
        return any(not types.isdisjoint(one.log) for _, one in self._leaving[state])

    def _ambiguous(self, leaving: list[Numbered]) -> Iterator[Problem]:
        """Guards that begin two logs of one state, once each; commands, once for each repetition."""
        guards: Counter[str] = Counter()
        commands: set[tuple[str, str]] = set()
        for number, one in leaving:
            guards[one.log[0]] += 1
            if guards[one.log[0]] == 2:  # noqa: PLR2004 - the second is the first that is one too many
                text = f"non-deterministic event guard type {one.log[0]} in state {one.source}"
                yield Problem(Kind.NON_DETERMINISTIC_GUARD, text, one.source, number)
            if (one.role, one.command) in commands:
                text = f"non-deterministic command {one.command} for role {one.role} in state {one.source}"
                yield Problem(Kind.NON_DETERMINISTIC_COMMAND, text, one.source, number, one.role)
            commands.add((one.role, one.command))

    def _causally_inconsistent(self, number: int, one: Transition) -> Iterator[Problem]:
        if self._heard(one.role).isdisjoint(one.log):
            text = f"active role does not subscribe to any of its emitted event types in transition {one}"
            yield Problem(Kind.ACTIVE_ROLE_NOT_SUBSCRIBED, text, one.source, number, one.role)
        for active in self._later[one.target].active:
            heard = self._heard(active)
            if heard.isdisjoint(one.log):
                text = f"subsequently active role {active} does not subscribe to events in transition {one}"
                kind = Kind.LATER_ACTIVE_ROLE_NOT_SUBSCRIBED
                yield Problem(kind, text, one.source, number, active)
            if unheard := set(one.log) - heard:
                yield from self._more_subscribed(number, one, active, unheard)

    def _more_subscribed(
        self, number: int, one: Transition, active: str, unheard: set[str]
    ) -> Iterator[Problem]:
        for role in self._later[one.target].involved:
            if more := self._heard(role) & unheard:
                text = (
                    f"subsequently involved role {role} subscribes to more events than active role {active}"
                    f" in transition {one}, namely ({', '.join(sorted(more))})"
                )
                kind = Kind.LATER_INVOLVED_ROLE_MORE_SUBSCRIBED
                yield Problem(kind, text, one.source, number, role)

    def _unguarded(self, number: int, one: Transition) -> Iterator[Problem]:
        for role in self._later[one.target].involved:
            if one.log[0] not in self._heard(role):
                text = f"subsequently involved role {role} does not subscribe to guard in transition {one}"
                kind = Kind.LATER_INVOLVED_NOT_GUARDED
                yield Problem(kind, text, one.source, number, role)

    def _partly_heard(self, number: int, one: Transition) -> Iterator[Problem]:
        told = self._anywhere.intersection(one.log)
        for role, types in self._subscriptions.items():
            if role in self._later[one.target].involved:
                lacking = told - types
            elif types.isdisjoint(one.log):
                continue
            else:
                lacking = told.intersection(one.log[:1]) - types
            if lacking:
                text = (
                    f"role {role} does not subscribe to all that counts in transition {one},"
                    f" namely ({', '.join(sorted(lacking))})"
                )
                yield Problem(Kind.LOG_PARTLY_HEARD, text, one.source, number, role)
