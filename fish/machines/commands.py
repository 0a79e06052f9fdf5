"""Commands, before and after: what may be sent, who decides about it, and what comes of it.

A command goes through the filters, is looked at for its form, is put before the gate, and then tried on the machine.
Whatever ends it on that way is an `Answer` with a reason, and nothing is logged.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fish.machines.instance import MAX_DEDUPE_KEY, Instance, Passage
from lamport.errors import InvalidInput
from lamport.event import Event

Gate = Callable[[Instance, Mapping[str, Any], Any], bool]
"""Whether a sender may send this event to this instance; the event is empty for a look."""

Filter = Callable[[Instance, Mapping[str, Any], Any], Mapping[str, Any] | None]
"""What becomes of an event that a sender commands: the event as it goes on, or None where it ends here."""

Hook = Callable[[Passage, bool], None]
"""Is told each passage, and whether it is live: at the head of the log, neither there before the machines were started
nor changed by an event that came late."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a command. One that was refused was not logged; `reason` says why, `enabled` what would be taken.

    In a race with another node the log may drop what was taken here: then there are a reason and the `event`.
    """

    is_accepted: bool
    instance: Instance
    is_settled: bool
    reason: str | None = None
    enabled: tuple[str, ...] = ()
    event: Event | None = None

    @property
    def value(self) -> str:
        """The state that the machine is in."""
        return self.instance.value


def is_event(event: Any) -> bool:
    """Whether it is an object with a type."""
    type_ = event.get("type") if isinstance(event, Mapping) else None
    return isinstance(type_, str) and bool(type_)


def misformed(event: Any) -> str | None:
    """Why this can be no command."""
    if not is_event(event):
        return "bad-payload"
    return "reserved" if event["type"].startswith("$") else None


def given_context(given: Any) -> dict[str, Any]:
    """The parts of a context that somebody gives.

    Raises:
        InvalidInput: they are no object.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"a context is an object, not {type(given).__name__}")
    return dict(given or {})


def require_limit(seconds: Any) -> None:
    """See that a time limit is one.

    Raises:
        InvalidInput: it is not.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 <= seconds < math.inf:
        raise InvalidInput(f"a time limit is a number of seconds, 0 or more, not {seconds!r}")


def require_dedupe(key: Any) -> None:
    """See that an idempotency key is one, or none is given.

    Raises:
        InvalidInput: it is something else, or too long.
    """
    if key is not None and (not isinstance(key, str) or len(key) > MAX_DEDUPE_KEY):
        text = f"an idempotency key is a text of at most {MAX_DEDUPE_KEY} characters"
        raise InvalidInput(f"{text}, not {key!r:.60}")
