"""Workflows that settle, children that live on, and robots that bid: `pytest examples/12_settling.py`."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from fish.machines import (
    Call,
    Effect,
    Machines,
    SendParent,
    System,
    assign,
    child,
    invoke,
    machine,
    state,
    to,
)
from simulations import Sim, swarm_test

# A workflow waits for its data for ninety seconds, and not a second longer.

FETCH = to("complete", do=assign(data="$event.output"))
asking = machine(
    "asking",
    initial="idle",
    context={"data": None},
    states={
        "idle": state(on={"RUN": "run"}),
        "run": state(invoke=invoke("request-data", done=FETCH, error="failed")),
        "complete": state(),
        "failed": state(on={"RETRY": "run"}),
    },
)

# The same with a child that takes its time: the parent settles at once, and goes on when the child tells it to.

patient = machine(
    "patient",
    initial="idle",
    states={
        "idle": state(on={"RUN": "run"}),
        "run": state(on={"PROCEED": "complete"}, invoke=child("helper", id="helper")),
        "complete": state(),
    },
)
helper = machine(
    "helper",
    initial="start",
    states={
        "start": state(on={"GO": to("told", do=SendParent({"type": "PROCEED"}))}),
        "told": state(),
    },
)

# A transport order: robots bid, the first selection in the log wins, and the loser's robot turns back.

DRIVE = Effect("drive", {"robot": "$event.robot"}, undo="turn back")
order = machine(
    "order",
    initial="auction",
    context={"bids": [], "robot": None},
    states={
        "auction": state(
            on={
                "BID": to(do=assign(bids={"$append": ["$ctx.bids", "$event.robot"]})),
                "SELECT": to(
                    "under way",
                    guard={"$in": ["$event.robot", "$ctx.bids"]},
                    do=[assign(robot="$event.robot"), DRIVE],
                ),
            }
        ),
        "under way": state(on={"ARRIVE": "done"}),
        "done": state(),
    },
)
system = System((asking, patient, helper, order))


async def started(sim: Sim, stack: AsyncExitStack, **services: Any) -> list[Machines]:
    """The machines on every node."""
    runs = {name.replace("_", "-"): run for name, run in services.items()}
    return [
        await stack.enter_async_context(one.node.machines(system, services=runs))
        for one in sim.nodes
    ]


@swarm_test(nodes=2, seeds=2)
async def test_a_send_settles_or_says_that_it_did_not(sim: Sim) -> None:
    """Data in time; then none within the limit: the error comes right before the next event."""
    delays = [5, 600, 5]

    async def request_data(call: Call) -> str:
        await asyncio.sleep(delays.pop(0))
        return call.address

    async with AsyncExitStack() as stack:
        one, two = await started(sim, stack, request_data=request_data)
        answer = await one.send("asking/a", {"type": "RUN"})
        assert (answer.value, answer.is_settled) == ("complete", True)
        answer = await one.send("asking/b", {"type": "RUN"})
        assert (answer.value, answer.is_settled) == ("run", False)
        await sim.converge()
        answer = await two.send("asking/b", {"type": "RETRY"})
        assert (answer.value, answer.is_settled) == ("complete", True)


@swarm_test(nodes=2, seeds=2)
async def test_a_child_is_told_on_another_node_and_the_parent_goes_on(sim: Sim) -> None:
    """The child is a machine of its own, addressed by whoever knows its name."""
    async with AsyncExitStack() as stack:
        one, two = await started(sim, stack)
        answer = await one.send("patient", {"type": "RUN"})
        assert (answer.value, answer.is_settled) == ("run", True)
        await sim.run(minutes=60)
        [(_, address)] = (await two.view("patient")).children
        await two.send(address, {"type": "GO"})
        await sim.run(seconds=1)
        assert (await one.view("patient")).value == "complete"


@swarm_test(nodes=3, seeds=4)
async def test_of_two_robots_that_were_selected_one_turns_back(sim: Sim) -> None:
    """Both sides of a cut select; when it heals all agree on the first, and the other's effect is undone."""
    driven: list[str] = []

    async def move(call: Call) -> None:
        driven.append(f"{call.name} {call.args['robot']}")

    async with AsyncExitStack() as stack:
        moves = {"drive": move, "turn back": move}
        crew = [
            await stack.enter_async_context(one.node.machines(system, effects=moves))
            for one in sim.nodes
        ]
        for name, machines in zip(("red", "green", "blue"), crew, strict=True):
            await machines.send("order", {"type": "BID", "robot": name})
        await sim.converge()
        with sim.partition({sim.nodes[0]}, set(sim.nodes[1:])):
            await crew[0].send("order", {"type": "SELECT", "robot": "red"})
            await crew[1].send("order", {"type": "SELECT", "robot": "blue"})
            await sim.run(seconds=1)
        await sim.converge()
        await sim.run(seconds=1)
        winner = (await crew[2].view("order")).context["robot"]
        loser = {"red": "blue", "blue": "red"}[winner]
        assert sorted(driven) == ["drive blue", "drive red", f"turn back {loser}"]
