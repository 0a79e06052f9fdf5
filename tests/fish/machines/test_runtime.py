"""Machines at work on simulated nodes: commands, services, limits, effects, timers, gates, versions."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fish.machines import (
    AccessDenied,
    Call,
    Effect,
    Instance,
    NoSuchMachine,
    NotReady,
    Passage,
    ServiceFailed,
    System,
    after,
    assign,
    cyclic,
    invoke,
    ledger,
    machine,
    state,
    tags_of,
    to,
)
from lamport.errors import InvalidInput, StoreFull
from lamport.event import draft
from simulations import Sim, swarm_test
from tests.fish.machines.crews import Crew

FETCH = System(
    (
        machine(
            "fetch",
            initial="idle",
            context={"data": None, "why": None},
            states={
                "idle": state(on={"RUN": "run"}),
                "run": state(
                    on={"LEAVE": "idle"},
                    invoke=invoke(
                        "get",
                        args={"n": 7},
                        done=to("complete", do=assign(data="$event.output")),
                        error=to("failed", do=assign(why="$event.error")),
                    ),
                ),
                "complete": state(),
                "failed": state(on={"AGAIN": "run"}),
            },
        ),
    )
)


@asynccontextmanager
async def crewed(sim: Sim, system: System, **more: Any) -> AsyncIterator[list[Crew]]:
    crews = [await Crew(device, system, **more).open() for device in sim.nodes]
    try:
        yield crews
    finally:
        for crew in crews:
            await crew.close()


async def never(_: Call) -> None:
    await asyncio.Event().wait()


@swarm_test(nodes=1, seeds=2)
async def test_send_waits_for_the_service_and_gives_its_outcome(sim: Sim) -> None:
    async def get(call: Call) -> Any:
        await asyncio.sleep(5)
        return [call.name, call.args]

    async with crewed(sim, FETCH, services={"get": get}) as [crew]:
        answer = await crew.machines.machine("fetch").send({"type": "RUN"})
        assert (answer.value, answer.is_settled) == ("complete", True)
        assert answer.instance.context["data"] == ["get", {"n": 7}]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (ServiceFailed({"code": 3}), {"code": 3}),
        (ValueError("no"), {"reason": "ValueError", "text": "no"}),
        ({1, 2}, "bad-output"),
    ],
)
def test_whatever_a_service_raises_is_its_error_event(outcome: Any, why: Any) -> None:
    async def get(_: Call) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        async with crewed(sim, FETCH, services={"get": get}) as [crew]:
            answer = await crew.machines.send("fetch", {"type": "RUN"})
            found = answer.instance.context["why"]
            assert (answer.value, found if why != "bad-output" else found["reason"]) == (
                "failed",
                why,
            )

    story()


@swarm_test(nodes=1, seeds=1)
async def test_a_service_that_nobody_provides_fails(sim: Sim) -> None:
    async with crewed(sim, FETCH) as [crew]:
        answer = await crew.machines.send("fetch", {"type": "RUN"})
        assert answer.instance.context["why"] == {"reason": "no-service"}


@swarm_test(nodes=2, seeds=2)
async def test_after_the_limit_the_error_comes_before_the_next_event(sim: Sim) -> None:
    async with crewed(sim, FETCH, services={"get": never}) as [crew, _]:
        began = asyncio.get_running_loop().time()
        answer = await crew.machines.send("fetch", {"type": "RUN"}, timeout=20)
        assert round(asyncio.get_running_loop().time() - began) == 20
        assert (answer.value, answer.is_settled) == ("run", False)
        # Not enabled in `run`, but the error that is owed makes it so: it is logged, not refused.
        answer = await crew.machines.send("fetch", {"type": "AGAIN"}, timeout=5)
        assert answer.is_accepted
        assert answer.instance.context["why"] == {"reason": "timeout"}
        assert answer.value == "run"


@swarm_test(nodes=2, seeds=3)
async def test_what_a_crash_interrupted_fails_at_restart(sim: Sim) -> None:
    async with crewed(sim, FETCH, services={"get": never}) as [crew, other]:
        await crew.machines.send("fetch", {"type": "RUN"}, waits=False)
        await crew.crash()
        await crew.restart()
        instance = await crew.machines.view("fetch")
        assert (instance.value, instance.context["why"]) == ("failed", {"reason": "crash"})
        await sim.converge()
        assert (await other.machines.view("fetch")).value == "failed"


@swarm_test(nodes=1, seeds=1)
async def test_leaving_a_state_cancels_its_service(sim: Sim) -> None:
    ended: list[str] = []

    async def get(_: Call) -> None:
        try:
            await never(_)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with crewed(sim, FETCH, services={"get": get}) as [crew]:
        await crew.machines.send("fetch", {"type": "RUN"}, waits=False)
        await sim.run(seconds=1)
        answer = await crew.machines.send("fetch", {"type": "LEAVE"})
        await sim.run(seconds=1)
        assert (answer.value, ended) == ("idle", ["cancelled"])


@swarm_test(nodes=1, seeds=1)
async def test_what_is_not_enabled_is_refused_with_what_would_be(sim: Sim) -> None:
    both = System((*FETCH.machines, *SHIFT.machines))
    async with crewed(sim, both) as [crew]:
        before = crew.device.node.offsets
        for event in ({"type": "HUH"}, {"type": "$stop"}, {"no": "type"}, {"type": 3}):
            answer = await crew.machines.send("fetch", event)
            assert (answer.is_accepted, answer.enabled) == (False, ("RUN",))
            assert not (await crew.machines.send("shift", event)).is_accepted
        assert crew.device.node.offsets == before
        with pytest.raises(NoSuchMachine):
            await crew.machines.send("nothing/here", {"type": "RUN"})
        with pytest.raises(InvalidInput):
            await crew.machines.publish("fetch", {"type": "RUN", "bad": float("nan")})


PAY = Effect("pay", {"to": "$event.who"}, undo="refund")
LAMP = System(
    (
        machine(
            "lamp",
            initial="off",
            states={
                "off": state(on={"BUY": to("on", guard="$event.first", do=PAY)}),
                "on": state(on={"RING": to(do=Effect("bell"))}),
            },
        ),
    )
)


@swarm_test(nodes=3, seeds=5)
async def test_what_time_travel_takes_away_is_undone_or_reported_on_its_owner_only(
    sim: Sim,
) -> None:
    names = ("pay", "refund", "bell")
    async with crewed(sim, LAMP, names=names) as [early, late, other]:
        await sim.run(seconds=1)
        with sim.partition({early.device}, {late.device, other.device}):
            for _ in range(5):
                await late.device.publish("filler", 0)
            await early.machines.send("lamp", {"type": "BUY", "first": True, "who": "early"})
            await late.machines.send("lamp", {"type": "BUY", "first": True, "who": "late"})
            await late.machines.send("lamp", {"type": "RING"})
            await sim.run(seconds=1)
            assert late.done == ["pay", "bell"]
        await sim.converge()
        await sim.run(seconds=1)
        assert early.done == ["pay"]
        assert late.done == ["pay", "bell", "refund for pay"]
        assert late.keys[0] == late.keys[2]
        assert other.done == []


@swarm_test(nodes=1, seeds=1)
async def test_an_effect_that_raises_is_tried_again_with_the_same_key(sim: Sim) -> None:
    keys: list[str] = []

    async def bell(call: Call) -> None:
        keys.append(call.key)
        if len(keys) < 3:
            raise OSError("the wire is loose")

    [device] = sim.nodes
    system = System(
        (machine("b", initial="a", states={"a": state(on={"R": to(do=Effect("bell"))})}),)
    )
    async with device.node.machines(system, effects={"bell": bell}) as machines:
        await machines.send("b", {"type": "R"})
        await sim.run(seconds=10)
        assert (len(keys), len(set(keys))) == (3, 1)


@swarm_test(nodes=1, seeds=1)
async def test_an_effect_that_hangs_holds_up_its_own_instance_only(sim: Sim) -> None:
    rung: list[str] = []

    async def bell(call: Call) -> None:
        rung.append(call.address)
        if call.address == "b/stuck":
            await never(call)

    [device] = sim.nodes
    bells = state(on={"R": to(do=Effect("bell"))})
    system = System((machine("b", initial="a", states={"a": bells}),))
    async with device.node.machines(system, effects={"bell": bell}) as machines:
        for name in ("stuck", "stuck", "free", "free"):
            await machines.send(f"b/{name}", {"type": "R"})
        await sim.run(seconds=1)
        assert rung == ["b/stuck", "b/free", "b/free"]


@swarm_test(nodes=1, seeds=1)
async def test_effects_owed_by_several_instances_are_begun_in_log_order(
    sim: Sim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_AT_ONCE", 1)
    rung: list[str] = []

    async def bell(call: Call) -> None:
        rung.append(call.address)

    [device] = sim.nodes
    bells = state(on={"R": to(do=Effect("bell"))})
    system = System((machine("b", initial="a", states={"a": bells}),))
    for name in "cabcb":
        await device.node.publish(tags_of(f"b/{name}"), {"type": "R"})
    async with device.node.machines(system, effects={"bell": bell}):
        await sim.run(seconds=1)
        assert rung == [f"b/{name}" for name in "cabcb"]


@swarm_test(nodes=2, seeds=2)
async def test_effects_of_several_instances_are_undone_newest_first(
    sim: Sim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_AT_ONCE", 1)
    async with crewed(sim, LAMP, names=("pay", "refund")) as [early, late]:
        await sim.run(seconds=1)
        with sim.partition({early.device}, {late.device}):
            for _ in range(9):
                await late.device.publish("filler", 0)
            await early.device.node.publish_all(
                draft(tags_of(f"lamp/{name}"), {"type": "BUY", "first": True}) for name in "abc"
            )
            for name in "bca":
                await late.machines.send(f"lamp/{name}", {"type": "BUY", "first": True})
                await sim.run(seconds=1)
        await sim.converge()
        await sim.run(seconds=1)
        assert late.done == ["pay"] * 3 + ["refund for pay"] * 3
        assert late.keys[3:] == late.keys[2::-1]


@swarm_test(nodes=1, seeds=1)
async def test_an_effect_whose_arguments_no_event_can_hold_is_done_once(sim: Sim) -> None:
    rung: list[int] = []

    async def bell(call: Call) -> None:
        rung.append(len(call.args))

    [device] = sim.nodes
    loud = to(do=Effect("bell", lambda _: "x" * 100_000))
    system = System((machine("b", initial="a", states={"a": state(on={"R": loud})}),))
    async with device.node.machines(system, effects={"bell": bell}) as machines:
        await machines.send("b", {"type": "R"})
        await sim.run(minutes=5)
        await machines.send("b", {"type": "HUH"})
        assert rung == [100_000]


SHIFT = System(
    (
        machine(
            "shift",
            initial="off",
            states={
                "off": state(on={"IN": "on"}),
                "on": cyclic(on={"OUT": "off"}, after=[after(100, "off")]),
            },
        ),
    )
)


@pytest.mark.parametrize("years", [-40, 0])
def test_a_timer_survives_a_restart_and_a_clock_that_was_put_back(years: int) -> None:
    @swarm_test(nodes=2, seeds=2)
    async def story(sim: Sim) -> None:
        async with crewed(sim, SHIFT) as [crew, other]:
            await crew.machines.send("shift", {"type": "IN"})
            await sim.run(seconds=60)
            await crew.crash()
            sim.clock(crew.device).jump(years=years)
            await crew.restart()
            await sim.run(seconds=30)
            assert (await crew.machines.view("shift")).value == "on"
            await sim.run(seconds=15 if years == 0 else 75)
            assert (await crew.machines.view("shift")).value == "off"
            await sim.converge()
            instance = await other.machines.view("shift")
            assert (instance.value, instance.timers) == ("off", ())

    story()


@swarm_test(nodes=1, seeds=1)
async def test_nothing_is_shown_or_taken_before_all_machines_are_started(sim: Sim) -> None:
    [device] = sim.nodes
    both = System((*FETCH.machines, *SHIFT.machines))
    async with device.node.machines(both, starts=False) as machines:
        await machines.publish("shift", {"type": "IN"})
        for _ in range(2):
            with pytest.raises(NotReady, match="fetch"):
                await machines.view("shift")
            with pytest.raises(NotReady):
                await machines.send("shift", {"type": "IN"})
            await machines.start("shift")
        await machines.start("fetch")
        assert (await machines.view("shift")).value == "on"


def test_a_machine_that_two_writers_could_spoil_is_told(caplog: pytest.LogCaptureFixture) -> None:
    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        async with crewed(sim, System((*SHIFT.machines, *FETCH.machines))):
            pass

    with caplog.at_level(logging.WARNING, logger="shoal.machines"):
        story()
    words = [one.getMessage().partition(" and none") for one in caplog.records]
    assert {one for one, told, _ in words if told} == {
        "machine 'fetch': the states failed, idle, run lead to each other"
    }


@swarm_test(nodes=1, seeds=1)
async def test_gates_decide_who_may_send_and_look(sim: Sim) -> None:
    def may(instance: Instance, event: Any, sender: Any) -> bool:
        return sender == "ann" or (instance.value == "on" and event.get("type") == "OUT")

    async with crewed(sim, SHIFT, more={"may_send": may, "may_look": may}) as [crew]:
        refused = await crew.machines.send("shift", {"type": "IN"}, sender="bob")
        assert (refused.is_accepted, refused.reason) == (False, "not-allowed")
        assert await crew.machines.machine("shift").offered("ann") == ("IN",)
        assert await crew.machines.machine("shift").offered("bob") == ()
        assert (await crew.machines.send("shift", {"type": "IN"}, sender="ann")).is_accepted
        assert await crew.machines.machine("shift").offered("bob") == ("OUT",)
        assert (await crew.machines.send("shift", {"type": "OUT"}, sender="bob")).is_accepted
        with pytest.raises(AccessDenied):
            await crew.machines.view("shift", "bob")


@swarm_test(nodes=2, seeds=3)
async def test_hooks_tell_live_passages_from_those_that_time_travel_changed(sim: Sim) -> None:
    told: list[tuple[str, bool]] = []

    def hook(passage: Passage, is_live: bool) -> None:  # noqa: FBT001 - the shape of a hook
        if passage.event != "$init":
            told.append((passage.event, is_live))

    a, b = sim.nodes
    async with b.node.machines(SHIFT, hooks=(hook,)) as machines, a.node.machines(SHIFT) as others:
        with sim.partition({a}, {b}):
            await others.publish("shift", {"type": "HUH"})
            for _ in range(9):
                await b.publish("filler", 0)
            await machines.send("shift", {"type": "IN"})
        await sim.converge()
        await sim.run(seconds=1)
    assert ("IN", True) in told
    assert ("HUH", False) in told
    assert ("HUH", True) not in told


@swarm_test(nodes=1, seeds=1)
async def test_outsiders_see_a_projection_only_when_it_changes(sim: Sim) -> None:
    [device] = sim.nodes
    async with device.node.machines(SHIFT) as machines:
        seen: list[int] = []

        async def watch() -> None:
            shown = machines.watch("shift", lambda one: len(one.tokens))
            async for count in shown:
                seen.append(count)  # noqa: PERF401 - what was seen before the end counts

        task = asyncio.create_task(watch())
        for event in ("IN", "HUH", "HUH"):
            await machines.publish("shift", {"type": event})
            await sim.run(seconds=1)
        await machines.send("shift", {"type": "OUT"})
        await sim.run(seconds=1)
        task.cancel()
        assert seen == [0, 1, 0]
        kinds = [passage.kind async for passage in machines.history()]
        assert kinds == ["started", "transition", "dropped", "dropped", "transition"]
        assert kinds == [passage.kind for passage in machines.passages()]


@swarm_test(nodes=1, seeds=1)
async def test_a_newer_definition_takes_over_with_the_next_command(sim: Sim) -> None:
    [device] = sim.nodes
    one, two = (state(on={"GO": to(do=assign(n=number))}) for number in (1, 2))
    first = machine("m", initial="a", states={"a": one}, context={"n": 0})
    second = machine("m", initial="b", states={"b": two}, version=2, migrate=_to_b)
    async with device.node.machines(System((first,)), name="old") as machines:
        await machines.send("m", {"type": "GO"})
    async with device.node.machines(System((first, second)), name="new") as machines:
        assert (await machines.view("m")).context == {"n": 1}
        answer = await machines.send("m", {"type": "GO"})
        assert (answer.value, answer.instance.version, answer.instance.context) == (
            "b",
            2,
            {"n": 2},
        )
        fresh = await machines.send("m/other", {"type": "GO"})
        assert fresh.instance.version == 2


def _to_b(_value: str, context: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "b", context


@swarm_test(nodes=1, seeds=2)
async def test_a_full_disk_holds_records_up_and_nothing_else(sim: Sim) -> None:
    async def get(_: Call) -> str:
        await asyncio.sleep(5)
        return "it"

    async with crewed(sim, FETCH, services={"get": get}) as [crew]:
        await crew.machines.send("fetch", {"type": "RUN"}, waits=False)
        sim.fill_disk(crew.device)
        await sim.run(seconds=20)
        assert (await crew.machines.view("fetch")).value == "run"
        with pytest.raises(StoreFull):
            await crew.machines.send("fetch", {"type": "LEAVE"})
        sim.free_disk(crew.device)
        await sim.run(seconds=20)
        assert (await crew.machines.view("fetch")).context["data"] == "it"


@swarm_test(nodes=2, seeds=2)
async def test_what_a_node_that_is_gone_had_in_flight_can_be_given_up_by_another(sim: Sim) -> None:
    async with crewed(sim, FETCH, services={"get": never}) as [crew, other]:
        await crew.machines.send("fetch", {"type": "RUN"}, waits=False)
        await sim.run(seconds=1)
        await crew.crash()
        await other.machines.abandon("fetch")
        instance = await other.machines.view("fetch")
        assert (instance.value, instance.context["why"]) == ("failed", {"reason": "abandoned"})


@swarm_test(nodes=1, seeds=1)
async def test_a_hook_that_raises_holds_nothing_up(sim: Sim) -> None:
    def hook(_passage: Passage, _is_live: bool) -> None:  # noqa: FBT001 - the shape of a hook
        raise ValueError("no")

    async with crewed(sim, SHIFT, more={"hooks": (hook,)}) as [crew]:
        assert (await crew.machines.send("shift", {"type": "IN"})).value == "on"
        await sim.run(seconds=1)
        assert (await crew.machines.send("shift", {"type": "OUT"})).value == "off"
