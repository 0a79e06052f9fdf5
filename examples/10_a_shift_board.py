"""The shift board of a whole hall: every worker's fish on one board, and new workers join as they come."""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fish import Fish, Metadata, fish
from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

WORKER = Tag("worker")


@dataclass(frozen=True)
class Moved:
    """A worker went to a station."""

    worker: str
    station: str


def place_of(name: str) -> Fish[str]:
    """Where one worker is: the last event says all."""

    @fish(where=WORKER.with_id(name), initial="nowhere", is_reset=lambda *_: True)
    def place(_place: str, event: Moved, _meta: Metadata) -> str:
        return event.station

    return place


def name_of(payload: Any, _meta: Metadata) -> str:
    """Whose event this is."""
    return str(payload["worker"])


async def main(folder: Path) -> None:
    """Watch the board while workers move."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "board", swarm_key)

    async with open_node(folder / "board", listen=Address("127.0.0.1", 0), mdns=False) as node:
        for name, station in (("ada", "press"), ("bob", "mill"), ("ada", "paint shop")):
            await node.publish(WORKER.with_id(name), Moved(name, station))
        with node.pond.observe_groups(WORKER, name_of, place_of) as boards:
            print(dict(await anext(boards)))
            await node.publish(WORKER.with_id("eve"), Moved("eve", "press"))
            async for board in boards:
                if board.get("eve") == "press":
                    print(dict(board))
                    break


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
