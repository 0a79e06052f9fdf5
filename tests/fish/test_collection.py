"""Collections of fish: seeds name them, all states are shown together."""

import asyncio
import random
from typing import Any

import pytest

from fish import Fish, FishStopped, Metadata, Pond
from fish.collection import PATIENCE
from lamport.event import Event
from lamport.ids import EventKey
from lamport.tags import Tag, Tags
from tests.fish.memory_log import MemoryLog, stream_of
from tests.fish.ponds import State, listed, story, turns

SEED = Tag("seed")


def member(payload: Any, _: Metadata) -> Fish[State] | None:
    if payload == "nobody":
        return None
    if payload == "broken":
        raise LookupError(payload)
    return Fish(f"of {payload}", Tags(f"t:{payload}"), (), listed)


def test_members_are_shown_together_and_never_in_part() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport, payload in enumerate(("x", "nobody", "broken", "y", "x"), 1):
            log.receive(1, lamport, payload, "seed")
        log.receive(2, 1, 1, "t:x", "t:y")
        shown: list[Any] = []
        pond.observe_all(SEED, member, shown.append)
        await turns(100)
        assert shown == [((1,), (1,))]
        log.receive(2, 2, 2, "t:x", "t:y")
        await turns(100)
        assert shown[1:] == [((1, 2), (1, 2))]
        log.receive(1, 9, "z", "seed")
        await turns(100)
        assert shown[2:] == [((1, 2), (1, 2), ())]

    story(act)


@pytest.mark.parametrize("seed", range(40))
def test_no_member_is_shown_that_covers_more_than_another(seed: int) -> None:
    """Some take longer than others: what concerns one alone comes late, too."""
    randomness = random.Random(seed)

    async def act(log: MemoryLog, pond: Pond) -> None:
        for lamport, name in enumerate("wxyz", 1):
            log.receive(1, lamport, name, "seed")
        shown = list[tuple[State, ...]]()
        pond.observe_all(SEED, one_of_all, shown.append)
        await turns(50)
        clocks = dict.fromkeys((2, 3, 4), 0)
        for number in range(40):
            stream, name = randomness.choice((2, 3, 4)), randomness.choice(["all", "all", *"wxyz"])
            clocks[stream] += randomness.randint(1, 40)
            log.receive(stream, clocks[stream], (name, number), f"t:{name}")
            await turns(randomness.choice((0, 1, 2, 3, 5, 8)))
        await turns(200)
        together = [[[one for one in state if one[0] == "all"] for state in each] for each in shown]
        assert all(one == states[0] for states in together for one in states)
        held = [one.payload for one in log.events if one.tags == ("t:all",)]
        assert together[-1] == [held] * 4

    story(act, MemoryLog(page=randomness.choice((1, 3, 50))))


def one_of_all(name: Any, _: Metadata) -> Fish[State]:
    return Fish(f"one {name}", Tags("t:all") | Tags(f"t:{name}"), (), listed)


def test_a_member_that_never_comes_to_rest_does_not_keep_the_others_from_being_shown() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def busy(state: State, event: Any, meta: Metadata) -> State:
            if len(log.events) < 3 * PATIENCE:
                log.receive(3, 100 + len(log.events), "more", "t:busy")
            return listed(state, event, meta)

        def of(name: Any, _: Metadata) -> Fish[State]:
            return Fish(f"of {name}", Tags(f"t:{name}"), (), busy if name == "busy" else listed)

        log.receive(1, 1, "busy", "seed")
        log.receive(1, 2, "x", "seed")
        shown = list[tuple[State, ...]]()
        pond.observe_all(SEED, of, shown.append)
        await turns(50)
        log.receive(2, 1, 1, "t:x", "t:busy")
        while not (shown and shown[-1][1]):
            await turns(1)
        assert len(log.events) < 3 * PATIENCE

    story(act)


def test_a_member_that_stops_leaves_the_others_alone() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        log.receive(1, 1, "x", "seed")
        log.receive(1, 2, "y", "seed")
        with pond.observe_all(SEED, member) as observation:
            assert await anext(observation) == ((), ())
            log.receive(2, 3, "poison", "t:x")
            log.receive(2, 4, "fine", "t:y")
            while (states := await anext(observation)) != ((), ("fine",)):
                assert states in (((), ()), ((), ("fine",)))

    story(act)


