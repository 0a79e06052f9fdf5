"""A file of vectors, read: pushes and formula logs become events, selections become `Where`."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lamport.tags import Alternative, Tags, Where
from tests.vectors.pond_places import MICROSECONDS, Places, Pushed, Timetable

LARGEST_TIMESTAMP = 2**63 - 1
"""What a wall clock shows is 64 bits, signed."""

_FORMULA = re.compile(r"=i(?:\*(\d+))?(?:%(\d+))?")
_IN_TEXT = re.compile(r"\{i(?:\*(\d+))?(?:%(\d+))?\}")


def events_of(step: Mapping[str, Any]) -> list[Pushed]:
    """What a step pushes."""
    if step["op"] != "push":
        return []
    listed = [_listed(event) for event in step.get("events", ())]
    return [*listed, *_generated(step["gen"])] if "gen" in step else listed


def where_of(alternatives: Iterable[Mapping[str, Any]] | None) -> Where:
    """A selection: alternatives of tags; none at all selects everything."""
    chosen = [
        Alternative(tuple(sorted(set(one["tags"]))), local=bool(one.get("local", False)))
        for one in alternatives or ({"tags": ()},)
    ]
    for one in chosen:
        Tags(*one.tags)  # refuses what is no tag
    return Where(chosen)


def places_of(vector: Mapping[str, Any], local: str) -> Places:
    """Streams and timestamps for everything that a vector names."""
    steps = vector.get("steps", ())
    labels = {local, *vector.get("local_streams", ())}
    for step in steps:
        labels |= {event.stream for event in events_of(step)}
        labels |= {*step.get("offsets", {}), *(step.get("upper") or {}), *(step.get("lower") or {})}
        if "eventKey" in step:
            labels.add(step["eventKey"]["stream"])
    return Places(labels, local, vector.get("local_streams", ()), Timetable(_room(steps)))


def _room(steps: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """How many timestamps must be free below each that the steps name: for what fills streams up."""
    room: dict[int, int] = {}
    reached: Counter[str] = Counter()
    for step in steps:
        for event in events_of(step):
            gap = max(0, (event.offset or 0) - reached[event.stream])
            reached[event.stream] += gap + 1
            room[event.lamport] = max(room.get(event.lamport, 0), gap)
        if "eventKey" in step:
            lamport = step["eventKey"]["lamport"]
            gaps = [offset + 1 - reached[label] for label, offset in step["offsets"].items()]
            room[lamport] = max(room.get(lamport, 0), *gaps, 0)
            for label, offset in step["offsets"].items():
                reached[label] = max(reached[label], offset + 1)
        if "horizon" in step and step["horizon"] is not None:
            room.setdefault(step["horizon"]["lamport"], 0)
    return room


def _listed(event: Mapping[str, Any]) -> Pushed:
    lamport = event["lamport"]
    return Pushed(
        event["stream"],
        lamport,
        tuple(event["tags"]),
        event["payload"],
        event.get("timestamp", _usual_timestamp(lamport)),
        event.get("offset"),
    )


def _usual_timestamp(lamport: int) -> int:
    """A second for each tick, as far as a node's timestamps reach."""
    return min(lamport * MICROSECONDS, LARGEST_TIMESTAMP)


def _generated(formula: Mapping[str, Any]) -> Iterator[Pushed]:
    first, step, streams = formula["from"], formula.get("step", 1), formula["streams"]
    for i in range(first, formula["to"] + 1, step):
        lamport = formula.get("lamportBase", 0) + i * formula.get("lamportMul", 1)
        is_timed = "dt" in formula or "t0" in formula
        timestamp = formula.get("t0", 0) + i * formula.get("dt", 0)
        yield Pushed(
            streams[((i - first) // step) % len(streams)],
            lamport,
            tuple(_filled_in(tag, i) for tag in formula["tags"]),
            _filled_in(formula["payload"], i),
            timestamp if is_timed else _usual_timestamp(lamport),
        )


def _filled_in(value: Any, i: int) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(one, i) for key, one in value.items()}
    if isinstance(value, list):
        return [_filled_in(one, i) for one in value]
    if not isinstance(value, str):
        return value
    formula = _FORMULA.fullmatch(value)
    if formula is not None:
        return _number(formula, i)
    return _IN_TEXT.sub(lambda match: str(_number(match, i)), value)


def _number(formula: re.Match[str], i: int) -> int:
    factor, modulus = formula.groups()
    number = i * int(factor or 1)
    return number % int(modulus) if modulus else number
