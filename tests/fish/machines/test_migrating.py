"""What goes on when an instance goes over to a newer definition: timers, services, what is delayed, and the end."""

from typing import Any

import pytest

from fish.machines import (
    Emit,
    Instance,
    InvalidCoordination,
    Machine,
    Raise,
    Route,
    SendTo,
    Spawn,
    System,
    World,
    after,
    assign,
    cyclic,
    final,
    invoke,
    machine,
    state,
    to,
)
from fish.machines.expressions import Meta
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, key, one, reasons
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


def upgraded(system: System, world: World) -> tuple[World, str | None]:
    return system.upgraded(world, "m/1", Meta(key(9), 9))


def test_who_migrates_may_change_the_context_that_it_is_given() -> None:
    def append(at: str, context: dict[str, Any]) -> Any:
        context["seen"].append(1)
        return at, context

    old = machine("m", initial="a", context={"seen": []}, states={"a": state()})
    new = machine("m", initial="a", states={"a": state()}, version=2, migrate=append)
    system = System((old, new))
    world = fold(system, (1, "A", "m/1", {"type": "X"}))
    for _ in range(2):
        assert upgraded(system, world)[0].instances["m/1"].context == {"seen": [1]}
    assert (world.instances["m/1"].context, old.context) == ({"seen": []}, {"seen": []})


def test_a_migration_counts_whatever_others_make_of_what_it_says_to_them() -> None:
    old = machine("m", initial="a", states={"a": state()})
    states = {"a": state(always=to("b", do=SendTo("deaf/1", {"type": "HM"}))), "b": state()}
    new = machine("m", initial="a", states=states, version=2)
    deaf = machine("deaf", initial="a", states={"a": state()})
    system = System((old, new, deaf))
    after_it, refused = upgraded(system, fold(system, (1, "A", "m/1", {"type": "X"})))
    assert (after_it.instances["m/1"].value, refused) == ("b", None)
    told = [one for one in after_it.passages if one.event == "$migrate"]
    assert [(one.before, one.after) for one in told] == [("a", "b")]


NEWS = System(
    (
        machine("m", initial="a", states={"a": state(on={"OLD": "b"}), "b": state()}),
        machine("m", initial="a", states={"a": state(on={"NEW": "b"}), "b": state()}, version=2),
    )
)


def test_an_event_that_begins_an_instance_is_judged_by_the_newest_definition() -> None:
    assert NEWS.why_not(World(), "m/1", {"type": "NEW"}) is None
    assert NEWS.why_not(World(), "m/1", {"type": "OLD"}) == "not-enabled"


def test_an_instance_of_which_only_the_ledger_is_left_begins_by_the_version_it_is_given() -> None:
    left = {"type": "$ran", "id": "x", "name": "n", "cause": key(0), "root": key(0)}
    ran = (1, "A", "m/1", {**left, "attempt": 1, "number": 0})
    assert NEWS.why_not(fold(NEWS, ran), "m/1", {"type": "NEW"}) is None
    begun = fold(NEWS, ran, (2, "A", "m/1", {"type": "NEW", "$version": 2})).instances["m/1"]
    assert (begun.version, begun.value, len(begun.ledger)) == (2, "b", 1)


@swarm_test(nodes=1, seeds=1)
async def test_what_only_the_newest_definition_takes_begins_an_instance(sim: Sim) -> None:
    [device] = sim.nodes
    async with device.node.machines(NEWS) as machines:
        answer = await machines.send("m/1", {"type": "NEW"})
        assert (answer.reason, answer.value, answer.instance.version) == (None, "b", 2)


def test_a_route_may_carry_what_only_an_older_definition_says() -> None:
    tells = to(do=Emit({"type": "OLD"}))
    old = machine("m", initial="a", states={"a": state(on={"X": tells})})
    new = machine("m", initial="a", states={"a": state()}, version=2)
    other = machine("k", initial="a", states={"a": state(on={"OLD": "b"}), "b": state()})
    system = System((old, new, other), (Route("m", "OLD", "k", "OLD"),))
    world = fold(system, (1, "A", "m/1", {"type": "X"}))
    assert world.instances["k/k"].value == "b"


def test_who_lives_as_a_child_of_an_older_definition_does_so_beside_a_newer_one() -> None:
    old = machine("m", initial="a", states={"a": state(entry=Spawn("kid", "ref"))})
    new = machine("m", initial="a", states={"a": state()}, version=2)
    kid = machine("kid", initial="a", states={"a": state()})
    assert System((old, new, kid)).instance(World(), "kid/x").status == "stopped"


def test_events_lead_to_themselves_through_older_definitions_too() -> None:
    back = to(do=Emit({"type": "PING"}))
    old = machine("m", initial="a", states={"a": state(on={"PONG": back})})
    new = machine("m", initial="a", states={"a": state()}, version=2)
    other = machine(
        "k", initial="a", states={"a": state(on={"PING": to(do=Emit({"type": "PONG"}))})}
    )
    routes = (Route("m", "PING", "k", "PING"), Route("k", "PONG", "m", "PONG", feedback=True))
    with pytest.raises(InvalidCoordination, match="leads to itself"):
        System((old, new, other), routes)