def test_a_member_whose_seed_is_old_leaves_when_a_younger_seed_comes() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def seed(offset: int, payload: str, second: int) -> Event:
            key = EventKey(offset + 1, stream_of(1))
            return Event(key, offset, second * 1_000_000, ("seed",), "test", payload)

        log.commit([seed(0, "x", 0), seed(1, "y", 8)])
        shown: list[Any] = []
        pond.observe_all(SEED, member, shown.append, expire_after_s=5)
        await turns(100)
        log.commit([seed(2, "z", 10)])
        await turns(100)
        assert [len(states) for states in shown] == [2, 2]
        log.receive(2, 1, "late", "t:x")
        await turns(100)
        assert len(shown) == 2, "it has left"

    story(act)


@pytest.mark.parametrize("is_late_live", [False, True])
def test_an_older_seed_that_comes_late_makes_a_member_no_older(*, is_late_live: bool) -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def seed(stream: int, offset: int, payload: str, second: int) -> Event:
            key = EventKey(10 * stream + offset, stream_of(stream))
            return Event(key, offset, second * 1_000_000, ("seed",), "test", payload)

        log.commit([seed(1, 0, "x", 9)])
        late = [seed(2, 0, "x", 0)]
        if not is_late_live:
            log.commit(late)
        shown: list[Any] = []
        pond.observe_all(SEED, member, shown.append, expire_after_s=5)
        await turns(100)
        if is_late_live:
            log.commit(late)
        await turns(100)
        log.commit([seed(1, 1, "z", 10)])
        await turns(100)
        assert [len(states) for states in shown] == [1, 2]

    story(act)


def test_a_member_whose_younger_seed_is_retracted_is_as_old_as_the_one_left() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        def seed(offset: int, payload: str, second: int) -> Event:
            key = EventKey(offset + 1, stream_of(1))
            return Event(key, offset, second * 1_000_000, ("seed",), "test", payload)

        again = seed(1, "x", 9)
        log.commit([seed(0, "x", 0), again])
        shown: list[Any] = []
        pond.observe_all(SEED, member, shown.append, expire_after_s=5)
        await turns(100)
        log.retract(again.key)
        await turns(100)
        log.commit([seed(2, "z", 10)])
        await turns(100)
        assert shown == [((),), ((),)]
        log.receive(2, 1, "late", "t:x")
        await turns(100)
        assert len(shown) == 2, "it has left"

    story(act)


def test_one_fish_is_watched_once_somebody_names_it() -> None:
    async def act(log: MemoryLog, pond: Pond) -> None:
        shown: list[State] = []
        stops: list[FishStopped] = []
        pond.observe_one(SEED, member, shown.append, stops.append)
        log.receive(2, 1, 1, "t:x")
        log.receive(1, 1, "nobody", "seed")
        await turns(50)
        assert shown == []
        log.receive(1, 2, "x", "seed")
        await turns(50)
        log.receive(2, 2, "poison", "t:x")
        await turns(50)
        assert shown == [(1,)]
        assert len(stops) == 1

    story(act)


def test_collections_and_lookouts_end_with_the_pond() -> None:
    async def act(_log: MemoryLog, pond: Pond) -> None:
        every = [
            pond.observe_all(SEED, member),
            pond.observe_one(SEED, member),
            pond.observe_latest(SEED),
        ]
        waiting = [asyncio.create_task(_rest(one)) for one in every]
        await turns(50)
        await pond.close()
        assert await asyncio.gather(*waiting) == [[()], [], []]

    async def _rest(observation: Any) -> list[Any]:
        return [one async for one in observation]

    story(act)


def test_groups_are_shown_by_their_keys_and_a_fish_of_each_is_made_once() -> None:
    made: list[str] = []

    def key(payload: Any, _: Metadata) -> str | None:
        return payload[0] if payload[0] != "nobody" else None

    def of_group(name: str) -> Fish[State]:
        made.append(name)
        return Fish(f"group {name}", Tag("w").with_id(name), (), listed)

    async def act(log: MemoryLog, pond: Pond) -> None:
        shown: list[Any] = []
        for lamport, name in enumerate(("x", "y", "x", "nobody"), 1):
            log.receive(1, lamport, [name, lamport], "w", f"w:{name}")
        observation = pond.observe_groups(Tag("w"), key, of_group, shown.append)
        await turns(100)
        assert shown == [{"x": (["x", 1], ["x", 3]), "y": (["y", 2],)}]
        log.receive(2, 9, ["z", 9], "w", "w:z")
        await turns(100)
        assert shown[-1]["z"] == (["z", 9],)
        assert made == ["x", "y", "z"]
        assert len(log.followed) == 2, (
            "one of the pond and one of the seeds, whatever the number of groups"
        )
        observation.cancel()
        log.receive(2, 10, ["z", 10], "w", "w:z")
        count = len(shown)
        await turns(50)
        assert len(shown) == count

    story(act)
