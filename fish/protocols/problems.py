"""What a check finds: one `Problem` for each thing that is wrong, naming the place, with what to do about it.

Kinds and texts are those of the tool that users of swarm protocols know, so that its documentation and answers found
elsewhere apply here as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

MAX_PROBLEMS = 10_000
"""Most problems that are told: nobody reads more, and a protocol of wrong subscriptions has millions."""


class Kind(StrEnum):
    """The kinds of problems."""

    LOG_TYPE_EMPTY = "LogTypeEmpty"
    INITIAL_STATE_DISCONNECTED = "InitialStateDisconnected"
    STATE_UNREACHABLE = "StateUnreachable"
    GUARD_NOT_INVARIANT = "GuardNotInvariant"
    NON_DETERMINISTIC_GUARD = "NonDeterministicGuard"
    NON_DETERMINISTIC_COMMAND = "NonDeterministicCommand"
    ACTIVE_ROLE_NOT_SUBSCRIBED = "ActiveRoleNotSubscribed"
    LATER_ACTIVE_ROLE_NOT_SUBSCRIBED = "LaterActiveRoleNotSubscribed"
    LATER_INVOLVED_ROLE_MORE_SUBSCRIBED = "LaterInvolvedRoleMoreSubscribed"
    LATER_INVOLVED_NOT_GUARDED = "LaterInvolvedNotGuarded"
    LOG_PARTLY_HEARD = "LogPartlyHeard"
    COMMAND_NOT_SELF_LOOP = "CommandNotSelfLoop"
    INITIAL_MACHINE_STATE_DISCONNECTED = "InitialMachineStateDisconnected"
    MISSING_TRANSITION = "MissingTransition"
    EXTRANEOUS_TRANSITION = "ExtraneousTransition"
    NON_DETERMINISTIC_REFERENCE = "NonDeterministicTransition:reference"
    NON_DETERMINISTIC_SPECIMEN = "NonDeterministicTransition:specimen"
    MORE_PROBLEMS = "MoreProblems"


_ADVICE = {
    Kind.LOG_TYPE_EMPTY: "let the command log at least one event type: nobody would hear of it",
    Kind.INITIAL_STATE_DISCONNECTED: "name a state of a transition as the initial one",
    Kind.STATE_UNREACHABLE: "add a transition that leads there, or remove the state",
    Kind.GUARD_NOT_INVARIANT: "give each state event types of its own: this one must tell which step was taken",
    Kind.NON_DETERMINISTIC_GUARD: "let the logs of this state begin with different event types",
    Kind.NON_DETERMINISTIC_COMMAND: "give the commands of this role in this state different names",
    Kind.ACTIVE_ROLE_NOT_SUBSCRIBED: "subscribe the role to what it logs: it would not notice its own step",
    Kind.LATER_ACTIVE_ROLE_NOT_SUBSCRIBED: "subscribe the role to this step: it could not know that it is its turn",
    Kind.LATER_INVOLVED_ROLE_MORE_SUBSCRIBED: "subscribe the active role to these, too, or the other one not to them",
    Kind.LATER_INVOLVED_NOT_GUARDED: "subscribe the role to the first type of the log: it could not follow",
    Kind.LOG_PARTLY_HEARD: "subscribe the role to these, or log one event that holds all",
    Kind.COMMAND_NOT_SELF_LOOP: "let the command stay in its state: its events lead on when they are heard",
    Kind.INITIAL_MACHINE_STATE_DISCONNECTED: "name a state of a transition as the machine's initial one",
    Kind.MISSING_TRANSITION: "add it to the machine",
    Kind.EXTRANEOUS_TRANSITION: "remove it from the machine, or add it to the protocol",
    Kind.NON_DETERMINISTIC_REFERENCE: "subscribe the role to the first types of these logs, to tell them apart",
    Kind.NON_DETERMINISTIC_SPECIMEN: "keep one of the machine's transitions of this name in this state",
    Kind.MORE_PROBLEMS: "mend these first and check again",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    `text` says what, and where in names. `state` is a state of the protocol (of the machine, where a machine is at
    fault), `transition` a number in the list of the protocol's transitions (of the machine's, likewise), `role` the
    role that the problem is about; each is None where there is none.
    """

    kind: Kind
    text: str
    state: str | None = None
    transition: int | None = None
    role: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self.kind]

    def to_json(self) -> dict[str, str | int | None]:
        """The problem as a JSON object."""
        return {
            "kind": self.kind.value,
            "text": self.text,
            "advice": self.advice,
            "state": self.state,
            "transition": self.transition,
            "role": self.role,
        }


def told(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems as far as they are told: `MAX_PROBLEMS`, and that there are more."""
    source = iter(problems)
    first = tuple(islice(source, MAX_PROBLEMS))
    if next(source, None) is None:
        return first
    return (*first, Problem(Kind.MORE_PROBLEMS, f"more than {MAX_PROBLEMS} problems"))
