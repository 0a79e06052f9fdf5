"""What a step says to others: events for machines by address, and events for the coordination.

A step collects them (`Step.out`); when it has ended well, the fold sends them on their way, in their order.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from fish.machines.errors import MachineThrew
from fish.machines.instance import Link


class Message(NamedTuple):
    """An event for another machine, by address; `birth` starts it first if nothing has."""

    address: str
    event: Mapping[str, Any]
    birth: Link | None = None


class Emission(NamedTuple):
    """An event for the coordination."""

    event: Mapping[str, Any]


def bears(one: Message | Emission, ref: str) -> bool:
    """Whether it starts a child that is known by this name."""
    return isinstance(one, Message) and one.birth is not None and one.birth.invoke == ref


def require_event(event: Any) -> None:
    """See that what is said is an object with a type, and no record of the runtime.

    Raises:
        MachineThrew: it is not.
    """
    type_ = event.get("type") if isinstance(event, Mapping) else None
    if not isinstance(type_, str) or not type_ or type_.startswith("$"):
        raise MachineThrew("no-event")


def seconds_of(delay: Any) -> float:
    """After how many seconds it is said.

    Raises:
        MachineThrew: that is no delay.
    """
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not delay >= 0:
        raise MachineThrew(f"no delay: {delay!r}")
    return float(delay)
