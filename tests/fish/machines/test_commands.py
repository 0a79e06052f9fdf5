"""Commands one at a time, whatever they look like and whoever sends them."""

import asyncio
import math
from collections.abc import Mapping
from typing import Any

import pytest

from fish.machines import (
    AccessDenied,
    Call,
    Instance,
    NotReady,
    System,
    assign,
    invoke,
    machine,
    state,
    to,
)
from lamport.errors import InvalidInput
from simulations import Sim, swarm_test
from tests.fish.machines.crews import Crew
from tests.fish.machines.test_runtime import crewed, never

SALE = System(
    (
        machine(
            "sale",
            initial="open",
            context={"who": None},
            states={
                "open": state(
                    on={
                        "BUY": to("sold", do=assign(who="$event.who")),
                        "MINE": to("sold", guard=lambda scope: scope.meta.node != ""),
                        "NOW": to("sold", guard=lambda scope: int(scope.meta.key[:16]) > 0),
                        "WAIT": "waiting",
                    }
                ),
                "sold": state(),
                "waiting": state(invoke=invoke("get", done="sold", error="open")),
            },
        ),
    )
)


@swarm_test(nodes=1, seeds=2)
async def test_of_two_commands_at_once_the_second_sees_what_the_first_has_led_to(sim: Sim) -> None:
    async with crewed(sim, SALE) as [crew]:
        sends = (crew.machines.send("sale/1", {"type": "BUY", "who": who}) for who in "ab")
        second, first = sorted(await asyncio.gather(*sends), key=lambda one: one.is_accepted)
        assert (first.is_accepted, second.is_accepted) == (True, False)
        assert (second.reason, second.event) == ("not-enabled", None)
        assert second.instance.context == first.instance.context


@swarm_test(nodes=1, seeds=1)
async def test_a_command_does_not_wait_until_another_one_has_settled(sim: Sim) -> None:
    async with crewed(sim, SALE, services={"get": never}) as [crew]:
        slow = asyncio.create_task(crew.machines.send("sale/1", {"type": "WAIT"}, timeout=60))
        await sim.run(seconds=1)
        refused = await crew.machines.send("sale/1", {"type": "BUY"})
        assert (refused.is_accepted, refused.value, slow.done()) == (False, "waiting", False)
        await sim.run(seconds=61)
        assert (await slow).is_settled is False


@swarm_test(nodes=1, seeds=1)
async def test_guards_see_the_node_and_a_key_before_anything_is_logged(sim: Sim) -> None:
    async with crewed(sim, SALE) as [crew]:
        for number, type_ in enumerate(("MINE", "NOW")):
            assert (await crew.machines.send(f"sale/{number}", {"type": type_})).value == "sold"


@pytest.mark.parametrize("limit", [None, -1, math.nan, math.inf, "x", True])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        async with crewed(sim, SALE) as [crew]:
            with pytest.raises(InvalidInput, match="time limit"):
                await crew.machines.send("sale/1", {"type": "BUY"}, timeout=limit)
            assert (await crew.machines.view("sale/1")).value == "open"

    story()


def bossy(_: Instance, event: Mapping[str, Any], sender: Any) -> bool:
    return bool(event["type"] == "BUY") and sender == "boss"


@pytest.mark.parametrize("gated", [{}, {"may_send": bossy}])
@pytest.mark.parametrize(
    "event", [None, "BUY", ["BUY"], {}, {"type": 3}, {"type": ""}, {"type": "$stop"}]
)
def test_what_is_no_event_is_refused_and_asks_no_gate(event: Any, gated: Any) -> None:
    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        async with crewed(sim, SALE, more=gated) as [crew]:
            answer = await crew.machines.send("sale/1", event)
            expected = "reserved" if event == {"type": "$stop"} else "bad-payload"
            assert (answer.is_accepted, answer.reason) == (False, expected)
            if not isinstance(event, Mapping):
                with pytest.raises(InvalidInput, match="object with a type"):
                    await crew.machines.publish("sale/1", event)
            with pytest.raises(InvalidInput, match="idempotency key"):
                await crew.machines.publish("sale/1", {"type": "BUY"}, dedupe="x" * 257)

    story()


def named(_: Instance, event: Mapping[str, Any], sender: Any) -> Mapping[str, Any]:
    return {**event, "who": sender}


def no_waiting(_: Instance, event: Mapping[str, Any], _sender: Any) -> Mapping[str, Any] | None:
    return None if event["type"] == "WAIT" else event


@swarm_test(nodes=1, seeds=1)
async def test_filters_change_a_command_or_end_it_before_gates_judge_it(sim: Sim) -> None:
    seen: list[Any] = []

    def gate(_: Instance, event: Mapping[str, Any], _sender: Any) -> bool:
        seen.append(event.get("who"))
        return True

    more = {"filters": (named, no_waiting), "may_send": gate}
    async with crewed(sim, SALE, more=more) as [crew]:
        ended = await crew.machines.send("sale/1", {"type": "WAIT"}, sender="ann")
        assert (ended.is_accepted, ended.reason) == (False, "filtered")
        taken = await crew.machines.send("sale/1", {"type": "BUY", "who": "eve"}, sender="ann")
        assert (taken.instance.context["who"], seen) == ("ann", ["ann"])


