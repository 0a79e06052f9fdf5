"""Scenarios of workflows, played by real nodes in the simulator.

The nodes of a scenario are simulated devices in the order of their ids; each runs the production node and a `Machines`
runtime. Lamport timestamps of a scenario are spread out (`SCALE`), so that records of the runtime fit in between;
unrelated events lift a clock to where a step wants it. A scenario's names for events are translated to keys on the way
in, and keys back to names on the way out.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fish.machines.addresses import split, tags_of
from fish.machines.coordination import Route, load_route
from fish.machines.definition import Effect, Machine
from fish.machines.errors import InvalidCoordination, InvalidMachine, NotReady
from fish.machines.instance import Instance, Passage, child_address
from fish.machines.loading import load_machine
from fish.machines.office import Call
from fish.machines.runtime import Machines
from fish.machines.services import LIMIT, ServiceFailed
from fish.machines.system import System
from lamport.event import draft
from lamport.log import EventLog
from simulations.device import Device
from simulations.loop import run_simulated
from simulations.world import World

SCALE = 20
"""Lamport timestamps between two of a scenario."""

FILLERS = 500
"""Unrelated events in one commit."""

PAUSE_S = 0.2
"""Virtual time for what a step leads to on its own node."""

PATIENCE_S = 15.0
"""Virtual time until nodes that can reach each other hold the same."""


def check_scenario(scenario: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
    """Play a scenario, and compare what it expects.

    Raises:
        AssertionError: something is not as expected.
    """
    wanted = scenario.get("expect", {}).get("definition_error")
    if wanted is not None:
        same(_refusal(scenario, definitions), wanted, "definition_error")
        return
    system = make_system(scenario, definitions)
    world = World(7, len(scenario["nodes"]))
    faults: list[object] = []
    run_simulated(Story(scenario, system, world).play(), random.Random(7), faults.append)
    assert not faults, f"a task ended with an error: {faults}"


def _refusal(scenario: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Why a scenario's definitions are refused."""
    try:
        make_system(scenario, definitions)
    except InvalidMachine as error:
        return {"kind": error.kind, "states": list(error.states)}
    except InvalidCoordination as error:
        return {"kind": error.kind, "path": list(error.path)}
    return {}


def make_system(scenario: Mapping[str, Any], definitions: Mapping[str, Any]) -> System:
    """The machines of a scenario, and its routes."""
    known = {**definitions, **scenario.get("machines", {})}
    names = [one["machine"] for one in scenario["instances"]] + scenario.get("uses", [])
    strict = scenario.get("strict_cycles", False)
    machines = tuple(load_machine(known[name], strict=strict) for name in dict.fromkeys(names))
    routes: list[Route] = [load_route(one) for one in scenario.get("routes", [])]
    return System(machines, tuple(routes))


