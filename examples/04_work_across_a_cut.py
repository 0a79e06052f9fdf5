"""Work that goes on behind a broken link is not ended by a stop that never meant it."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fish import Fish, Metadata, WorkIds
from lamport import Tag, Tags
from shoal import Address, enrol_device, make_swarm, open_node

LOOPBACK = Address("127.0.0.1", 0)
WORKER = Tag("worker").with_id("w1")


def on_change(work: WorkIds, event: Any, metadata: Metadata) -> WorkIds:
    """Starting opens work under the event's own key; stopping ends exactly what it names."""
    if event["type"] == "started":
        return work.opened(metadata.event_key)
    return work.closed(event["ended"])


WORK: Fish[WorkIds] = Fish("work of w1", WORKER, WorkIds(), on_change)


def stop_all(work: WorkIds, enqueue: Callable[[Tags, Any], None]) -> None:
    """An effect: decide by the state, then publish. It names the work that is known here to be open."""
    enqueue(WORKER, {"type": "stopped", "ended": work.to_json()})


async def main(folder: Path) -> None:
    """Start work on both sides of a cut, stop on one, and heal."""
    swarm_key, _admin_key = make_swarm()
    for name in ("tablet", "robot"):
        enrol_device(folder / name, swarm_key)
    async with (
        open_node(folder / "tablet", listen=LOOPBACK, mdns=False) as tablet,
        open_node(folder / "robot", listen=LOOPBACK, mdns=False, peers=[tablet.listening]) as robot,
    ):
        tablet.peers.cut(robot.id)
        await tablet.publish(WORKER, {"type": "started"})
        await robot.publish(WORKER, {"type": "started"})
        await tablet.pond.run(WORK, stop_all)
        for node, name in ((tablet, "tablet"), (robot, "robot")):
            print(f"cut off, the {name} knows {len(await node.pond.current_state(WORK))} open work")

        tablet.peers.heal()
        all_known = tablet.offsets.raised(robot.offsets)
        ours, theirs = [await one.pond.current_state(WORK, all_known) for one in (tablet, robot)]
        print("healed, they agree:", ours == theirs, "- open:", len(ours))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
