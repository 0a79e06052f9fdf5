"""Verdicts of another checker of swarm protocols, one test for each."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.protocols import run_swarm

VECTORS = Path(__file__).parents[2] / "vectors" / "machines.json"
SWARM = json.loads(VECTORS.read_text("utf-8"))["swarm"]
CASES = [(part, one) for part in ("wellformedness", "projection") for one in SWARM[part]]


def fault(part: str, vector: dict[str, Any]) -> str | None:
    (verdict,) = run_swarm({part: [vector]})
    assert verdict.name == vector["id"]
    return verdict.fault


def test_there_are_vectors_of_both_parts() -> None:
    assert (len(SWARM["wellformedness"]), len(SWARM["projection"])) == (29, 37)


@pytest.mark.parametrize(("part", "vector"), CASES, ids=[one["id"] for _, one in CASES])
def test_a_verdict_is_shared(part: str, vector: dict[str, Any]) -> None:
    assert fault(part, vector) is None


@pytest.mark.parametrize(("part", "vector"), CASES, ids=[one["id"] for _, one in CASES])
def test_another_verdict_would_be_noticed(part: str, vector: dict[str, Any]) -> None:
    wrong = copy.deepcopy(vector)
    sound = wrong.get("expected_sound", wrong["verdict"])
    if any("borrowed" in text for text in wrong["errors"]):
        wrong["subscriptions"] = {}  # that it can be read is not all that is asked
    elif sound == "OK":
        wrong |= {"verdict": "ERROR", "expected_sound": "ERROR", "errors": ["missing"]}
        wrong["error_kinds"] = {"MissingTransition": 1}
    else:
        wrong |= {"verdict": "OK", "expected_sound": "OK", "errors": [], "error_kinds": {}}
    assert fault(part, wrong) is not None
