"""Who does what is to be done, where the node that logged the event behind it is gone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fish.machines import Call, Effect, System, after, invoke, machine, state, tags_of, to
from lamport.errors import InvalidInput
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, one, reasons
from tests.fish.machines.crews import Crew

JOB = System(
    (
        machine(
            "job",
            initial="idle",
            states={
                "idle": state(on={"RUN": "run", "PAY": to(do=Effect("pay", undo="refund"))}),
                "run": state(
                    invoke=invoke("get", done="done"), after=[after(60, "late")], on={"X": "idle"}
                ),
                "done": state(),
                "late": state(),
            },
        ),
    )
)


@asynccontextmanager
async def crewed(sim: Sim, **more: Any) -> AsyncIterator[list[Crew]]:
    crews = [
        await Crew(device, JOB, names=("pay", "refund"), **more).open() for device in sim.nodes
    ]
    try:
        yield crews
    finally:
        for crew in crews:
            await crew.close()


@swarm_test(nodes=2, seeds=3)
async def test_a_service_goes_on_at_the_node_that_has_claimed_it(sim: Sim) -> None:
    keys: list[str] = []

    async def get(call: Call) -> None:
        keys.append(call.key)
        if len(keys) == 1:
            await asyncio.Event().wait()

    async with crewed(sim, services={"get": get}) as [gone, other]:
        await gone.machines.send("job", {"type": "RUN"}, waits=False)
        await sim.run(seconds=1)
        await gone.crash()
        await other.machines.claim("job")
        await sim.run(seconds=1)
        assert (await other.machines.view("job")).value == "done"
        assert len(keys) == 2
        assert keys[0] == keys[1]


@swarm_test(nodes=2, seeds=3)
async def test_a_timer_is_rung_by_the_node_that_has_claimed_it(sim: Sim) -> None:
    async def get(_: Call) -> None:
        await asyncio.Event().wait()

    async with crewed(sim, services={"get": get}) as [gone, other]:
        await gone.machines.send("job", {"type": "RUN"}, waits=False)
        await sim.run(seconds=1)
        await gone.crash()
        await other.machines.claim("job")
        await sim.run(seconds=65)
        assert (await other.machines.view("job")).value == "late"


@swarm_test(nodes=2, seeds=3)
async def test_an_effect_that_two_have_done_is_undone_by_one_of_them(sim: Sim) -> None:
    async with crewed(sim) as [a, b]:
        await a.machines.send("job", {"type": "RUN"}, waits=False)
        await a.machines.send("job", {"type": "X"}, waits=False)
        await sim.converge()
        await a.close()  # the runtime is off, the node is not: the effect is owed
        await a.device.publish(tags_of("job"), {"type": "PAY"})
        await sim.converge()
        with sim.partition({a.device}, {b.device}):
            await b.machines.claim("job")
            await sim.run(seconds=1)
            await a.open()
            await sim.run(seconds=1)
            assert (a.done, b.done) == (["pay"], ["pay"])
            assert a.keys == b.keys
        await sim.converge()
        await sim.run(seconds=2)
        assert sorted([a.done, b.done]) == [["pay"], ["pay", "refund for pay"]]


def test_the_last_claim_counts_and_an_empty_one_gives_it_back() -> None:
    def claim(node: Any) -> dict[str, Any]:
        return {"type": "$owner", "node": node}

    pays = [(number, "A", "job/x", {"type": "PAY"}) for number in (1, 3, 6, 8)]
    claims = [
        (number, "B", "job/x", claim(node))
        for number, node in ((2, "n"), (4, 7), (5, "m"), (7, ""))
    ]
    world = fold(JOB, *pays, *claims)
    owners = [intent.owner for intent in world.instances["job/x"].intents]
    assert owners[:3] == [
        "m",
        "m",
        "m",
    ]  # nobody has done them: they went with the claim, and stay there
    assert owners[3] == one(JOB, "job/x", "PAY").intents[0].owner
    assert reasons(world) == ["bad-payload"]


@swarm_test(nodes=2, seeds=2)
async def test_what_is_under_way_stays_with_its_owner_when_a_claim_is_given_back(sim: Sim) -> None:
    async def get(_: Call) -> None:
        await asyncio.Event().wait()

    async with crewed(sim, services={"get": get}) as [first, other]:
        await first.machines.send("job", {"type": "RUN"}, waits=False)
        await sim.converge()
        with pytest.raises(InvalidInput, match="node id"):
            await other.machines.claim("job", "b")
        await other.machines.claim("job")
        await other.machines.claim("job", "")
        await sim.run(seconds=65)
        assert (await first.machines.view("job")).value == "late"
