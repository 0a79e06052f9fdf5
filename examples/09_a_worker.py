"""A worker who starts and stops: typed events, matched; what is stopped is what is named."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fish import Metadata, WorkIds, fish
from fish.effects import Enqueue
from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

WORKER = Tag("worker").with_id("w1")


@dataclass(frozen=True)
class Started:
    """Work began; the event's key is its id."""


@dataclass(frozen=True)
class Stopped:
    """The work with these ids is over."""

    ended: tuple[str, ...]


@fish(where=WORKER, initial=WorkIds(), commutative=True)
def worker(work: WorkIds, event: Started | Stopped, meta: Metadata) -> WorkIds:
    """The open work."""
    match event:
        case Started():
            return work.opened(meta.event_key)
        case Stopped(ended):
            return work.closed(ended)


def stop_all(work: WorkIds, enqueue: Enqueue) -> None:
    """Decide on a state, publish what was decided."""
    enqueue(WORKER, Stopped(tuple(work.texts)))


async def main(folder: Path) -> None:
    """Start twice, stop all that is open."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "tablet", swarm_key)

    async with open_node(folder / "tablet", listen=Address("127.0.0.1", 0), mdns=False) as node:
        for _ in range(2):
            await node.publish(WORKER, Started())
        print("open", len(await node.pond.current_state(worker)))
        await node.pond.run(worker, stop_all)
        print("open", len(await node.pond.current_state(worker)))


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
