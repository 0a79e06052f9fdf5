"""Everything at once: services, timers, children and routes under cuts, crashes at any moment and clocks that jump."""

import asyncio
from collections import Counter
from typing import Any

from fish.machines import (
    Call,
    Effect,
    Emit,
    Route,
    SendParent,
    System,
    after,
    assign,
    child,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from simulations import Sim, swarm_test
from tests.fish.machines.crews import Crew

ORDER = machine(
    "order",
    initial="open",
    context={"tries": 0},
    states={
        "open": state(on={"PICK": to("picking", do=assign(tries={"$add": ["$ctx.tries", 1]}))}),
        "picking": state(
            invoke=[invoke("pick", done="packing", error="open"), child("robot", id="robot")],
            on={"CANCEL": "open", "HELPED": to(do=Effect("bell", undo="hush"))},
            after=[after(40, "open")],
        ),
        "packing": state(
            entry=[Effect("light", undo="dark"), Emit({"type": "PACKED", "order": "$meta.key"})],
            after=[after(7, "shipped")],
            on={"BACK": "open"},
        ),
        "shipped": final(),
    },
)
ROBOT = machine(
    "robot",
    initial="driving",
    states={
        "driving": state(
            invoke=invoke("drive", done="there", error="lost"), after=[after(20, "lost")]
        ),
        "there": final(entry=SendParent({"type": "HELPED"})),
        "lost": final(),
    },
)
DOCK = machine(
    "dock",
    initial="free",
    states={
        "free": state(on={"TRUCK": "loading"}),
        "loading": cyclic(closes="ids", on={"LEAVE": "free"}, after=[after(30, "free")]),
    },
)
YARD = System((ORDER, ROBOT, DOCK), (Route("order", "PACKED", "dock", "TRUCK"),))
NAMES = ("light", "dark", "bell", "hush")
TYPES = {"order": ("PICK", "PICK", "CANCEL", "BACK", "HUH"), "dock": ("LEAVE", "TRUCK", "LEAVE")}


async def _busy(call: Call) -> str:
    await asyncio.sleep(3 if call.name == "drive" else 5)
    if call.key.encode()[-8] % 5 == 0:
        raise ValueError("no")
    return call.address


async def _acts(sim: Sim, crews: list[Crew], times: int, *, takes_over: bool) -> None:
    for _ in range(times):
        crew = sim.random.choice([one for one in crews if one.running is not None])
        address = sim.random.choice(["order/1", "order/2", "dock"])
        type_ = sim.random.choice(TYPES[address.partition("/")[0]])
        patience = sim.random.choice([0, 2, 90])
        send = crew.machines.send(address, {"type": type_}, timeout=patience, waits=False)
        if sim.random.random() < 0.2:
            await asyncio.gather(asyncio.create_task(_swallowed(send)), _crashed(sim, crew))
        else:
            await send
        if takes_over and sim.random.random() < 0.2:
            await _taken_over(sim, sim.random.choice([one for one in crews if one.running]))
        if sim.random.random() < 0.2:
            sim.clock(crew.device).jump(seconds=sim.random.choice([-3600, 3600, 30, -30]))
        await sim.run(seconds=sim.random.choice([0, 0.001, 0.01, 0.5, 3, 9]))


async def _taken_over(sim: Sim, crew: Crew) -> None:
    """Somebody thinks that an owner is gone, and is wrong."""
    address = sim.random.choice(["order/1", "order/2", *crew.machines.world.instances])
    if sim.random.random() < 0.4:
        await crew.machines.abandon(address)
    else:
        await crew.machines.claim(address, sim.random.choice([None, ""]))


async def _swallowed(send: Any) -> None:
    """A command that its own node does not survive."""
    try:
        await send
    except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever the crash makes of it
        return


async def _crashed(sim: Sim, crew: Crew) -> None:
    await sim.run(seconds=sim.random.choice([0, 0.0001, 0.002, 0.02]))
    await crew.crash()
    await sim.run(seconds=sim.random.choice([0, 0.3, 4]))
    await crew.restart()


@swarm_test(nodes=3, seeds=4, minutes=60)
async def test_whatever_falls_all_is_settled_in_the_end_and_no_effect_is_lost(sim: Sim) -> None:
    runs = await _played(sim, takes_over=False)
    assert max(runs.values()) == 1, "a service was begun twice"


@swarm_test(nodes=3, seeds=4, minutes=60)
async def test_so_it_is_where_nodes_take_over_from_each_other(sim: Sim) -> None:
    await _played(sim, takes_over=True)


async def _played(sim: Sim, *, takes_over: bool) -> Counter[str]:
    """All of it, and what must hold behind it; returns how often each service was begun."""
    runs: Counter[str] = Counter()

    async def busy(call: Call) -> str:
        runs[call.key] += 1
        return await _busy(call)

    services = {"pick": busy, "drive": busy}
    crews = [await Crew(one, YARD, services=services, names=NAMES).open() for one in sim.nodes]
    a, b, c = sim.nodes
    await _acts(sim, crews, 10, takes_over=takes_over)
    with sim.partition({a}, {b, c}):
        await _acts(sim, crews, 15, takes_over=takes_over)
    await sim.converge()
    await _acts(sim, crews, 3, takes_over=takes_over)
    await sim.run(minutes=5)  # no clock that was put back holds a timer up any longer
    await sim.converge()
    worlds = [crew.machines.world for crew in crews]
    assert worlds[0].instances == worlds[1].instances == worlds[2].instances
    for instance in worlds[0].instances.values():
        assert not instance.flights, "a service is in flight though all owners live"
        assert not instance.timers, "a timer has not rung"
        done = {one.id for one in instance.ledger if one.state == "done"}
        implied = {one.id for one in instance.intents}
        assert implied <= done, "an effect was not done"
        assert all(one.id in implied or one.state != "done" for one in instance.ledger)
    for crew in crews:
        await crew.close()
    return runs
