"""A worker who starts and stops, as a machine with work ids, across a cut: `pytest examples/13_worker.py`.

Ada works at what two tablets tell of her. Starting mints a work id (the event's key), stopping names the ids that it
ends, and nothing else is ended, whatever the clocks of the tablets say. `plain` is the same machine without work ids:
what it makes of the same day is shown beside it.
"""

from contextlib import AsyncExitStack

from fish.machines import Call, Effect, Machines, System, cyclic, machine, state
from simulations import Sim, swarm_test

LAMP = Effect("lamp on", {"work": "$work"}, undo="lamp off")
BOOK = Effect("book hours", {"work": "$work"})

worker = machine(
    "worker",
    initial="idle",
    states={
        "idle": state(on={"START": "working"}),
        "working": cyclic(closes="ended", on={"STOP": "idle"}, entry=LAMP, exit=BOOK),
    },
    strict=True,  # two states that lead to each other: refused unless one of them is cyclic
)
plain = machine(
    "plain",
    initial="idle",
    states={"idle": state(on={"START": "working"}), "working": state(on={"STOP": "idle"})},
)
system = System((worker, plain))


async def started(sim: Sim, stack: AsyncExitStack) -> list[Machines]:
    """The machines on every tablet."""
    return [await stack.enter_async_context(one.node.machines(system)) for one in sim.nodes]


async def do(tablet: Machines, what: str) -> str:
    """Ada starts or stops: an order to the machine that knows work ids, and to the one that does not."""
    await tablet.send("plain/ada", {"type": what})
    answer = await tablet.send("worker/ada", {"type": what})
    assert answer.is_accepted
    assert answer.event is not None
    return str(answer.event.key)


async def work(tablet: Machines) -> tuple[str, list[str]]:
    """What ada does, and the ids of the work that is open."""
    ada = await tablet.view("worker/ada")
    return ada.value, [one.id for one in ada.tokens]


@swarm_test(nodes=2, seeds=3)
async def test_a_stop_counts_whatever_the_clocks_say(sim: Sim) -> None:
    """Started at ten by one tablet; stopped behind that, but at eight by the other one's clock."""
    async with AsyncExitStack() as stack:
        one, two = await started(sim, stack)
        await do(one, "START")
        await sim.converge()
        sim.clock(sim.nodes[1]).jump(seconds=-2 * 3600)
        await do(two, "STOP")
        await sim.converge()
        assert await work(one) == await work(two) == ("idle", [])


@swarm_test(nodes=2, seeds=3)
async def test_two_days_that_overlap_behind_a_cut_both_end(sim: Sim) -> None:
    """One's afternoon sorts before the other's morning, if it knew less; each stop names its own start."""
    async with AsyncExitStack() as stack:
        one, two = await started(sim, stack)
        with sim.partition({sim.nodes[0]}, {sim.nodes[1]}):
            for _ in range(9):
                await sim.nodes[1].publish("other work", None)
            for tablet in (one, two):
                await do(tablet, "START")
                await sim.run(minutes=60)
                await do(tablet, "STOP")
        await sim.converge()
        assert await work(one) == await work(two) == ("idle", [])


@swarm_test(nodes=2, seeds=3)
async def test_work_that_a_stop_has_not_heard_of_goes_on(sim: Sim) -> None:
    """The plain machine takes the stop for an end of everything, though somebody works."""
    async with AsyncExitStack() as stack:
        one, two = await started(sim, stack)
        with sim.partition({sim.nodes[0]}, {sim.nodes[1]}):
            await do(one, "START")
            behind = await do(two, "START")
            for _ in range(9):
                await sim.nodes[0].publish("other work", None)
            await do(one, "STOP")
        await sim.converge()
        assert await work(one) == await work(two) == ("working", [behind])
        assert (await one.view("plain/ada")).value == "idle"


@swarm_test(nodes=2, seeds=3)
async def test_a_stop_behind_the_cut_ends_all_that_both_sides_began(sim: Sim) -> None:
    """`send` names every id that is open where it is sent; each work is booked once, the lamp is undone never."""
    done: list[str] = []

    async def act(call: Call) -> None:
        done.append(call.name)

    async with AsyncExitStack() as stack:
        acts = dict.fromkeys(("lamp on", "lamp off", "book hours"), act)
        one, two = [
            await stack.enter_async_context(each.node.machines(system, effects=acts))
            for each in sim.nodes
        ]
        with sim.partition({sim.nodes[0]}, {sim.nodes[1]}):
            begun = [await do(one, "START"), await do(two, "START")]
        await sim.converge()
        assert await work(two) == ("working", sorted(begun))
        await do(one, "STOP")
        await sim.converge()
        await sim.run(seconds=1)
        assert await work(one) == await work(two) == ("idle", [])
        assert sorted(done) == ["book hours", "book hours", "lamp on", "lamp on"]
