"""The reducers of the vectors, by name. States are JSON values and are never changed in place, but for `alias`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Json = Any
Parameters = Mapping[str, Any]


class Seen(NamedTuple):
    """An event's metadata in the words of the vectors."""

    event_id: str
    lamport: int
    stream: str
    offset: int
    tags: list[str]
    timestamp: int
    app_id: str
    is_local: bool


Reduce = Callable[[Json, Json, Seen, Parameters], Json]


class Reducer(NamedTuple):
    """What a fish starts with, and how it goes on."""

    initial: Json
    reduce: Reduce
    mutates: bool = False


class Refused(Exception):
    """What a reducer or an effect of the vectors raises when it is told to fail."""


def _number(payload: Json) -> int:
    number: int = payload["n"] if isinstance(payload, dict) else payload
    return number


def _list(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    return [*state, payload]


def _ids(state: Json, _payload: Json, seen: Seen, _with: Parameters) -> Json:
    return [*state, seen.event_id]


def _sum(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    return state + _number(payload)


def _last(_state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    return payload


def _last_n(state: Json, payload: Json, _seen: Seen, given: Parameters) -> Json:
    return [*state, payload][-given["n"] :]


def _top_n(state: Json, payload: Json, _seen: Seen, given: Parameters) -> Json:
    return sorted([*state, payload], reverse=True)[: given["n"]]


def _work(state: Json, payload: Json, seen: Seen, _with: Parameters) -> Json:
    if payload["type"] == "started":
        return {"open": [*state["open"], seen.event_id]}
    if payload["type"] == "stopped":
        return {"open": [one for one in state["open"] if one not in payload["ended"]]}
    return state


def _lww(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    others = {key: value for key, value in state.items() if key != payload["k"]}
    return others if payload["v"] is None else {**others, payload["k"]: payload["v"]}


def _tag_count(state: Json, _payload: Json, seen: Seen, _with: Parameters) -> Json:
    return {**state, **{tag: state.get(tag, 0) + 1 for tag in seen.tags}}


_MOVES = {
    ("new", "created"): "open",
    ("open", "started"): "working",
    ("working", "done"): "done",
    ("open", "cancelled"): "cancelled",
    ("working", "cancelled"): "cancelled",
}


def _order(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    status, kind = state["status"], payload["type"]
    if (status, kind) in _MOVES:
        return {**state, "status": _MOVES[status, kind]}
    return {**state, "conflicts": [*state["conflicts"], f"{kind}@{status}"]}


def _set_n(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    if payload["type"] == "fill":
        return {**state, "fill": state["fill"] + 1}
    if payload["type"] == "set" and payload["n"] != state["n"] + 1:
        raise Refused(f"{payload['n']} does not follow {state['n']}")
    return {**state, "n": payload["n"]} if payload["type"] == "set" else state


def _fail_on(state: Json, payload: Json, _seen: Seen, given: Parameters) -> Json:
    if payload == given["bad"]:
        raise Refused(f"{payload!r} is bad")
    return [*state, payload]


def _per_source(state: Json, payload: Json, seen: Seen, _with: Parameters) -> Json:
    known = state["perSource"]
    return {
        "perSource": {**known, seen.stream: [*known.get(seen.stream, ()), payload]},
        "overall": [*state["overall"], seen.event_id],
    }


def _digest(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    return (state * 31 + _number(payload)) % 1_000_003


def _alias(state: Json, payload: Json, _seen: Seen, _with: Parameters) -> Json:
    for one in state:
        if isinstance(one, dict):
            one["seen"] = one.get("seen", 0) + 1
    state.append(payload)
    return state


def _meta(state: Json, _payload: Json, seen: Seen, given: Parameters) -> Json:
    words = {
        "eventId": seen.event_id,
        "lamport": seen.lamport,
        "stream": seen.stream,
        "offset": seen.offset,
        "tags": seen.tags,
        "timestampMicros": seen.timestamp,
        "appId": seen.app_id,
        "isLocalEvent": seen.is_local,
    }
    return [*state, {field: words[field] for field in given["fields"]}]


def _count(state: Json, _payload: Json, _seen: Seen, _with: Parameters) -> Json:
    return state + 1


REDUCERS: Mapping[str, Reducer] = {
    "list": Reducer([], _list),
    "ids": Reducer([], _ids),
    "sum": Reducer(0, _sum),
    "last": Reducer(None, _last),
    "lastN": Reducer([], _last_n),
    "topN": Reducer([], _top_n),
    "work": Reducer({"open": []}, _work),
    "lww": Reducer({}, _lww),
    "tagCount": Reducer({}, _tag_count),
    "order": Reducer({"status": "new", "conflicts": []}, _order),
    "setN": Reducer({"n": 0, "fill": 0}, _set_n),
    "failOn": Reducer([], _fail_on),
    "perSource": Reducer({"perSource": {}, "overall": []}, _per_source),
    "digest": Reducer(7, _digest),
    "alias": Reducer([], _alias, mutates=True),
    "meta": Reducer([], _meta),
    "count": Reducer(0, _count),
}


def resets(rule: Any) -> Callable[[Json], bool] | None:
    """Which payloads a rule of the vectors takes for resets; None for none ever."""
    if rule in (None, "never"):
        return None
    if rule == "always":
        return lambda _payload: True
    wanted = rule["equals"]
    if "field" not in rule:
        return lambda payload: _equal(payload, wanted)
    return lambda payload: isinstance(payload, dict) and _equal(payload.get(rule["field"]), wanted)


def _equal(one: Json, other: Json) -> bool:
    """Equal as JSON: true is not 1."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
