"""Retractions among many fish: whom they concern, who is idle, who is commutative, who only looks out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fish import Fish, FishStopped, Metadata, Pond
from fish.surroundings import Limits
from lamport.errors import DamagedEvent
from lamport.event import Event
from lamport.ids import EventKey
from lamport.offsets import OffsetMap, OffsetRange
from lamport.tags import Tag, Where
from lamport.upcasters import Upcaster, Upcasters
from tests.fish.histories import arriving_histories, patient
from tests.fish.memory_log import AT_ONCE, MemoryLog
from tests.fish.ponds import LIST, RESET, State, from_scratch, listed, named, story, turns

A = Tag("a")


def sorted_in(state: State, payload: Any, _metadata: Metadata) -> State:
    return tuple(sorted((*state, payload), key=repr))


BAG: Fish[State] = Fish("bag", A, (), sorted_in, commutative=True)


def visible(log: MemoryLog, offsets: OffsetMap) -> list[Event]:
    """What a log shows up to these offsets, in key order."""
    held = [one for one in log.events if one.offset <= offsets.of(one.stream)]
    return [one for one in held if not log.hides(one, offsets)]


def test_a_commutative_fish_folds_anew_without_what_is_retracted() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        first = log.receive(1, 10, "x")
        log.receive(1, 20, "y")
        assert await pond.current_state(BAG) == ("x", "y")
        log.receive(2, 5, "late")
        log.retract(first.key)
        assert await pond.current_state(BAG) == ("late", "y")

    async def again(log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(BAG) == ("late", "y")
        log.receive(2, 6, "later")
        assert await pond.current_state(BAG) == ("late", "later", "y")

    story(again, story(act))


def test_a_stored_snapshot_of_a_commutative_fish_does_not_hold_with_what_was_retracted() -> None:
    async def fill(log: MemoryLog, pond: Pond) -> None:
        for lamport, payload in enumerate("xyz", 1):
            log.receive(1, lamport, payload)
        await pond.current_state(BAG)

    async def again(_log: MemoryLog, pond: Pond) -> None:
        assert await pond.current_state(BAG) == ("x", "z")

    log = story(fill)
    assert log.snapshots
    log.retract(log.events[1].key)
    story(again, log)


def test_a_fish_that_went_idle_comes_back_without_what_was_retracted_meanwhile() -> None:
    async def act(log: MemoryLog) -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=Limits(idle_fish=0))
            events = [log.receive(1, lamport, lamport) for lamport in range(1, 5)]
            assert await pond.current_state(LIST) == (1, 2, 3, 4)
            await pond.current_state(named("other"))
            await turns(20)
            assert "list" not in pond.running
            log.retract(events[2].key)
            assert await pond.current_state(LIST) == (1, 2, 4)
            await pond.close()

    asyncio.run(act(MemoryLog()))


def test_what_a_fish_could_read_before_the_feed_had_it_does_not_stay_when_it_is_retracted() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        await pond.current_state(named("other"))
        await turns(20)
        pond.observe(LIST)

        async def retract() -> None:
            log.retract(event.key)

        retracting = asyncio.create_task(retract())  # behind the fish, before the feed
        event = log.receive(1, 1, "x")
        await retracting
        assert await pond.current_state(LIST) == ()

    story(act)


class Untold(MemoryLog):
    """A log that has lost the tags of what is retracted."""

    def hidden_between(self, lower: OffsetMap, upper: OffsetMap) -> list[Event]:
        return [one._replace(tags=()) for one in super().hidden_between(lower, upper)]


def test_what_tells_no_tags_any_more_is_told_to_all() -> None:
    other: Fish[State] = Fish("other", Tag("b"), (), listed)

    async def act(log: MemoryLog, pond: Pond) -> None:
        first = log.receive(1, 1, 1)
        log.receive(1, 2, 2, "b")
        assert await pond.current_state(LIST) == (1,)
        assert await pond.current_state(other) == (2,)
        log.retract(first.key)
        assert await pond.current_state(LIST) == ()
        assert await pond.current_state(other) == (2,)

    story(act, Untold())


def test_an_explanation_leaves_out_what_is_retracted_unless_it_was_not_yet() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        events = [log.receive(1, lamport, lamport) for lamport in range(1, 4)]
        await pond.current_state(LIST)
        log.retract(events[1].key)
        await pond.current_state(LIST)
        explained = await pond.explain(LIST)
        assert explained.state == (1, 3)
        assert [step.event.payload for step in explained.steps] == [1, 3]
        [travel] = explained.travels
        assert travel.late == events[1].key
        assert (await pond.explain(LIST, offsets=travel.before)).state == (1, 2, 3)

    story(act)


def test_an_explanation_is_in_todays_versions() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x")
        assert (await pond.explain(LIST)).state == ("x?",) == await pond.current_state(LIST)

    log = MemoryLog()
    log.upcasters = Upcasters(Upcaster("a", 1, lambda payload: payload + "?"))
    story(act, log)


def test_where_the_best_is_retracted_the_next_best_is_shown() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        latest: list[Any] = []
        counts: list[int] = []
        pond.observe_latest(A, latest.append)
        pond.observe_unordered_reduce(A, lambda n, *_: n + 1, 0, counts.append)
        events = [log.receive(1, lamport, lamport) for lamport in range(1, 4)]
        await turns(20)
        log.retract(events[0].key)
        await turns(20)
        assert (latest[-1].payload, counts[-1]) == (3, 2)
        shown = len(latest)
        log.retract(events[2].key)
        await turns(20)
        assert [one.payload for one in latest[shown:]] == [2]
        assert counts[-1] == 1

    story(act)


def test_a_member_goes_when_all_seeds_that_named_it_are_retracted() -> None:
    def one_of(payload: Any, _metadata: Metadata) -> Fish[State]:
        return Fish(f"fish {payload}", Tag(f"b:{payload}"), (payload,), listed)

    async def act(log: MemoryLog, pond: Pond) -> None:
        shown: list[tuple[State, ...]] = []
        pond.observe_all(A, one_of, shown.append)
        x, _, again = (log.receive(1, n, payload) for n, payload in enumerate("xyx", 1))
        await turns(30)
        log.retract(x.key)
        await turns(30)
        assert shown[-1] == (("x",), ("y",))
        log.retract(again.key)
        await turns(30)
        assert shown[-1:] == [(("y",),)]

    story(act)


def test_a_lookout_that_cannot_go_on_stops_and_nothing_else() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def poisoned(_state: int, _payload: Any, _metadata: Metadata) -> int:
            raise LookupError("poison")

        observation = pond.observe_unordered_reduce(A, poisoned, 0)
        log.receive(1, 1, 1)
        with pytest.raises(FishStopped, match="poison"):
            [_ async for _ in observation]
        assert await pond.current_state(LIST) == (1,)

    story(act)


class Scratched(MemoryLog):
    """A log whose disk has lost an event."""

    lost: EventKey | None = None

    async def read(self, where: Where, **bounds: Any) -> AsyncIterator[Sequence[Event]]:
        async for page in super().read(where, **bounds):
            for event in page:
                if event.key == self.lost:
                    damage = OffsetRange(event.stream, event.offset, event.offset)
                    raise DamagedEvent(event.key, damage, "lost")
            yield page


@pytest.mark.parametrize("fish", [LIST, BAG])
def test_fish_that_stopped_because_of_damage_begin_again_when_it_is_mended(
    fish: Fish[State],
) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        assert isinstance(log, Scratched)
        states: list[State] = []
        first, second, third = (log.receive(1, 10 * n, n) for n in range(1, 4))
        observation = pond.observe(fish, states.append)
        await pond.current_state(fish)
        log.lost = second.key
        log.retract(first.key)
        with pytest.raises(FishStopped, match="its log raised DamagedEvent"):
            await pond.current_state(fish)
        await turns(20)
        held = observation.snapshot
        log.receive(1, 40, 4)
        log.retract(third.key)
        await turns(20)
        assert observation.snapshot == held, "it covers nothing more while it is stopped"
        log.lost = None
        pond.revive()
        assert await pond.current_state(fish) == (2, 4)
        log.receive(1, 50, 5)
        assert await pond.current_state(fish) == (2, 4, 5)
        assert states[-1] == (2, 4, 5)
        assert not pond.stopped

    story(act, Scratched())


@patient
@given(
    arriving_histories(),
    st.data(),
    st.sampled_from([1, 2, AT_ONCE]),
    st.sampled_from(
        [Limits(waiting_events=3, snapshot_every=2, idle_fish=1), Limits(idle_fish=2), Limits()]
    ),
)
def test_whoever_is_asked_whenever_shows_the_fold_of_what_is_visible(
    batches: list[list[Event]], data: st.DataObject, batch: int, limits: Limits
) -> None:
    log = MemoryLog(2, batch)
    every = [event.key for one in batches for event in one]
    retracted = data.draw(st.lists(st.sampled_from(every), max_size=5)) if every else []
    acts: list[Any] = data.draw(st.permutations([*range(len(batches)), *retracted]))
    asked = data.draw(
        st.lists(
            st.tuples(st.sets(st.sampled_from([0, 1, 2])), st.integers(0, 9)),
            min_size=len(acts),
            max_size=len(acts),
        )
    )
    order = iter(batches)

    async def live() -> None:
        async with asyncio.TaskGroup() as tasks:
            pond = Pond(log, tasks, limits=limits)
            for act, (numbers, pause) in zip(acts, asked, strict=True):
                if isinstance(act, int):
                    log.commit(next(order))
                else:
                    log.retract(act, lamport=max(act.lamport, 100) + len(log.events))
                for number in sorted(numbers):
                    tasks.create_task(shown(pond, (LIST, RESET, BAG)[number]))
                await turns(pause)
            for fish in (LIST, RESET, BAG):
                await shown(pond, fish)
            await pond.close()

    async def shown(pond: Pond, fish: Fish[State]) -> None:
        snapshot = await pond.snapshot(fish)
        assert snapshot.state == from_scratch(fish, visible(log, snapshot.offsets))
        explained = await pond.explain(fish, offsets=snapshot.offsets)
        assert explained.state == snapshot.state

    asyncio.run(live())
