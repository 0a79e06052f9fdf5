"""`python -m tests.vectors machines FILE`: charts, role runners, workflow scenarios and swarm protocols."""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fish.definition import Metadata
from fish.machines.addresses import tags_of
from fish.machines.errors import MachineError
from fish.machines.folding import World
from fish.machines.loading import load_machine
from fish.machines.system import System
from fish.protocols.errors import CommandRefused
from fish.protocols.parts import Part
from fish.protocols.roles import Reaction, Role, RoleState
from lamport.ids import EventKey, NodeId, StreamId
from lamport.tags import Tag
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
    """Fold and show to a role's part what the vector says, and compare all that can be seen of it after each step."""
    runner, restarts = Runner(_role(vector)), 0
    for number, step in enumerate(vector["observed"]):
        place, op = f"step {number}", step["op"]
        runner.told, runner.dropped = Counter(), []
        result, published = runner.play(op)
        restarts += op["op"] == "timetravel"
        assert runner.told == step["emitted"], f"{place}: {runner.told}, not {step['emitted']}"
        assert runner.dropped == step.get("dropped", []), f"{place}: dropped {runner.dropped}"
        assert result == step.get("result"), f"{place}: the command was {result}"
        assert published == step.get("published", []), f"{place}: published {published}"
        failed = "failure" in runner.told
        assert failed == ("MachineRunnerFailure" in step.get("errors", [])), f"{place}: {failed}"
        shown = _shown(runner.part)
        assert shown == step["after"], f"{place}: {shown}, not {step['after']}"
    assert restarts == vector["subscription_restarts"]
    found = runner.part.role.to_json()
    assert found == vector["analysis_json"], f"{found}"


class Runner:
    """Folds a role as its fish does, shows it to a part, and tells it in the words of machine-runner's events."""

    def __init__(self, role: Role) -> None:
        self.part, self.place = Part(role), role.start
        self.told: Counter[str] = Counter()
        self.dropped: list[Any] = []

    def play(self, op: Mapping[str, Any]) -> tuple[str | None, list[Any]]:
        """Play a step; returns what came of a command, and what it published."""
        if op["op"] == "feed":
            self._feed(op["events"], caught_up=op.get("caughtUp", True))
        elif op["op"] == "timetravel":
            self.place = self.part.role.start
            self.part.see(self.place, caught_up=False)
            self.told["audit.reset"] += 1
        else:
            assert op["op"] == "command", f"no such step: {op}"
            return self._command(op)
        return None, []

    def _feed(self, events: list[tuple[str, Any]], *, caught_up: bool) -> None:
        if self.part.is_ended:
            return
        fold = self.part.role.fish("vector", Tag("vector")).on_event
        for type_, event in events:
            try:
                place = fold(self.place, {"type": type_, "event": event}, _metadata(1, "a/b"))
            except RuntimeError:
                self.part.is_ended = True
                self.told.update(("failure", "error", "destroyed"))
                return
            if place is self.place:
                self.dropped.append(event)
                self.told["audit.dropped"] += 1
            self.place = place
        is_next = self.part.see(self.place, caught_up=caught_up)
        self.told.update(("change",) * caught_up + ("next",) * is_next)

    def _command(self, op: Mapping[str, Any]) -> tuple[str, list[Any]]:
        try:
            types = self.part.command(op["name"])
        except CommandRefused:
            return "unavailable", []
        self.told.update(("change", "commandPersisted"))
        events = [{"type": type_, "id": id_} for type_, id_ in zip(types, op["ids"], strict=True)]
        return "published", [events]


def _shown(part: Part) -> Mapping[str, Any] | None:
    if part.snapshot is None:
        return None
    state, log = part.snapshot
    return {"state": state, "log": list(log), "commandsAvailable": part.why_not() is None}


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
    return (*log, *(one["event"] for one in events))


def _raise(_log: Any, _events: tuple[Any, ...]) -> Any:
    raise RuntimeError("as the vector says")
