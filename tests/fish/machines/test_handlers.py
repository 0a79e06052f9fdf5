"""What does the work: functions that are no coroutines, that cancel themselves, or that nobody has."""

import asyncio
import logging
from typing import Any

import pytest

from fish.machines import Call, Effect, System, invoke, machine, state, to
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