@swarm_test(nodes=1, seeds=1)
async def test_who_may_not_look_may_not_watch(sim: Sim) -> None:
    def gate(instance: Instance, _: Mapping[str, Any], sender: Any) -> bool:
        return bool(sender == "boss") or instance.value == "open"

    async with crewed(sim, SALE, more={"may_look": gate}) as [crew]:
        shown = crew.machines.watch("sale/1", lambda one: one.value, "ann")
        assert await anext(shown) == "open"
        await crew.machines.send("sale/1", {"type": "BUY"})
        with pytest.raises(AccessDenied):
            await anext(shown)  # what changed before it was asked again is not overlooked
        with pytest.raises(AccessDenied):
            await anext(crew.machines.watch("sale/1", lambda one: one.value))
        assert await anext(crew.machines.watch("sale/1", lambda one: one.value, "boss")) == "sold"


@swarm_test(nodes=2, seeds=1)
async def test_both_sides_of_a_cut_take_a_command_and_one_of_them_learns_that_it_lost(
    sim: Sim,
) -> None:
    async with crewed(sim, SALE) as [one, two]:
        with sim.partition({one.device}, {two.device}):
            for crew, who in ((one, "a"), (two, "b")):
                answer = await crew.machines.send("sale/1", {"type": "BUY", "who": who})
                assert answer.is_accepted
        await sim.converge()
        lost = [item async for item in one.machines.history() if item.kind == "dropped"]
        assert [item.reason for item in lost] == ["not-enabled"]
        assert isinstance(one, Crew)


@swarm_test(nodes=2, seeds=1)
async def test_an_instance_is_begun_with_a_context_at_once_and_only_once(sim: Sim) -> None:
    def gate(_: Instance, event: Mapping[str, Any], sender: Any) -> bool:
        return bool(event["type"] != "$init" or sender == "boss")

    slow = machine(
        "m",
        initial="on",
        context={"a": 1, "b": 2},
        states={"on": state(invoke=invoke("get", done="off")), "off": state()},
    )
    more = {"may_send": gate}
    async with crewed(sim, System((slow,)), services={"get": never}, more=more) as [one, two]:
        refused = await one.machines.create("m/1", {"b": 3})
        assert (refused.is_accepted, refused.reason) == (False, "not-allowed")
        begun = await one.machines.machine("m/1").create({"b": 3}, sender="boss")
        assert (begun.is_accepted, begun.value, begun.is_settled) == (True, "on", False)
        assert begun.instance.context == {"a": 1, "b": 3}
        again = await one.machines.create("m/1", {"b": 4}, sender="boss")
        assert (again.is_accepted, again.reason) == (False, "already-started")
        with pytest.raises(InvalidInput, match="a context is an object"):
            await one.machines.create("m/2", "x", sender="boss")  # type: ignore[arg-type]
        await sim.converge()
        assert (await two.machines.view("m/1")).context == {"a": 1, "b": 3}


async def half_a_minute(_: Call) -> None:
    await asyncio.sleep(30)


@swarm_test(nodes=1, seeds=1)
async def test_a_later_event_from_outside_begins_the_limit_anew(sim: Sim) -> None:
    busy = state(on={"PING": to()}, invoke=invoke("get", done="off", error="failed"))
    states = {"on": state(on={"RUN": "busy"}), "busy": busy, "off": state(), "failed": state()}
    system = System((machine("m", initial="on", states=states),))
    async with crewed(sim, system, services={"get": half_a_minute}) as [crew]:
        first = asyncio.create_task(crew.machines.send("m/1", {"type": "RUN"}, timeout=20))
        await sim.run(seconds=15)
        second = asyncio.create_task(crew.machines.send("m/1", {"type": "PING"}, timeout=90))
        assert ((await first).value, (await first).is_settled) == ("busy", False)
        assert ((await second).value, (await second).is_settled) == ("off", True)


@swarm_test(nodes=1, seeds=1)
async def test_who_waits_when_the_machines_close_is_let_go(sim: Sim) -> None:
    [device] = sim.nodes
    runtime = device.node.machines(SALE, services={"get": never})
    with pytest.raises(NotReady, match="async with"):
        await runtime.publish("sale/1", {"type": "BUY"})
    async with runtime as machines:
        watching = machines.watch("sale/1", lambda one: one.value)
        assert await anext(watching) == "open"
        last = asyncio.create_task(anext(watching, "over"))
        sent = asyncio.create_task(machines.send("sale/2", {"type": "WAIT"}, timeout=3_600))
        idle = asyncio.create_task(machines.idle())
        await sim.run(seconds=1)
    async with asyncio.timeout(5):
        assert await last == "over"
        assert (await sent).is_settled is False
        await idle
    with pytest.raises(NotReady, match="async with"):
        await runtime.send("sale/1", {"type": "BUY"})
