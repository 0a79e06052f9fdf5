"""A transport order for which robots bid, on three nodes: `pytest examples/14_transport_order.py`.

A station asks for a transport, robots bid, the station selects one of them, that robot drives. The protocol is checked
before anything runs; each node plays its role, and is offered what the role may do there and then. Nobody is in
charge: a station has two terminals, and behind a cut both of them may select.
"""

import pytest

from fish.protocols import (
    CommandRefused,
    Player,
    Protocol,
    Role,
    Transition,
    check_protocol,
    project,
)
from lamport import Tag
from simulations import Sim, swarm_test
from simulations.device import Device

ORDER = Protocol(
    "nothing",
    (
        Transition("nothing", "request", "station", ("requested",), "auction"),
        Transition("auction", "bid", "robot", ("bid",), "auction"),
        Transition("auction", "select", "station", ("selected",), "waiting"),
        Transition("waiting", "pick up", "robot", ("picked up",), "under way"),
        Transition("under way", "deliver", "robot", ("delivered",), "done"),
    ),
)
TYPES = ["requested", "bid", "selected", "picked up", "delivered"]
HEARD = {"station": TYPES, "robot": TYPES}
assert check_protocol(ORDER, HEARD, strict=True) == ()

KNOWN = {
    "bid": lambda order, events: {**order, events[0]["robot"]: events[0]["minutes"]},
    "selected": lambda order, events: {**order, "chosen": events[0]["robot"]},
}
ROLES = {
    role: Role.of(project(ORDER, HEARD, role), payload={}, reactions=KNOWN)  # state, and bids
    for role in HEARD
}


def at(device: Device, role: str) -> Player:
    """A role of the order at a node."""
    return device.node.role(ROLES[role], Tag("order").with_id("17"), name=role)


async def best(station: Player) -> str:
    """The robot that would be there first."""
    bids: dict[str, int] = (await station.place()).payload
    return min(bids, key=lambda robot: (bids[robot], robot))


async def settle(sim: Sim) -> None:
    """Let news travel."""
    await sim.run(seconds=1)


@swarm_test(nodes=3, seeds=3)
async def test_the_robot_that_bid_best_delivers(sim: Sim) -> None:
    """Each is offered what it may do, and nothing else."""
    station, red, blue = (
        at(one, role) for one, role in zip(sim.nodes, ("station", "robot", "robot"), strict=True)
    )
    assert (await station.offered(), await red.offered()) == (("request",), ())
    await station.give("request", {"from": "press", "to": "store"})
    await settle(sim)
    assert (await station.offered(), await red.offered()) == (("select",), ("bid",))
    await red.give("bid", {"robot": "red", "minutes": 7})
    await blue.give("bid", {"robot": "blue", "minutes": 4})
    await settle(sim)
    await station.give("select", {"robot": await best(station)})
    await settle(sim)
    assert (await red.place()).payload["chosen"] == "blue"
    await blue.give("pick up")
    with pytest.raises(CommandRefused, match="bid is not offered in state under way"):
        await blue.give("bid", {"robot": "blue", "minutes": 1})
    await blue.give("deliver")
    await sim.converge()
    assert {(await one.place()).state for one in (station, red, blue)} == {"done"}


@swarm_test(nodes=3, seeds=5)
async def test_of_two_selections_behind_a_cut_one_counts_for_all(sim: Sim) -> None:
    """A robot that had set out for nothing learns so when the cut heals, and turns back."""
    terminal, other, robot = sim.nodes
    await at(terminal, "station").give("request")
    await settle(sim)
    for name in ("red", "blue"):
        await at(robot, "robot").give("bid", {"robot": name, "minutes": 5})
    await settle(sim)
    with sim.partition({terminal}, {other, robot}):
        await at(terminal, "station").give("select", {"robot": "red"})
        await at(other, "station").give("select", {"robot": "blue"})
        await settle(sim)
        assert (await at(robot, "robot").place()).payload["chosen"] == "blue"
    await sim.converge()
    orders = [(await at(one, "robot").place()) for one in sim.nodes]
    assert {one.state for one in orders} == {"waiting"}
    assert len({one.payload["chosen"] for one in orders}) == 1
