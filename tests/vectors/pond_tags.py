"""Vectors about tags: an expression, the query text it stands for, and what an event is published with by it."""

from collections.abc import Callable, Mapping
from typing import Any

from fish.emission import Emission, IdTag
from lamport.errors import InvalidInput
from lamport.event import draft
from lamport.query import parse_query
from lamport.tags import ALL_EVENTS, Tag, Tags, Where

Value = Where | Emission | IdTag


def fault_of(vector: Mapping[str, Any]) -> str | None:
    """What is not as the vector says."""
    try:
        value = _value(vector["expr"])
    except InvalidInput as error:
        return None if vector.get("throws") else f"refused: {error}"
    if vector.get("throws"):
        return "it is not refused"
    where = value if isinstance(value, Where) else value.where
    wanted = parse_query(f"FROM {vector['aql']}")
    if where != wanted or parse_query(f"FROM {where}") != wanted:
        return f"it selects {where}, not {wanted}"
    if "appliedTags" in vector:
        applied = _applied(value, vector.get("payload"))
        if sorted(applied) != sorted(vector["appliedTags"]):
            return f"it is published with {applied}, not {vector['appliedTags']}"
    return None


def _applied(value: Value, payload: Any) -> tuple[str, ...]:
    if isinstance(value, Where):
        assert isinstance(value, Tags), "only tags are published with"
        return draft(value, payload).tags
    return value.apply(payload).tags


def _value(expression: Any) -> Any:
    if isinstance(expression, str):
        return Tags(expression)
    name, *arguments = expression
    return _EXPRESSIONS[name](*arguments)


def _auto_id(tag: list[str], field: str) -> IdTag:
    return IdTag(tag[1], lambda payload: payload.get(field))


def _and(one: Any, other: Any) -> Any:
    parts = [_value(one), _value(other)]
    parts.sort(key=lambda part: isinstance(part, Where))  # what derives ids leads
    return parts[0] & parts[1]


def _or(one: Any, other: Any) -> Where:
    parts = [_value(one), _value(other)]
    return Where.union(part if isinstance(part, Where) else part.where for part in parts)


_EXPRESSIONS: Mapping[str, Callable[..., Any]] = {
    "all": lambda: ALL_EVENTS,
    "tag": Tag,
    "tags": Tags,
    "autoId": _auto_id,
    "withId": lambda base, id_: _value(base).with_id(id_),
    "id": lambda base, id_: _value(base).id(id_),
    "local": lambda base: _value(base).local(),
    "and": _and,
    "or": _or,
}
