"""Why a fish has the state it has, as JSON for programs and as text for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from fish.explaining import Explanation, Step, Travel
from fish.states import state_to_json

SHOWN = 160
"""Characters of a payload or a state on one line."""


def explanation_to_json(explanation: Explanation[Any]) -> dict[str, Any]:
    """The shape that the API sends."""
    return {
        "fish": explanation.fish,
        "version": explanation.version,
        "where": explanation.where,
        "initial": state_to_json(explanation.initial),
        "state": state_to_json(explanation.state),
        "key": None if explanation.key is None else str(explanation.key),
        "offsets": explanation.offsets.to_json(),
        "leftOut": explanation.left_out,
        "steps": [_step_to_json(step) for step in explanation.steps],
        "travels": [_travel_to_json(travel) for travel in explanation.travels],
        "pruned": {stream.address: first for stream, first in sorted(explanation.pruned.items())},
    }


def explanation_to_text(explanation: Mapping[str, Any]) -> Iterator[str]:
    """The same, from that shape, as lines."""
    yield f"{explanation['fish']} version {explanation['version']}: {explanation['where']}"
    yield f"{'':16} begins as {_short(explanation['initial'])}"
    for stream, first in explanation["pruned"].items():
        yield f"{'':16} pruned: {stream} before offset {first}; what stood there is not explained"
    if explanation["leftOut"]:
        yield f"{'':16} ... {explanation['leftOut']} events that are not shown"
    for step in explanation["steps"]:
        event = step["event"]
        yield f"{event['key']}  {' '.join(event['tags'])}  {_short(event['payload'])}"
        if step["isReset"]:
            yield f"{'':16} resets: what is before it does not count"
        yield f"{'':16} {step['error'] or '-> ' + _short(step['state'])}"
    for travel in explanation["travels"]:
        yield f"time travel: {travel['late']} came or went behind {travel['head']}; {travel['calls']} calls"


def _step_to_json(step: Step[Any]) -> dict[str, Any]:
    return {
        "event": step.event.to_json(),
        "state": state_to_json(step.state),
        "isReset": step.is_reset,
        "error": step.error,
    }


def _travel_to_json(travel: Travel) -> dict[str, Any]:
    return {
        "late": str(travel.late),
        "head": None if travel.head is None else str(travel.head),
        "calls": travel.calls,
        "before": travel.before.to_json(),
        "after": travel.after.to_json(),
    }


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."
