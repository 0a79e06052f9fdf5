"""The pond: observing fish, asking for their state, and their ends."""

import asyncio
from typing import Any

import pytest

from fish import (
    Fish,
    FishConflict,
    FishStopped,
    Metadata,
    Pond,
    PondClosed,
)
from lamport.offsets import OffsetMap
from lamport.tags import Tag
from tests.fish.memory_log import MemoryLog, stream_of
from tests.fish.ponds import (
    LIST,
    State,
    Watch,
    collected,
    from_scratch,
    listed,
    named,
    story,
    turns,
)


def test_an_observer_is_called_with_the_known_then_after_each_batch() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport in (1, 2, 3, 4):
            log.receive(1, lamport, lamport)
        watch = Watch(pond, LIST)
        assert await pond.current_state(LIST) == (1, 2, 3, 4)
        log.receive(1, 5, 5)
        await pond.current_state(LIST)
        assert watch.states == [(1, 2, 3, 4), (1, 2, 3, 4, 5)]

    story(act)


def test_an_empty_log_shows_the_initial_state() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        watch = Watch(pond, LIST)
        assert await pond.current_state(LIST) == ()
        assert watch.states == [()]

    story(act)


def test_events_of_others_call_nobody_but_are_covered() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        log.receive(1, 1, "x", "other")
        snapshot = await pond.snapshot(LIST)
        assert snapshot.offsets == log.offsets == OffsetMap({stream_of(1): 0})
        assert snapshot.key is None
        assert watch.states == [()]

    story(act)


def test_a_snapshot_tells_state_key_and_coverage() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        first = log.receive(1, 1, "x")
        log.receive(2, 2, "y", "other")
        snapshot = await pond.snapshot(LIST)
        assert (snapshot.state, snapshot.key) == (("x",), first.key)
        assert snapshot.offsets == log.offsets

    story(act)


def test_two_observers_share_one_fold() -> None:
    calls = []

    def counting(state: int, _event: Any, _metadata: Metadata) -> int:
        calls.append(state)
        return state + 1

    async def act(log: MemoryLog, pond: Pond) -> None:
        definition = Fish("count", Tag("a"), 0, counting)
        log.receive(1, 1, None)
        first: list[int] = []
        second: list[int] = []
        pond.observe(definition, first.append)
        await pond.current_state(definition)
        pond.observe(definition, second.append)
        log.receive(1, 2, None)
        await pond.current_state(definition)
        assert first[-1] == second[-1] == 2
        assert len(calls) == 2

    story(act)


def test_a_late_event_shows_only_the_end_result() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport in range(10, 200, 10):
            log.receive(1, lamport, lamport)
        watch = Watch(pond, LIST)
        before = await pond.current_state(LIST)
        log.receive(2, 15, "late")
        after = await pond.current_state(LIST)
        assert after == (10, "late", *before[1:])
        assert watch.states == [before, after]

    story(act)


def test_what_arrives_during_a_replay_is_folded_in_with_one_more() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport in range(100, 160):
            log.receive(1, lamport, lamport)
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        for lamport in range(60, 0, -1):
            log.receive(lamport + 10, lamport, lamport)
            await turns(1)
        assert await pond.current_state(LIST) == from_scratch(LIST, log.events)
        assert len(watch.states) < 20

    story(act)


def test_one_reads_ones_own_writes() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        for number in range(20):
            await pond.run(LIST, lambda _, enqueue, n=number: enqueue("a", n))  # type: ignore[misc]
            assert await pond.current_state(LIST) == tuple(range(number + 1))

    story(act)


def test_the_current_state_covers_what_was_published_elsewhere_before_the_call() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        assert await pond.current_state(LIST) == ("x",)

    story(act)


def test_an_observation_can_be_iterated_and_gives_the_latest() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        with pond.observe(LIST) as states:
            assert await anext(states) == ()
            log.receive(1, 1, "x")
            assert await anext(states) == ("x",)
            log.receive(1, 2, "y")
            await pond.current_state(LIST)
            log.receive(1, 3, "z")
            await pond.current_state(LIST)
            assert await anext(states) == ("x", "y", "z")

    story(act)


def test_cancelling_an_observation_ends_its_iteration_and_leaves_the_others() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        watch, other = Watch(pond, LIST), Watch(pond, LIST)
        observation = pond.observe(LIST)
        reading = asyncio.create_task(collected(observation))
        await pond.current_state(LIST)
        await turns(3)
        watch.observation.cancel()
        observation.cancel()
        assert await reading == [()]
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        assert watch.states == [()]
        assert other.states == [(), ("x",)]
        assert Watch(pond, LIST).states == []
        assert await pond.current_state(LIST) == ("x",)

    story(act)


def test_an_observation_cancelled_at_once_is_never_called() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        watch = Watch(pond, LIST)
        watch.observation.cancel()
        await pond.current_state(LIST)
        await turns(3)
        assert watch.states == []

    story(act)


def test_a_later_observer_of_an_idle_fish_is_called_without_a_new_event() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        called = asyncio.get_running_loop().create_future()
        pond.observe(LIST, called.set_result)
        assert await called == ("x",)

    story(act)


def test_a_raising_observer_ends_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        calls = []

        def failing(state: State) -> None:
            calls.append(state)
            raise LookupError("observer")

        pond.observe(LIST, failing)
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        assert calls == [()]
        assert watch.states == [(), ("x",)]

    story(act)
    assert "an observer raised" in caplog.text


