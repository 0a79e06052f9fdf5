"""Workflows under partitions and crashes: what must hold whatever happens."""

from collections import Counter

from fish.machines import Effect, System, cyclic, invoke, machine, state, to
from fish.machines.folding import World
from simulations import Sim, swarm_test
from tests.fish.machines.crews import Crew

JOBS = System(
    (
        machine(
            "job",
            initial="idle",
            states={
                "idle": state(on={"START": "busy"}),
                "busy": cyclic(
                    closes="ids",
                    entry=Effect("lampOn", {"work": "$work"}, undo="lampOff"),
                    exit=Effect("book", {"work": "$work"}),
                    on={"STOP": "idle"},
                ),
            },
        ),
        machine(
            "hole",
            initial="none",
            states={
                "none": state(
                    on={
                        "DRILL": to(
                            "there", do=Effect("drill", "$meta.key", undo="fill", stable=True)
                        ),
                    }
                ),
                "there": state(on={"DRILL": to(do=Effect("bell"))}),
            },
        ),
        machine(
            "sale",
            initial="open",
            states={
                "open": state(on={"BUY": to("sold", do=Effect("pay", undo="refund"))}),
                "sold": state(on={"SHIP": "shipping"}),
                "shipping": state(invoke=invoke("ship", done="shipped", error="lost")),
                "shipped": state(),
                "lost": state(on={"SHIP": "shipping"}),
            },
        ),
    )
)
NAMES = ("drill", "fill", "bell", "lampOn", "lampOff", "book", "pay", "refund")


TYPES = {"job": ["START", "STOP"], "sale": ["BUY", "SHIP"], "hole": ["DRILL"]}


async def _ship(_: object) -> str:
    return "there"


async def _drive(sim: Sim, crews: list[Crew], hole: str) -> None:
    """Commands at random, a partition, and a crash in the middle of it."""
    for _ in range(12):
        crew = sim.random.choice([one for one in crews if one.running is not None])
        name = sim.random.choice(["job/1", "job/2", "sale/1", "sale/2", hole, hole])
        type_ = sim.random.choice(TYPES[name.partition("/")[0]])
        await crew.machines.send(name, {"type": type_}, waits=False)
        if sim.random.random() < 0.15:
            await crew.crash()
            await sim.run(seconds=0.5)
            await crew.restart()
        await sim.run(seconds=sim.random.random())


async def _played(sim: Sim) -> list[Crew]:
    crews = [
        await Crew(one, JOBS, services={"ship": _ship}, names=NAMES).open() for one in sim.nodes
    ]
    a, b, c = sim.nodes
    await _drive(sim, crews, "hole/before")
    with sim.partition({a}, {b, c}):
        await _drive(sim, crews, "hole/behind")
    await sim.converge()
    await sim.run(seconds=3)
    await sim.converge()
    return crews


def _world(crew: Crew) -> World:
    return crew.machines.world


@swarm_test(nodes=3, seeds=8, minutes=30)
async def test_all_nodes_agree_and_effects_are_done_by_one_owner_and_none_is_lost(sim: Sim) -> None:
    crews = await _played(sim)
    worlds = [_world(crew) for crew in crews]
    assert all(one.instances == worlds[0].instances for one in worlds)
    done = Counter(key for crew in crews for key in set(crew.keys))
    assert max(done.values(), default=1) == 1, "two nodes did one effect"
    for instance in worlds[0].instances.values():
        ledger = {one.id: one for one in instance.ledger}
        implied = {one.id for one in instance.intents}
        for intent in instance.intents:
            assert ledger[intent.id].state == "done", "an effect that the log implies was not done"
            assert ledger[intent.id].node == intent.owner
        for entry in instance.ledger:
            assert entry.id in implied or entry.state != "done", "an effect stands without a cause"
    assert not [word for crew in crews for word in crew.done if word == "fill for drill"]
    for crew in crews:
        await crew.close()


@swarm_test(nodes=3, seeds=8, minutes=30)
async def test_work_that_was_opened_beside_a_close_that_did_not_name_it_stays_open(
    sim: Sim,
) -> None:
    crews = await _played(sim)
    world = _world(crews[0])
    starts: dict[str, set[str]] = {}
    named: dict[str, set[str]] = {}
    async for page in crews[0].device.node.log.read(JOBS.where):
        for event in page:
            address = next(tag for tag in event.tags if tag.count(":") > 1)
            if event.payload["type"] == "START":
                starts.setdefault(address, set()).add(str(event.key))
            elif event.payload["type"] == "STOP":
                named.setdefault(address, set()).update(event.payload.get("ids", []))
    for instance in world.instances.values():
        address = f"machine:{instance.machine}:{instance.name}"
        if instance.machine == "job":
            expected = starts.get(address, set()) - named.get(address, set())
            assert {one.id for one in instance.tokens} == expected
    for crew in crews:
        await crew.close()
