"""Effects that are to be stable: done once all have been heard, and then for good."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fish.machines import Effect, System, load_machine, machine, state, tags_of, to
from fish.machines.stability import lamport_of
from lamport.offsets import OffsetMap
from simulations import Sim, swarm_test
from tests.fish.machines.benches import fold, key, reasons
from tests.fish.machines.crews import Crew

PAY = Effect("pay", {"to": "$event.who"}, undo="refund", stable=True)
SALE = System(
    (
        machine(
            "sale",
            initial="open",
            states={
                "open": state(on={"BUY": to("sold", do=[Effect("note", undo="strike"), PAY])}),
                "sold": state(on={"RING": to(do=Effect("bell"))}),
            },
        ),
    )
)
NAMES = ("pay", "refund", "note", "strike", "bell")


@asynccontextmanager
async def crewed(sim: Sim, **more: Any) -> AsyncIterator[list[Crew]]:
    crews = [await Crew(device, SALE, names=NAMES, more=more).open() for device in sim.nodes]
    for crew in crews:  # everybody's stream is known to all
        await crew.device.publish("hello", None)
    await sim.run(seconds=2)
    try:
        yield crews
    finally:
        for crew in crews:
            await crew.close()


@swarm_test(nodes=3, seeds=4)
async def test_it_waits_for_a_member_that_is_cut_off_and_holds_up_nothing_else(sim: Sim) -> None:
    async with crewed(sim) as [a, b, c]:
        with sim.partition({a.device, b.device}, {c.device}):
            await a.machines.send("sale", {"type": "BUY", "who": "ann"})
            await a.machines.send("sale", {"type": "RING"})
            await sim.run(minutes=10)
            assert a.done == ["note", "bell"]
        await sim.converge()
        await sim.run(seconds=3)
        assert (a.done, b.done, c.done) == (["note", "bell", "pay"], [], [])
        await sim.run(minutes=10)
        assert a.done == ["note", "bell", "pay"]


@swarm_test(nodes=3, seeds=6)
async def test_of_two_causes_only_the_one_that_counts_is_ever_done(sim: Sim) -> None:
    """Both sides of a cut sell; the late one notes and strikes, but never pays and refunds."""
    async with crewed(sim) as crews:
        early, late, other = crews
        with sim.partition({early.device}, {late.device, other.device}):
            for _ in range(5):
                await late.device.publish("filler", 0)
            for crew in (early, late):
                await crew.machines.send("sale", {"type": "BUY", "who": crew.device.name})
            await sim.run(seconds=sim.random.uniform(1, 30))
        await sim.converge()
        await sim.run(seconds=3)
        assert early.done == ["note", "pay"]
        assert late.done == ["note", "strike for note"]


@swarm_test(nodes=3, seeds=3)
async def test_those_who_are_named_are_waited_for_and_nobody_else(sim: Sim) -> None:
    named = [str(one.identity.node) for one in sim.nodes[:2]]
    async with crewed(sim, members=named) as [a, b, c]:
        with sim.partition({a.device, b.device}, {c.device}):
            await a.machines.send("sale", {"type": "BUY", "who": "ann"})
            await sim.run(seconds=3)
            assert a.done == ["note", "pay"]
        with sim.partition({a.device}, {b.device, c.device}):
            await a.machines.send("sale/2", {"type": "BUY", "who": "ann"})
            await sim.run(minutes=3)
            assert a.done == ["note", "pay", "note"]


@swarm_test(nodes=2, seeds=3)
async def test_what_was_confirmed_before_a_crash_need_not_be_said_again(sim: Sim) -> None:
    async with crewed(sim) as [a, b]:
        with sim.partition({a.device}, {b.device}):
            await a.machines.send("sale", {"type": "BUY", "who": "ann"})
            await sim.run(seconds=1)
            await a.crash()
            await a.restart()
            await sim.run(seconds=5)
            assert "pay" not in a.done
        await sim.converge()
        await sim.run(seconds=3)
        assert a.done.count("pay") == 1


@swarm_test(nodes=2, seeds=1)
async def test_each_says_once_what_it_has_seen(sim: Sim) -> None:
    async with crewed(sim) as [a, b]:
        await a.machines.send("sale", {"type": "BUY", "who": "ann"})
        await sim.run(minutes=5)
        said = [
            event.stream.node
            async for page in b.device.node.log.read(SALE.where)
            for event in page
            if event.payload["type"] == "$seen"
        ]
        assert said == [b.device.identity.node]


def test_what_a_node_said_last_counts_and_nonsense_does_not() -> None:
    def seen(heads: Any) -> dict[str, Any]:
        return {"type": "$seen", "heads": heads}

    world = fold(
        SALE,
        (1, "A", "sale/x", {"type": "BUY", "who": 1}),
        (2, "B", "sale/x", seen({"s": 1})),
        (3, "C", "sale/x", seen({})),
        (4, "B", "sale/y", seen({"s": 2})),
        (5, "C", "sale/y", seen({"s": True})),
        (6, "C", "sale/y", seen(None)),
    )
    assert [(one.lamport, one.heads) for one in world.seen] == [(4, {"s": 2}), (3, {})]
    assert reasons(world) == ["bad-payload", "bad-payload"]
    assert [one.is_stable for one in world.instances["sale/x"].intents] == [False, True]
    assert lamport_of(world.instances["sale/x"].intents[0]) == 1
    assert key(1) == world.instances["sale/x"].intents[0].root


def test_it_is_written_in_json_too() -> None:
    entry = [{"effect": "pay", "stable": True}]
    loaded = load_machine({"id": "m", "initial": "a", "states": {"a": {"entry": entry}}})
    world = fold(System((loaded,)), (1, "A", "m/x", {"type": "GO"}))
    assert [one.is_stable for one in world.instances["m/x"].intents] == [True]


@swarm_test(nodes=2, seeds=2)
async def test_what_a_member_has_written_by_then_must_be_here_as_well(sim: Sim) -> None:
    """It says that its stream reaches further than what has arrived."""
    async with crewed(sim) as [a, b]:
        await b.close()
        await a.machines.send("sale", {"type": "BUY", "who": "ann"})
        await sim.run(seconds=2)
        own = {
            stream: offset + 2
            for stream, offset in b.device.node.offsets.items()
            if stream.node == b.device.identity.node
        }
        heads = OffsetMap(own).to_json()
        await b.device.publish(tags_of("sale"), {"type": "$seen", "heads": heads})
        await sim.run(seconds=5)
        assert a.done == ["note"]
        await b.device.publish("hello", None)
        await sim.run(seconds=5)
        assert a.done == ["note", "pay"]


@swarm_test(nodes=2, seeds=1)
async def test_nonsense_about_streams_confirms_nothing(sim: Sim) -> None:
    async with crewed(sim) as [a, b]:
        await b.close()
        await a.machines.send("sale", {"type": "BUY", "who": "ann"})
        await sim.run(seconds=2)
        await b.device.publish(tags_of("sale"), {"type": "$seen", "heads": {"no stream": 1}})
        await sim.run(seconds=5)
        assert a.done == ["note"]
