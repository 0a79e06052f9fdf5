"""What a runtime remembers, for how long, and what it says once only."""

import asyncio
import logging

import pytest

from fish.machines import Call, Effect, System, assign, machine, state, to
from fish.machines.errors import MachineThrew, text_of
from simulations import Sim, swarm_test
from tests.fish.machines.benches import one
from tests.fish.machines.test_runtime import FETCH, crewed, never


def test_a_limit_counts_as_long_as_its_service_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fish.machines.services.KEPT_LIMITS", 2)

    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        async with crewed(sim, FETCH, services={"get": never}) as [crew]:
            for seconds in (5, 10, 15):
                await crew.machines.send(
                    f"fetch/{seconds}", {"type": "RUN"}, timeout=seconds, waits=False
                )
            for _ in range(9):
                await crew.machines.send("fetch/x", {"type": "RUN"}, timeout=1, waits=False)
                await crew.machines.send("fetch/x", {"type": "LEAVE"}, timeout=1, waits=False)
            for seconds in (5, 10, 15):  # looked at once more: nothing that begins the limit anew
                await crew.machines.publish(f"fetch/{seconds}", {"type": "HUH"}, dedupe="once")
            for over in (1, 2, 3):
                await sim.run(seconds=5)
                instances = [await crew.machines.view(f"fetch/{each}") for each in (5, 10, 15)]
                assert [one.is_settled for one in instances] == [False] * 3
                assert [bool(one.parked) for one in instances] == [True] * over + [False] * (
                    3 - over
                )

    story()


GONG = System(
    (
        machine(
            "gong",
            initial="off",
            states={
                "off": state(on={"HIT": to("on", guard="$event.first", do=Effect("bell"))}),
                "on": state(),
            },
        ),
    )
)


@swarm_test(nodes=2, seeds=1)
async def test_an_effect_that_comes_back_is_not_punished_for_how_it_failed_before(sim: Sim) -> None:
    tries: list[float] = []

    async def bell(_: Call) -> None:
        tries.append(asyncio.get_running_loop().time())
        raise OSError("the wire is loose")

    [early, late] = sim.nodes
    async with (
        early.node.machines(GONG, effects={"bell": lambda _: None}) as first,
        late.node.machines(GONG, effects={"bell": bell}) as second,
    ):
        await sim.run(seconds=1)
        with sim.partition({early}, {late}):
            for _ in range(5):
                await late.publish("filler", 0)
            answer = await first.send("gong", {"type": "HIT", "first": True})
            await second.send("gong", {"type": "HIT", "first": True})
            await sim.run(seconds=40)
        await sim.converge()
        await sim.run(minutes=2)
        failed = len(tries)
        assert failed > 4
        assert answer.event is not None
        await early.node.retract(answer.event.key, reason="a slip")
        await sim.converge()
        await sim.run(seconds=10)
        assert len(tries) - failed > 2, "a second later, two more, four more"


class Mute(Exception):
    """Nobody can say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_a_text_is_told_by_its_type() -> None:
    assert text_of(ValueError("so")) == "so"
    assert text_of(Mute()) == "Mute, which cannot say what it is"


@swarm_test(nodes=1, seeds=1)
async def test_a_service_whose_error_cannot_be_told_has_failed(sim: Sim) -> None:
    async def get(_: Call) -> None:
        raise Mute

    async with crewed(sim, FETCH, services={"get": get}) as [crew]:
        answer = await crew.machines.send("fetch", {"type": "RUN"})
        why = {"reason": "Mute", "text": "Mute, which cannot say what it is"}
        assert (answer.value, answer.instance.context["why"]) == ("failed", why)


class MuteThrow(MachineThrew):
    """As `Mute`."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_step_whose_error_cannot_be_told_is_dropped() -> None:
    def fail(_: object) -> dict[str, object]:
        raise MuteThrow

    a = state(on={"GO": to(do=assign(fail)), "ON": to(do=assign(n=1))})
    system = System((machine("m", initial="a", context={"n": 0}, states={"a": a}),))
    assert one(system, "m/x", "GO", "ON").context["n"] == 1


def test_a_migration_that_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def newer(version: int) -> System:
        versions = [
            machine(
                "m",
                initial="a",
                states={"a": state(on={"GO": to()})},
                version=number,
                migrate=(lambda _, context: ("nowhere", context)) if number > 1 else None,
            )
            for number in range(1, version + 1)
        ]
        return System(tuple(versions))

    @swarm_test(nodes=1, seeds=1)
    async def story(sim: Sim) -> None:
        caplog.clear()  # a seed is played twice
        [device] = sim.nodes
        async with device.node.machines(newer(1), name="old") as machines:
            for name in ("m/x", "m/y"):
                await machines.send(name, {"type": "GO"})
        async with device.node.machines(newer(2)) as machines:
            for name in ("m/x", "m/y") * 3:
                assert (await machines.send(name, {"type": "GO"})).is_accepted

    with caplog.at_level(logging.WARNING, "shoal.machines"):
        story()
    told = [each.getMessage() for each in caplog.records if "older definition" in each.getMessage()]
    assert [one.split()[0] for one in told] == ["m/x", "m/y"]
