"""A fish: a reducer over the events of a selection, kept up to date as they come."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fish import Fish, Metadata
from lamport import Tag
from shoal import Address, enrol_device, make_swarm, open_node

PART = Tag("part")

Counts = dict[str, int]


def on_part(counts: Counts, event: Any, _metadata: Metadata) -> Counts:
    """Reducers are pure: they return the next state and never change the one they are given."""
    return {**counts, event["type"]: counts.get(event["type"], 0) + 1}


PARTS: Fish[Counts] = Fish("parts", PART, {}, on_part)


async def main(folder: Path) -> None:
    """Fold them, first once and then as they come."""
    swarm_key, _admin_key = make_swarm()
    enrol_device(folder / "tablet", swarm_key)

    async with open_node(folder / "tablet", listen=Address("127.0.0.1", 0), mdns=False) as node:
        await node.publish(PART, {"type": "milled"})
        print("now", await node.pond.current_state(PARTS))

        with node.pond.observe(PARTS) as states:
            await node.publish(PART, {"type": "milled"})
            await node.publish(PART, {"type": "painted"})
            async for counts in states:
                if counts == {"milled": 2, "painted": 1}:
                    print("then", counts)
                    break


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