def same(found: Any, wanted: Any, place: str) -> None:
    """Compare what was found with a pattern: objects may have more fields, lists may not be longer."""
    if isinstance(wanted, Mapping):
        assert isinstance(found, Mapping), f"{place}: {found!r} is no object"
        for name, value in wanted.items():
            assert name in found, f"{place}: there is no {name!r} in {found!r}"
            same(found[name], value, f"{place}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(found, list), f"{place}: {found!r} is no list"
        assert len(found) == len(wanted), f"{place}: {found!r} instead of {wanted!r}"
        for number, value in enumerate(wanted):
            same(found[number], value, f"{place}[{number}]")
    else:
        assert found == wanted, f"{place}: {found!r} instead of {wanted!r}"


class Host:
    """A node of a scenario: its device, its runtime, and what it did to the world outside."""

    def __init__(self, name: str, device: Device, story: "Story") -> None:
        self.name, self.device, self.story = name, device, story
        self.done: list[dict[str, Any]] = []
        self.stuck: set[str] = set()
        self.calls: dict[str, int] = {}
        self.is_dead = False
        self._machines: Machines | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    @property
    def machines(self) -> Machines:
        assert self._machines is not None, f"nothing runs on {self.name}"
        return self._machines

    @property
    def log(self) -> EventLog:
        return self.device.node.log

    async def open(self) -> None:
        """Start the runtime."""
        self.is_dead = False
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._live(ready))
        await asyncio.wait({ready, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    async def close(self) -> None:
        """Stop the runtime."""
        if self._task is not None:
            self._stop.set()
            await self._task
        self._task = self._machines = None

    async def crash(self) -> None:
        """End the runtime and the node at once."""
        self.is_dead = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._task = self._machines = None
        await self.device.crash()
        self.stuck.clear()

    async def _live(self, ready: asyncio.Future[None]) -> None:
        story = self.story
        runtime = self.device.node.machines(
            story.system,
            services=dict.fromkeys(story.services, self._service),
            effects=dict.fromkeys(story.effects, self._effect),
            orphaned=lambda call: self.done.append(
                {"orphaned": call.name, "cause": story.named(call.cause)}
            ),
            starts="start_order" not in story.scenario,
        )
        async with runtime:
            self._machines = runtime
            ready.set_result(None)
            await self._stop.wait()

    async def _effect(self, call: Call) -> None:
        done = {"name": call.name, "args": call.args, "cause": call.cause, "undoes": call.undoes}
        self.done.append(
            {name: self.story.named(one) for name, one in done.items() if one is not None}
        )
        if call.name in self.stuck:
            await asyncio.Event().wait()  # the power goes before anything is recorded

    async def _service(self, call: Call) -> Any:
        self.done.append({"start": call.name})
        outcome = self._outcome(call.name)
        try:
            if outcome.get("never"):
                await asyncio.Event().wait()
            await asyncio.sleep(outcome["after"])
        except asyncio.CancelledError as error:
            word = "aborted" if LIMIT in error.args else "cancelled"
            if not self.is_dead:
                self.done.append({word: call.name})
            raise
        if "error" in outcome:
            raise ServiceFailed(outcome["error"])
        return outcome["output"]

    def _outcome(self, name: str) -> Mapping[str, Any]:
        scripted = self.story.services[name]
        outcomes = scripted.get(self.name, scripted.get("*", [{"never": True}]))
        number = self.calls.get(name, 0)
        self.calls[name] = number + 1
        chosen: Mapping[str, Any] = outcomes[min(number, len(outcomes) - 1)]
        return chosen


class Story:
    """One scenario under way."""

    def __init__(self, scenario: Mapping[str, Any], system: System, world: World) -> None:
        self.scenario, self.system, self.world = scenario, system, world
        self.services: Mapping[str, Any] = scenario.get("services", {})
        self.effects = sorted({name for one in system.machines for name in _effects(one)})
        devices = sorted(world.nodes, key=lambda one: one.identity.node)
        names = sorted(scenario["nodes"])
        self.hosts = {name: Host(name, one, self) for name, one in zip(names, devices, strict=True)}
        self.groups: list[list[str]] = [names]
        self.keys: dict[str, str] = {}
        self.answers: list[dict[str, Any]] = []

    async def play(self) -> None:
        """Play all steps, then look at what is expected at the end."""
        async with self.world.started():
            for host in self.hosts.values():
                await host.open()
            try:
                await self.settle()
                for number, step in enumerate(self.scenario.get("steps", [])):
                    await self._play(number, step)
                    await self.settle()
                await self._check_end()
            finally:
                for host in self.hosts.values():
                    await host.close()

    async def _play(self, number: int, step: Mapping[str, Any]) -> None:
        self._prepare(number)
        player: Callable[[Mapping[str, Any]], Awaitable[None]] | None = getattr(
            self, f"_on_{step['op']}", None
        )
        assert player is not None, f"no such step: {step['op']}"
        try:
            await player(step)
        except AssertionError as error:
            raise AssertionError(f"step {number} ({step['op']}): {error}") from error

    def _prepare(self, number: int) -> None:
        """An effect whose record is to be lost hangs between the deed and the record until the crash."""
        for step in self.scenario["steps"][number:]:
            if step["op"] == "restart":
                break
            if step["op"] == "crash" and "lose_ledger_of" in step:
                self.hosts[step["node"]].stuck.add(step["lose_ledger_of"])

    # Steps.

    async def _on_publish(self, step: Mapping[str, Any]) -> None:
        host = self.hosts[step["node"]]
        await self._lift(host, step)
        logged = await host.machines.publish(
            step["to"], self.keyed(step["event"]), dedupe=step.get("dedupe")
        )
        self._know(step, host, logged.key)

    async def _on_child_send(self, step: Mapping[str, Any]) -> None:
        host = self.hosts[step["node"]]
        parent = await host.machines.view(step["parent"])
        address = dict(parent.children)[step["invoke"]]
        await self._on_publish({**step, "to": address})

    async def _on_send(self, step: Mapping[str, Any]) -> None:
        host = self.hosts[step["node"]]
        await self._lift(host, step)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = {"timeout": float(step["timeout"])} if "timeout" in step else {}
        answer = await host.machines.send(
            step["to"], self.keyed(step["event"]), waits=step.get("wait", True), **limit
        )
        if answer.event is not None:
            self._know(step, host, answer.event.key)
        if step.get("wait", True):
            self.answers.append(
                {
                    "accepted": answer.is_accepted,
                    "value": answer.value,
                    "settled": answer.is_settled,
                    "reason": answer.reason,
                    "elapsed": round(loop.time() - begun),
                }
            )

    async def _on_log_only(self, step: Mapping[str, Any]) -> None:
        host = self.hosts[step["node"]]
        await host.close()
        logged = await host.device.publish(tags_of(step["to"]), self.keyed(step["event"]))
        self._know(step, host, logged.key)

    async def _on_crash(self, step: Mapping[str, Any]) -> None:
        await self.hosts[step["node"]].crash()

    async def _on_restart(self, step: Mapping[str, Any]) -> None:
        host = self.hosts[step["node"]]
        await host.device.start()
        await host.open()

    async def _on_start(self, step: Mapping[str, Any]) -> None:
        await self.hosts[step["node"]].machines.start(step["machine"])

    async def _on_partition(self, step: Mapping[str, Any]) -> None:
        self._regroup(step["groups"])
        if "lamport" in step:
            for host in self.hosts.values():
                await self._fill(host, step["lamport"] * SCALE)

    async def _on_heal(self, step: Mapping[str, Any]) -> None:
        self._regroup([sorted(self.hosts)])
        await self.settle()
        if "lamport" in step:
            await self._fill(next(iter(self.hosts.values())), step["lamport"] * SCALE)

    async def _on_sync(self, step: Mapping[str, Any]) -> None:
        del step  # the settling behind each step does it

    async def _on_advance(self, step: Mapping[str, Any]) -> None:
        await asyncio.sleep(step["seconds"])

    async def _on_expect(self, step: Mapping[str, Any]) -> None:
        same(await self.view(self.hosts[step["node"]], step["of"]), step["want"], step["of"])

    # What is around the steps.

    def _regroup(self, groups: Sequence[Sequence[str]]) -> None:
        for join, sides in ((True, self.groups), (False, groups)):
            devices = [[self.hosts[name].device for name in side] for side in sides]
            if len(devices) > 1:
                (self.world.join if join else self.world.separate)(*devices)
        self.groups = [list(one) for one in groups]

    async def settle(self) -> None:
        """Let everything happen that a step leads to, as far as nodes can reach each other."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        await asyncio.sleep(PAUSE_S)
        while not all(self._are_equal(one) for one in self.groups):
            assert loop.time() < deadline, "the nodes do not come to hold the same"
            await asyncio.sleep(PAUSE_S)
        self.world.check()

    def _are_equal(self, group: Sequence[str]) -> bool:
        held = [self.hosts[name].log.offsets for name in group if self.hosts[name].device.running]
        return all(one == held[0] for one in held)

    async def _lift(self, host: Host, step: Mapping[str, Any]) -> None:
        if "lamport" in step:
            wanted = step["lamport"] * SCALE
            await self._fill(host, wanted - 1)
            assert host.log.lamport == wanted - 1, f"the clock is at {host.log.lamport} already"

    async def _fill(self, host: Host, lamport: int) -> None:
        while (missing := lamport - host.log.lamport) > 0:
            await host.log.publish([draft("filler", None)] * min(missing, FILLERS))

    def _know(self, step: Mapping[str, Any], host: Host, key: Any) -> None:
        lamport = step.get("lamport", key.lamport)
        self.keys[step.get("id", f"{lamport}/{host.name}")] = str(key)

    def keyed(self, value: Any) -> Any:
        """A value with keys instead of the scenario's names."""
        if isinstance(value, Mapping):
            return {name: self.keyed(one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.keyed(one) for one in value]
        if isinstance(value, str):
            return "|".join(self.keys.get(part, part) for part in value.split("|"))
        return value

    def named(self, value: Any) -> Any:
        """A value with the scenario's names instead of keys."""
        if isinstance(value, Mapping):
            return {name: self.named(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.named(one) for one in value]
        if isinstance(value, str):
            for name, key in self.keys.items():
                value = value.replace(key, name)
        return value

    async def view(self, host: Host, address: str) -> Mapping[str, Any]:
        """What a scenario can see of an instance at a node."""
        try:
            instance = await host.machines.view(self._found(host, address))
        except NotReady:
            return {"ready": False}
        passages = [one for one in host.machines.passages() if _is_of(one, instance)]
        dropped = [one for one in passages if one.kind == "dropped"]
        parent = None if instance.parent is None else instance.parent.address
        chart = self.system.parts.chart_of(instance)
        found = {
            "ready": True,
            "value": instance.value,
            "status": instance.status,
            "context": dict(instance.context),
            "work": {
                node.path: [one.id for one in sorted(instance.tokens) if one.state == node.path]
                for node in chart.cyclic
            },
            "dropped": [{"event": one.key, "reason": one.reason} for one in dropped],
            "timers": len(instance.timers),
            "in_flight": [one.invoke for one in instance.flights],
            "pending_errors": [f"error.invoke.{one.flight.invoke}" for one in instance.parked],
            "parent": parent,
        }
        shown: Mapping[str, Any] = self.named(found)
        return shown

    def _found(self, host: Host, address: str) -> str:
        """The address behind `child:P:inv` and `child-at:P:inv:KEY`."""
        kind, _, rest = address.partition(":")
        if kind not in ("child", "child-at"):
            return address
        parent, invoke, *entry = rest.split(":")
        world = host.machines.world
        if not entry:
            return dict(world.instances[parent].children)[invoke]
        key = self.keys.get(entry[0], entry[0])
        chart = self.system.newest(split(parent)[0])
        [(path, child)] = [
            (node.path, job.definition.persistent.machine)
            for node in chart.nodes.values()
            for job in node.jobs
            if job.id == invoke and job.definition.persistent is not None
        ]
        return child_address(child, "/".join(split(parent)), path, key, invoke)

    async def _check_end(self) -> None:
        expected = self.scenario.get("expect", {})
        if "answers" in expected:
            same(self.answers, expected["answers"], "answers")
        for part in (expected.get("nodes", {}), self.scenario.get("final_states", {})):
            for name, instances in part.items():
                for address, wanted in instances.items():
                    place = f"{name} {address}"
                    same(await self.view(self.hosts[name], address), wanted, place)
        for name, wanted in expected.get("effects", {}).items():
            same(self.hosts[name].done, wanted, f"effects of {name}")
        for name, wanted in expected.get("trace", {}).items():
            trace = [
                _traced(one)
                for one in self.hosts[name].machines.passages()
                if one.kind != "started"
            ]
            same(self.named(trace), wanted, f"trace of {name}")


def _is_of(passage: Passage, instance: Instance) -> bool:
    return (passage.machine, passage.instance) == (instance.machine, instance.name)


def _traced(passage: Passage) -> Mapping[str, Any]:
    return {
        "key": passage.key,
        "machine": passage.machine,
        "instance": passage.instance,
        "event": passage.event,
        "from": passage.before,
        "to": passage.after,
        "kind": passage.kind,
        "reason": passage.reason,
    }


def _effects(value: Any) -> set[str]:
    """The names of all effects in a machine, and of what undoes them."""
    if isinstance(value, Effect):
        return {name for name in (value.name, value.undo) if name is not None}
    if isinstance(value, Machine):
        return _effects((value.root, value.actions))
    if isinstance(value, tuple):
        return {name for one in value for name in _effects(one)}
    fields = getattr(value, "__dataclass_fields__", {})
    return {name for field in fields for name in _effects(getattr(value, field))}
