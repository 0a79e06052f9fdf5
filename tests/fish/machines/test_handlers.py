"""What does the work: functions that are no coroutines, that cancel themselves, or that nobody has."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from fish.machines import Call, Effect, Passage, System, invoke, machine, state, to
from shoal import Address, enrol_device, make_swarm, open_node
from simulations import Sim, swarm_test
from tests.fish.machines.crews import Crew
from tests.fish.machines.test_runtime import crewed

WORK = System(
    (
        machine(
            "work",
            initial="idle",
            states={
                "idle": state(on={"GO": to("busy", do=Effect("ring", undo="hush")), "DIG": "busy"}),
                "busy": state(invoke=invoke("dig", done="done", error="failed")),
                "done": state(),
                "failed": state(on={"GO": "busy"}),
            },
        ),
    )
)


@swarm_test(nodes=1, seeds=1)
async def test_plain_functions_serve_as_well(sim: Sim) -> None:
    rung: list[str] = []

    def dig(call: Call) -> str:
        return call.name

    def ring(call: Call) -> None:
        rung.append(call.key)

    [device] = sim.nodes
    services: Any = {"dig": dig}
    effects: Any = {"ring": ring, "hush": ring}
    async with device.node.machines(WORK, services=services, effects=effects) as machines:
        assert (await machines.send("work", {"type": "GO"})).value == "done"
        await sim.run(seconds=100)
        assert len(rung) == 1, "what was done is done once"


async def gone(_: Call) -> None:
    raise asyncio.CancelledError


@swarm_test(nodes=1, seeds=1)
async def test_a_service_that_cancels_itself_has_failed(sim: Sim) -> None:
    async with crewed(sim, WORK, services={"dig": gone}) as [crew]:
        assert (await crew.machines.send("work", {"type": "DIG"})).value == "failed"


@swarm_test(nodes=1, seeds=1)
async def test_an_effect_that_cancels_itself_is_tried_again(sim: Sim) -> None:
    tries: list[int] = []

    async def ring(call: Call) -> None:
        tries.append(call.attempt)
        if len(tries) < 3:
            await gone(call)

    [device] = sim.nodes
    async with device.node.machines(WORK, effects={"ring": ring}) as machines:
        await machines.send("work", {"type": "GO"})
        await sim.run(seconds=10)
        assert len(tries) == 3
        [entry] = (await machines.view("work")).ledger
        assert entry.state == "done"


@pytest.mark.parametrize(
    ("services", "names", "told"),
    [
        ((), (), ["dig", "hush", "ring"]),
        (("dig",), ("ring",), ["hush"]),
        (("dig",), ("ring", "hush"), []),
    ],
)
def test_what_nobody_here_can_do_is_told_when_the_machines_start(
    services: Any, names: Any, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        crew = Crew(sim.nodes[0], WORK, services=dict.fromkeys(services, gone), names=names)
        await crew.open()
        await crew.close()

    with caplog.at_level(logging.WARNING, logger="shoal.machines"):
        story()
    words = [one.getMessage() for one in caplog.records if "nobody here" in one.getMessage()]
    assert (
        sorted({name for name in ("dig", "ring", "hush") if repr(name) in " ".join(words)}) == told
    )


@swarm_test(nodes=1, seeds=2)
async def test_a_program_that_ends_at_once_waits_until_it_owes_nothing(sim: Sim) -> None:
    done: list[str] = []

    async def slow(call: Call) -> None:
        await asyncio.sleep(3)
        done.append(call.name)

    async def broken(_: Call) -> None:
        raise ValueError

    [device] = sim.nodes
    services, effects = {"dig": slow}, {"ring": slow, "hush": slow}
    async with device.node.machines(WORK, services=services, effects=effects) as machines:
        await machines.idle()
        await machines.send("work/1", {"type": "GO"}, waits=False)
        await machines.send("work/2", {"type": "GO"}, waits=False)
        await machines.idle()
        assert sorted(done) == ["dig", "dig", "ring", "ring"]
        assert [(await machines.view(f"work/{n}")).value for n in (1, 2)] == ["done", "done"]
    failing = {"ring": broken, "hush": broken}
    async with device.node.machines(WORK, services=services, effects=failing) as machines:
        await machines.send("work/3", {"type": "GO"})
        await machines.idle()  # what fails again and again is not waited for


@swarm_test(nodes=1, seeds=1)
async def test_who_is_told_of_an_orphan_and_raises_holds_nothing_up(sim: Sim) -> None:
    def orphaned(_: Call) -> None:
        raise ValueError("no")

    def drill(call: Call) -> None:
        done.append(call.name)

    done: list[str] = []
    states = {"idle": state(on={"GO": to("idle", do=Effect("drill"))})}
    system = System((machine("hole", initial="idle", states=states),))
    [device] = sim.nodes
    more: Any = {"effects": {"drill": drill}, "orphaned": orphaned}
    async with device.node.machines(system, **more) as machines:
        slip = await machines.send("hole", {"type": "GO"})
        await machines.idle()
        assert slip.event is not None
        await device.node.retract(slip.event.key, reason="a slip")
        await sim.run(seconds=1)
        [entry] = machines.world.instances["hole/hole"].ledger
        assert entry.state == "orphaned", "it is written down all the same"
        await machines.send("hole", {"type": "GO"})
        await machines.idle()
        assert done == ["drill", "drill"]


@swarm_test(nodes=1, seeds=1)
async def test_gates_are_for_senders_and_not_for_who_takes_an_instance_over(sim: Sim) -> None:
    [device] = sim.nodes
    gates: Any = {"may_look": lambda _instance, _event, sender: sender.startswith("boss")}
    async with device.node.machines(WORK, services={"dig": forever}, **gates) as machines:
        await machines.send("work", {"type": "DIG"}, waits=False)
        await machines.claim("work")
        await machines.abandon("work")
        assert (await machines.view("work", "boss")).value == "failed"


@swarm_test(nodes=1, seeds=1)
async def test_hooks_are_told_that_what_the_log_held_at_the_start_is_not_live(sim: Sim) -> None:
    told: list[tuple[str, bool]] = []

    def hook(passage: Passage, is_live: bool) -> None:  # noqa: FBT001 - the shape of a hook
        told.append((passage.event, is_live))

    [device] = sim.nodes
    async with device.node.machines(WORK, services={"dig": forever}) as machines:
        await machines.send("work", {"type": "DIG"}, waits=False)
    services: Any = {"dig": forever}
    async with device.node.machines(WORK, services=services, hooks=(hook,)) as machines:
        await machines.send("work", {"type": "GO"}, waits=False)
        await sim.run(seconds=1)
    assert [one for one in told if one[0] != "$init"] == [
        ("DIG", False),
        ("error.invoke.dig", True),  # what the start itself has led to
        ("GO", True),
    ]


def test_services_end_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), list[str]()
    addresses = [f"work/{number}" for number in range(12)]

    async def dig(call: Call) -> None:
        if call.address == addresses[-1]:
            begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(call.address)

    async def story() -> None:
        enrol_device(tmp_path, make_swarm()[0])
        async with (
            open_node(tmp_path, listen=Address("127.0.0.1", 0), mdns=False) as node,
            node.machines(WORK, services={"dig": dig}) as machines,
        ):
            for address in addresses:
                await machines.send(address, {"type": "DIG"}, waits=False)
            await begun.wait()

    asyncio.run(story())
    assert ended == addresses


@swarm_test(nodes=1, seeds=1)
async def test_who_waits_until_nothing_is_owed_is_let_go_when_the_machines_end(sim: Sim) -> None:
    [device] = sim.nodes
    effects: Any = {"ring": forever, "hush": forever}
    async with device.node.machines(WORK, services={"dig": forever}, effects=effects) as machines:
        await machines.send("work", {"type": "GO"}, waits=False)
        waiting = asyncio.create_task(machines.idle())
        await sim.run(seconds=1)
    async with asyncio.timeout(1):
        await waiting


async def forever(_: Call) -> None:
    await asyncio.Event().wait()
