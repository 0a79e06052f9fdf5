"""Roles of a protocol on real nodes: they act behind a cut, and agree when it is healed."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fish.protocols import (
    CommandRefused,
    Protocol,
    RoleMachine,
    Transition,
    check_protocol,
    project,
    role_fish,
)
from lamport import Tag, Tags
from simulations import Sim, swarm_test
from simulations.device import Device

ORDER = Protocol(
    "open",
    (
        Transition("open", "bid", "robot", ("bid", "bidder"), "open"),
        Transition("open", "select", "gateway", ("selected", "winner"), "underway"),
        Transition("open", "cancel", "gateway", ("cancelled",), "over"),
        Transition("underway", "deliver", "robot", ("delivered",), "over"),
    ),
)
TYPES = ["bid", "bidder", "selected", "winner", "cancelled", "delivered"]
HEARD = {"robot": TYPES, "gateway": TYPES}
TAG = Tag("order")
MACHINES = {role: RoleMachine(project(ORDER, HEARD, role)) for role in HEARD}
FISH = {role: role_fish(role, TAG, one.machine) for role, one in MACHINES.items()}

Enqueue = Callable[[Tags, Any], None]


def give(role: str, command: str) -> Callable[[str, Enqueue], None]:
    """An effect that gives a command where it is offered."""

    def effect(state: str, enqueue: Enqueue) -> None:
        for event_type in MACHINES[role].command(state, command, caught_up=True).log:
            enqueue(TAG, {"type": event_type})

    return effect


def state_of(role: str) -> Callable[[Device], Awaitable[str]]:
    return lambda device: device.pond.current_state(FISH[role])


def test_the_protocol_is_strictly_well_formed() -> None:
    assert check_protocol(ORDER, HEARD, strict=True) == ()


@swarm_test(nodes=3, seeds=5)
async def test_of_two_decisions_behind_a_cut_one_counts_everywhere(sim: Sim) -> None:
    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.pond.run(FISH["robot"], give("robot", "bid"))
        await c.pond.run(FISH["robot"], give("robot", "bid"))
        await sim.run(seconds=sim.random.uniform(1, 60))
        await b.pond.run(FISH["gateway"], give("gateway", "select"))
        await c.pond.run(FISH["gateway"], give("gateway", "cancel"))
        with pytest.raises(CommandRefused, match="in state over, where nothing is"):
            await c.pond.run(FISH["gateway"], give("gateway", "select"))
    await sim.converge()
    sim.assert_converged()
    states = [await sim.same(state_of(role)) for role in sorted(FISH)]
    assert states in (["over", "over"], ["underway", "underway"])
