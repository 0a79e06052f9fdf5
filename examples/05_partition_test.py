"""A test of your own fish under a partition, for pytest: `pytest examples/05_partition_test.py`."""

from collections.abc import Callable
from typing import Any

import pytest

from fish import Fish, Metadata, WorkIds
from lamport import Tag, Tags
from simulations import Sim, swarm_test


def on_change(work: WorkIds, event: Any, metadata: Metadata) -> WorkIds:
    """Starting opens work under the event's own key; stopping ends exactly what it names."""
    if event["type"] == "started":
        return work.opened(metadata.event_key)
    return work.closed(event["ended"])


def worker(name: str) -> Fish[WorkIds]:
    """The open work of one person."""
    return Fish(f"worker {name}", Tag("worker").with_id(name), WorkIds(), on_change)


def start(name: str) -> Callable[..., None]:
    """An effect that starts work."""
    return lambda _work, enqueue: enqueue(Tag("worker").with_id(name), {"type": "started"})


def stop(name: str) -> Callable[[WorkIds, Callable[[Tags, Any], None]], None]:
    """An effect that ends the work which is known where it runs."""
    tags = Tag("worker").with_id(name)
    return lambda work, enqueue: enqueue(tags, {"type": "stopped", "ended": work.to_json()})


@pytest.mark.parametrize("name", ["w1", "w2"])
@swarm_test(nodes=3, seeds=10)
async def test_work_behind_a_cut_stays_open(sim: Sim, name: str) -> None:
    """A stop ends what it has seen; the work that was started behind the cut goes on, on every device."""
    a, b, c = sim.nodes
    with sim.partition({a, b}, {c}):
        await a.pond.run(worker(name), start(name))
        [behind] = await c.pond.run(worker(name), start(name))
        await sim.run(minutes=sim.random.uniform(1, 10))
        await b.pond.run(worker(name), stop(name))
        await sim.power_cut(a)
    await sim.converge()
    sim.assert_converged()
    work = await sim.same(lambda device: device.pond.current_state(worker(name)))
    assert list(work) == [behind.key]
