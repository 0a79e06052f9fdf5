"""Protocols, subscriptions and machines as JSON values: the format of the tools that users know.

    protocol       {"initial": STATE, "transitions": [{"source": STATE, "target": STATE,
                      "label": {"cmd": COMMAND, "role": ROLE, "logType": [TYPE, ...]}}, ...]}
    subscriptions  {ROLE: [TYPE, ...], ...}
    machine        {"initial": STATE, "transitions": [{"source": STATE, "target": STATE, "label":
                      {"tag": "Execute", "cmd": COMMAND, "logType": [TYPE, ...]} or
                      {"tag": "Input", "eventType": TYPE}}, ...]}

Other fields are passed over: these values are also written by programs that have more to say. A value of the wrong
shape raises `InvalidProtocol`, which names the path to it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fish.protocols.errors import InvalidProtocol
from fish.protocols.values import (
    MAX_LOG_TYPES,
    MAX_MACHINE_TRANSITIONS,
    MAX_ROLE_TYPES,
    MAX_ROLES,
    MAX_TRANSITIONS,
    Edge,
    Execute,
    Input,
    Machine,
    Protocol,
    Subscriptions,
    Transition,
)

Value = TypeVar("Value")

MAX_NAME = 1_024
"""Longest name in characters: generated states carry the names of several types."""

MAX_SHOWN = 40
"""How much of a wrong value an error quotes."""


def protocol_from_json(value: Any) -> Protocol:
    """A protocol out of a JSON value.

    Raises:
        InvalidProtocol: it is none, or too large; the text says where.
    """
    top = _At("protocol", "", value)
    transitions = [_transition(one) for one in top.field("transitions").items(MAX_TRANSITIONS)]
    return Protocol(top.field("initial").name(), tuple(transitions))


def subscriptions_from_json(value: Any) -> Subscriptions:
    """Subscriptions out of a JSON value.

    Raises:
        InvalidProtocol: they are none, or too many; the text says where.
    """
    top = _At("subscriptions", "", value)
    return Subscriptions({one.place: one.names(MAX_ROLE_TYPES) for one in top.entries(MAX_ROLES)})


def machine_from_json(value: Any) -> Machine:
    """A machine out of a JSON value.

    Raises:
        InvalidProtocol: it is none, or too large; the text says where.
    """
    top = _At("machine", "", value)
    edges = [_edge(one) for one in top.field("transitions").items(MAX_MACHINE_TRANSITIONS)]
    return Machine(top.field("initial").name(), tuple(edges))


def machine_to_json(machine: Machine) -> dict[str, Any]:
    """A machine as a JSON value."""
    edges = [
        {"source": edge.source, "target": edge.target, "label": _label_to_json(edge.label)}
        for edge in machine.edges
    ]
    return {"initial": machine.initial, "transitions": edges}


def protocol_to_json(protocol: Protocol) -> dict[str, Any]:
    """A protocol as a JSON value."""
    transitions = [
        {
            "source": one.source,
            "target": one.target,
            "label": {"cmd": one.command, "role": one.role, "logType": list(one.log)},
        }
        for one in protocol.transitions
    ]
    return {"initial": protocol.initial, "transitions": transitions}


def _label_to_json(label: Execute | Input) -> dict[str, Any]:
    if isinstance(label, Execute):
        return {"tag": "Execute", "cmd": label.command, "logType": list(label.log)}
    return {"tag": "Input", "eventType": label.event_type}


def _transition(one: "_At") -> Transition:
    label = one.field("label")
    return Transition(
        one.field("source").name(),
        label.field("cmd").name(),
        label.field("role").name(),
        label.field("logType").names(MAX_LOG_TYPES),
        one.field("target").name(),
    )


def _edge(one: "_At") -> Edge:
    label = one.field("label")
    tag = label.field("tag")
    read = _LABELS.get(tag.name())
    if read is None:
        raise tag.wrong(f"one of {' and '.join(_LABELS)}")
    return Edge(one.field("source").name(), read(label), one.field("target").name())


_LABELS: dict[str, Callable[["_At"], Execute | Input]] = {
    "Execute": lambda at: Execute(at.field("cmd").name(), at.field("logType").names(MAX_LOG_TYPES)),
    "Input": lambda at: Input(at.field("eventType").name()),
}


@dataclass(frozen=True, slots=True)
class _At:
    """A value within a part, and the path that leads to it."""

    part: str
    place: str
    value: Any

    def wrong(self, wanted: str) -> InvalidProtocol:
        shown = repr(self.value)
        if len(shown) > MAX_SHOWN:
            shown = f"{shown[:MAX_SHOWN]}…"
        return InvalidProtocol(self.part, self.place, f"{wanted} is expected, not {shown}")

    def field(self, name: str) -> "_At":
        fields = self._typed(dict, "an object")
        if name not in fields:
            raise InvalidProtocol(self.part, self.place, f"the field {name!r} is missing")
        place = f"{self.place}.{name}" if self.place else name
        return _At(self.part, place, fields[name])

    def entries(self, most: int) -> "Iterator[_At]":
        """The values of an object, each at its name."""
        fields = self._typed(dict, "an object")
        self._bounded(fields, most)
        for name, value in fields.items():
            yield _At(self.part, _At(self.part, self.place, name).name(), value)

    def items(self, most: int) -> "Iterator[_At]":
        values = self._typed(list, "a list")
        self._bounded(values, most)
        for number, value in enumerate(values):
            yield _At(self.part, f"{self.place}[{number}]", value)

    def names(self, most: int) -> tuple[str, ...]:
        return tuple(one.name() for one in self.items(most))

    def name(self) -> str:
        text = self._typed(str, "a text")
        if len(text) > MAX_NAME:
            raise self.wrong(f"a name of at most {MAX_NAME} characters")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.wrong("valid Unicode") from None
        return text

    def _typed(self, kind: type[Value], wanted: str) -> Value:
        if not isinstance(self.value, kind):
            raise self.wrong(wanted)
        return self.value

    def _bounded(self, values: Any, most: int) -> None:
        if len(values) > most:
            text = f"{len(values)} entries, and at most {most} are allowed"
            raise InvalidProtocol(self.part, self.place, text)
