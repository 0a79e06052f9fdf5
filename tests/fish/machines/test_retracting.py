"""An event of a machine that is retracted never was: not for the machine, its timers, its effects, its children."""

import asyncio

from fish.machines import Call, Effect, System, after, child, final, invoke, machine, state, to
from simulations import Sim, swarm_test
from tests.fish.machines.test_runtime import crewed

SHOP = System(
    (
        machine(
            "sale",
            initial="open",
            states={
                "open": state(on={"BUY": to("sold", do=Effect("pay", undo="refund"))}),
                "sold": state(
                    invoke=[invoke("pack", done="gone"), child("robot", id="robot", name="r")],
                    after=[after(60, "late")],
                ),
                "gone": final(entry=Effect("ship")),
                "late": state(),
            },
        ),
        machine("robot", initial="a", states={"a": state(entry=Effect("drive", undo="return"))}),
    )
)
NAMES = ("pay", "refund", "ship", "drive", "return")


@swarm_test(nodes=2, seeds=2)
async def test_what_followed_from_a_retracted_event_is_undone_cancelled_or_reported(
    sim: Sim,
) -> None:
    async def pack(_: Call) -> None:
        await asyncio.Event().wait()

    async with crewed(sim, SHOP, services={"pack": pack}, names=NAMES) as [one, two]:
        answer = await one.machines.send("sale/1", {"type": "BUY"}, waits=False)
        assert answer.event is not None
        await sim.run(seconds=1)
        assert sorted(one.done) == ["drive", "pay"]
        await one.device.node.retract(answer.event.key, reason="a slip")
        await sim.run(minutes=2)
        await sim.converge()
        assert sorted(one.done) == ["drive", "pay", "refund for pay", "return for drive"]
        for crew in (one, two):
            assert (await crew.machines.view("sale/1")).value == "open"
            assert (await crew.machines.view("robot/r")).status == "stopped"
        again = await two.machines.send("sale/1", {"type": "BUY"}, waits=False)
        assert again.is_accepted
        await sim.run(seconds=1)
        assert sorted(two.done) == ["drive", "pay"], "a further event has further effects"
