"""Names of instances that no event can bear are refused wherever they come from."""

from typing import Any

import pytest

from fish.machines import (
    Effect,
    Emit,
    Route,
    SendTo,
    Spawn,
    System,
    after,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.definition import Action
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, one, reasons
from tests.fish.machines.crews import Crew

LONG = "y" * 300

SAID: dict[str, Action] = {
    "route": Emit({"type": "E", "name": "$event.name"}),
    "spawn": Spawn("kid", "ref", name="$event.name"),
    "send": SendTo({"$add": ["work/", "$event.name"]}, {"type": "GO"}),
}

HOUSE = System(
    (
        machine(
            "desk",
            initial="open",
            states={"open": state(on={way: to(do=said) for way, said in SAID.items()})},
        ),
        machine(
            "work",
            initial="on",
            states={
                "on": state(
                    on={"GO": to()},
                    invoke=invoke("dig", done="off"),
                    entry=Effect("bell"),
                    after=[after(5, "off")],
                ),
                "off": state(),
            },
        ),
        machine("kid", initial="a", states={"a": state(invoke=invoke("dig"))}),
    ),
    (Route("desk", "E", "work", "GO", to_instance="$event.name"),),
)


@pytest.mark.parametrize("way", ["route", "spawn"])
@pytest.mark.parametrize("name", [LONG, ["x"], {"x": 1}, True, ""])
def test_an_instance_that_no_event_could_name_is_never_begun(way: str, name: Any) -> None:
    world = fold(HOUSE, (1, "A", "desk", {"type": way, "name": name}))
    assert list(world.instances) == ["desk/desk"]
    whys = [passage.reason for passage in world.passages if passage.reason]
    assert whys in (["route:error:bad-instance"], ["route:no-instance"], ["error:bad-instance"])


def test_a_message_to_an_address_that_no_event_could_name_rolls_the_step_back() -> None:
    world = fold(HOUSE, (1, "A", "desk", {"type": "send", "name": LONG}))
    assert reasons(world) == ["error:bad-instance"]


def test_a_name_in_another_normal_form_is_the_same_name() -> None:
    instance = one(HOUSE, "desk/desk", {"type": "spawn", "name": "a\u0308"})
    assert instance.context["ref"] == "kid/ä"


@swarm_test(nodes=1, seeds=1)
async def test_a_name_out_of_an_event_cannot_bring_the_machines_down(sim: Sim) -> None:
    async def dig(_: object) -> None:
        return None

    crew = await Crew(sim.nodes[0], HOUSE, services={"dig": dig}, names=("bell",)).open()
    for name in (LONG, "a\u0308", "\0", " "):
        await crew.machines.send("desk", {"type": "route", "name": name})
    await sim.run(seconds=20)
    world = crew.machines.world
    assert {
        one.address: one.value for one in world.instances.values() if one.machine == "work"
    } == {
        "work/ä": "off",
        "work/\0": "off",
        "work/ ": "off",
    }
    assert crew.done == ["bell"] * 3
    assert (await crew.machines.view("work/a\u0308")).value == "off"
    await crew.close()
