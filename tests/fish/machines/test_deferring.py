"""Machines that take one event after the other: what comes while a service is in flight waits, everywhere."""

import asyncio
from typing import Any

import pytest

from fish.machines import Call, System, World, assign, invoke, load_machine, machine, state, to
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, key, reasons
from tests.fish.machines.crews import Crew

COUNT = to(do=assign(n={"$add": ["$ctx.n", 1]}))
JOB = System(
    (
        machine(
            "job",
            initial="idle",
            context={"n": 0},
            defer_while_busy=True,
            states={
                "idle": state(on={"RUN": "run", "COUNT": COUNT}),
                "run": state(
                    on={"LEAVE": "idle"}, invoke=invoke("get", done="idle", error="failed")
                ),
                "failed": state(on={"RUN": "run", "COUNT": COUNT}),
            },
        ),
    )
)
FLIGHT = f"job/x|run|{key(1)}|get"


def told(*events: tuple[int, str, dict[str, Any]]) -> World:
    return fold(JOB, *((at, author, "job/x", event) for at, author, event in events))


def test_an_event_waits_for_the_services_and_is_taken_right_behind_them() -> None:
    busy = told((1, "A", {"type": "RUN"}), (2, "B", {"type": "COUNT"}), (3, "B", {"type": "LEAVE"}))
    waiting = busy.instances["job/x"]
    assert (waiting.value, waiting.context, len(waiting.deferred)) == ("run", {"n": 0}, 2)
    assert [one.kind for one in busy.passages][-2:] == ["deferred", "deferred"]
    over = told(
        (1, "A", {"type": "RUN"}),
        (2, "B", {"type": "COUNT"}),
        (3, "B", {"type": "LEAVE"}),
        (4, "A", {"type": "$done", "inv": FLIGHT}),
    )
    after = over.instances["job/x"]
    assert (after.value, after.context, after.deferred) == ("idle", {"n": 1}, ())
    assert reasons(over) == ["not-enabled"]  # LEAVE, in idle
    assert over.passages[-2].key == key(2, "B")


def test_what_waits_is_held_up_again_by_what_goes_before_it() -> None:
    world = told(
        (1, "A", {"type": "RUN"}),
        (2, "B", {"type": "RUN"}),
        (3, "B", {"type": "COUNT"}),
        (4, "A", {"type": "$done", "inv": FLIGHT}),
    )
    instance = world.instances["job/x"]
    assert ([one.entry for one in instance.flights], len(instance.deferred)) == ([key(2, "B")], 1)


def test_an_error_that_is_parked_comes_before_what_has_waited() -> None:
    abort = {"type": "$abort", "inv": FLIGHT, "reason": "timeout", "deliver": "next_event"}
    world = told((1, "A", {"type": "RUN"}), (2, "B", {"type": "COUNT"}), (3, "A", abort))
    instance = world.instances["job/x"]
    assert (instance.value, instance.context, instance.parked) == ("failed", {"n": 1}, ())


def test_what_waited_for_a_machine_that_was_stopped_is_dropped() -> None:
    world = told(
        (1, "A", {"type": "RUN"}), (2, "B", {"type": "COUNT"}), (3, "A", {"type": "$stop"})
    )
    assert (reasons(world), world.instances["job/x"].deferred) == (["stopped"], ())


def test_so_many_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fish.machines.folding.KEPT_DEFERRED", 2)
    world = told(
        (1, "A", {"type": "RUN"}), *((number, "B", {"type": "COUNT"}) for number in range(2, 6))
    )
    assert reasons(world) == ["too-many-deferred"] * 2


def test_it_is_written_in_json_too() -> None:
    data = {"id": "m", "initial": "a", "states": {"a": {}}, "defer_while_busy": True}
    assert load_machine(data).defer_while_busy


@swarm_test(nodes=2, seeds=4)
async def test_a_send_from_elsewhere_waits_its_turn(sim: Sim) -> None:
    async def get(_: Call) -> None:
        await asyncio.sleep(30)

    crews = [await Crew(one, JOB, services={"get": get}).open() for one in sim.nodes]
    a, b = crews
    await a.machines.send("job", {"type": "RUN"}, waits=False)
    await sim.run(seconds=1)
    began = asyncio.get_running_loop().time()
    answer = await b.machines.send("job", {"type": "COUNT"})
    assert asyncio.get_running_loop().time() - began > 25
    assert (answer.is_accepted, answer.value, answer.instance.context) == (True, "idle", {"n": 1})
    await sim.converge()
    assert (await a.machines.view("job")).context == {"n": 1}
    for crew in crews:
        await crew.close()