def test_a_raising_reducer_stops_its_fish_at_the_last_good_state() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        watch = Watch(pond, LIST)
        other = Fish("other", Tag("a"), 0, lambda state, _event, _metadata: state + 1)
        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        poison = log.receive(1, 2, "poison")
        log.receive(1, 3, "y")
        with pytest.raises(FishStopped) as stopped:
            await pond.current_state(LIST)
        assert stopped.value.key == poison.key
        assert isinstance(stopped.value.__cause__, LookupError)
        assert watch.states[-1] == ("x",)
        assert [one.key for one in watch.stops] == [poison.key]
        assert await pond.current_state(other) == 3

    story(act)


def test_a_later_observer_of_a_stopped_fish_gets_the_last_good_state_then_the_stop() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        log.receive(1, 2, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        told: list[Any] = []
        ended = asyncio.get_running_loop().create_future()

        def on_stop(stopped: FishStopped) -> None:
            told.append(stopped.function)
            ended.set_result(None)

        pond.observe(LIST, told.append, on_stop)
        await ended
        assert told == [("x",), "on_event"]
        observation = pond.observe(LIST)
        assert await anext(observation) == ("x",)
        with pytest.raises(FishStopped):
            await anext(observation)
        assert await collected(observation) == []

    story(act)


def test_a_late_poison_event_leaves_the_state_that_was_shown() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 5, "ok")
        watch = Watch(pond, LIST)
        await pond.current_state(LIST)
        log.receive(2, 1, "poison")
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        assert watch.states == [("ok",)]
        assert len(watch.stops) == 1

    story(act)


def test_a_fish_that_fails_on_what_is_stored_shows_no_state_at_every_start() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        watch = Watch(pond, LIST)
        with pytest.raises(FishStopped):
            await pond.current_state(LIST)
        assert watch.states == []
        assert len(watch.stops) == 1

    log = MemoryLog()
    log.receive(1, 1, "x")
    log.receive(1, 2, "poison")
    story(act, log)
    story(act, log)
    assert log.snapshots == []


def test_another_definition_under_the_same_name_and_version_is_refused() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        pond.observe(named("f"))
        assert await pond.current_state(named("f")) == ()
        assert await pond.current_state(named("f", version=2)) == ()
        other = Fish("f", Tag("b"), (), listed)
        with pytest.raises(FishConflict):
            pond.observe(other)
        with pytest.raises(FishConflict):
            await pond.run(other, lambda _state, _enqueue: None)

    story(act)


def test_the_pond_tells_which_fish_run() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        assert not pond.running
        newer = named("b", version=3)
        for definition in (newer, named("b"), named("a")):
            await pond.current_state(definition)
        assert pond.running == ("a", "b")
        assert pond.find("b") is newer
        assert pond.find("c") is None

    story(act)


def test_closing_ends_everything_that_waits() -> None:
    async def run() -> None:
        log = MemoryLog()
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks)
            begun = asyncio.Event()

            async def endless(_state: State, _enqueue: Any) -> None:
                begun.set()
                await asyncio.Event().wait()

            reading = asyncio.create_task(collected(pond.observe(LIST)))
            effects = [asyncio.create_task(pond.run(LIST, endless)) for _ in range(2)]
            await begun.wait()
            unborn = pond.observe(named("unborn"))
            await asyncio.gather(pond.close(), pond.close())
            assert await reading == [()]
            assert await collected(unborn) == []
            results = await asyncio.gather(*effects, return_exceptions=True)
            assert [type(one) for one in results] == [PondClosed, PondClosed]
            with pytest.raises(PondClosed):
                pond.observe(LIST)
            with pytest.raises(PondClosed):
                await pond.current_state(LIST)

    asyncio.run(run())


def test_an_error_of_the_log_ends_the_group_and_whoever_waits() -> None:
    class Broken(MemoryLog):
        async def load_snapshots(self, *_: Any) -> Any:
            raise OSError("the disk failed")

    async def run() -> None:
        outside: list[asyncio.Task[Any]] = []

        async def live() -> None:
            async with asyncio.TaskGroup() as tasks:
                pond = Pond(Broken(), tasks)
                outside.append(asyncio.create_task(pond.current_state(LIST)))
                await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as failure:
            await live()
        assert failure.group_contains(OSError)
        with pytest.raises(PondClosed) as closed:
            await outside[0]
        assert isinstance(closed.value.__cause__, OSError)

    asyncio.run(run())


def test_the_end_of_the_log_leaves_what_is_known() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        log.receive(1, 2, "y")
        log.close()
        assert await pond.current_state(LIST) == ("x", "y")

    story(act)


def test_an_observation_cancelled_by_another_observer_is_not_called_any_more() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        victims: list[Watch] = []

        def cancelling(state: State) -> None:
            if state:
                victims[0].observation.cancel()

        pond.observe(LIST, cancelling)
        victims.append(Watch(pond, LIST))
        await pond.current_state(LIST)
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        assert victims[0].states == [()]

    story(act)


def test_what_arrives_in_any_order_while_the_fish_is_busy_is_folded_in_order() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport in range(1, 60):
            log.receive(1, lamport, lamport)
        pond.observe(LIST)
        await turns(4)
        log.receive(2, 900, "second")
        await turns(2)
        log.receive(3, 800, "first")
        assert await pond.current_state(LIST) == (*range(1, 60), "first", "second")

    story(act)


def test_the_pond_follows_the_log_from_its_start_on() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        await pond.current_state(Fish("other", Tag("b"), 0, lambda state, _, __: state))
        assert log.followed == [log.offsets]

    story(act)


def test_whoever_closes_second_waits_for_the_end_too() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        await pond.current_state(LIST)
        first = asyncio.create_task(pond.close())
        await turns(1)
        await pond.close()
        assert len(log.snapshots) == 1
        await first

    story(act)
