"""`python -m tests.vectors machines FILE`: charts, role runners, workflow scenarios and swarm protocols."""

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fish.definition import Metadata
from fish.machines.errors import MachineError
from fish.machines.folding import World
from fish.machines.loading import load_machine
from fish.machines.roles import CommandRefused, Part, Reaction, Role, RoleState
from fish.machines.system import System, tags_of
from lamport.ids import EventKey, NodeId, StreamId
from tests.vectors.machines_scenarios import check_scenario
from tests.vectors.verdict import Verdict

STREAM = StreamId(NodeId(bytes(32)), 0)


def run(path: Path) -> Iterator[Verdict]:
    """Run all vectors of a file."""
    vectors = json.loads(path.read_text("utf-8"))
    definitions = vectors["machine_defs"]
    for one in vectors["fsm"]:
        yield _judged(one["id"], check_chart, one)
    for one in vectors["runner"]:
        yield _judged(one["id"], check_runner, one)
    for one in vectors["scenarios"]:
        yield _judged(one["id"], lambda scenario: check_scenario(scenario, definitions), one)
    if importlib.util.find_spec("tests.vectors.protocols") is None:
        yield Verdict("swarm", "the checker of swarm protocols is not here")
    else:
        protocols = importlib.import_module("tests.vectors.protocols")
        yield from protocols.run_swarm(vectors["swarm"])


def _judged(
    name: str, check: Callable[[Mapping[str, Any]], None], one: Mapping[str, Any]
) -> Verdict:
    try:
        check(one)
    except (AssertionError, MachineError) as error:
        return Verdict(name, str(error) or type(error).__name__)
    return Verdict(name)


def check_chart(vector: Mapping[str, Any]) -> None:
    """Fold the events of a chart's vector through the compiled fish."""
    machine = load_machine(vector["def"])
    fish = System((machine,)).fish("vector")
    world, address = fish.initial, f"{machine.id}/x"
    for number, event in enumerate([{"type": "$init"}, *vector["events"]]):
        world = fish.on_event(world, event, _metadata(number + 1, address))
    assert isinstance(world, World)
    instance = world.instances[address]
    found = {
        "value": instance.value,
        "context": dict(instance.context),
        "done": instance.status == "done",
        "log": [word for passage in world.passages for word in passage.words],
    }
    assert found == vector["expect"], f"{found} instead of {vector['expect']}"


def _metadata(lamport: int, address: str) -> Metadata:
    return Metadata(EventKey(lamport, STREAM), lamport, 0, tuple(tags_of(address)), "test", True)  # noqa: FBT003 - a field


def check_runner(vector: Mapping[str, Any]) -> None:
    """Feed a role's part as the vector says, and compare all that can be seen of it after each step."""
    role = _role(vector)
    part, restarts = Part(role), 0
    for number, step in enumerate(vector["observed"]):
        place, op = f"step {number}", step["op"]
        noted, dropped = len(part.notices), len(part.dropped)
        result, published = _played(part, op)
        restarts += op["op"] == "timetravel"
        counted: dict[str, int] = {}
        for notice in part.notices[noted:]:
            counted[notice] = counted.get(notice, 0) + 1
        assert counted == step["emitted"], f"{place}: told {counted}, not {step['emitted']}"
        assert part.dropped[dropped:] == step.get("dropped", []), f"{place}: dropped {part.dropped}"
        assert result == step.get("result"), f"{place}: the command was {result}"
        assert published == step.get("published", []), f"{place}: published {published}"
        failed = "failure" in counted
        assert failed == ("MachineRunnerFailure" in step.get("errors", [])), (
            f"{place}: {part.error}"
        )
        assert _shown(part) == step["after"], f"{place}: {_shown(part)}, not {step['after']}"
    assert restarts == vector["subscription_restarts"]
    assert role.to_json() == vector["analysis_json"], f"{role.to_json()}"


def _played(part: Part, op: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
    if op["op"] == "feed":
        part.feed(((one[0], one[1]) for one in op["events"]), caught_up=op.get("caughtUp", True))
    elif op["op"] == "timetravel":
        part.time_travel()
    else:
        assert op["op"] == "command", f"no such step: {op}"
        try:
            types = part.command(op["name"])
        except CommandRefused:
            return "unavailable", []
        events = [{"type": type_, "id": id_} for type_, id_ in zip(types, op["ids"], strict=True)]
        return "published", [events]
    return None, []


def _shown(part: Part) -> Mapping[str, Any] | None:
    if part.snapshot is None:
        return None
    state, log = part.snapshot
    return {"state": state, "log": list(log), "commandsAvailable": part.is_open}


def _role(vector: Mapping[str, Any]) -> Role:
    states = tuple(_role_state(one) for one in vector["states"])
    return Role(vector["initial"], states, ())


def _role_state(data: Mapping[str, Any]) -> RoleState:
    commands = tuple((one["name"], tuple(one["events"])) for one in data.get("commands", []))
    reactions = tuple(
        Reaction(tuple(one["on"]), one["next"], _raise if one.get("throws") else _logged)
        for one in data.get("reactions", [])
    )
    return RoleState(data["name"], commands, reactions)


def _logged(log: Any, events: tuple[Any, ...]) -> Any:
    return (*log, *events)


def _raise(_log: Any, _events: tuple[Any, ...]) -> Any:
    raise RuntimeError("as the vector says")
