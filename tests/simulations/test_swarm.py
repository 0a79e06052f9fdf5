"""Swarm tests without pytest's help: what is checked on the way, and what `Sim` answers."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fish import Fish, FishStopped, Metadata, WorkIds
from lamport import Tag
from lamport.errors import StoreFull
from simulations import Sim, swarm_test
from simulations.errors import (
    DeviceOff,
    FishImpure,
    LawBroken,
    NodesDiffer,
    NotDeterministic,
    SimulationError,
)
from simulations.session import SESSION, Session

X = Tag("x")
COUNT: Fish[int] = Fish("count", X, 0, lambda count, _event, _metadata: count + 1)
WORK: Fish[WorkIds] = Fish(
    "work", X, WorkIds(), lambda work, _event, metadata: work.opened(metadata.event_key)
)
Body = Callable[[Sim], Awaitable[None]]


def play(body: Body, *, seeds: int = 1, nodes: int = 3, **more: Any) -> None:
    """Play a test from its seeds."""

    async def test(sim: Sim) -> None:
        await body(sim)

    swarm_test(seeds=seeds, nodes=nodes, **more)(test)()


@swarm_test(nodes=3, seeds=10)
async def test_both_sides_of_a_healed_partition_agree(sim: Sim) -> None:
    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.publish(X, 1)
        await c.publish(X, 2)
        await sim.run(minutes=1)
        with pytest.raises(
            NodesDiffer, match=r"a holds 1 by a\n.*b holds 1 by a\n.*c holds 1 by c"
        ):
            sim.assert_converged()
    await sim.converge()
    sim.assert_converged()
    assert await sim.same(lambda device: device.pond.current_state(COUNT)) == 2


@swarm_test(seeds=5)
async def test_every_word_of_the_vocabulary_ends_in_agreement(sim: Sim) -> None:
    a, b, c = sim.nodes
    sim.say("links")
    await sim.run(seconds=3)
    sim.cut(a, b)
    sim.stall(b, c)
    sim.slow(c, a, latency_s=0.3, loss=0.1)
    sim.flap(a, c, every_s=0.5)
    await asyncio.gather(*(device.publish(X, sim.random.random()) for device in sim.nodes))
    await sim.run(seconds=5)
    sim.mend(a, b)
    sim.heal()
    sim.isolate(a)
    sim.say("devices")
    sim.clock(a).jump(years=-40)
    backup = sim.backup(c)
    await sim.power_cut(a)
    await sim.crash(b)
    assert [device.running for device in sim.nodes] == [False, False, True]
    await sim.start(a)
    await sim.restart(b)
    await sim.restart(c)
    await sim.stop(c)
    sim.fill_disk(a)
    with pytest.raises(StoreFull):
        await a.publish(X, 1)
    sim.free_disk(a)
    await a.publish(X, 1)
    assert backup
    await sim.converge()
    assert await sim.same(lambda device: device.pond.current_state(COUNT)) == 4


def test_each_seed_is_another_run_and_the_first_is_played_twice() -> None:
    drawn: list[tuple[int, float]] = []

    async def body(sim: Sim) -> None:
        drawn.append((sim.seed, sim.random.random()))

    play(body, seeds=3)
    assert [seed for seed, _ in drawn] == [1, 1, 2, 3]
    assert drawn[0] == drawn[1]
    assert len({number for _, number in drawn}) == 3


def test_seeds_stop_at_the_first_that_fails() -> None:
    seen: list[int] = []

    async def body(sim: Sim) -> None:
        seen.append(sim.seed)
        assert sim.seed < 3

    with pytest.raises(AssertionError) as failure:
        play(body, seeds=9)
    assert seen == [1, 1, 2, 3, 3]
    assert failure.value.__notes__ == ["swarm: seed 3 of 1..9 failed"]


def test_the_session_says_which_seeds_and_where_pictures_go(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    session = Session(
        name="a/test.py::test[x]",
        seed=5,
        replay="replay {seed}",
        pictures=lambda: tmp_path,
        tell=lambda title, text: told.append((title, text)),
    )

    async def body(sim: Sim) -> None:
        sim.say("now it happens")
        raise KeyError(sim.seed)

    token = SESSION.set(session)
    try:
        with pytest.raises(KeyError) as failure:
            play(body, seeds=9)
    finally:
        SESSION.reset(token)
    picture = tmp_path / "a-test.py--test-x--seed-5.svg"
    assert failure.value.__notes__ == [
        "swarm: seed 5 failed",
        "swarm: replay it with: replay 5",
        f"swarm: picture of the run: {picture}",
    ]
    assert "now it happens" in picture.read_text("utf-8")
    [(title, text)] = told
    assert title == "swarm: seed 5"
    assert "now it happens" in text
    assert "KeyError" in text


def test_a_run_that_goes_otherwise_is_told() -> None:
    numbers = iter(range(1_000))

    async def body(sim: Sim) -> None:
        await sim.nodes[0].publish(X, next(numbers))

    with pytest.raises(NotDeterministic, match="two runs of seed 1 differ in the bytes"):
        play(body)


def test_a_fish_that_looks_elsewhere_is_told_though_states_agree() -> None:
    numbers = iter(range(100_000))

    def on_event(state: int, _event: Any, _metadata: Metadata) -> int:
        return state + next(numbers)

    async def body(sim: Sim) -> None:
        await sim.nodes[0].publish(X, 1)
        await sim.nodes[0].pond.current_state(Fish("counter", X, 0, on_event))

    with pytest.raises(FishImpure, match="two calls with equal inputs give different states"):
        play(body)


def test_a_fish_that_ran_only_before_a_restart_is_examined() -> None:
    async def body(sim: Sim) -> None:
        a = sim.nodes[0]
        a.pond.observe(Fish("clock", X, 0.0, lambda *_: asyncio.get_running_loop().time()))
        await a.publish(X, 1)
        await a.restart()

    with pytest.raises(FishImpure, match="fish 'clock'"):
        play(body)


def test_a_fish_that_depends_on_where_it_runs_differs_between_nodes() -> None:
    def on_event(state: int, _event: Any, metadata: Metadata) -> int:
        return state + metadata.is_local

    mine: Fish[int] = Fish("mine", X, 0, on_event)

    async def body(sim: Sim) -> None:
        await sim.nodes[0].publish(X, 1)
        await sim.converge()
        await sim.nodes[0].pond.current_state(mine)

    with pytest.raises(LawBroken, match="law 8: mine"):
        play(body)


def test_states_are_compared_as_they_are_shown_and_not_only_at_the_end() -> None:
    mine: Fish[tuple[bool, ...]] = Fish(
        "mine", X, (), lambda state, _, metadata: (*state, metadata.is_local)
    )

    async def body(sim: Sim) -> None:
        a, b, c = sim.nodes
        for device in sim.nodes:
            device.pond.observe(mine)
        await b.publish(X, 1)
        await sim.converge()
        await a.publish(X, 2)
        await sim.converge()
        await sim.stop(c)
        await sim.run(seconds=1)

    with pytest.raises(LawBroken, match=r"law 8: mine at \w differs"):
        play(body)


def test_what_was_acknowledged_is_looked_for() -> None:
    async def body(sim: Sim) -> None:
        a, _, _ = sim.nodes
        event = await a.publish(X, 1)
        a.acknowledged.append(event._replace(offset=event.offset + 1))

    with pytest.raises(LawBroken, match="law 1: a lost"):
        play(body)


def test_every_device_has_a_subscriber_that_sees_everything() -> None:
    async def body(sim: Sim) -> None:
        await sim.run(seconds=1)
        for task in asyncio.all_tasks():
            if "_listen" in str(task.get_coro()):
                task.cancel()
        await sim.nodes[0].publish(X, 1)

    with pytest.raises(LawBroken, match="law 11: a subscriber at a saw"):
        play(body)


def test_a_fish_of_local_events_may_differ() -> None:
    mine: Fish[int] = Fish("mine", X.local(), 0, lambda count, *_: count + 1)

    async def body(sim: Sim) -> None:
        a, b, c = sim.nodes
        for device in sim.nodes:
            device.pond.observe(mine)
        await a.publish(X, 1)
        await sim.converge()
        counts = [await device.pond.current_state(mine) for device in (a, b, c)]
        assert counts == [1, 0, 0]
        await b.restart()
        b.pond.observe(mine)
        for _ in range(3):
            await a.publish(X, 1)
            await sim.converge()

    play(body)


def test_what_breaks_in_the_background_is_raised_at_the_end() -> None:
    async def body(sim: Sim) -> None:
        sim._world.broken("law 0: made up")  # noqa: SLF001 - as a watcher would

    with pytest.raises(LawBroken, match="law 0"):
        play(body)


def test_a_fish_that_stops_fails_the_test() -> None:
    bad: Fish[float] = Fish("bad", X, 0.0, lambda *_: 1 / 0)

    async def body(sim: Sim) -> None:
        sim.nodes[0].pond.observe(bad)
        await sim.nodes[0].publish(X, 1)
        await sim.converge()

    with pytest.raises(FishStopped, match="bad"):
        play(body)


def test_a_test_that_takes_too_long_fails() -> None:
    async def body(_: Sim) -> None:
        await asyncio.Event().wait()

    with pytest.raises(SimulationError, match="has not ended after 1 minutes of virtual time"):
        play(body, minutes=1)


def test_a_timeout_of_the_test_itself_is_its_own() -> None:
    async def body(_: Sim) -> None:
        async with asyncio.timeout(1):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        play(body)


def test_same_tells_who_answers_what() -> None:
    async def body(sim: Sim) -> None:
        sim.isolate(sim.nodes[0])
        await sim.nodes[0].publish(X, 1)
        assert await sim.same(lambda device: device.running) is True
        await sim.same(lambda device: device.pond.current_state(COUNT))

    with pytest.raises(NodesDiffer, match=r"differently:\n  a: 1\n  b: 0\n  c: 0\n"):
        play(body)


def test_same_tells_equal_numbers_of_different_types_apart() -> None:
    async def body(sim: Sim) -> None:
        await sim.same(lambda device: True if device.name == "b" else 1)

    with pytest.raises(NodesDiffer, match="b: True"):
        play(body)


def test_same_asks_only_those_that_run() -> None:
    asked: list[object] = []

    async def body(sim: Sim) -> None:
        a, b, c = sim.nodes
        await sim.power_cut(a)
        asked.append(await sim.same(lambda device: device.node.offsets.to_json()))
        await sim.crash(b)
        await sim.stop(c)
        await sim.same(lambda device: device.name)

    with pytest.raises(DeviceOff, match="no device runs that could be asked"):
        play(body)
    assert asked[0] == {}


def test_nodes_are_silent_unless_one_seed_is_replayed() -> None:
    levels: list[int] = []

    async def body(_: Sim) -> None:
        levels.append(logging.getLogger("shoal").level)

    before = logging.getLogger("shoal").level
    play(body)
    assert set(levels) == {logging.CRITICAL}
    assert logging.getLogger("shoal").level == before
    levels.clear()
    token = SESSION.set(Session(seed=1))
    try:
        play(body)
    finally:
        SESSION.reset(token)
    assert set(levels) == {before}


def test_the_decorator_hides_sim_from_the_signature_and_nothing_else() -> None:
    @swarm_test
    async def test(first: int, sim: Sim, *, second: str = "x") -> None:
        """Says something."""

    assert str(inspect.signature(test)) == "(first: int, *, second: str = 'x') -> None"
    assert (test.__name__, test.__doc__) == ("test", "Says something.")
    assert not inspect.iscoroutinefunction(test)


def test_what_cannot_be_a_swarm_test_is_refused() -> None:
    async def without(other: Sim) -> None: ...

    def plain(sim: Sim) -> None: ...

    with pytest.raises(TypeError, match="'sim'"):
        swarm_test(without)
    with pytest.raises(TypeError, match="async"):
        swarm_test(plain)  # type: ignore[arg-type]
    for wrong in ({"nodes": 0}, {"seeds": 0}, {"minutes": 0.0}):
        with pytest.raises(ValueError, match="at least one"):
            swarm_test(**wrong)


def test_an_assertion_in_a_task_of_the_test_is_heard() -> None:
    async def body(sim: Sim) -> None:
        async def check() -> None:
            await asyncio.sleep(0.1)
            raise AssertionError("in the background")

        checking = asyncio.create_task(check())
        await sim.run(seconds=1)
        assert checking.done()
        del checking

    with pytest.raises(AssertionError, match="in the background"):
        play(body)


def test_an_assertion_in_an_observer_is_heard() -> None:
    fish: Fish[int] = Fish("count", X, 0, lambda count, *_: count + 1)

    def look(count: int) -> None:
        assert count < 1, "too many"

    async def body(sim: Sim) -> None:
        a, _, _ = sim.nodes
        a.pond.observe(fish, look)
        await a.publish(X, 1)
        await sim.run(seconds=1)

    with pytest.raises(AssertionError, match="too many"):
        play(body)


def test_what_one_partition_cut_another_does_not_heal() -> None:
    async def body(sim: Sim) -> None:
        a, b, c = sim.nodes
        with sim.partition({a}, {b, c}):
            with sim.partition({a, b}, {c}):
                await sim.run(seconds=1)
            await a.publish(X, 1)
            await sim.run(seconds=10)
            assert a.node.offsets != c.node.offsets
        sim.isolate(a)
        with sim.partition({a}, {b}):
            await sim.run(seconds=1)
        await a.publish(X, 2)
        await sim.run(seconds=10)
        assert a.node.offsets != b.node.offsets

    play(body)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_partition_that_cuts_nothing_is_refused(groups: int) -> None:
    async def body(sim: Sim) -> None:
        a, *_ = sim.nodes
        with sim.partition(*[{a}] * groups):
            pass

    with pytest.raises(ValueError, match="partition"):
        play(body)


def test_a_disk_that_is_full_for_a_while_breaks_no_law() -> None:
    async def body(sim: Sim) -> None:
        a, b, _ = sim.nodes
        await sim.run(seconds=10)
        await a.publish(X, 1)
        sim.fill_disk(b)
        await sim.run(seconds=4.9)
        sim.free_disk(b)
        await sim.run(seconds=10)

    play(body)


def test_a_disk_of_junk_fails_the_test_and_nothing_else() -> None:
    async def body(sim: Sim) -> None:
        await sim.restore_backup(sim.nodes[1], b"junk")

    with pytest.raises(Exception, match=r"database|disk"):
        play(body)


def test_a_test_that_asks_again_and_again_is_ended() -> None:
    async def body(_sim: Sim) -> None:
        while True:  # noqa: ASYNC110 - the mistake that this is about
            await asyncio.sleep(0)

    with pytest.raises(SimulationError, match="no time has passed"):
        play(body)


def test_a_device_that_starts_again_has_a_subscriber() -> None:
    async def body(sim: Sim) -> None:
        a, *_ = sim.nodes
        before = asyncio.all_tasks()
        await sim.restart(a)
        for task in asyncio.all_tasks() - before:
            if "_listen" in str(task.get_coro()):
                task.cancel()
        await a.publish(X, 1)

    with pytest.raises(LawBroken, match="law 11: a subscriber at a"):
        play(body)
