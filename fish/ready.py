"""Ready-made fish: the latest event, the last few in either order.

They keep payloads. `latest_event` has None as long as there is no event; that is a state like any other.
"""

import hashlib
from typing import Any

from fish.definition import Fish, Metadata
from fish.errors import InvalidFish
from lamport.tags import Where

USUAL_COUNT = 100
"""Events that the last few are, if not said otherwise."""


def latest_event(where: Where) -> Fish[Any]:
    """The payload of the last matching event; None where there is none."""
    return Fish(
        _name("latest event", where, 1),
        where,
        None,
        _replace,
        is_reset=lambda _payload, _meta: True,
    )


def events_ascending(where: Where, count: int = USUAL_COUNT) -> Fish[tuple[Any, ...]]:
    """The payloads of the last `count` matching events, oldest first."""

    def append(state: tuple[Any, ...], payload: Any, _: Metadata) -> tuple[Any, ...]:
        return (*state, payload)[-count:]

    return Fish(_name("events ascending", where, count), where, (), append)


def events_descending(where: Where, count: int = USUAL_COUNT) -> Fish[tuple[Any, ...]]:
    """The payloads of the last `count` matching events, newest first."""

    def prepend(state: tuple[Any, ...], payload: Any, _: Metadata) -> tuple[Any, ...]:
        return (payload, *state)[:count]

    return Fish(_name("events descending", where, count), where, (), prepend)


def _replace(_state: Any, payload: Any, _: Metadata) -> Any:
    return payload


def _name(kind: str, where: Where, count: int) -> str:
    """A name for each selection and count: a selection may be longer than a name."""
    if count < 1:
        raise InvalidFish(f"the last few events are at least one, not {count}")
    digest = hashlib.sha256(f"{count}/{where}".encode()).hexdigest()[:16]
    return f"{kind} {digest}"
