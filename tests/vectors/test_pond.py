"""The vectors of fish pass, and their runner tells what does not."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.vectors.__main__ import main
from tests.vectors.pond import judge

FILE = Path(__file__).parent / "pond.json"
VECTORS = [one for one in json.loads(FILE.read_text("utf-8"))["vectors"] if not one.get("optional")]

A = [{"tags": ["a"]}]


def fish(reducer: str = "list", **more: Any) -> dict[str, Any]:
    return {"id": ["t", "f", 1], "reducer": reducer, "where": A, **more}


def event(stream: str, lamport: int, payload: Any, **more: Any) -> dict[str, Any]:
    return {"stream": stream, "lamport": lamport, "tags": ["a"], "payload": payload, **more}


def push(*events: Mapping[str, Any]) -> dict[str, Any]:
    return {"op": "push", "events": [*events]}


def vector(*steps: Mapping[str, Any], **fishes: Any) -> dict[str, Any]:
    return {"id": "own", "fishes": fishes or {"f": fish()}, "steps": [*steps]}


OBSERVE = {"op": "observe", "fish": "f", "as": "o"}
CURRENT = {"op": "expectCurrent", "fish": "f"}


@pytest.mark.parametrize("given", VECTORS, ids=[one["id"] for one in VECTORS])
def test_a_vector_holds(given: Mapping[str, Any]) -> None:
    assert judge(given).fault is None


OWN = {
    "streams that begin late or leave offsets out are filled up": vector(
        push(event("A-0", 1, 1), event("B-0", 2, 2, offset=7), event("B-0", 3, 3, offset=9)),
        {**CURRENT, "state": [1, 2, 3]},
        {"op": "present", "expect": {"A-0": 0, "B-0": 9}},
        {"op": "query", "fn": "queryAllKnown", "expect": [1, 2, 3]},
    ),
    "local publications follow the highest timestamp known": vector(
        push(event("Z-0", 9007199254740000, 1)),
        {"op": "publishMany", "events": [[["a"], 2], [["a"], 3]]},
        {**CURRENT, "state": ["9007199254740000/Z-0", "9007199254740001/LOCAL-0", "9007199254740002/LOCAL-0"]},
        f=fish("ids"),
    ),
    "a query goes on where another ended": vector(
        push(event("A-0", 1, 1)),
        {"op": "query", "fn": "queryAllKnown", "saveUpper": "u", "expect": [1], "expectUpper": {"A-0": 0}},
        push(event("A-0", 2, 2), event("B-0", 1, 3)),
        {"op": "query", "fn": "queryAllKnown", "lowerFrom": "u", "expect": [3, 2]},
    ),
    "chunks that go down": vector(
        push(event("A-0", 1, 1), event("A-0", 2, 2), event("A-0", 3, 3)),
        {
            "op": "chunked",
            "size": 2,
            "order": "desc",
            "expect": [
                {"events": [3, 2], "lower": {"A-0": 0}, "upper": {"A-0": 2}},
                {"events": [1], "lower": {}, "upper": {"A-0": 0}},
            ],
        },
    ),
    "the closest event wins": vector(
        push(event("A-0", 1, 1), event("A-0", 2, 8)),
        {"op": "observeBest", "best": ["closest", 5], "as": "o"},
        push(event("B-0", 1, 6), event("B-0", 2, 9)),
        {"op": "expect", "obs": "o", "last": 6, "distinct": [8, 6]},
    ),
    "the newest event by the wall clock": vector(
        push(event("A-0", 1, "old clock", timestamp=5), event("A-0", 2, "x", timestamp=4)),
        {"op": "observeLatest", "by": "timestamp", "as": "o"},
        {"op": "expect", "obs": "o", "last": "old clock"},
    ),
    "reducers that mutate do not reach what is stored": vector(
        OBSERVE,
        push(event("B-0", 5, {"x": 1}), event("B-0", 6, {"x": 2})),
        {"op": "expect", "obs": "o", "last": [{"x": 1, "seen": 1}, {"x": 2}]},
        push(event("A-0", 1, {"x": 0})),
        {"op": "expect", "obs": "o", "last": [{"x": 0, "seen": 2}, {"x": 1, "seen": 1}, {"x": 2}]},
        f=fish("alias"),
    ),
    "a restart from a snapshot calls no reducer": vector(
        push(*(event("A-0", n, n) for n in range(1, 50))),
        OBSERVE,
        {"op": "restart", "keepSnapshots": True},
        OBSERVE,
        {"op": "expect", "obs": "o", "last": 1225},
        {"op": "expectCalls", "max": 0},
        f=fish("sum"),
    ),
    "without snapshots everything is folded again": vector(
        push(event("A-0", 1, 1), event("A-0", 2, 1)),
        OBSERVE,
        {"op": "restart"},
        OBSERVE,
        {"op": "expectCalls", "fish": "f", "max": 2},
        {"op": "expect", "obs": "o", "last": 2},
        f=fish("count"),
    ),
    "an effect that raises behind its events publishes none of them": vector(
        {"op": "run", "fish": "f", "effect": ["emitThenThrow", [[["a"], 1]]], "expect": "rejected"},
        {**CURRENT, "state": []},
    ),
}  # fmt: skip


@pytest.mark.parametrize("given", OWN.values(), ids=OWN)
def test_what_the_format_says_beyond_the_file_holds(given: Mapping[str, Any]) -> None:
    assert judge(given).fault is None


WRONG = {
    "another last state": vector(push(event("A-0", 1, 1)), OBSERVE, {"op": "expect", "obs": "o", "last": [2]}),
    "true is not 1": vector(push(event("A-0", 1, 1)), {**CURRENT, "state": [True]}),
    "a state where none is": vector(OBSERVE, {"op": "expect", "obs": "o", "none": True}),
    "no error": vector(OBSERVE, {"op": "expect", "obs": "o", "errors": 1}),
    "too many calls": vector(push(event("A-0", 1, 1)), OBSERVE, {"op": "expectCalls", "max": 0}),
    "an unknown step": vector({"op": "dance"}),
    "an unknown reducer": vector(OBSERVE, f=fish("dance")),
    "an effect that succeeds": vector(
        {"op": "run", "fish": "f", "effect": ["noop"], "expect": "rejected"}
    ),
    "other tags": {"id": "tags", "expr": ["tags", "a"], "aql": "'b'"},
    "tags that are no tags": {"id": "tags", "expr": ["tags", ""], "aql": "''"},
    "nodes that agree": {
        "id": "net", "fishes": {"f": fish()}, "nodes": ["A", "B"],
        "script": [["emit", "A", ["a"], 1]], "expectPerNode": {"B": [1]},
    },
}  # fmt: skip


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_vector_that_does_not_hold_is_told(given: Mapping[str, Any]) -> None:
    assert judge(given).fault is not None


def test_the_command_tells_failures_and_counts_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "some.json"
    right = {**WRONG["other tags"], "id": "right", "aql": "'a'"}
    file.write_text(json.dumps({"vectors": [right, WRONG["other tags"]]}), "utf-8")
    assert main(["pond", str(file)]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("FAILED tags: ")
    assert last == "1 passed, 1 failed"


def test_a_file_in_which_nothing_passes_has_failed(tmp_path: Path) -> None:
    file = tmp_path / "none.json"
    file.write_text(json.dumps({"vectors": [{"id": "x", "optional": True}]}), "utf-8")
    assert main(["pond", str(file)]) == 1
