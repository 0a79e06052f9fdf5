"""What goes on when an instance goes over to a newer definition: timers, services, what is delayed, and the end."""

from typing import Any

import pytest

from fish.machines import (
    Instance,
    Machine,
    Raise,
    System,
    after,
    assign,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, one, reasons
from tests.fish.machines.crews import Crew

PING = {"PING": to(do=Raise({"type": "LATER"}, delay=60))}
FIRST = machine(
    "m",
    initial="wait",
    context={"n": 0},
    states={"wait": state(on={**PING, "GO": "late"}, after=[after(30, "late")]), "late": state()},
)


def second(states: Any, to_: str = "wait", context: Any = None, **more: Any) -> Machine:
    def migrate(_: str, old: dict[str, Any]) -> Any:
        return to_, old if context is None else context

    return machine(
        "m", initial="wait", states=states, version=2, migrate=migrate, context={"n": 0}, **more
    )


def migrated(newer: Machine) -> Instance:
    return one(System((FIRST, newer)), "m/x", "PING", {"type": "$migrate", "version": 2})


def test_timers_and_what_is_delayed_go_on_and_new_ones_begin() -> None:
    states = {
        "wait": state(after=[after(30, "late"), after(90, "gone")]),
        "late": state(),
        "gone": state(),
    }
    known, delayed, fresh = migrated(second(states)).timers
    assert (known.delay, known.number) == (30, 0)
    assert (delayed.event, delayed.delay) == ({"type": "LATER"}, 60)
    assert (fresh.delay, fresh.number) == (90, 1)


def test_a_timer_that_the_newer_definition_has_no_more_ends() -> None:
    [delayed] = migrated(second({"wait": state(on={"GO": "late"}), "late": state()})).timers
    assert delayed.event == {"type": "LATER"}


def test_a_timer_that_has_rung_does_not_begin_again() -> None:
    stays = [after(30, "late", guard="$ctx.n")]
    old = machine(
        "m", initial="a", context={"n": 0}, states={"a": state(after=stays), "late": state()}
    )
    new = machine(
        "m",
        initial="a",
        context={"n": 0},
        states={"a": state(after=stays), "late": state()},
        version=2,
    )
    rung = one(System((old, new)), "m/x", "NOP").timers[0].id
    after_it = one(
        System((old, new)),
        "m/x",
        "NOP",
        {"type": "$after", "timer": rung},
        {"type": "$migrate", "version": 2},
    )
    assert (after_it.version, after_it.timers) == (2, ())


def test_a_state_that_is_entered_begins_what_belongs_to_it_but_acts_not() -> None:
    fresh = state(invoke=invoke("look"), after=[after(5, "wait")], entry=assign(n=7))
    instance = migrated(second({"wait": state(on={"GO": "fresh"}), "fresh": fresh}, to_="fresh"))
    assert instance.value == "fresh"
    assert [flight.invoke for flight in instance.flights] == ["look"]
    assert [timer.delay for timer in instance.timers] == [60, 5]
    assert instance.context == {"n": 0}


def test_it_may_lead_to_the_end_or_on_without_an_event() -> None:
    states = {"wait": state(on={"GO": "over"}), "over": final(output="$ctx.n")}
    ended = migrated(second(states, to_="over", context={"n": 3}))
    assert (ended.value, ended.status, ended.output, ended.timers) == ("over", "done", 3, ())
    states = {"wait": state(on={"GO": "through"}), "through": state(always="on"), "on": state()}
    assert migrated(second(states, to_="through")).value == "on"


WORK = {"wait": state(on={"GO": "work"}), "work": cyclic(closes="ids", on={"STOP": "wait"})}


@pytest.mark.parametrize(
    ("newer", "reason"),
    [
        (second(WORK, to_="work"), "error:migrate-to-no-state"),
        (second(WORK, to_="nowhere"), "error:migrate-to-no-state"),
        (second(WORK, to_=""), "error:migrate-to-no-state"),
        (second(WORK, context=[1]), "error:migrate-without-context"),
        (second(WORK, context={"x": "x" * 500_000}), "error:context-too-large"),
        (
            second({"wait": state(after=[after(1, "wait"), after("$ctx.no", "wait")])}),
            "error:no delay: None",
        ),
    ],
)
def test_a_migration_that_leads_nowhere_is_dropped_with_its_reason(
    newer: Machine, reason: str
) -> None:
    system = System((FIRST, newer))
    world = fold(
        system,
        (1, "A", "m/x", {"type": "PING"}),
        (2, "A", "m/x", {"type": "$migrate", "version": 2}),
    )
    assert (world.instances["m/x"].version, reasons(world)) == (1, [reason])


@swarm_test(nodes=1, seeds=1)
async def test_a_command_is_judged_by_the_definition_that_will_take_it(sim: Sim) -> None:
    [device] = sim.nodes
    newer = second({"wait": state(on={"NEW": "late"}), "late": state()})
    crew = await Crew(device, System((FIRST,)), more={"name": "old"}).open()
    await crew.machines.send("m/x", {"type": "PING"})
    await crew.close()
    crew = await Crew(device, System((FIRST, newer))).open()
    assert await crew.machines.offered("m/x") == ("NEW",)
    refused = await crew.machines.send("m/x", {"type": "GO"})
    assert (refused.is_accepted, refused.reason, refused.enabled) == (
        False,
        "not-enabled",
        ("NEW",),
    )
    assert (await crew.machines.view("m/x")).version == 1, "a refused command logs nothing"
    taken = await crew.machines.send("m/x", {"type": "NEW"})
    assert (taken.is_accepted, taken.value, taken.instance.version) == (True, "late", 2)
    await crew.close()


@swarm_test(nodes=1, seeds=1)
async def test_a_migration_that_fails_is_not_logged_again_and_again(sim: Sim) -> None:
    [device] = sim.nodes
    crew = await Crew(device, System((FIRST,)), more={"name": "old"}).open()
    await crew.machines.send("m/x", {"type": "PING"})
    await crew.close()
    crew = await Crew(device, System((FIRST, second(WORK, to_="nowhere")))).open()
    for _ in range(3):
        assert (await crew.machines.send("m/x", {"type": "PING"})).is_accepted
    types = [passage.event async for passage in crew.machines.history()]
    assert types == ["$init", "PING", "PING", "PING", "PING"]
    await crew.close()


@swarm_test(nodes=2, seeds=2)
async def test_nodes_that_get_a_newer_definition_one_after_the_other_agree_in_the_end(
    sim: Sim,
) -> None:
    newer = second({"wait": state(on={"NEW": "late"}, after=[after(30, "late")]), "late": state()})
    one_, two = [await Crew(device, System((FIRST,))).open() for device in sim.nodes]
    await one_.machines.send("m/x", {"type": "PING"})
    await sim.converge()
    two.system, two.more = System((FIRST, newer)), {"name": "newer"}
    await two.crash()
    await two.restart()
    assert (await two.machines.send("m/x", {"type": "NEW"})).value == "late"
    assert (await two.machines.send("m/y", {"type": "NEW"})).instance.version == 2
    await sim.converge()
    behind = await one_.machines.view("m/x")
    assert (behind.version, behind.value) == (1, "wait"), "it knows no better yet"
    assert (await one_.machines.send("m/x", {"type": "GO"})).value == "late"
    await sim.run(seconds=5)
    one_.system, one_.more = two.system, two.more
    await one_.crash()
    await one_.restart()
    await sim.converge()
    assert one_.machines.world.instances == two.machines.world.instances
    assert (await one_.machines.view("m/x")).version == 2
    for crew in (one_, two):
        await crew.close()
