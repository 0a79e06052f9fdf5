"""`shoal check`: what is printed about a file, and the status it ends with."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fish.protocols import machine_to_json, project, protocol_to_json
from shoal import checking
from tests.fish.protocols.made import ALL_HEAR_ALL, ALL_TYPES, WORK
from tests.shoal.daemons import Ended, shoal

PROTOCOL = protocol_to_json(WORK)
HEARD = {role: sorted(types) for role, types in ALL_HEAR_ALL.items()}
GOOD = {"protocol": PROTOCOL, "subscriptions": HEARD}
WORKER = machine_to_json(project(WORK, ALL_HEAR_ALL, "worker"))
LACKING = {**WORKER, "transitions": WORKER["transitions"][1:]}
DEAF = {**HEARD, "boss": [one for one in ALL_TYPES if one != "workStopped"]}
IN_PART = {**HEARD, "display": ["workStarted", "workStopped", "sentHome"]}
STRICTLY_WRONG = {**GOOD, "subscriptions": IN_PART}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "protocol.json"


def check(file: Path, value: Any, *options: str) -> Ended:
    file.write_text(json.dumps(value), "utf-8")
    return shoal("check", str(file), *options)


def test_a_well_formed_protocol_is_told_in_a_line(file: Path) -> None:
    assert check(file, GOOD) == (0, f"{file}: 3 transitions, well-formed\n", "")


@pytest.mark.parametrize(
    "value",
    [
        {**PROTOCOL, "subscriptions": HEARD, "machines": {"worker": WORKER}},
        {"proto": PROTOCOL, "subscriptions": HEARD, "role": "worker", "machine": WORKER},
        {**GOOD, "machines": {"worker": WORKER}},
    ],
)
def test_a_file_may_be_written_in_several_ways(file: Path, value: dict[str, Any]) -> None:
    ended = check(file, value)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"{file}: 3 transitions, well-formed",
        "machine of worker: as the protocol asks",
    ]


def test_a_problem_is_told_with_its_place_and_what_to_do(file: Path) -> None:
    ended = check(file, {**GOOD, "subscriptions": DEAF})
    assert (ended.status, ended.err) == (1, "")
    first, problem, advice = ended.out.splitlines()[:3]
    assert first == f"{file}: 3 transitions, 1 problem"
    assert problem.startswith("  LaterInvolvedNotGuarded: subsequently involved role boss does not")
    assert problem.endswith("in transition (working)--[stop@worker<workStopped>]-->(idle)")
    assert advice == "    subscribe the role to the first type of the log: it could not follow"


def test_a_problem_of_a_machine_names_the_role_and_the_machines_state(file: Path) -> None:
    ended = check(file, {**GOOD, "machines": {"worker": LACKING, "boss": WORKER}})
    assert ended.status == 1
    assert "machine of worker: 1 problem" in ended.out
    assert "missing transition start/workStarted in state idle" in ended.out
    assert "in the machine's state idle: add it to the machine" in ended.out


def test_programs_get_an_object(file: Path) -> None:
    ended = check(file, {**GOOD, "subscriptions": DEAF, "machines": {"worker": LACKING}}, "--json")
    told = json.loads(ended.out)
    assert (ended.status, told["ok"]) == (1, False)
    assert told["problems"][0]["kind"] == "LaterInvolvedNotGuarded"
    assert told["problems"][0]["transition"] == 1
    assert [one["kind"] for one in told["machines"]["worker"]] == ["MissingTransition"]
    assert json.loads(check(file, GOOD, "--json").out) == {
        "ok": True,
        "problems": [],
        "strict": [],
        "machines": {},
    }


def test_what_only_strict_checking_finds_fails_only_strictly(file: Path) -> None:
    lenient, strict = check(file, STRICTLY_WRONG), check(file, STRICTLY_WRONG, "--strict")
    assert (lenient.status, strict.status) == (0, 1)
    assert lenient.out == strict.out
    assert "beyond that, strictly: 1 problem\n  LogPartlyHeard: role display" in lenient.out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "no JSON"),
        ("[]", "an object with `protocol` and `subscriptions` is expected"),
        (json.dumps({"protocol": PROTOCOL}), "the field 'subscriptions' is missing"),
        (json.dumps({"subscriptions": {}}), "protocol: the field 'transitions' is missing"),
        (json.dumps({**GOOD, "protocol": 7}), "protocol: an object is expected, not 7"),
        (json.dumps({**GOOD, "machines": []}), "file, machines: an object of machines by role"),
        (json.dumps({**GOOD, "machines": {"boss": 7}}), "machine of boss: an object is expected"),
        (json.dumps({**GOOD, "machine": WORKER}), "file, role: the role of the `machine`"),
    ],
)
def test_a_file_that_is_no_protocol_is_bad_input(file: Path, text: str, told: str) -> None:
    file.write_text(text, "utf-8")
    ended = shoal("check", str(file))
    assert (ended.status, ended.out) == (os.EX_DATAERR, "")
    assert told in ended.err
    assert ended.err.count("\n") == 1


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    ended = shoal("check", str(file))
    assert ended.status == os.EX_NOINPUT
    assert f"cannot read {file} (No such file or directory)" in ended.err
    assert shoal("check", str(file.parent)).status == os.EX_NOINPUT


def test_a_file_that_is_too_large_is_not_read(file: Path) -> None:
    file.touch()
    os.truncate(file, checking.MAX_FILE_BYTES + 1)
    ended = shoal("check", str(file))
    assert ended.status == os.EX_NOINPUT
    assert "larger than" in ended.err
