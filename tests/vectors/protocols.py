"""Vectors of swarm protocols: `{"wellformedness": [...], "projection": [...]}`, judged by another checker.

The other checker is known to be wrong in some points. Where a vector says itself what is right (`expected_sound`), that
counts. Else the faults are told by what they leave behind: names that need an escape in JSON it cannot read, and a role
that takes no part can have no machine at all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from fish.protocols import (
    InvalidProtocol,
    Problem,
    check_projection,
    check_protocol,
    machine_from_json,
    protocol_from_json,
    subscriptions_from_json,
)
from tests.vectors.verdict import Verdict

UNREADABLE = "expected a borrowed string"
"""What the other checker says of a name with an escape in JSON."""

UNREACHABLE = "StateUnreachable"
"""The one kind whose text is our own."""

PARSING = {
    "protocol": "ParseSwarmProtocol",
    "subscriptions": "ParseSubscriptions",
    "machine": "ParseMachine",
}


def run_swarm(value: dict[str, Any]) -> Iterator[Verdict]:
    """Judge all vectors of both lists."""
    for vector in value.get("wellformedness", ()):
        yield Verdict(vector["id"], _fault(vector, _wellformedness))
    for vector in value.get("projection", ()):
        yield Verdict(vector["id"], _fault(vector, _projection))


def _fault(vector: dict[str, Any], judge: Any) -> str | None:
    try:
        return judge(vector)  # type: ignore[no-any-return]  # one of the two below
    except InvalidProtocol as error:
        expected = list(vector["error_kinds"])
        kind = PARSING[error.part]
        if any(UNREADABLE in text for text in vector["errors"]):
            return f"a name with an escape is refused: {error}"
        return None if kind in expected else f"{kind} ({error}), not {expected}"


def _wellformedness(vector: dict[str, Any]) -> str | None:
    problems = check_protocol(
        protocol_from_json(vector["proto"]), subscriptions_from_json(vector["subscriptions"])
    )
    if any(UNREADABLE in text for text in vector["errors"]):
        return _compared([], problems)
    kinds = Counter(problem.kind.value for problem in problems)
    if dict(kinds) != vector["error_kinds"]:
        return f"{dict(kinds)}, not {vector['error_kinds']}"
    texts = [text for text in vector["errors"] if "unreachable" not in text]
    return _compared(texts, [one for one in problems if one.kind != UNREACHABLE])


def _projection(vector: dict[str, Any]) -> str | None:
    protocol = protocol_from_json(vector["proto"])
    subscriptions = subscriptions_from_json(vector["subscriptions"])
    machine = machine_from_json(vector["machine"])
    role = vector["role"]
    problems = check_projection(protocol, subscriptions, role, machine)
    takes_part = not all(
        subscriptions.heard(role).isdisjoint(one.log) for one in protocol.transitions
    )
    sound = vector.get("expected_sound", vector["verdict"])
    if any(UNREADABLE in text for text in vector["errors"]):
        return None
    if not takes_part and not machine.edges:
        sound = "OK"
    if sound not in {"OK", "ERROR"}:
        return None  # the other checker fell over; that this one did not is all there is to say
    if (sound == "OK") != (not problems):
        return f"{[str(problem) for problem in problems]}, and {sound} is right"
    if sound != vector["verdict"] or sound == "OK":
        return None
    # Each place is told once, where the other checker may come by several times.
    return _compared(sorted(set(vector["errors"])), problems)


def _compared(expected: Iterable[str], problems: Iterable[Problem]) -> str | None:
    wanted = Counter(expected)
    given = Counter(problem.text for problem in problems)
    if wanted == given:
        return None
    return f"lacking {sorted((wanted - given).elements())}, beyond {sorted((given - wanted).elements())}"
