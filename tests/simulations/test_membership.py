"""Revoking and rotating in a swarm, under virtual time and all laws: partitions, power cuts, devices that were away."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from fish.definition import Fish, Metadata
from lamport.errors import NodeRevoked
from lamport.event import draft
from lamport.seams import INLINE
from lamport.tags import Tag
from simulations.device import Device
from simulations.knobs import turned_down
from simulations.laws import Auditor, check_converged
from simulations.loop import run_simulated
from simulations.plan import ADMIN, draw_plan
from simulations.planted import BUGS, planted
from simulations.play import play
from simulations.revoking import check_epoch
from simulations.sim import Sim
from simulations.swarm import swarm_test
from simulations.watching import Listener, StateWatch
from simulations.world import World


def _listed(known: tuple[object, ...], event: object, _metadata: Metadata) -> tuple[object, ...]:
    return (*known, event)


LIST: Fish[tuple[object, ...]] = Fish("list", Tag("x"), (), _listed)


def tell(story: Callable[[World], Awaitable[object]], seed: int = 1, nodes: int = 4) -> None:
    """Run a story with the laws on; all members hold and show the same in the end, and have the newest keys."""

    async def go() -> None:
        world = World(seed, nodes)
        auditor = Auditor(world)
        auditor.watch()
        StateWatch(world).watch()
        async with world.started():
            listeners = [Listener(device, auditor) for device in world.nodes]
            await story(world)
            await world.converge()
            await check_converged(world, [LIST])
            for device in world.members:
                check_epoch(world.membership, device)
            for listener in listeners:
                await listener.check()

    run_simulated(go(), random.Random(seed))


async def shown(device: Device) -> tuple[object, ...]:
    return await device.pond.current_state(LIST)


async def revoke(world: World, beside: Device, target: Device) -> None:
    await beside.node.learn(await world.membership.revoke(beside, target))


async def rotate(world: World, beside: Device) -> None:
    draw = world.generator("rotation")
    await beside.node.learn(world.membership.rotate(world.members, draw))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_thief_writes_beyond_the_cut_goes_away_on_both_sides_of_a_partition(
    seed: int,
) -> None:
    async def story(world: World) -> None:
        a, b, c, thief = world.nodes
        await thief.publish("x", "honest")
        await world.converge()
        with world.partition({a}, {b, c, thief}):
            for number in range(20):
                await thief.publish("x", number)
            await world.run(seconds=3)
            assert len(await shown(b)) == 21
            await c.power_cut()
            await revoke(world, a, thief)
            assert await shown(a) == ("honest",)
        await world.run(seconds=8)
        assert await shown(b) == ("honest",)
        await c.start()
        await world.run(seconds=5)
        assert await shown(c) == ("honest",)
        assert not thief.node.peers.linked
        await thief.restart()
        with suppress(NodeRevoked):  # it may have heard of it before it was cut off
            await thief.publish("x", "nobody listens")
        await world.run(seconds=5)
        assert [await shown(one) for one in world.members] == [("honest",)] * 3

    tell(story, seed)


def test_a_revocation_that_comes_before_the_events_refuses_them() -> None:
    async def story(world: World) -> None:
        a, b, c, thief = world.nodes
        await thief.publish("x", "honest")
        await world.converge()
        world.isolate(thief)
        await thief.publish("x", "stolen")
        await revoke(world, a, thief)
        await world.run(seconds=5)
        world.heal()
        await world.run(seconds=5)
        assert [await shown(one) for one in (a, b, c)] == [("honest",)] * 3
        assert await shown(thief) == ("honest", "stolen")

    tell(story)


def test_a_device_that_hears_of_its_own_revocation_writes_no_more() -> None:
    async def story(world: World) -> None:
        a, thief = world.nodes[0], world.nodes[3]
        await thief.publish("x", 1)
        await world.converge()
        await revoke(world, a, thief)
        await world.membership.tell(thief)
        with pytest.raises(NodeRevoked):
            await thief.publish("x", 2)

    tell(story)


@pytest.mark.parametrize("seed", [3, 6, 20])
def test_a_device_that_is_cut_off_while_it_hears_of_its_revocation_goes_by_it(seed: int) -> None:
    async def story(world: World) -> None:
        a, thief = world.nodes[0], world.nodes[4]
        await thief.publish("x", 1)
        await world.converge()
        await revoke(world, a, thief)
        await world.run(seconds=5)
        assert thief.platter.fetch("SELECT count(*) FROM notices") == [(1,)]
        with pytest.raises(NodeRevoked):
            await thief.publish("x", 2)

    tell(story, seed, nodes=5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_new_keys_reach_who_was_away_or_cut_off_and_no_revoked_device(seed: int) -> None:
    async def story(world: World) -> None:
        a, b, c, thief = world.nodes
        await thief.publish("x", 1)
        await world.converge()
        await thief.stop()
        await c.stop()
        world.isolate(b)
        await revoke(world, a, thief)
        await rotate(world, a)
        await rotate(world, a)
        await world.run(seconds=2)
        assert [one.node.status().epoch for one in (a, b)] == [2, 0]
        await c.start()
        await thief.start()
        world.heal()
        await world.run(seconds=8)
        assert [one.node.status().epoch for one in (a, b, c, thief)] == [2, 2, 2, 0]
        for device in (a, b, c):
            await device.restart()
        await world.run(seconds=8)
        assert all(len(one.node.peers.linked) == 2 for one in (a, b, c))
        assert not thief.node.peers.linked

    tell(story, seed)


def test_the_two_halves_of_a_swarm_are_rotated_and_meet_again() -> None:
    async def story(world: World) -> None:
        a, b, c, d = world.nodes
        await world.converge()
        with world.partition({a, b}, {c, d}):
            await rotate(world, a)
            await world.run(seconds=5)
            assert [one.node.status().epoch for one in world.nodes] == [1, 1, 0, 0]
            await a.publish("x", 1)
            await c.publish("x", 2)
        await world.run(seconds=8)
        assert [one.node.status().epoch for one in world.nodes] == [1, 1, 1, 1]

    tell(story)


def test_a_device_that_comes_back_from_a_backup_learns_of_the_revocation_again() -> None:
    async def story(world: World) -> None:
        a, b, _, thief = world.nodes
        await thief.publish("x", "honest")
        await world.converge()
        world.isolate(a)
        await thief.publish("x", "stolen")
        await world.run(seconds=1)
        backup = b.backup()
        assert len(await shown(b)) == 2
        world.heal()
        await world.membership.tell(a)
        notice = await world.membership.revoke(a, thief, amount=0.01)
        await a.node.learn(notice)
        await world.run(seconds=5)
        assert await shown(b) == ()
        await b.restore_backup(backup)
        await world.run(seconds=5)
        assert await shown(b) == ()

    tell(story)


def test_drawn_plans_revoke_and_rotate() -> None:
    kinds = {one.kind for seed in range(1, 30) for one in draw_plan(seed).operations}
    assert set(ADMIN) <= kinds


@pytest.mark.parametrize("kind", ADMIN)
@pytest.mark.parametrize("beside", ["clone", "copy_card", "retract", "sense", "forge"])
def test_the_admin_acts_beside_copies_retractions_readings_and_forgers(
    kind: str, beside: str
) -> None:
    drawn = [{one.kind for one in draw_plan(seed).operations} for seed in range(1, 60)]
    assert any({kind, beside} <= kinds for kinds in drawn)


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("a cut leaves one event too many", 49),
        ("heads stay beyond the cut", 49),
        ("a notice is kept to itself", 4),
        ("whoever was revoked is let in", 49),
        ("followers are not told what is withdrawn", 137),
    ],
)
def test_a_bug_of_membership_that_was_planted_is_found(name: str, seed: int) -> None:
    bug = next(bug for bug in BUGS if bug.name == name)
    assert not play(draw_plan(seed)).failure
    with planted(bug):
        assert play(draw_plan(seed)).failure


@swarm_test(nodes=3, seeds=2)
async def test_users_revoke_and_rotate_in_their_own_tests(sim: Sim) -> None:
    a, b, thief = sim.nodes
    await thief.publish("x", "honest")
    await sim.converge()
    with sim.partition({a, b}, {thief}):
        await thief.publish("x", "stolen")
        await sim.revoke(a, thief)
        await sim.rotate(a)
        await sim.run(seconds=1)
    await sim.converge()
    assert await sim.same(lambda device: device.pond.current_state(LIST)) == ("honest",)
    assert await sim.same(lambda device: device.node.status().epoch) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("beside", ["the original", "the copy"])
def test_of_a_copied_device_that_history_counts_everywhere_that_the_cut_names(
    seed: int, beside: str
) -> None:
    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        await original.publish("x", "before")
        await world.converge()
        copy = await world.clone(original)
        sides = {a, original}, {b, c, copy}
        with world.partition(*sides):
            for number in range(5):
                await original.publish("x", f"original {number}")
                await copy.publish("x", f"copy {number}")
            await world.run(seconds=3)
            await world.membership.tell(a)
            admin, others = (a, (b, c)) if beside == "the original" else (b, (a, c))
            notice = await world.membership.revoke(admin, original)
            for device in (admin, *others):
                await device.node.learn(notice)
            await world.run(seconds=1)
        await world.run(seconds=10)
        name = beside.removeprefix("the ")
        left = ("before", *(f"{name} {number}" for number in range(5)))
        assert [await shown(one) for one in (a, b, c)] == [left] * 3
        await c.restart()
        assert await shown(c) == left

    tell(story, seed)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_of_two_histories_with_a_cut_each_counts_what_they_have_in_common(
    seed: int, before: int
) -> None:
    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        for _ in range(before):
            await original.publish("x", "before")
        await world.converge()
        copy = await world.clone(original)
        with world.partition({a, original}, {b, copy}, {c}):
            for number in range(5):
                await original.publish("x", f"original {number}")
                await copy.publish("x", f"copy {number}")
            await world.run(seconds=3)
            both = [
                await world.membership.revoke(a, original),
                await world.membership.revoke(b, original),
            ]
            await a.node.learn(both[0])
            await b.node.learn(both[1])
        with world.partition({a, c, original}, {b, copy}):
            await world.run(seconds=5)
        await world.run(seconds=10)
        assert [await shown(one) for one in (a, b, c)] == [("before",) * before] * 3

    tell(story, seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_who_knows_that_nothing_of_two_histories_counts_tells_who_holds_one(seed: int) -> None:
    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        await original.publish("x", "before")
        await world.converge()
        copy = await world.clone(original)
        with world.partition({a, b, original}, {c, copy}):
            for number in range(5):
                await original.publish("x", f"original {number}")
                await copy.publish("x", f"copy {number}")
            await world.run(seconds=3)
            both = [
                await world.membership.revoke(a, original),
                await world.membership.revoke(c, original),
            ]
            world.isolate(b)
        await world.run(seconds=10)
        for device in (a, b, c):
            for notice in both:
                await device.node.learn(notice)
        assert [await shown(one) for one in (a, c)] == [("before",)] * 2
        world.heal()
        await world.run(seconds=10)
        assert await shown(b) == ("before",)

    tell(story, seed)


def test_who_knows_two_histories_of_which_nothing_counts_tells_who_has_no_seal_at_their_fork() -> (
    None
):
    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        for _ in range(2):
            await original.publish("x", "before")
        await world.converge()
        copy = await world.clone(original)
        with world.partition({a, b, original}, {c, copy}):
            for number in range(5):
                await original.publish("x", f"original {number}")
            await copy.publish("x", "copy")
            await world.run(seconds=3)
            for device in (a, b):
                await device.node.log.store.merge_events(INLINE)
            both = [await world.membership.revoke(one, original) for one in (a, c)]
        world.isolate(b)
        await world.run(seconds=10)
        for device in (a, b, c):
            for notice in both:
                await device.node.learn(notice)
        await world.run(seconds=10)
        assert await shown(a) == ("before",) * 2
        world.isolate(c)
        for other in (original, copy):
            world.isolate(other)
        assert await shown(b) == ()
        for device in (a, b):
            await device.restart()  # what peers told is forgotten
        for ends in ((a, b), (b, a)):
            world.cut(*ends, cut=False)
        await world.run(seconds=10)
        assert await shown(b) == ("before",) * 2

    with turned_down(["blocks of 4 events", "3 events stay rows"]):
        tell(story)


def test_who_has_no_room_for_one_more_history_takes_in_that_which_a_revocation_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lamport.commit.MAX_BRANCHES_OF_NODE", 2)
    monkeypatch.setattr("lamport.commit.MAX_BRANCHES_OF_REVOKED", 4)

    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        await original.publish("x", "before")
        await world.converge()
        copies = [await world.clone(original) for _ in range(2)]
        with world.partition({a, original}, {b, copies[0]}, {c, copies[1]}):
            for name, device in zip("abc", (original, *copies), strict=True):
                await device.publish("x", name)
            await copies[1].publish(
                "x", "c"
            )  # so that no other is known to be another than that of the cut
            await world.run(seconds=3)
            notice = await world.membership.revoke(c, original)
        with world.partition({a, b}, {c, copies[1]}, {original}, {copies[0]}):
            await world.run(seconds=5)
        for device in (original, *copies):
            world.isolate(device)
        await world.run(seconds=5)
        assert await shown(a) != ("before", "c", "c")
        assert any(peer.quarantined for peer in c.node.status().peers)
        await a.node.learn(notice)
        await world.run(seconds=5)
        assert [await shown(one) for one in (a, b, c)] == [("before", "c", "c")] * 3

    tell(story)


def test_who_holds_another_history_asks_a_peer_again_that_has_come_to_hold_more() -> None:
    async def story(world: World) -> None:
        a, b, c, original = world.nodes
        await original.publish("x", "before")
        await world.converge()
        copy = await world.clone(original)
        with world.partition({a, original}, {b}, {c, copy}):
            for number in range(3):
                await original.publish("x", f"original {number}")
            await copy.node.publish_all([draft(("x",), f"copy {number}") for number in range(6)])
            await world.run(seconds=5)
            notice = await world.membership.revoke(a, original)
            for device in (a, b, c):
                await device.node.learn(notice)
            await world.run(seconds=1)
            assert await shown(c) == ("before",)
        with world.partition({a, original, copy}, {b, c}):
            await world.run(seconds=5)
        world.cut(a, c)
        world.cut(c, a)
        await world.run(seconds=10)
        assert await shown(c) == ("before", *(f"original {number}" for number in range(3)))
        world.heal()

    tell(story)
