"""Retention in a swarm, under virtual time and all laws: what a policy gives up goes everywhere, and nothing else."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from fish.definition import Fish, Metadata
from lamport.ids import StreamId
from lamport.offsets import OffsetMap
from lamport.routes import Policy, Route
from lamport.seams import Statement
from lamport.tags import Tag
from simulations.device import Device
from simulations.errors import LawBroken
from simulations.horizons import HorizonWatch
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.watching import Listener
from simulations.world import World
from transport.messages import ANY_HASH, Declined, Events, Message, Want
from transport.phases import Taken
from transport.session import Session

SENSED, NOTE = Tag("sensed"), Tag("note")
ROUTES = (Route(SENSED, "sensors", Policy(max_events=10)),)


def tell(story: Callable[[World], Awaitable[object]], seed: int = 1, nodes: int = 3) -> None:
    """Run a story with the laws on; all hold the same in the end."""

    async def go() -> None:
        world = World(seed, nodes, routes=ROUTES)
        auditor = Auditor(world)
        auditor.watch()
        async with world.started():
            listeners = [Listener(device, auditor) for device in world.nodes]
            await story(world)
            await world.converge()
            for device in world.nodes:
                auditor.check_acknowledged(device)
            await check_converged(world, [])
            for listener in listeners:
                await listener.check()

    run_simulated(go(), random.Random(seed))


async def sense(device: Device, count: int) -> StreamId:
    """Publish so many readings; returns their stream."""
    stream = None
    for number in range(count):
        stream = (await device.publish(SENSED, number)).stream
    assert stream is not None
    return stream


def counted(count: int, _event: object, _metadata: Metadata) -> int:
    return count + 1


async def readings(device: Device) -> list[object]:
    return [event.payload async for event in device.node.query(SENSED)]


def test_every_node_follows_its_author_even_where_nothing_new_is_written() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        await a.publish(NOTE, "kept")
        stream = await sense(a, 12)
        await world.run(seconds=2)
        for device in (a, b, c):
            assert device.node.log.horizons == {stream: 2}
            assert device.node.offsets[stream] == 11
            assert await readings(device) == list(range(2, 12))
            status = device.node.status()
            assert (status.horizons, status.missing) == ({stream: 2}, {})

    tell(story)


def test_a_newcomer_starts_at_the_horizon_and_hands_it_on() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        await c.stop()
        await b.stop()
        stream = await sense(a, 40)
        await world.run(seconds=1)
        await b.start()
        await world.run(seconds=2)
        assert b.node.log.horizons == {stream: 30}
        await a.stop()
        await c.start()
        await world.run(seconds=3)
        assert c.node.log.horizons == {stream: 30}
        assert await readings(c) == list(range(30, 40))
        assert c.node.offsets == b.node.offsets == OffsetMap({stream: 39})

    tell(story)


def test_nobody_asks_for_what_was_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Want] = []
    take = Session.take

    def noted(session: Session, message: Message, now: float) -> Taken:
        if isinstance(message, Want):
            asked.append(message)
        return take(session, message, now)

    monkeypatch.setattr(Session, "take", noted)

    async def story(world: World) -> None:
        a, b, _ = world.nodes
        stream = await sense(a, 11)
        await world.run(seconds=1)
        world.isolate(b)
        await sense(a, 40)
        await world.run(seconds=10)
        asked.clear()
        world.heal()
        await world.run(seconds=5)
        assert b.node.log.horizons == {stream: 40}
        assert {(want.stream, want.first) for want in asked} == {(stream, 40)}

    tell(story)


def test_a_horizon_that_comes_to_a_full_disk_is_followed_when_there_is_room() -> None:
    async def story(world: World) -> None:
        a, b, _ = world.nodes
        stream = await sense(a, 11)
        await world.run(seconds=1)
        b.fill_disk()
        await sense(a, 1)
        await world.run(seconds=10)
        assert a.node.log.horizons == {stream: 2}
        assert b.node.log.horizons == {}
        b.fill_disk(full=False)
        await world.run(seconds=5)
        assert b.node.log.horizons == {stream: 2}

    tell(story)


@pytest.mark.parametrize("seed", range(4))
def test_a_healed_partition_agrees_on_horizons(seed: int) -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        streams = [await sense(device, 11) for device in (a, b, c)]
        with world.partition({a}, {b, c}):
            for device in (a, b, c):
                await sense(device, 25)
            await world.run(seconds=20)
        await world.converge()
        for device in (a, b, c):
            assert set(device.node.log.horizons) == set(streams)

    tell(story, seed)


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_or_power_cut_in_the_middle_of_it_does_no_harm(seed: int) -> None:
    async def story(world: World) -> None:
        a, b, _ = world.nodes
        await sense(a, 11)
        for commits in (1, 2, 3):
            a.power_cut_after_commit(commits)
            b.power_cut_after_commit(commits)
            writing = asyncio.gather(sense(a, 14), return_exceptions=True)
            await world.run(seconds=2)
            await writing
            await world.recover()
            await a.restart()
        await world.run(seconds=2)

    tell(story, seed)


def test_a_restored_backup_writes_new_streams_and_follows_its_own_old_horizon() -> None:
    async def story(world: World) -> None:
        a, b, _ = world.nodes
        old = await sense(a, 11)
        await world.run(seconds=1)
        backup = a.backup()
        await sense(a, 40)
        await world.run(seconds=2)
        await a.restore_backup(backup)
        new = await sense(a, 5)
        assert new != old
        await world.run(seconds=4)
        assert a.node.log.horizons == b.node.log.horizons == {old: 40}
        assert a.node.offsets == OffsetMap({old: 50, new: 4})
        assert old not in a.node.log.own_streams

    tell(story)


def test_a_fish_says_behind_which_horizons_it_cannot_see() -> None:
    async def story(world: World) -> None:
        a, b, _ = world.nodes
        readings, own = [
            Fish(name, where, 0, counted)
            for name, where in (("readings", SENSED), ("own readings", SENSED.local()))
        ]
        shown = [device.pond.observe(fish) for device in (a, b) for fish in (readings, own)]
        assert [one.pruned for one in shown] == [{}] * 4
        stream = await sense(a, 12)
        await world.run(seconds=2)
        horizon = {stream: 2}
        assert [one.pruned for one in shown] == [horizon, horizon, horizon, {}]

    tell(story)


def test_the_laws_notice_who_prunes_what_nobody_gave_up() -> None:
    devices: list[Device] = []

    async def story(world: World) -> None:
        a, b, _ = world.nodes
        await sense(a, 12)
        await world.run(seconds=1)
        with pytest.raises(LawBroken, match=r"law 2: b prunes .* only up to 0"):
            HorizonWatch().look(b)
        devices[:] = a, b

    tell(story)
    a, b = devices
    watch = HorizonWatch()
    watch.look(a)
    watch.look(b)
    a.world.routes = (Route(SENSED, "sensors", Policy(max_events=11)),)  # type: ignore[misc]  # a world's can be set
    with pytest.raises(LawBroken, match=r"law 1: a keeps 10 of .*, not 11"):
        HorizonWatch().look(a)
    a.world.routes = ()  # type: ignore[misc]  # as above
    with pytest.raises(LawBroken, match=r"law 1: a prunes .* no route leads"):
        HorizonWatch().look(a)
    b.platter.transact([Statement('DELETE FROM events WHERE "offset" = 2')])
    with pytest.raises(LawBroken, match=r"law 2: b holds 9 events"):
        watch.look(b)


def test_who_asked_from_a_horizon_that_moved_on_meanwhile_is_given_what_is_kept_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[tuple[Session, Message]] = []
    take = Session.take

    def noted(session: Session, message: Message, now: float) -> Taken:
        if isinstance(message, Events | Declined):
            answers.append((session, message))
        return take(session, message, now)

    monkeypatch.setattr(Session, "take", noted)

    async def story(world: World) -> None:
        a, _ = world.nodes
        stream = await sense(a, 37)
        await world.run(seconds=5)
        assert a.node.log.horizons == {stream: 26}
        session, _ = answers[-1]
        answers.clear()
        session.say(Want(stream, 15, 24, ANY_HASH, certificate=True))
        await world.run(seconds=1)
        [(_, answer)] = answers
        assert isinstance(answer, Events)
        assert answer.range.first == 26

    tell(story, nodes=2)


def test_what_is_left_of_a_stream_whose_author_lost_all_that_it_kept_is_had_by_everybody() -> None:
    async def story(world: World) -> None:
        a, b, c = world.nodes
        empty = a.backup()
        stream = await sense(a, 5)
        await world.run(seconds=1)
        world.isolate(a)
        await sense(a, 20)
        await world.run(seconds=5)
        horizon = a.node.log.store.horizons[stream].seal
        for told in (b, c):
            await told.node.log.follow_horizon(horizon)
        await a.restore_backup(empty)
        await world.converge()
        assert a.node.offsets == b.node.offsets == c.node.offsets == OffsetMap({stream: 4})
        assert await readings(a) == list(range(5))

    tell(story)
