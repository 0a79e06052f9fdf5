"""Roles of a protocol on real nodes: they act behind a cut, and agree when it is healed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fish import Pond
from fish.errors import FishStopped
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
from lamport.errors import InvalidInput, StoreFull
from simulations import Sim, swarm_test
from simulations.device import Device
from tests.fish.memory_log import MemoryLog
from tests.fish.ponds import story

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
ROLES = {role: Role.of(project(ORDER, HEARD, role)) for role in HEARD}


def played(device: Device, role: str) -> Player:
    return device.node.role(ROLES[role], TAG, name=role)


def state_of(role: str) -> Callable[[Device], Awaitable[str]]:
    async def asked(device: Device) -> str:
        return (await played(device, role).place()).state

    return asked


def test_the_protocol_is_strictly_well_formed() -> None:
    assert check_protocol(ORDER, HEARD, strict=True) == ()


@swarm_test(nodes=3, seeds=5)
async def test_of_two_decisions_behind_a_cut_one_counts_everywhere(sim: Sim) -> None:
    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await played(a, "robot").give("bid", {}, {"name": "a"})
        await played(c, "robot").give("bid", {}, {"name": "c"})
        await sim.run(seconds=sim.random.uniform(1, 60))
        await played(b, "gateway").give("select")
        await played(c, "gateway").give("cancel")
        with pytest.raises(CommandRefused, match="in state over, where nothing is"):
            await played(c, "gateway").give("select")
    await sim.converge()
    sim.assert_converged()
    states = [await sim.same(state_of(role)) for role in sorted(ROLES)]
    assert states in (["over", "over"], ["underway", "underway"])


@swarm_test(nodes=2, seeds=3)
async def test_a_command_is_offered_at_the_node_to_its_role_in_its_state_and_once(sim: Sim) -> None:
    a, b = sim.nodes
    robot, gateway = played(a, "robot"), played(b, "gateway")
    assert await robot.offered() == ("bid",)
    assert await gateway.offered() == ("select", "cancel")
    await gateway.give("select", {"of": 7}, {"name": "a"})
    assert await robot.offered() == ("bid",)  # it has not heard of it yet
    await sim.run(seconds=1)
    assert (await robot.offered(), await gateway.offered()) == (("deliver",), ())
    with pytest.raises(CommandRefused, match="bid is not offered in state underway"):
        await robot.give("bid")
    both = await asyncio.gather(
        robot.give("deliver"), robot.give("deliver"), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in both) == ["CommandRefused", "tuple"]


@swarm_test(nodes=1, seeds=3)
async def test_commands_that_are_given_at_once_are_given_one_after_the_other(sim: Sim) -> None:
    [a] = sim.nodes
    robot = played(a, "robot")
    given = await asyncio.gather(*(robot.give("bid", {}, {"name": name}) for name in "xyz"))
    lamports = sorted(event.lamport for events in given for event in events)
    assert lamports == [*range(lamports[0], lamports[0] + 6)]


@swarm_test(nodes=2, seeds=2)
async def test_nothing_is_offered_while_a_catch_up_is_under_way(sim: Sim) -> None:
    a, _ = sim.nodes
    robot = played(a, "robot")
    with a.pond.catching_up():
        assert await robot.offered() == ()
        with pytest.raises(CommandRefused, match="not-caught-up"):
            await robot.give("bid")
    assert await robot.offered() == ("bid",)


@swarm_test(nodes=2, seeds=2)
async def test_what_could_not_be_published_locks_nothing_and_bad_payloads_log_nothing(
    sim: Sim,
) -> None:
    a, _ = sim.nodes
    robot, before = played(a, "robot"), a.node.offsets
    with pytest.raises(InvalidInput):
        await robot.give("bid", {"price": float("nan")})
    with pytest.raises(CommandRefused, match="logs 2 events, not 3"):
        await robot.give("bid", {}, {}, {})
    sim.fill_disk(a)
    with pytest.raises(StoreFull):
        await robot.give("bid")
    sim.free_disk(a)
    assert (await robot.offered(), a.node.offsets) == (("bid",), before)
    bid, bidder = await robot.give("bid", {"type": "select", "price": 3})
    assert (bid.payload, bidder.payload) == ({"type": "bid", "price": 3}, {"type": "bidder"})


@swarm_test(nodes=2, seeds=2)
async def test_a_role_carries_data_and_is_followed(sim: Sim) -> None:
    a, b = sim.nodes
    reactions = {"bid": lambda bids, events: (*bids, events[0]["price"])}
    robot = Role.of(project(ORDER, HEARD, "robot"), payload=(), reactions=reactions)
    seen: list[tuple[str, Any]] = []
    seen_plainly: list[tuple[str, Any]] = []

    async def follow(player: Player, seen: list[tuple[str, Any]]) -> None:
        async for place in player.follow():
            seen.append((place.state, place.payload))  # noqa: PERF401 - what was seen before the end counts

    task = asyncio.create_task(follow(b.node.role(robot, TAG), seen))
    plain = asyncio.create_task(follow(played(b, "robot"), seen_plainly))
    for price in (3, 2):
        await a.node.role(robot, TAG).give("bid", {"price": price})
        await a.publish("order", {"type": "strange"})
        await sim.run(seconds=1)
    task.cancel()
    plain.cancel()
    assert seen_plainly == [("open", None)]  # a bid moves it nowhere, and it carries nothing
    assert [one for one in seen if one[0] == "open"] == [
        ("open", ()),
        ("open", (3,)),
        ("open", (3, 2)),
    ]


def test_a_reaction_that_raises_ends_the_role_and_says_so() -> None:
    def refuse(_payload: Any, _events: Any) -> Any:
        raise ValueError("no")

    role = Role.of(project(ORDER, HEARD, "robot"), reactions={"bid": refuse})

    async def act(log: MemoryLog, pond: Pond) -> None:
        robot = Player(log, pond, role, TAG)
        for _ in range(2):
            with pytest.raises(FishStopped, match="ValueError: no"):
                await robot.give("bid")

    story(act)
