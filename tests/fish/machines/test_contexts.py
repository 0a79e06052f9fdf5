"""A context has a bound: what would outgrow it is rolled back, and everything else goes on."""

from typing import Any

import msgpack
import pytest

from fish.machines import System, World, assign, machine, state, to
from fish.machines.contexts import MAX_CONTEXT_BYTES, assigned
from tests.fish.machines.benches import fold, reasons

HALF = "x" * (MAX_CONTEXT_BYTES // 2)
GROWTHS = {
    "text": assign(x={"$add": ["$ctx.x", "$ctx.x"]}),
    "nested": assign(y=["$ctx.y", "$ctx.y"]),
    "list": assign(z=lambda scope: [*scope.context["z"], "z" * 1_000]),
    "keys": assign(lambda scope: {f"k{len(scope.context)}": "k" * 900}),
    "inside": assign(lambda scope: {f"in.k{len(scope.context['in'])}": "k" * 900}),
    "beside": assign({"other": HALF, "another": HALF}),
}


def grown(growth: Any, **more: Any) -> System:
    grow = state(on={"GROW": to(do=growth), "LOOP": "loop", "GO": to(do=assign(n=1))})
    states = {"a": grow, "loop": state(always=to("loop", do=growth))}
    context = {"x": "x", "y": 1, "z": [], "in": {}, "n": 0}
    return System((machine("m", initial="a", states=states, context=context, **more),))


@pytest.mark.parametrize("growth", GROWTHS)
def test_what_would_outgrow_the_bound_is_rolled_back(growth: str) -> None:
    grow = [
        (number, "A", "m/1", {"type": "GROW"})
        for number in range(1, 60 if growth == "nested" else 600)
    ]
    world = fold(grown(GROWTHS[growth]), *grow, (600, "A", "m/1", {"type": "GO"}))
    assert set(reasons(world)) == {"error:context-too-large"}
    instance = world.instances["m/1"]
    assert instance.context["n"] == 1, "all else goes on"
    assert len(msgpack.packb(instance.context)) <= MAX_CONTEXT_BYTES


@pytest.mark.parametrize("growth", ["text", "nested"])
def test_a_loop_that_doubles_ends_before_it_fills_the_memory(growth: str) -> None:
    world = fold(grown(GROWTHS[growth]), (1, "A", "m/1", {"type": "LOOP"}))
    assert reasons(world) == ["error:context-too-large"]
    assert world.instances["m/1"].value == "a"


def test_strange_values_are_measured_as_they_are_shown() -> None:
    before: dict[str, Any] = {"n": 1}
    after = assigned(before, {"a": {1, 2}, "b": object(), "c.d": (1, "x"), "n": 2})
    assert after["c"] == {"d": (1, "x")}
    assert (before, after["n"]) == ({"n": 1}, 2)


def test_an_instance_is_not_begun_with_more_than_it_may_hold() -> None:
    large = {"type": "$init", "context": {"text": "x" * MAX_CONTEXT_BYTES}}
    system = System((machine("m", initial="a", states={"a": state()}),))
    assert system.why_not(World(), "m/1", large) == "error:context-too-large"
    world = fold(system, (1, "A", "m/1", large))
    assert ("m/1" in world.instances, reasons(world)) == (False, ["error:context-too-large"])
